"""Stage 3: short trainings, offline at growing n and one online, by the product's own train().

A pilot is the full training's recipe (schedule, reduction, ...) on fewer sequences. Its updates have 1/BATCH of the
sequences, so that it gets further with as many, and a learning rate lower by sqrt(BATCH), the rule for Adam under
which smaller updates follow the same path (arXiv 2205.10287). At least a quarter of it is warm-up: a short run would
otherwise mostly show the harm of its first steps.

Every pilot is a run directory under the diagnosis, resumed and re-used like any other. Each is measured on the
held-out prompts, with the random numbers that the student before training was measured with.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy.config import TrainConfig
from understudy.diagnose import intervals
from understudy.diagnose.collect import Floats, Setting, Table, compared, cost_of, cost_tensor, sample_student
from understudy.diagnose.cost import Sizes
from understudy.diagnose.floor import extrapolate, fit_floor
from understudy.diagnose.types import Cost, Estimate, Floor, PilotPoint
from understudy.policy import Policy, load_policy
from understudy.run import RunDir, read_ledger, read_metrics
from understudy.train import train
from understudy.types import Prompt

BATCH = 8
"""A pilot's update has 1/BATCH of the full training's sequences."""
WARM = 4
"""A pilot warms up for at least 1/WARM of its updates."""
CURVE = (0.25, 0.5, 1.0)
"""Training sequences of the offline pilots, as shares of the largest."""
ENOUGH = 512
"""Sequences that the largest pilot is given before anything is put aside for the controls."""
EVAL_SAMPLES = 2
EVAL_SHARE = 0.35
"""Of what is left for the pilots, at most this goes into measuring them."""
NATS = "nats a sequence"


@dataclass(frozen=True)
class Size:
    """What fits. sequences: of the largest offline pilot and of the online one; 0 = none fits."""

    batch: int
    sequences: int
    prompts: int
    left: float
    """FLOPs that stay for the controls."""

    @property
    def curve(self) -> tuple[int, ...]:
        return tuple(round(self.sequences * part) for part in CURVE)


@dataclass(frozen=True)
class Measured:
    """A pilot's run on the held-out prompts, (P,) each; nan = not known."""

    reward: Floats
    forward: Floats
    reverse: Floats
    cost: Cost


class Pilots:
    """Runs and measures pilots. `some`: the held-out prompts; `table`: the expert's completions of them."""

    def __init__(
        self, setting: Setting, run: RunDir, offline: TrainConfig, online: TrainConfig | None,
        table: Table, show: Callable[[str, int, int, str], None],
    ) -> None:  # fmt: skip
        self.setting, self.run, self.offline, self.online = setting, run, offline, online
        self.table, self.show = table, show
        self.prompts: list[Prompt] = []
        self.spent = Cost()
        self.measured: dict[str, Measured] = {}

    # -- what fits ------------------------------------------------------------------------------------------------

    def size(
        self, flops: float, student_length: float, most: int, samples: int,
        reserve: Callable[[int, int], float] = lambda n, prompts: 0.0,
    ) -> Size:  # fmt: skip
        """The largest pilots for so many FLOPs: at most `most` sequences, measured on at most `samples` prompts.

        reserve(n, prompts): FLOPs of the controls of a middle pilot of n sequences. They are put aside where ENOUGH
        sequences remain for the largest pilot.
        """
        sizes, expert_length = self.setting.sizes, float(self.table.length.mean())
        batch = max(2, self.offline.prompts_per_update // BATCH)
        look = self._look_cost(sizes, student_length, expert_length).flops
        looks = len(CURVE) + (self.online is not None)
        prompts = int(min(samples, max(8, EVAL_SHARE * flops / max(looks * look, 1))))
        each = sizes.sft(1, expert_length).flops * sum(CURVE)
        if self.online is not None:
            each += sizes.opd(1, student_length).flops
        step = 4 * batch  # so that a quarter is whole updates
        rest = flops - looks * prompts * look
        n = int(min(most, max(0.0, rest / each))) // step * step
        fits = [
            m for m in range(n, ENOUGH - 1, -step) if m * each + reserve(round(m * CURVE[1]), prompts) <= rest
        ]
        n = fits[0] if fits else n
        return Size(batch, n, prompts, rest - n * each)

    @staticmethod
    def _look_cost(sizes: Sizes, student_length: float, expert_length: float) -> Cost:
        """Of measuring one pilot on one prompt: samples, both divergences."""
        both = student_length + expert_length
        return sizes.cost(expert_scored=both, sampled=EVAL_SAMPLES * student_length + both)

    # -- one pilot ------------------------------------------------------------------------------------------------

    def train(
        self, full: TrainConfig, sequences: int, batch: int, name: str, sizes: Sizes | None = None, **changes: Any
    ) -> Path:  # fmt: skip
        """A short training on so many sequences (an epoch, unless `changes` say otherwise); its run directory.

        sizes: of another student or expert than the diagnosis's own.
        """
        updates = int(changes.pop("updates", sequences // batch))
        pool = int(full.prompt_pool or 0)
        config = dataclasses.replace(
            full, updates=updates, prompts_per_update=batch,
            lr=full.lr * math.sqrt(batch / full.prompts_per_update),
            warmup=max(round(full.warmup * updates / full.updates), updates // WARM),
            micro_batch=min(full.micro_batch, batch), save_every=50, eval_every=0, eval_splits="train",
            final_prompts=1, final_samples=1, eval_expert=False, keep=1, out=str(self.run.path / "pilots" / name),
            prompt_pool=pool if pool < sequences else 0,
        )  # fmt: skip
        config = dataclasses.replace(config, **changes)
        path = train(
            config, lambda phase, done, total, note: self.show(f"{name}: {phase}", done, total, note)
        )
        self.spent += (sizes or self.setting.sizes).of_ledger(read_ledger(path))
        return path

    def point(self, path: Path, kind: Any, sequences: int, label: str) -> PilotPoint:
        """The trained pilot, measured."""
        found, ledger = self.measure(path), read_ledger(path)
        return PilotPoint(
            kind, sequences, int(ledger["updates"]), accuracy(found.reward), nats(found.forward), nats(found.reverse),
            label, self.setting.sizes.of_ledger(ledger),
        )  # fmt: skip

    def measure(self, path: Path) -> Measured:
        name = path.name
        if name not in self.measured:
            cached = self.run.cache(f"look-{name}", lambda: self._look(path))
            arrays = {k: cached[k].numpy() for k in ("reward", "forward", "reverse")}
            self.measured[name] = Measured(**arrays, cost=cost_of(cached["cost"]))
            self.spent += self.measured[name].cost
        return self.measured[name]

    def _look(self, path: Path) -> dict[str, Tensor]:
        began = time.perf_counter()
        setting, some = self.setting, self.prompts
        policy = self.load(path)
        rollouts = sample_student(setting, policy, some, EVAL_SAMPLES)
        firsts = [r for r in rollouts if r.sample == 0]
        forward = self.forward(policy)
        reverse = divergence(compared(setting, policy, setting.expert, firsts, "student"), "student")
        if setting.reward:
            reward = np.array([float(r.reward or 0) for r in rollouts]).reshape(-1, EVAL_SAMPLES).mean(1)
        else:
            reward = np.full(len(some), math.nan)
        own, theirs = sum(len(r.ids) for r in rollouts), self._expert_tokens
        first = sum(len(r.ids) for r in firsts)
        scored = first + theirs if "score" in setting.expert.capabilities else 0
        cost = setting.sizes.cost(0, scored, own + first + theirs, 0, time.perf_counter() - began)
        arrays = {"reward": reward, "forward": forward, "reverse": reverse}
        return {k: torch.tensor(v, dtype=torch.float64) for k, v in arrays.items()} | {
            "cost": cost_tensor(cost)
        }

    def load(self, path: Path) -> Policy:
        c = self.offline
        return load_policy(str(path), "student", None, 0, c.device, c.dtype, c.trust_remote_code)

    def forward(self, policy: Policy) -> Floats:
        """(P,) KL(expert, policy) on the first expert completion of each held-out prompt."""
        return divergence(
            compared(self.setting, policy, self.setting.expert, self._expert_firsts, "expert"), "expert"
        )

    @cached_property
    def _expert_firsts(self) -> list[Any]:
        k = self.table.samples
        return [self.table.rollouts[i * k] for i in range(len(self.prompts))]

    @property
    def _expert_tokens(self) -> int:
        return sum(len(r.ids) for r in self._expert_firsts)

    # -- the curves -----------------------------------------------------------------------------------------------

    def curves(self, size: Size) -> list[PilotPoint]:
        """The offline pilots at growing n, then the online one."""
        points = []
        for n in size.curve:
            path = self.train(self.offline, n, size.batch, f"sft-{n}")
            points.append(self.point(path, "sft", n, "curve"))
        if self.online is not None:
            path = self.train(self.online, size.sequences, size.batch, f"opd-{size.sequences}")
            points.append(self.point(path, "opd", size.sequences, "curve"))
        return points

    def rewards(self, size: Size) -> list[list[float]]:
        """[sequences seen, share right] of each update of the online pilot: fresh prompts, not yet trained on."""
        if self.online is None or not size.sequences or not self.setting.reward:
            return []
        lines = read_metrics(self.run.path / "pilots" / f"opd-{size.sequences}", "train")
        return [
            [float(x["step"] * size.batch), float(x["reward"])] for x in lines if x.get("reward") is not None
        ]


def start(kind: Any, student: Table, expert: Table, n: int) -> PilotPoint:
    """The student before any training, on the first n held-out prompts."""
    return PilotPoint(
        kind, 0, 0, accuracy(student.reward[:n]), nats(expert_side(expert)[:n].mean(1)),
        nats(student_side(student)[:n].mean(1)), "start",
    )  # fmt: skip


def floor(points: Sequence[PilotPoint]) -> Floor | None:
    """The floor of the offline curve's held-out KL(expert, student); None where no pilot measured it."""
    n, y, se = _losses(points)
    return fit_floor(n, y, se) if n else None


def ahead(points: Sequence[PilotPoint], at: float, steps: int = 16) -> dict[str, list[float]]:
    """{n, value, low, high}: `floor`'s curve with its interval from the largest pilot to `at` sequences; or {}."""
    n, y, se = _losses(points)
    if len(set(n)) < 3 or at <= max(n):
        return {}
    ns = [float(max(n)), *np.geomspace(max(n), at, steps).tolist()[1:-1], float(at)]
    found = [extrapolate(n, y, se, x) for x in ns]
    return {"n": ns} | {name: [float(getattr(e, name)) for e in found] for name in ("value", "low", "high")}


def _losses(points: Sequence[PilotPoint]) -> tuple[list[int], list[float], list[float]]:
    """Sequences, KL(expert, student) and its standard error, of the offline curve."""
    seen = [(p.samples, p.kl_expert_student) for p in points if (p.kind, p.label) == ("sft", "curve")]
    known = [(n, e) for n, e in seen if e and math.isfinite(e.value) and e.high > e.low]
    return [n for n, _ in known], [e.value for _, e in known], [(e.high - e.low) / 4 for _, e in known]


def student_side(table: Table) -> Floats:
    """(P, K) samples of KL(student, expert): exact token by token where the expert gives distributions."""
    return table.kl if np.isfinite(table.kl).all() else table.student_logp - table.expert_logp


def expert_side(table: Table) -> Floats:
    """(P, K) samples of KL(expert, student)."""
    return table.kl if np.isfinite(table.kl).all() else table.expert_logp - table.student_logp


def divergence(known: dict[str, Floats], actor: str) -> Floats:
    if np.isfinite(known["kl"]).all():
        return known["kl"]
    sign = 1 if actor == "student" else -1
    return sign * (known["student_logp"] - known["expert_logp"])


def accuracy(reward: Floats) -> Estimate | None:
    return None if np.isnan(reward).any() else intervals.share(reward)


def nats(values: Sequence[float] | Floats) -> Estimate | None:
    return None if np.isnan(values).any() else intervals.mean(values, NATS)
