"""How things are written down: names, settings, and model text made safe to look at. Numbers: evaluation/numbers.py."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from typing import Any

METHOD_NAMES = {
    "sft": "SFT",
    "seq_kd": "SeqKD",
    "word_kd": "WordKD",
    "gkd": "GKD",
    "dagger": "DAgger",
    "opd": "OPD",
    "opd_full": "OPD full",
    "base_opd": "Base OPD",
    "exopd": "ExOPD",
    "grpo": "GRPO",
    "opd_reward": "OPD + reward",
    "opd_full_reward": "OPD full + reward",
    "gkd_reward": "GKD + reward",
    "rft": "RFT",
}
OFFLINE = ("sft", "seq_kd", "word_kd")
ONLINE = ("opd", "opd_full", "gkd", "dagger", "base_opd", "exopd", "opd_reward", "opd_full_reward",
          "gkd_reward")  # fmt: skip
_JOINERS = "\u200c\u200d"  # real scripts and emoji need these two
_CONTROLS = (  # by code
    "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC "
    "FS GS RS US"
)
_OPEN, _CLOSE = "\N{MATHEMATICAL LEFT ANGLE BRACKET}", "\N{MATHEMATICAL RIGHT ANGLE BRACKET}"


def visible(text: object, limit: int | None = None) -> str:
    """Text from a model or a file, safe to show as text: what would act is shown as a sign instead.

    Control characters become their names, direction overrides and other invisible format characters their
    code point, half surrogates the replacement character. Markup is *not* escaped: the template does that.
    """
    out = []
    for char in str(text):
        code = ord(char)
        if char in "\n\t" or char in _JOINERS:
            out.append(char)
        elif code < 32:
            out.append(f"{_OPEN}{_CONTROLS.split()[code]}{_CLOSE}")
        elif 0xD800 <= code <= 0xDFFF or code & 0xFFFE == 0xFFFE:
            out.append("\N{REPLACEMENT CHARACTER}")
        elif unicodedata.category(char) in ("Cf", "Cc", "Zl", "Zp"):
            out.append(f"{_OPEN}U+{code:04X}{_CLOSE}")
        else:
            out.append(char)
    shown = "".join(out)
    if limit is not None and len(shown) > limit:
        return f"{shown[:limit]}… ({len(shown) - limit:,} more characters)"
    return shown


def label(text: object, limit: int = 60) -> str:
    """One short line."""
    line = " ".join(visible(str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def phases(method: str) -> tuple[str, ...]:
    """The methods of a route, "sft:40%+gkd" is (sft, gkd); () where a part of the label is no row of the table."""
    found = tuple(family(part) for part in re.split(r"\+(?![\d.])", method))
    return found if len(found) > 1 and all(found) else ()


def goes_online(method: str) -> bool:
    """Whether a method, or a phase of a route, learns from the student's own text and the expert's word on it."""
    return any(row in ONLINE for row in phases(method) or (family(method),))


def family(method: str) -> str:
    """The row of the table a method label names: "opd:gamma=1" and "opd gamma 1" are opd. "" for a route of several."""
    head = method.strip().lower().replace(":", " ").split()
    return head[0] if head and head[0] in METHOD_NAMES else ""


def method_name(method: str, budget: float = 1) -> str:
    if phases(method):
        parts = " + ".join(method_name(part) for part in re.split(r"\+(?![\d.])", method))
        return parts if budget == 1 else f"({parts}) ×{budget:g}"
    row = family(method)
    # "opd:gamma=1" is shown as "OPD gamma=1", an unknown label as it is
    rest = label(method, 30)[len(row) :].lstrip(": ")
    name = f"{METHOD_NAMES[row]} {rest}".strip() if row else label(method, 30)
    return name if budget == 1 else f"{name} ×{budget:g}"


def listed(names: list[str]) -> str:
    """a; a and b; a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""


def plain_value(value: Any, limit: int = 160) -> str:
    """A setting for reading: numbers short, everything else as it is in JSON."""
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    if isinstance(value, str):
        return visible(value, limit)
    return visible(json.dumps(value, ensure_ascii=False, default=str), limit)


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """(dotted name, value) pairs of nested mappings."""
    if isinstance(value, dict):
        return [pair for key, sub in value.items() for pair in flat(sub, f"{prefix}.{key}" if prefix else key)]
    return [(label(prefix), plain_value(value))]


# --- JSON of any shape, as a damaged file or one of an earlier version may hold it --------------------------


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def number(value: Any) -> float | None:
    """A finite number, or None."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None
