"""What a diagnosis will do and cost, before it does it: from the budget, the sizes, and a look at a few completions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from understudy.config import Resolved
from understudy.diagnosis.config import DiagnoseConfig, share
from understudy.diagnosis.cost import Sizes
from understudy.diagnosis.measures.collect import Setting, can_continue, sample_student
from understudy.diagnosis.measures.gradients import PROMPTS, SAMPLES
from understudy.diagnosis.measures.takeover import DEPTHS
from understudy.diagnosis.pilots.budget import BATCH, EVAL_SAMPLES, Prices, Size
from understudy.diagnosis.pilots.controls import prices
from understudy.diagnosis.types import Cost
from understudy.evaluation.numbers import count, duration, large, percent
from understudy.randomness import seed_from
from understudy.types import Prompt, Rollout

MEASURING = 0.22
"""Share of the budget that samples, scores and takeovers may take; the rest is for the pilots."""
LEAST = 24
"""Prompts to measure on, however small the budget."""
CLEAR = 1.25
"""No pilot fits, whatever the lengths, where they need so many times the budget at lengths that are assumed."""
FEW, LOOK = 4, 16
"""Prompts of the two parts of the look: the pace of sampling depends on how many rows are decoded together."""


@dataclass(frozen=True)
class Pace:
    """Seconds of sampling: `step` per token of the longest row, `row` per token of every row; `token`: of scoring."""

    step: float
    row: float
    token: float

    def sampling(self, rows: float, length: float, together: float = 256.0) -> float:
        """Of so many completions, so many of them decoded together."""
        return math.ceil(rows / together) * 1.5 * length * self.step + rows * length * self.row


@dataclass(frozen=True)
class Look:
    """Mean tokens, and paces. cost: of the look itself."""

    prompt: float
    student: float
    expert: float
    of_student: Pace
    of_expert: Pace
    loading: float
    """Seconds that loading the student took."""
    cost: Cost


def look(setting: Setting, prompts: Sequence[Prompt], loading: float) -> Look:
    """Sample and score the first LOOK prompts once by each."""
    began = time.perf_counter()
    student, expert = setting.student, setting.expert
    some = list(prompts[:LOOK])
    seed = seed_from("diagnose look", setting.seed)
    written, of_student = _pace(lambda part: sample_student(setting, student, part, 1), student.score, some)
    scores = expert.score if "score" in expert.capabilities else None
    taught, of_expert = _pace(lambda part: expert.sample(part, 1, seed, setting.room), scores, some)
    n = min(FEW, len(some)) + len(some)
    tokens = [sum(len(r.ids) for r in rollouts) for rollouts in (written, taught)]
    cost = _cost_of_look(setting, n, tokens[0], tokens[1], time.perf_counter() - began)
    return Look(setting.sizes.prompt, tokens[0] / n, tokens[1] / n, of_student, of_expert, loading, cost)


def _cost_of_look(setting: Setting, n: int, student: float, expert: float, seconds: float) -> Cost:
    """Of n prompts, with so many tokens of the student and of the expert, each scored by the model that wrote them."""
    scored = "score" in setting.expert.capabilities
    return setting.sizes.cost(expert, scored * expert, 2 * student, 0, seconds, (n * (1 + scored), 2 * n, 0))


def _pace(
    sample: Callable[[list[Prompt]], list[Rollout]], score: Callable[[list[Rollout]], Any] | None, prompts: list[Prompt]
) -> tuple[list[Rollout], Pace]:
    times, steps, done = [], [], []
    for part in (prompts[:FEW], prompts):
        began = time.perf_counter()
        rollouts = sample(part)
        times.append((time.perf_counter() - began) / max(len(r.ids) for r in rollouts))
        steps.append(sum(len(r.ids) for r in rollouts) / max(len(r.ids) for r in rollouts))  # rows per step
        done += rollouts
    apart = max(steps[1] - steps[0], 1e-9)
    row = min(max(0.0, (times[1] - times[0]) / apart), times[1] / max(steps[1], 1e-9))
    step = max(0.0, times[1] - row * steps[1])
    token = 0.0
    if score is not None:
        began = time.perf_counter()
        score(done)
        token = (time.perf_counter() - began) / sum(len(r.ids) + len(r.prompt.ids) for r in done)
    return done, Pace(step, row, token)


@dataclass
class Stage:
    """One part of the diagnosis: what was planned, and what then happened."""

    name: str
    flops: float
    seconds: float
    actual_flops: float = math.nan
    actual_seconds: float = math.nan


@dataclass
class Plan:
    """The stages. fits: whether pilots are trained; needed: the smallest --budget with which they are."""

    share: float
    full: dict[str, Cost]
    prompts: int
    size: Size
    stages: list[Stage] = field(default_factory=list)
    lengths: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pilots: bool = True
    needed: float = math.nan

    @property
    def fits(self) -> bool:
        return self.size.sequences > 0 or not self.pilots

    @property
    def both(self) -> float:
        """FLOPs of both full trainings."""
        return sum(c.flops for c in self.full.values())

    def happened(self, name: str, cost: Cost) -> None:
        """Record what a stage spent."""
        for stage in self.stages:
            if stage.name.startswith(name):
                stage.actual_flops, stage.actual_seconds = cost.flops, cost.seconds

    def to_dict(self) -> dict[str, Any]:
        """As diagnosis.json keeps it."""
        return {"stages": [asdict(s) for s in self.stages], "flops": sum(s.flops for s in self.stages),
                "seconds": sum(s.seconds for s in self.stages), "fits": self.fits, "needed": self.needed}  # fmt: skip

    @property
    def refusal(self) -> str:
        """Why no pilot is trained, and which budget would pay for them; "" where they are."""
        if self.fits:
            return ""
        fit = f"with --budget {percent(self.needed, 0)} they fit" if self.needed == self.needed else "no budget does"
        return f"buys no pilots, without which there is no forecast: {fit} (or --no-pilots, to measure only)"

    def lines(self) -> Iterator[str]:
        """For the screen."""
        flops, seconds = sum(s.flops for s in self.stages), sum(s.seconds for s in self.stages)
        of = f"{flops / max(self.both, 1):.1%} of both trainings ({large(self.both)} FLOPs)"
        yield f"plan: {large(flops)} FLOPs, {of}, about {duration(seconds)}; budget {self.share:.0%}"
        for stage in self.stages:
            yield f"  {stage.name}: {large(stage.flops)} FLOPs, about {duration(stage.seconds)}"
        prompt, student, expert = self.lengths
        how = "assumed" if math.isnan(seconds) else "seen"
        yield f"  mean tokens {how}: prompt {prompt:.0f}, student {student:.0f}, expert {expert:.0f}"


def full_costs(sizes: Sizes, offline: Resolved, online: bool, student: float, expert: float) -> dict[str, Cost]:
    """Both full trainings: offline at the expert's length, online at `student` tokens per completion."""
    sequences = offline.updates * offline.prompts_per_update
    out = {"sft": sizes.sft(sequences, expert, offline.prompt_pool)}
    if online:
        out["opd"] = sizes.opd(sequences, student)
    return out


def measuring(config: DiagnoseConfig, setting: Setting, student: float, expert: float) -> Cost:
    """Of measuring student and expert on one prompt, takeovers included."""
    k, e, s = config.samples, config.expert_samples, "score" in setting.expert.capabilities
    sizes = setting.sizes
    cost = sizes.cost(sampled=2 * k * student, expert_scored=s * k * student, prompts=(s, 2, 0))
    cost += sizes.cost(e * expert, s * e * expert, sampled=e * expert, prompts=(1 + s, 1, 0))
    if setting.graded:
        part = min(SAMPLES, e) * min(1.0, PROMPTS / config.prompts)
        cost += sizes.cost(trained=part * expert, prompts=(0, 0, part))
    if can_continue(setting.expert) and setting.reward:
        n = len(DEPTHS)
        cost += sizes.cost(expert_sampled=n * (student + expert) / 2, sampled=n * student, prompts=(n, n, 0))
    return cost


def affordable(config: DiagnoseConfig, budget: float, each: float) -> int:
    """Prompts to measure on, of a budget in FLOPs."""
    return int(min(config.prompts, max(LEAST, MEASURING * budget / each if each else math.inf)))


def beforehand(config: DiagnoseConfig, setting: Setting, offline: Resolved, online: Resolved | None) -> Plan | None:
    """The plan where it is certain, before a token is sampled, that no pilot fits; else None.

    All costs grow alike with the lengths, so the share that is needed hardly depends on those that are assumed here.
    """
    length, unknown = max(1.0, setting.room / 4), Pace(math.nan, math.nan, math.nan)
    cost = _cost_of_look(setting, FEW + LOOK, (FEW + LOOK) * length, (FEW + LOOK) * length, math.nan)
    assumed = Look(setting.sizes.prompt, length, length, unknown, unknown, math.nan, cost)
    plan = make(config, setting, offline, online, assumed)
    if plan.fits or plan.needed <= CLEAR * plan.share:
        return None
    return replace(plan, needed=math.ceil(110 * plan.needed) / 100)  # rather a little more than not enough


def make(
    config: DiagnoseConfig, setting: Setting, offline: Resolved, online: Resolved | None, seen: Look
) -> Plan:  # fmt: skip
    """The plan, with what the smallest sufficient budget is where no pilot fits."""
    plan = _at(share(config.budget), config, setting, offline, online, seen)
    if plan.fits:
        return plan
    tried = (k / 100 for k in range(max(1, math.floor(100 * plan.share)), 1001))
    enough = (s for s in tried if _at(s, config, setting, offline, online, seen).fits)
    return replace(plan, needed=next(enough, math.nan))


def _at(
    budget: float, config: DiagnoseConfig, setting: Setting, offline: Resolved, online: Resolved | None, seen: Look
) -> Plan:  # fmt: skip
    sizes, ls, le = setting.sizes, seen.student, seen.expert
    full = full_costs(sizes, offline, online is not None, ls, le)
    flops = budget * sum(c.flops for c in full.values())
    each = measuring(config, setting, ls, le)
    prompts = affordable(config, flops, each.flops)
    sequences = offline.updates * offline.prompts_per_update
    most = math.ceil(min(1.0, 2 * budget) * sequences)
    batch = max(2, offline.prompts_per_update // BATCH)
    scored = "score" in setting.expert.capabilities
    controlled = config.controls != "none" and scored

    def reserve(n: int, on: int) -> float:
        return sum(prices(sizes, offline, le, n, on).values()) if controlled else 0.0

    size = Size(batch, 0, 0, 0, 0.0)
    left = flops - prompts * each.flops - seen.cost.flops
    if config.pilots:
        size = Prices(sizes, ls, le, batch, online is not None).fit(left, most, prompts, reserve)
    plan = Plan(budget, full, prompts, size, [], (seen.prompt, ls, le), config.pilots)
    plan.stages = list(_stages(plan, config, setting, online is not None, seen, each, reserve))
    return plan


def _stages(
    plan: Plan, config: DiagnoseConfig, setting: Setting, online: bool, seen: Look, each: Cost,
    reserve: Callable[[int, int], float],
) -> Iterator[Stage]:  # fmt: skip
    n, k, e, size = plan.prompts, config.samples, config.expert_samples, plan.size
    s, t, ls, le = seen.of_student, seen.of_expert, seen.student, seen.expert
    p, both = seen.prompt, seen.of_student.token + seen.of_expert.token
    yield Stage("look", seen.cost.flops, seen.cost.seconds, seen.cost.flops, seen.cost.seconds)
    seconds = s.sampling(n * k, ls) + t.sampling(n * e, le) + both * n * (k * (p + ls) + e * (p + le))
    if setting.graded:
        seconds += 3 * s.token * min(n, PROMPTS) * min(SAMPLES, e) * (p + le)
    if can_continue(setting.expert) and setting.reward:
        seconds += len(DEPTHS) * (s.sampling(n, ls) + t.sampling(n, (ls + le) / 2))
    name = f"measure on {count(n)} prompts, {k} samples of the student and {e} of the expert each"
    yield Stage(name, n * each.flops, seconds)
    if not size.sequences:
        return
    prices_ = Prices(setting.sizes, ls, le, size.batch, online)
    here = s.sampling(size.prompts * EVAL_SAMPLES, ls) + both * size.prompts * (2 * p + ls + le) / 2
    fixed = 4 * seen.loading
    if online:
        rows = size.online
        cost = setting.sizes.opd(rows, ls).flops + size.prompts * prices_.look()
        learn = rows * ((p + ls) * (3 * s.token + t.token))
        seconds = s.sampling(rows, ls, size.batch) + learn + here + fixed
        yield Stage(f"online pilot on {count(rows)} sequences", cost, seconds)
    total = sum(size.curve)
    few = size.prompts * (prices_.look() + (len(size.curve) - 1) * prices_.look(few=True))
    seconds = t.sampling(total, le) + total * (p + le) * 3 * s.token + here * (1 + len(size.curve)) / 2
    on = ", ".join(count(x) for x in size.curve)
    yield Stage(
        f"offline pilots on {on} sequences", setting.sizes.sft(total, le).flops + few, seconds + fixed * len(size.curve)
    )
    controls = reserve(size.curve[1], size.prompts)
    if controls and (config.controls == "all" or controls <= size.left):
        pace = seconds / max(setting.sizes.sft(total, le).flops + few, 1)
        yield Stage("controls of the pilots", controls, controls * pace + 2 * fixed)
