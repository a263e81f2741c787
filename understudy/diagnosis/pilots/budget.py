"""How large the pilots are that a budget buys: sequences, prompts to measure them on, what stays for the controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from understudy.diagnosis.cost import Sizes
from understudy.diagnosis.types import Cost

BATCH = 8
"""A pilot's update has 1/BATCH of the full training's sequences."""
CURVE = (1 / 16, 1 / 4, 1.0)
"""Training sequences of the offline pilots, as shares of the largest."""
ONLINE = 0.4
"""Those of the online pilot, likewise."""
ENOUGH = 8192
"""Sequences that the largest pilot is given before anything is put aside for the controls."""
EVAL_SAMPLES = 2
EVAL_HALF = 2
"""The divergences, which are far less noisy than accuracies, are measured on one prompt in so many."""
EVAL_SHARE = 0.35
"""Of what is left for the pilots, at most this goes into measuring them."""


@dataclass(frozen=True)
class Size:
    """What fits. sequences: of the largest offline pilot; 0 = none fits. online: of the online one."""

    batch: int
    sequences: int
    online: int
    prompts: int
    left: float
    """FLOPs that stay for the controls."""

    @property
    def curve(self) -> tuple[int, ...]:
        return tuple(whole(self.sequences * part, self.batch) for part in CURVE)


def whole(sequences: float, batch: int) -> int:
    """About so many, in whole updates; at least one."""
    return max(1, round(sequences / batch)) * batch


@dataclass(frozen=True)
class Prices:
    """What a pilot's size depends on beside the budget."""

    sizes: Sizes
    student_length: float
    expert_length: float
    batch: int
    online: bool
    """Whether there is an online pilot."""

    def look(self, few: bool = False) -> float:
        """FLOPs of measuring one pilot on one prompt: samples (half as many for the few), both divergences."""
        return look_cost(self.sizes, self.student_length, self.expert_length, few).flops

    def fit(
        self, flops: float, most: int, samples: int,
        reserve: Callable[[int, int], float] = lambda n, prompts: 0.0, planned: Size | None = None,
    ) -> Size:  # fmt: skip
        """The largest pilots for so many FLOPs: at most `most` sequences, measured on at most `samples` prompts.

        reserve(n, prompts): FLOPs of the controls of a middle pilot of n sequences. They are put aside where ENOUGH
        sequences remain for the largest pilot. planned: what was planned before the online pilot, which is paid; the
        offline ones take what is left, and at least half of what they were to have.
        """
        online = self.online and planned is None
        looks = self.look() * (1 + online) + self.look(few=True) * (len(CURVE) - 1)
        prompts = planned.prompts if planned else int(min(samples, max(8, EVAL_SHARE * flops / max(looks, 1))))
        each = self.sizes.sft(1, self.expert_length).flops * sum(CURVE)
        if online:
            each += ONLINE * self.sizes.opd(1, self.student_length).flops
        step = 4 * self.batch  # so that a quarter is whole updates
        rest = flops - prompts * looks
        n = int(min(most, max(0.0, rest / each))) // step * step
        fits = [m for m in range(n, ENOUGH - 1, -step) if m * each + reserve(round(m * CURVE[1]), prompts) <= rest]
        n = fits[0] if fits else n
        if planned:
            n = max(n, planned.sequences // 2 // step * step, step)
        paid = planned.online if planned else whole(n * ONLINE, self.batch) if self.online else 0
        return Size(self.batch, n, paid, prompts, rest - n * each)


def look_cost(sizes: Sizes, student_length: float, expert_length: float, few: bool = False) -> Cost:
    """Of measuring one pilot on one prompt: samples, both divergences."""
    both = student_length + expert_length
    samples = EVAL_SAMPLES * student_length / (EVAL_HALF if few else 1)
    compared, drawn = 2 / EVAL_HALF, 1 / (EVAL_HALF if few else 1)
    read = (compared, drawn + compared, 0)
    return sizes.cost(expert_scored=both / EVAL_HALF, sampled=samples + both / EVAL_HALF, prompts=read)
