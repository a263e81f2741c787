"""How a server is named: an address, or `server:url=...,option=value`. No torch, no network."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.servers.urls import pieces
from understudy.specs import build, check, option


@dataclass(frozen=True)
class ServerConfig:
    url: str = ""
    """Address of the API, with its /v1: http://HOST:PORT/v1. No user name, no password, no query."""
    model: str = ""
    """Name of the model there. Default: the only one that it serves."""
    api: str = option("completions", choices=("completions", "chat"))
    """completions (token-exact: samples and scores), or chat (a black box: samples of text, no scores)."""
    revision: str = ""
    """Your name for these weights; part of the score cache's key. Change it when the weights change."""
    concurrency: int = option(8, least=1)
    """Requests at a time."""
    rows: int = option(8, least=1)
    """Completions per scoring request."""
    timeout: float = option(120.0, within="(0, inf)")
    """Seconds that one request may take in total."""
    tries: int = option(6, least=1)
    """Attempts per request, with growing pauses."""
    key_env: str = ""
    """Environment variable that holds the key. Default: UNDERSTUDY_API_KEY (OPENAI_API_KEY for openai.com)."""
    noise: float = option(0.05, least=0)
    """Largest mean difference, in nats per token, between two scores of the same tokens."""
    local: str = ""
    """A local copy of the same model: at the start its scores must agree with the server's. Default: none."""
    wait: float = option(0.5, least=0)
    """Seconds before the second attempt; doubles with every further one."""
    weights: str = ""
    """sampler only: a folder that this process writes and the server reads, for the student's current weights."""


def parse_server(spec: str, field: str) -> ServerConfig:
    """ServerConfig of an address or `server:...`. UserError: unknown option, value out of range, anything secret."""
    config = build(ServerConfig, pieces(spec, field), field)
    check(config, field)
    return config
