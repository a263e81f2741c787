"""Stage 3: short trainings, offline at growing n and one online, by the product's own train().

A pilot is the full training's recipe (schedule, reduction, ...) on fewer sequences. Its updates have 1/BATCH of the
sequences, so that it gets further with as many. Their learning rate is lower by LR only: the rule for Adam under which
smaller updates follow the same path (sqrt(BATCH), arXiv 2205.10287) would have them see no further than the same share
of the full training; these see further, at the price of noisier steps.

An offline sequence is cheaper than an online one, and SFT learns late: its largest pilot gets more of them. The online
pilot needs fewer, as every update of it is also a measurement: its samples are fresh, and each is verified.

Every pilot is a run directory under the diagnosis, resumed and re-used like any other. Each is measured on the
held-out prompts, with the random numbers that the student before training was measured with.
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from understudy.config import Resolved
from understudy.diagnosis.cost import Sizes
from understudy.diagnosis.measures.collect import Floats, Setting, Table, compared, cost_of, cost_tensor, sample_student
from understudy.diagnosis.pilots.budget import BATCH, EVAL_HALF, EVAL_SAMPLES, Prices, Size
from understudy.diagnosis.pilots.estimates import accuracy, at_work, divergence, nats, online_level
from understudy.diagnosis.types import Cost, Estimate, PilotPoint
from understudy.policy import Policy, load_policy
from understudy.runs.directory import RunDir
from understudy.runs.read import read_ledger, read_metrics
from understudy.terminal import Progress
from understudy.training.train import train
from understudy.types import Prompt

LR = 0.6
"""A pilot's learning rate, as a share of the full training's."""
WARM = 8
"""A pilot warms up for at least 1/WARM of its updates: the first steps at full rate would harm a short run."""
STRETCH = 1.5
"""The online pilot ends early once it has trained on so many times the tokens that it was planned for."""
BELIEVED = 0.05
"""Gain of the online pilot from which longer completions are taken as lasting."""


@dataclass(frozen=True)
class Measured:
    """A pilot on the held-out prompts, one value per prompt; the divergences on Pilots.few. nan = not known."""

    reward: Floats
    forward: Floats
    reverse: Floats
    cost: Cost


class Pilots:
    """Trains and measures pilots. `prompts`: held out; `table`: the expert's completions of them."""

    def __init__(
        self, setting: Setting, run: RunDir, offline: Resolved, online: Resolved | None,
        table: Table, progress: Progress,
    ) -> None:  # fmt: skip
        self.setting, self.run, self.offline, self.online = setting, run, offline, online
        self.table, self.progress = table, progress
        self.prompts: list[Prompt] = []
        self.spent = Cost()
        self.measured: dict[str, Measured] = {}

    def prices(self, student_length: float) -> Prices:
        batch = max(2, self.offline.prompts_per_update // BATCH)
        lengths = student_length, float(self.table.length.mean())
        return Prices(self.setting.sizes, *lengths, batch, self.online is not None)

    # -- one pilot ------------------------------------------------------------------------------------------------

    def train(
        self, full: Resolved, sequences: int, batch: int, name: str, sizes: Sizes | None = None, **changes: Any
    ) -> Path:
        """A short training on so many sequences (an epoch, unless `changes` say otherwise); its run directory.

        sizes: of another student or expert than the diagnosis's own.
        """
        updates = int(changes.pop("updates", sequences // batch))
        config = dataclasses.replace(
            full, updates=updates, budget=0.0, prompts_per_update=batch,
            lr=full.lr * LR,
            warmup=max(round(full.warmup * updates / full.updates), updates // WARM),
            micro_batch=min(full.micro_batch, batch), save_every=50, eval_every=0, eval_splits="train",
            final_prompts=1, final_samples=1, eval_expert=False, keep=1, guard=False,
            out=str(self.run.path / "pilots" / name),
            prompt_pool=full.prompt_pool if full.prompt_pool < sequences else 0,
        )  # fmt: skip
        config = dataclasses.replace(config, **changes)
        path = train(config, lambda phase, done, total, note: self.progress(f"{name}: {phase}", done, total, note))
        self.spent += (sizes or self.setting.sizes).of_ledger(read_ledger(path))
        return path

    def point(self, path: Path, kind: Any, sequences: int, label: str, few: bool = False) -> PilotPoint:
        """The trained pilot, measured."""
        measured, ledger = self.measure(path, few), read_ledger(path)
        return PilotPoint(
            kind, sequences, int(ledger["updates"]), accuracy(measured.reward), nats(measured.forward),
            nats(measured.reverse), label, self.setting.sizes.of_ledger(ledger),
        )  # fmt: skip

    def measure(self, path: Path, few: bool = False) -> Measured:
        """few: accuracy too on every EVAL_HALF-th prompt only, as for a pilot that is one of several."""
        name = path.name
        if name not in self.measured:
            cached = self.run.cache(f"look-{name}", lambda: self._look(path, few))
            arrays = {k: cached[k].numpy() for k in ("reward", "forward", "reverse")}
            self.measured[name] = Measured(**arrays, cost=cost_of(cached["cost"]))
            self.spent += self.measured[name].cost
        return self.measured[name]

    def _look(self, path: Path, few: bool) -> dict[str, Tensor]:
        began = time.perf_counter()
        setting, prompts = self.setting, self.few if few else self.prompts
        policy = self.load(path)
        rollouts = sample_student(setting, policy, prompts, EVAL_SAMPLES)
        firsts = [r for r in rollouts if r.sample == 0][:: 1 if few else EVAL_HALF]
        forward = self.forward(policy)
        reverse = divergence(compared(setting, policy, setting.expert, firsts, "student"), "student")
        if setting.reward:
            reward = np.array([float(r.reward or 0) for r in rollouts]).reshape(-1, EVAL_SAMPLES).mean(1)
        else:
            reward = np.full(len(prompts), math.nan)
        sampled, given = sum(len(r.ids) for r in rollouts), self._expert_tokens
        first = sum(len(r.ids) for r in firsts)
        scored = first + given if "score" in setting.expert.capabilities else 0
        both = len(firsts) + len(self._expert_firsts)
        read = (both * bool(scored), len(prompts) + both, 0)
        cost = setting.sizes.cost(0, scored, sampled + first + given, 0, time.perf_counter() - began, read)
        arrays = {"reward": reward, "forward": forward, "reverse": reverse}
        return {k: torch.tensor(v, dtype=torch.float64) for k, v in arrays.items()} | {"cost": cost_tensor(cost)}

    @property
    def few(self) -> list[Prompt]:
        return self.prompts[::EVAL_HALF]

    def load(self, path: Path) -> Policy:
        c = self.offline
        policy = load_policy(str(path), "student", None, 0, c.device, c.dtype, c.trust_remote_code)
        return policy.add_stop_tokens(self.setting.task.stop)

    def forward(self, policy: Policy) -> Floats:
        """KL(expert, policy) on the first expert completion of each of the few prompts."""
        return divergence(compared(self.setting, policy, self.setting.expert, self._expert_firsts, "expert"), "expert")

    @cached_property
    def _expert_firsts(self) -> list[Any]:
        k = self.table.samples
        return [self.table.rollouts[i * k] for i in range(0, len(self.prompts), EVAL_HALF)]

    @property
    def _expert_tokens(self) -> int:
        return sum(len(r.ids) for r in self._expert_firsts)

    # -- the curves -----------------------------------------------------------------------------------------------

    def offline_points(self, size: Size) -> list[PilotPoint]:
        """The offline pilots at growing n."""
        points = []
        for n in size.curve:
            path = self.train(self.offline, n, size.batch, f"sft-{n}")
            points.append(self.point(path, "sft", n, "curve", few=n < size.curve[-1]))
        return points

    def online_point(self, size: Size, student_length: float) -> list[PilotPoint]:
        """The online pilot; none where the expert allows none. A token budget caps what long completions may cost."""
        if self.online is None:
            return []
        cap: dict[str, Any] = {
            "budget_axis": "student_tokens_trained",
            "budget": STRETCH * size.online * student_length,
        }
        path = self.train(self.online, size.online, size.batch, f"opd-{size.online}", **cap)
        return [self.point(path, "opd", int(read_ledger(path)["updates"]) * size.batch, "curve")]

    def online_length(self, size: Size, student_length: float, gain: float) -> float:
        """Tokens per completion to expect of full online training, from the last third of the online pilot.

        Shorter ones are taken as lasting; longer ones by half, and only if they came with more right answers (gain: of
        the pilot). Other growth is taken as passing: then half-way to the expert's length, if that is shorter, so
        that the price of the trainings is not overrated.
        """
        lines = read_metrics(self.run.path / "pilots" / f"opd-{size.online}", "train")
        lengths = [float(x["length"]) for x in lines if x.get("length") is not None]
        last = float(np.mean(lengths[-max(1, len(lengths) // 3) :])) if lengths else student_length
        if last > student_length and gain > BELIEVED:
            return (last + student_length) / 2
        base = min(last, student_length)
        return (base + min(base, float(self.table.length.mean()))) / 2

    def at_work(self, size: Size) -> dict[str, Estimate]:
        """`at_work` and `online_level` of the largest pilots."""
        if not size.sequences or not self.setting.reward:
            return {}
        measures = at_work(self.run.path / "pilots" / f"sft-{size.curve[-1]}")
        return measures | online_level(self.rewards(size), size.batch)

    def rewards(self, size: Size) -> list[list[float]]:
        """[sequences seen, share right] of each update of the online pilot: fresh prompts, not yet trained on."""
        if self.online is None or not size.sequences or not self.setting.reward:
            return []
        lines = read_metrics(self.run.path / "pilots" / f"opd-{size.online}", "train")
        return [[float(x["step"] * size.batch), float(x["reward"])] for x in lines if x.get("reward") is not None]
