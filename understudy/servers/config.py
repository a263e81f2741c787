"""How a server is named: an address, or `server:url=...,option=value`; and vLLM in this process: `vllm:option=value`.

No torch, no network.
"""

from __future__ import annotations

from dataclasses import dataclass

from understudy.servers.urls import pieces
from understudy.specs import build, check, option, parse_spec


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
    tokenizer: str = ""
    """Folder or hub id of its tokenizer, where that is not the student's: an expert of another family
    (docs/experts.md)."""
    wait: float = option(0.5, least=0)
    """Seconds before the second attempt; doubles with every further one."""
    weights: str = ""
    """sampler only: a folder that this process writes and the server reads, for the student's current weights."""


def parse_server(spec: str, field: str) -> ServerConfig:
    """ServerConfig of an address or `server:...`. UserError: unknown option, value out of range, anything secret."""
    config = build(ServerConfig, pieces(spec, field), field)
    check(config, field)
    return config


@dataclass(frozen=True)
class VllmConfig:
    gpu_memory_utilization: float = option(0.3, within="(0, 1)")
    """Share of the GPU's memory that vLLM may take beside the student: its weights, its cache of keys and values."""
    max_model_len: int = option(0, least=0)
    """Largest number of tokens of a prompt with its completion. 0 = the model's context."""
    sleep: int = option(1, least=0, most=2)
    """What vLLM gives back between two draws: 1 its cache, and its weights to the host's memory; 2 both, without a
    copy; 0 nothing."""
    eager: bool = False
    """No CUDA graphs: starts faster, draws slower."""
    noise: float = option(0.05, least=0)
    """Largest mean difference, in nats per token, between vLLM's and the student's log-probs of the same tokens."""


def names_vllm(spec: str) -> bool:
    """Whether a sampler is vLLM in this process: `vllm`, or `vllm:option=value`."""
    return spec.partition(":")[0] == "vllm"


def parse_vllm(spec: str, field: str) -> VllmConfig:
    """VllmConfig of `vllm` or `vllm:...`. UserError: unknown option, value out of range."""
    config = build(VllmConfig, parse_spec(spec, field).args, field)
    check(config, field)
    return config
