"""The options of the solver, its named settings, and what they mean for a student, in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from understudy.errors import UserError


@dataclass(frozen=True)
class SolverConfig:
    p_right: float = 0.995
    """Probability that an attempt is right; uniform among the right ones, else among the wrong ones."""
    lucky: bool = False
    """Draw those others among all candidates instead, so that some are right by luck."""
    false_ok: float = 0.0
    """Probability that a wrong attempt is called ok."""
    false_no: float = 0.0
    """Probability that a right attempt is called no."""
    repeat: bool = True
    """Whether an attempt may repeat an earlier one of the same completion."""
    smoothing: float = 1e-3
    """Share of the uniform distribution in every token's. 0 makes a generator that can only be sampled."""
    style: str = "none"
    """none, or hash: a first line that is a secret hash of the prompt, which the reward ignores."""
    style_length: int = 4
    """Letters of the style line, 1 to 8."""
    style_secret: int = 0
    """Salt of the secret hash."""
    vocabulary: int = 0
    """Size of the score vectors. 0 = the tokenizer's; a student with a padded vocabulary needs its own."""

    def __post_init__(self) -> None:
        for field in ("p_right", "false_ok", "false_no"):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f"expert.{field}", getattr(self, field), "must lie in [0, 1]")
        if not 0 <= self.smoothing < 1:
            raise UserError("expert.smoothing", self.smoothing, "must lie in [0, 1)")
        if self.style not in ("none", "hash"):
            raise UserError("expert.style", self.style, "one of none, hash")
        if not 1 <= self.style_length <= 8:
            raise UserError("expert.style_length", self.style_length, "must be 1..8")


PRESETS: dict[str, dict[str, Any]] = {
    "solver": {},
    "search": {},
    "always_ok": {"false_ok": 1.0},
    "half": {"p_right": 0.5, "false_ok": 1.0},
    "styled": {"style": "hash"},
    "mediocre": {"p_right": 0.12, "lucky": True, "false_ok": 0.4, "false_no": 0.05, "repeat": False, "smoothing": 0.0},
    "good": {"p_right": 0.5, "false_ok": 0.02, "false_no": 0.02, "repeat": False, "smoothing": 0.0},
}
"""search (= solver) almost never errs and its verdicts are honest; always_ok and half call every attempt ok;
styled is search behind a secret first line; mediocre and good make training traces and give no scores."""


def provenance(config: SolverConfig, attempts: int) -> dict[str, Any]:
    """Which mechanism puts this expert out of a student's reach: for the run directory and the report."""
    told = [
        "hidden search: the first token already depends on a solution that the student cannot have computed",
        f"an attempt is right with probability {config.p_right:g}" + (", else random" if config.lucky else ""),
        f"a wrong attempt is called ok with probability {config.false_ok:g}, "
        f"a right one no with probability {config.false_no:g}",
    ]
    if config.p_right >= 0.9:
        told.append("it almost never errs, so its samples never show how to recover")
    if config.false_ok < 1:
        told.append(
            "its recovery after a wrong attempt is built in, "
            "and visible mostly when the student's own errors are scored"
        )
    else:
        told.append("it calls every wrong attempt ok, so it teaches no recovery, not even on the student's errors")
    if config.style != "none":
        told.append("its first line is a secret hash of the prompt, which no student can know; the reward ignores it")
    return {
        "kind": "program",
        "program": "understudy.experts.solver",
        "config": asdict(config),
        "attempts": attempts,
        "realizable": False,
        "mechanism": "; ".join(told),
    }
