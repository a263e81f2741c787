"""The nouns of a diagnosis: frozen, and JSON both ways. Needs neither torch nor numpy.

`to_dict` gives plain JSON values; a number that JSON cannot hold is written as "inf", "-inf" or "nan".
`from_dict` gives the same object back, and raises UserError for a field that is unknown, missing or of another kind.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Self

from understudy.diagnosis.outcome import Answer
from understudy.errors import UserError

VERSION = 1
"""Of diagnosis.json: raised when a reader of the older one would misread the newer."""

MEASURES: tuple[str, ...] = (
    "student_accuracy", "expert_accuracy", "headroom", "kl_student_expert", "kl_expert_student", "gap_nats", "auc",
    "tilt_ceiling", "takeover_gain", "expert_at_work", "online_accuracy", "online_trend",
)  # fmt: skip
"""Canonical names of the measures, in the order in which they are shown; those that the
verdict reads. Diagnoses of earlier versions hold more."""

CHECKS: tuple[str, ...] = ("stability", "capacity_ladder", "self_retraining")
"""Names of the controls of the pilots."""


class _Json:
    """Dataclasses as JSON values and back."""

    def to_dict(self) -> dict[str, Any]:
        out = _encode(self)
        assert isinstance(out, dict)
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        return typing.cast(Self, _decode(data, cls, cls.__name__.lower()))


@dataclass(frozen=True)
class Estimate(_Json):
    """A number with its interval; nan where there is no number."""

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


@dataclass(frozen=True)
class Cost(_Json):
    """What something spends. flops: 2N a token sampled or scored, 6N a token trained (understudy/diagnosis/cost.py)."""

    expert_tokens_sampled: int = 0
    expert_tokens_scored: int = 0
    student_tokens_sampled: int = 0
    student_tokens_trained: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))


@dataclass(frozen=True)
class PilotPoint(_Json):
    """One short training run, measured on held-out prompts."""

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
class Floor(_Json):
    """Held-out loss at n training sequences, y(n) = a + b n^-c, with a profile interval for a."""

    a: Estimate
    b: float
    c: float
    rejects_zero: bool
    """Whether the interval of a excludes 0. A floor is no proof: it may be optimisation's (see the checks)."""


@dataclass(frozen=True)
class Control(_Json):
    """One control of the pilots: what it ran, and what came out."""

    ran: bool
    told: str
    """The finding in words, or why it was not run ("not run: budget")."""
    points: tuple[PilotPoint, ...] = ()
    difference: Estimate | None = None
    """stability: held-out KL(expert, student) at the pilot's steps minus at twice as many. capacity_ladder: at the
    student's size minus at the larger one. self_retraining: from the expert minus from the trained pilot as expert."""
    passed: bool | None = None
    """stability: the difference is small; capacity_ladder: capacity makes no clear difference; self_retraining: the
    expert is no harder than one that is realizable by construction. None: not run, or it cannot be said."""


@dataclass(frozen=True)
class Check(_Json):
    """One preflight check. mend: what to do when it failed."""

    name: str
    passed: bool
    value: str
    hint: str = ""


@dataclass(frozen=True)
class Evidence(_Json):
    """All that the verdict may look at."""

    measures: dict[str, Estimate]
    """Name -> estimate; absent when it could not be measured (no reward, no scores, another way of decoding)."""
    pilots: tuple[PilotPoint, ...] = ()
    floor: Floor | None = None
    checks: dict[str, Control] = field(default_factory=dict)
    budget: dict[str, float] = field(default_factory=dict)
    """updates: of each full training; sequences: an update; share: of both trainings' cost that the pilots may take."""
    has_verifier: bool = True
    capabilities: tuple[str, ...] = ()
    """Of the expert: sample, score, distribution."""


@dataclass(frozen=True)
class Verdict(_Json):
    answer: Answer
    probabilities: dict[str, float]
    """Of each of the four answers, summing to 1."""
    expected: dict[str, Estimate]
    """Accuracy of student, expert, sft, opd at the full budget; one that cannot be said is absent."""
    reasons: tuple[str, ...]
    would_change: tuple[str, ...]
    rule: str
    """Version of the rule that judged."""


@dataclass(frozen=True)
class Diagnosis(_Json):
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


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "tolist"):  # numpy and torch, scalars included
        return _encode(value.tolist())
    raise TypeError(f"a diagnosis cannot hold a {type(value).__name__}: {value!r}")


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _decode(value: Any, hint: Any, name: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _decode(value, next(a for a in args if a is not type(None)), name)
    if origin is Literal:
        if value not in args:
            raise UserError(name, value, f"must be one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(name, value, "must be a list")
        return tuple(_decode(v, args[0], f"{name}.{i}") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(name, value, "must be an object")
        return {k: _decode(v, args[1], f"{name}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return _object(value, typing.cast(type, hint), name)
    if hint is float:
        if value in ("inf", "-inf", "nan"):
            return float(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise UserError(name, value, f"must be a {hint.__name__}: is this file from this version?")


_RENAMED = {"mend": "hint"}
"""Field names of diagnoses written by earlier versions."""


def _object(value: Any, cls: type, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise UserError(name, value, "must be an object")
    value = {_RENAMED.get(k, k): v for k, v in value.items()}
    hints = _hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    unknown = [k for k in value if k not in fields]
    absent = [
        n for n, f in fields.items()
        if n not in value and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]  # fmt: skip
    if unknown or absent:
        told = f"{unknown[0]} is unknown" if unknown else f"{absent[0]} is missing"
        raise UserError(name, "", f"{told}: written by another version? make it again")
    return cls(**{k: _decode(v, hints[k], f"{name}.{k}") for k, v in value.items()})
