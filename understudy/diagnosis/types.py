"""The nouns of a diagnosis: frozen, JSON both ways (codec.py), the one model for the verdict, the screen and the page.

Needs neither torch nor numpy.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from understudy.diagnosis.codec import Json, Unreadable
from understudy.diagnosis.outcome import Answer
from understudy.errors import UserError
from understudy.runs.files import read_json

FILE = "diagnosis.json"
VERSION = 1
"""Of diagnosis.json: raised when a reader of the older one would misread the newer."""

MEASURES: tuple[str, ...] = (
    "student_accuracy", "expert_accuracy", "headroom", "kl_student_expert", "kl_expert_student", "gap_nats", "auc",
    "tilt_ceiling", "takeover_gain", "expert_at_work", "online_accuracy", "online_trend",
)  # fmt: skip
"""Canonical names of the measures that the verdict reads, in the order in which they are shown.

Diagnoses of earlier versions hold more."""

CHECKS: tuple[str, ...] = ("stability", "capacity_ladder", "self_retraining")
"""Names of the controls of the pilots."""


@dataclass(frozen=True)
class Estimate(Json):
    """A number with its interval; nan where there is no number."""

    needs: ClassVar[tuple[str, ...]] = ("value",)

    value: float
    low: float
    high: float
    n: int
    """Prompts: the unit of replication."""
    unit: str
    """Such as "accuracy", "nats per sequence", "probability"."""
    method: str
    """How the interval was made, such as "t over prompts"."""
    level: float = 0.95

    def repaired(self) -> Self:
        """An end of the interval that is no number, or on the wrong side, falls on the value."""
        low = self.value if math.isnan(self.low) else min(self.low, self.value)
        high = self.value if math.isnan(self.high) else max(self.high, self.value)
        return dataclasses.replace(self, low=low, high=high)


@dataclass(frozen=True)
class Cost(Json):
    """What something spends. flops: 2N per token read, sampled or scored, 6N per token trained (cost.py)."""

    needs: ClassVar[tuple[str, ...]] = ("flops",)

    expert_tokens_sampled: int = 0
    expert_tokens_scored: int = 0
    student_tokens_sampled: int = 0
    student_tokens_trained: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    expert_prompt_tokens: int = 0
    """Of prompts, each once for all its completions; so below. 0 in diagnoses of earlier versions."""
    student_prompt_tokens_sampled: int = 0
    student_prompt_tokens_trained: int = 0

    def money(self, per_hour: float, per_million: float) -> float:
        """At so much per hour of this machine and per million tokens of a server; nan: its time is not known."""
        served = self.expert_tokens_sampled + self.expert_tokens_scored + self.expert_prompt_tokens
        return (self.seconds / 3600 * per_hour if per_hour else 0.0) + served / 1e6 * per_million

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))


@dataclass(frozen=True)
class PilotPoint(Json):
    """One short training run, measured on held-out prompts."""

    needs: ClassVar[tuple[str, ...]] = ("kind", "samples")

    kind: Literal["sft", "opd"]
    samples: int
    """Training sequences: distinct ones for sft, sampled ones for opd."""
    updates: int
    accuracy: Estimate | None
    kl_expert_student: Estimate | None
    kl_student_expert: Estimate | None
    label: str
    """Which pilot: "curve", "start", "twice the steps", "width 128", ..."""
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True)
class Floor(Json):
    """Held-out loss at n training sequences, y(n) = a + b n^-c, with a profile interval for a."""

    needs: ClassVar[tuple[str, ...]] = ("a", "b", "c")

    a: Estimate
    b: float
    c: float
    rejects_zero: bool
    """Whether the interval of a excludes 0. A floor is no proof: it may be the optimizer's (see the checks)."""

    def at(self, n: float) -> float:
        return float(self.a.value + self.b * n**-self.c)

    def repaired(self) -> Self:
        if not 0 <= self.c <= 10:
            raise Unreadable
        return dataclasses.replace(self, b=max(self.b, 0.0))


@dataclass(frozen=True)
class Control(Json):
    """One control of the pilots: what it ran, and what came out."""

    ran: bool
    told: str
    """The outcome in words, or why it was not run ("not run: budget")."""
    points: tuple[PilotPoint, ...] = ()
    difference: Estimate | None = None
    """stability: held-out KL(expert, student) at the pilot's steps minus at twice as many. capacity_ladder: at the
    student's size minus at the larger one. self_retraining: from the expert minus from the trained pilot as expert."""
    passed: bool | None = None
    """stability: the difference is small; capacity_ladder: capacity makes no clear difference; self_retraining: the
    expert is no harder than one that is realizable by construction. None: not run, or not known."""


@dataclass(frozen=True)
class Check(Json):
    """One preflight check. hint: what to do when it failed."""

    name: str
    passed: bool
    value: str
    hint: str = ""


@dataclass(frozen=True)
class Evidence(Json):
    """All that the verdict may use."""

    measures: dict[str, Estimate]
    """Name -> estimate; absent when it could not be measured (no reward, no scores, another way of decoding)."""
    pilots: tuple[PilotPoint, ...] = ()
    floor: Floor | None = None
    checks: dict[str, Control] = field(default_factory=dict)
    budget: dict[str, float] = field(default_factory=dict)
    """updates: of each full training; sequences: an update; share: of both trainings' cost that the pilots may take."""
    has_verifier: bool = True
    capabilities: tuple[str, ...] = ()
    """Of the expert: sample, score, distribution. Empty: not known, taken for all of them."""

    @property
    def scored(self) -> bool:
        """Whether the expert scores tokens; without that there is no online route and no distance."""
        return not self.capabilities or bool({"score", "distribution"} & set(self.capabilities))

    @property
    def full_sequences(self) -> float:
        """Training sequences of each full training; 0 where that is not known."""
        return self.budget.get("updates", 0.0) * self.budget.get("sequences", 0.0)

    def curve(self, kind: str) -> list[PilotPoint]:
        """The pilots of one kind by growing data, without the start and without the controls."""
        trained = [p for p in self.pilots if p.kind == kind and p.samples > 0]
        curve = [p for p in trained if p.label == "curve"] or trained
        return sorted(curve, key=lambda p: p.samples)

    def start(self, kind: str) -> PilotPoint | None:
        """The student before the pilots of this kind, on the pilots' prompts."""
        return next((p for p in self.pilots if p.kind == kind and p.samples == 0), None)


@dataclass(frozen=True)
class Verdict(Json):
    needs: ClassVar[tuple[str, ...]] = ("answer",)

    answer: Answer
    probabilities: dict[str, float]
    """Of each of the four answers, summing to 1."""
    expected: dict[str, Estimate]
    """Accuracy of student, expert, sft, opd at the full budget; what is not known is absent."""
    reasons: tuple[str, ...]
    would_change: tuple[str, ...]
    rule: str
    """Version of the rule that judged."""


@dataclass(frozen=True)
class RouteForecast(Json):
    """What one route is expected to give at the FLOPs of full online training."""

    needs: ClassVar[tuple[str, ...]] = ("route",)

    route: str
    """As `understudy train --route` reads it, or "nothing"."""
    expected: Estimate | None
    """Accuracy at its end, unguarded; None without a reward."""
    regret: float
    """Accuracy by which it is expected to end below the best of the routes."""
    harm: float
    """Probability that it ends more than 2 points below the student; nan: not known."""
    updates: tuple[int, ...] = ()
    """Of its phases, expected."""
    cost: Cost | None = None
    """FLOPs count prompts too. None: not known."""


@dataclass(frozen=True)
class Recommendation(Json):
    """What to do now. Always there, however open the verdict is."""

    needs: ClassVar[tuple[str, ...]] = ("route",)

    route: str
    """The advised one of `routes`."""
    routes: tuple[RouteForecast, ...]
    first: Estimate | None = None
    """Accuracy after the first of two phases; None: one phase, or no reward."""
    online: str = ""
    """The online method that comes, or could come after SFT; empty: none is possible here."""
    adds: float = math.nan
    """Probability that it adds more than the margin: to the student where it comes first, else to SFT. nan: unknown."""
    visible: int = 0
    """Updates of a phase after which its reward shows whether it gains."""
    now: float = math.nan
    """The student's accuracy."""
    rests: str = ""
    """What the numbers rest on, in words."""
    cases: int = 0
    """Trained cases behind the numbers of routes of two phases and of mixtures."""

    def of(self, route: str) -> RouteForecast | None:
        return next((r for r in self.routes if r.route == route), None)


@dataclass(frozen=True)
class Candidate(Json):
    """One expert of several. left_out: why it cannot be imitated; then nothing else is known."""

    needs: ClassVar[tuple[str, ...]] = ("name", "expert")

    name: str
    expert: str
    """As `--expert` names it alone."""
    left_out: str = ""
    accuracy: Estimate | None = None
    """Of the expert itself, on the prompts of the diagnosis."""
    gradient: Estimate | None = None
    """Gradient score of its text; lower is better."""
    route: str = ""
    """The advised one."""
    expected: Estimate | None = None
    """Accuracy of the student at the end of that route."""
    cost: Cost | None = None
    """Of that route."""
    spent: Cost | None = None
    """What measuring this candidate took, pilots included."""


@dataclass(frozen=True)
class Diagnosis(Json):
    needs: ClassVar[tuple[str, ...]] = ("verdict",)

    version: int
    setting: dict[str, Any]
    """student, expert, task, seed, and every option, as plain values."""
    preflight: tuple[Check, ...]
    evidence: Evidence
    verdict: Verdict
    costs: dict[str, Cost]
    """Of diagnosis, sft, opd."""
    series: dict[str, Any]
    """What the page draws: scatter, tilt curve, lengths, keywords, samples."""
    assumptions: tuple[str, ...]
    recommendation: Recommendation | None = None
    """None: written by an earlier version."""
    candidates: tuple[Candidate, ...] = ()
    """Several experts, the best first; the rest of the diagnosis is about the first. Empty: one expert."""

    @property
    def stopped(self) -> str:
        """Why the diagnosis ended before the pilots; empty where it did not."""
        return str(self.setting.get("stopped") or "")

    @property
    def has_online_route(self) -> bool:
        return self.evidence.scored and self.setting.get("online", "") is not None

    @property
    def cost_share(self) -> float | None:
        """FLOPs of the diagnosis over those of the full trainings; None where they are not known."""
        both = sum(self.costs[route].flops for route in ("sft", "opd") if route in self.costs)
        return self.costs["diagnosis"].flops / both if "diagnosis" in self.costs and both > 0 else None

    @classmethod
    def load(cls, directory: Path, tolerant: bool = False) -> Self:
        """From diagnosis.json in `directory`. UserError: missing, not JSON, of a newer version, without a verdict, and
        (unless `tolerant`) damaged."""
        path = directory / FILE
        data = read_json(path, "diagnosis")
        version = data.get("version")
        if isinstance(version, (int, float)) and version > VERSION:
            message = f"is of version {version:g}, newer than this understudy reads ({VERSION}): upgrade it"
            raise UserError("diagnosis", path, message)
        try:
            return cls.from_dict(data, tolerant)
        except UserError as error:
            if not tolerant:
                raise
            raise UserError("diagnosis", path, f"{error.hint}: run `understudy diagnose` again") from None
