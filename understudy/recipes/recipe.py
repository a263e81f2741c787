"""A recipe: one experiment of the paper as data (models, tasks, numbers and their sources)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import UserError
from understudy.evaluation.intervals import Interval
from understudy.experiments.job import Job
from understudy.experiments.plan import Plan, PlannedRun

if TYPE_CHECKING:
    from markupsafe import Markup

    from understudy.report.comparison.summary import Summary

PAPER = "paper"
PUBLIC = "arXiv 2604.13016"
OURS = "our choice"
SOURCES = {
    PAPER: "arXiv 2606.30445: its abstract, captions and scraps of the appendix, all that we had",
    PUBLIC: "the public recipe with the same student and both experts of Fig. 6",
    OURS: "not known to us: chosen here, never the paper's",
}


@dataclass(frozen=True)
class Setting:
    """A hyper-parameter and its source: `source` begins with one of SOURCES, and may say where in it."""

    name: str
    value: str
    source: str

    def __post_init__(self) -> None:
        if not self.source.startswith(tuple(SOURCES)):
            raise ValueError(f"{self.name}: source {self.source!r} must begin with one of {list(SOURCES)}")


@dataclass(frozen=True)
class Lengths:
    """Tokens of a mean prompt and completion, assumed for the cost."""

    prompt: int
    completion: int


@dataclass(frozen=True)
class Scale:
    """The options of a recipe's runs."""

    out: Path
    seeds: int = 3
    first_seed: int = 0
    share: float = 1.0
    """Of every number of updates and evaluation prompts: below 1 for a trial of every phase."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Data set or task name -> local file or folder."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Hub id -> local folder."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UserError("seeds", self.seeds, "must be at least 1")
        if not 0 < self.share <= 1:
            raise UserError("share", self.share, "must lie in (0, 1]")

    @property
    def all_seeds(self) -> list[int]:
        return [self.first_seed + i for i in range(self.seeds)]

    def times(self, updates: int, least: int = 1) -> int:
        return max(least, round(updates * self.share))

    def model(self, hub_id: str) -> str:
        return self.models.get(hub_id, hub_id)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper's figure and the number here that bears on it, in share of prompts or probability."""

    says: str
    measured: str
    interval: Interval | None
    word: str
    """shown, contradicted, open (the interval does not decide, or there is none), or measured (nothing to
    compare with)."""


@dataclass(frozen=True)
class Drawing:
    """A figure: inline SVGs under one caption each, and what they say."""

    panels: tuple[tuple[str, Markup], ...]
    claims: tuple[Claim, ...]
    caption: str


@dataclass(frozen=True)
class Recipe:
    """`plan`: the real runs; `tiny`: stand-ins of minutes; `draw`: the figure from either. fig2 has no runs."""

    name: str
    figure: str
    title: str
    shows: str
    """What the paper's figure shows, as far as we know it."""
    unknown: str
    """What of it we do not know."""
    settings: tuple[Setting, ...]
    lengths: Mapping[str, Lengths]
    """By task name."""
    stand_ins: str
    """What stands in for what with --tiny."""
    plan: Callable[[Scale], Plan] | None = None
    tiny: Callable[[Scale], Plan] | None = None
    draw: Callable[[Summary], Drawing] | None = None
    real_seeds: int = 3
    tiny_seeds: int = 1


def plan_of(
    title: str, out: Path, runs: Sequence[PlannedRun], experts: Mapping[str, Mapping[str, Any]], before: Sequence[Job],
    base: Mapping[str, Mapping[str, str]] | None = None,
) -> Plan:  # fmt: skip
    """experts: label -> {"mechanism", "realizable", "expect"}; base: seed -> {"path"}, where the runs start."""
    specs = {r.expert: r.config.expert for r in reversed(runs)}
    labels = dict.fromkeys(r.expert for r in runs)
    described = {label: {"spec": specs[label], **experts[label]} for label in labels}
    return Plan(title, out, described, runs, {k: dict(v) for k, v in (base or {}).items()}, before=before)


def word(interval: Interval | None, direction: int, margin: float = 0.0) -> str:
    """Whether an interval shows a difference of this sign (direction 1 or -1), or one within `margin` (0)."""
    if interval is None:
        return "open"
    low, high = interval.low, interval.high
    if direction == 0:
        if -margin <= low and high <= margin:
            return "shown"
        return "contradicted" if low > margin or high < -margin else "open"
    if direction < 0:
        low, high = -high, -low
    return "shown" if low > 0 else "contradicted" if high < 0 else "open"
