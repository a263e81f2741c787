"""Addresses of model servers: which are accepted, which are refused and why. No torch, no network.

A key never belongs in an address or an option: both end up in config.json, in the process list and in the shell's
history. So an address with a password or a query, and an option that looks like a key, are refused before anything is
written, and the message does not repeat them.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from understudy.errors import UserError

KEY_VARIABLES = ("UNDERSTUDY_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold a key, in this order, unless `key_env` names another."""
_SECRET = re.compile(r"(^|_)(key|token|secret|password|passwd|authorization|bearer)$", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_HINT = f"keys come from the environment only: export {KEY_VARIABLES[0]}=... and leave it out here"


def names_server(spec: str) -> bool:
    """Whether a spec is a server: an http(s) address, or `server:url=...,option=value`."""
    return spec.lower().startswith(("http://", "https://", "server:")) or spec == "server"


def pieces(spec: str, field: str) -> dict[str, str]:
    """{"url": ..., option: value} of a server spec. A UserError names the option of a secret, never the secret."""
    if not spec.startswith("server"):
        return {"url": check_url(spec, f"{field}.url")}
    out: dict[str, str] = {}
    for item in filter(None, (piece.strip() for piece in spec.partition(":")[2].split(","))):
        name, equals, value = (part.strip() for part in item.partition("="))
        if _SECRET.search(name):
            raise UserError(f"{field}.{name}", "", _HINT)
        if not equals or not name or name in out:
            # the item may be the second half of a password with a comma in it: not repeated
            raise UserError(field, "", "write server:url=http://HOST:PORT/v1,option=value, each option once")
        out[name] = value
    out["url"] = check_url(out.get("url", ""), f"{field}.url")
    if out.get("key_env") and not _VARIABLE.fullmatch(out["key_env"]):
        hint = "is the name of an environment variable (capital letters), never the key itself"
        raise UserError(f"{field}.key_env", "", hint)
    return out


def check_url(url: str, field: str) -> str:
    """`url` without a final slash. UserError unless it is http(s)://HOST[:PORT][/PATH] and nothing else."""
    if not url:
        raise UserError(field, "", "missing: give http://HOST:PORT/v1")
    if not url.lower().startswith(("http://", "https://")):
        raise UserError(field, "", "must begin with http:// or https://")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UserError(field, "", "is not an address; give http://HOST:PORT/v1") from None
    if "@" in parts.netloc:
        raise UserError(field, "", f"holds a user name or password: {_HINT}")
    if parts.query or parts.fragment:
        raise UserError(field, "", f"has a part after ? or #: {_HINT}")
    if not parts.hostname or any(c.isspace() or ord(c) < 32 for c in url):
        raise UserError(field, "", "is not an address; give http://HOST:PORT/v1")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    where = host if port is None else f"{host}:{port}"
    return f"{parts.scheme.lower()}://{where}{parts.path.rstrip('/')}"


def is_loopback(url: str) -> bool:
    """Whether the address is this machine, which is reached without a proxy."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def is_openai(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return url.startswith("https://") and (host == "openai.com" or host.endswith(".openai.com"))
