"""What training and diagnosing cost: tokens, FLOPs, hours, money.

The unit is the FLOP as the ledger counts it (types.flops_of; arXiv 2001.08361, section 2.1: attention over the context
is left out), for models of N weights:

    per token sampled   2 N
    per token scored    2 N
    per token trained   6 N   (forward 2 N, backward 4 N)

    flops = 2 N_expert (sampled + scored) + 2 N_student sampled + 6 N_student trained

where the tokens of a prompt count like those of a completion, once for all its completions.

A programmatic expert has no weights: it counts 0, and its tokens are reported. What the student scores (its own
likelihood of the expert's text) counts as if it were sampled: the same forward pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.diagnosis.types import Cost
from understudy.methods import price
from understudy.methods.cells import Method
from understudy.methods.table import TABLE
from understudy.types import flops_of

LEDGER = ("expert_tokens_sampled", "expert_tokens_scored", "student_tokens_sampled", "student_tokens_trained")
PROMPTS = ("expert_prompt_tokens", "student_prompt_tokens_sampled", "student_prompt_tokens_trained")


@dataclass(frozen=True)
class Sizes:
    """Weights of student and expert, and the mean tokens of a prompt."""

    student: float
    expert: float
    prompt: float = 0.0
    expert_prompt: float = 0.0
    """As the expert reads it, with its context. 0: as the student does."""

    def cost(
        self, expert_sampled: float = 0, expert_scored: float = 0, sampled: float = 0, trained: float = 0,
        seconds: float = 0.0, prompts: tuple[float, float, float] = (0, 0, 0),
    ) -> Cost:  # fmt: skip
        """Of so many tokens. prompts: that the expert reads, that the student reads to sample, and to learn."""
        tokens = [float(x) for x in (expert_sampled, expert_scored, sampled, trained)]
        read = [size * n for size, n in zip((self.expert_prompt or self.prompt, self.prompt, self.prompt), prompts)]
        spent = dict(zip((*LEDGER, *PROMPTS), [*tokens, *read]))
        flops = flops_of(spent, self.student, self.expert)
        a, b, c, d, *rest = map(round, [*tokens, *read])
        return Cost(a, b, c, d, flops, float(seconds), *rest)

    def of_ledger(self, ledger: dict[str, Any]) -> Cost:
        """What a run has spent on training, from its ledger."""
        known = {name: int(ledger.get(name) or 0) for name in (*LEDGER, *PROMPTS)}
        flops = flops_of(ledger, self.student, self.expert)
        return Cost(**known, flops=flops, seconds=float(ledger.get("train_seconds", 0)))

    def sft(self, sequences: float, expert_length: float, pool: float = 0) -> Cost:
        """Offline training on so many expert sequences of so many tokens; a pool is sampled once and re-used."""
        distinct = min(sequences, pool) if pool else sequences
        learnt = sequences * expert_length
        return self.cost(distinct * expert_length, trained=learnt, seconds=math.nan, prompts=(distinct, 0, sequences))

    def opd(self, sequences: float, student_length: float) -> Cost:
        """Online training: the student samples, the expert scores, the student learns."""
        n, tokens = sequences, sequences * student_length
        return self.cost(expert_scored=tokens, sampled=tokens, trained=tokens, seconds=math.nan, prompts=(n, n, n))


def timed(cost: Cost, measured: Cost | None, device_flops: float) -> Cost:
    """`cost` with its seconds: at `device_flops` if that is given, else at the measured pace of the same work.

    nan where neither is known. The pace is seconds per trained token, sampling and labelling included.
    """
    if device_flops > 0:
        seconds = cost.flops / device_flops
    elif measured is not None and measured.student_tokens_trained and measured.seconds > 0:
        seconds = measured.seconds * cost.student_tokens_trained / measured.student_tokens_trained
    else:
        seconds = math.nan
    return dataclasses.replace(cost, seconds=seconds)


# --- routes at one budget of FLOPs, prompts counted -----------------------------------------------------


def of_routes(
    routes: Sequence[str], online: str | None, updates: float, sequences: float, lengths: Mapping[str, float],
    weights: Mapping[str, float], paces: Mapping[str, Cost], device_flops: float = 0.0,
) -> dict[str, tuple[tuple[int, ...], Cost]]:  # fmt: skip
    """Route -> (expected updates of its phases, cost). Every route spends what `updates` updates of the online method
    (of sft where there is none) are expected to cost; its phases have equal parts. "nothing" costs nothing.

    lengths: tokens of "prompt", "student", "expert"; sequences: per update of any method; paces: of the pilots "sft"
    and "opd".
    """
    known, sizes = price.Lengths(**lengths), price.Sizes(**weights)

    def method(name: str) -> Method:
        row: dict[str, Any] = {**TABLE[name].cells, **TABLE[name].defaults}
        return Method(**row, prompts_per_update=max(1, round(sequences) // row.get("samples_per_prompt", 1)))

    total = updates * price.flops_per_update(method(online or "sft"), known, sizes)
    out: dict[str, tuple[tuple[int, ...], Cost]] = {"nothing": ((), Cost())}
    for route in routes:
        if route == "nothing":
            continue
        counts, cost, now = [], Cost(), known
        for name in route.split("+"):
            share = total / len(route.split("+"))
            n = max(1, round(share / price.flops_per_update(method(name), now, sizes)))
            tokens = price.tokens_per_update(method(name), now)
            spent = Cost(**{column: round(n * tokens[column]) for column in (*LEDGER, *PROMPTS)})
            flops = n * price.flops_per_update(method(name), now, sizes)
            seconds = flops / device_flops if device_flops else spent.student_tokens_trained * _pace(name, paces)
            counts.append(n)
            cost += dataclasses.replace(spent, flops=flops, seconds=seconds)
            now = dataclasses.replace(now, student=now.expert)  # it has learnt to write as long as the expert
        out[route] = tuple(counts), cost
    return out


def _pace(method: str, paces: Mapping[str, Cost]) -> float:
    """Seconds per trained token, by the pilots; a mixture is half of each. nan: not known."""
    kinds = {"sft": ("sft",), "gkd": ("sft", "opd"), "gkd_reward": ("sft", "opd")}.get(method, ("opd",))
    seen = [p.seconds / p.student_tokens_trained for k in kinds if (p := paces.get(k)) and p.student_tokens_trained]
    return sum(seen) / len(seen) if len(seen) == len(kinds) else math.nan
