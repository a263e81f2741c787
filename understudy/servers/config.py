"""How a server is named: an address, or `server:url=...,option=value`. No torch, no network."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.errors import UserError
from understudy.servers.urls import pieces
from understudy.specs import build


@dataclass(frozen=True)
class ServerConfig:
    url: str = ""
    """Address of the API, with its /v1: http://HOST:PORT/v1. No user name, no password, no query."""
    model: str = ""
    """Name of the model there. Default: the only one that it serves."""
    api: str = "completions"
    """completions (token-exact: samples and scores), or chat (a black box: samples of text, no scores)."""
    revision: str = ""
    """Your name for these weights; part of the score cache's key. Change it when the weights change."""
    concurrency: int = 8
    """Requests at a time."""
    rows: int = 8
    """Completions per scoring request."""
    timeout: float = 120.0
    """Seconds that one request may take in total."""
    tries: int = 6
    """Attempts per request, with growing pauses."""
    key_env: str = ""
    """Environment variable that holds the key. Default: UNDERSTUDY_API_KEY (OPENAI_API_KEY for openai.com)."""
    noise: float = 0.05
    """Largest mean difference, in nats per token, between two scores of the same tokens."""
    local: str = ""
    """A local copy of the same model: at the start its scores must agree with the server's. Default: none."""
    wait: float = 0.5
    """Seconds before the second attempt; doubles with every further one."""
    weights: str = ""
    """sampler only: a folder that this process writes and the server reads, for the student's current weights."""


def parse_server(spec: str, field: str) -> ServerConfig:
    """ServerConfig of an address or `server:...`. UserError: unknown option, value out of range, anything secret."""
    config = build(ServerConfig, pieces(spec, field), field)
    if config.api not in ("completions", "chat"):
        raise UserError(f"{field}.api", config.api, "one of completions, chat")
    for name, least in (("concurrency", 1), ("rows", 1), ("tries", 1), ("noise", 0), ("wait", 0)):
        if getattr(config, name) < least:
            raise UserError(f"{field}.{name}", getattr(config, name), f"must be at least {least}")
    if not config.timeout > 0:
        raise UserError(f"{field}.timeout", config.timeout, "must be positive")
    return config
