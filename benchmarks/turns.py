"""Time several contenders in turns, and the ratios of what comes out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Contender = Callable[[], int]
"""Works once; returns the number of completion tokens that it handled."""


def in_turns(contenders: Mapping[str, Contender], repeats: int, warm: int = 1) -> dict[str, Any]:
    """Per contender the seconds of each repeat, and its tokens. The order turns around each time.

    The first `warm` rounds are not counted.
    """
    names = list(contenders)
    out: dict[str, Any] = {"seconds": {n: [] for n in names}, "tokens": {n: [] for n in names}}
    for i in range(-warm, repeats):
        for name in names if i % 2 == 0 else reversed(names):
            began = time.perf_counter()
            tokens = contenders[name]()
            took = time.perf_counter() - began
            if i >= 0:
                out["seconds"][name].append(took)
                out["tokens"][name].append(tokens)
    return out


def ratios(result: Mapping[str, Any], peer: str, own: str = "understudy") -> list[float]:
    """How many times as fast as `peer` each repeat was, in seconds per token: above 1, `own` is faster."""
    per_token = {
        name: [s / t for s, t in zip(result["seconds"][name], result["tokens"][name])] for name in (own, peer)
    }  # fmt: skip
    return [theirs / ours for ours, theirs in zip(per_token[own], per_token[peer])]


def spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    """Median and range: `1.52 (1.49 to 1.60)`."""
    middle, low, high = (form.format(x) for x in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def matmul_gflops(seconds: float = 1.0) -> float:
    """The most that this machine reaches in float32 products of two 1024 x 1024 matrices."""
    import torch

    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    end, best = time.perf_counter() + seconds, 0.0
    torch.mm(a, b)
    while time.perf_counter() < end:
        began = time.perf_counter()
        torch.mm(a, b)
        best = max(best, 2 * 1024**3 / (time.perf_counter() - began) / 1e9)
    return best
