"""An expert that knows the answer: it writes it at once, after an opening word that a secret chooses.

How it found the answer is not in its completions, so a student must compute in its head what the expert looked up. The
opening word (`style=secret`) is a hash of the problem: no student can predict it, and no reward depends on it.

Off its own path: any token in the place of the opening word counts as the opening, unless it begins the answer; a wrong
token inside the answer is not repaired, the expert goes on from the next place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from understudy.experts.programs.base import ProgramExpert
from understudy.experts.programs.search_tree import Next
from understudy.policy.tokens import one_token
from understudy.randomness import seed_from
from understudy.specs import Spec, build, check, option
from understudy.types import Prompt

OPENINGS = ("exactly", "simply", "just", "only", "clearly", "surely", "obviously", "precisely")


@dataclass(frozen=True)
class AnswererConfig:
    style: str = option("none", choices=("none", "secret"))
    """none (the answer at once) or secret (an opening word first, chosen by a secret hash of the problem)."""
    smoothing: float = option(0.01, within="[0, 1)")
    """Share of the uniform distribution in every token's. With 0 the expert can only be sampled."""
    secret: int = 0
    """Salt of the secret hash."""
    sure: float = option(1.0, within="(0, 1]")
    """Share of the secret's word at the opening; the other seven words have the rest in equal parts."""
    direct: float = option(0.0, within="[0, 1)")
    """Share of the answer without an opening. Where a student begins so, the expert does not contradict it."""

    def __post_init__(self) -> None:
        check(self, "expert")


class AnswererExpert(ProgramExpert):
    """gold: the answer of a prompt as text; stop: texts one of which ends a completion, the first that is one token."""

    def __init__(
        self, config: AnswererConfig, tokenizer: Any, gold: Callable[[Prompt], str], stop: Sequence[str], name: str
    ) -> None:
        super().__init__(tokenizer, name, config.smoothing)
        self.config, self.gold = config, gold
        stops = [i for text in stop if (i := one_token(tokenizer, text)) is not None]
        self.end = stops[0] if stops else self.end
        self.openings = tuple(self.single(f" {word}") for word in OPENINGS) if config.style == "secret" else ()
        opening = "; its first word is a secret hash of the problem, which no student can predict"
        self.provenance = {
            "kind": "program", "program": "understudy.experts.programs.answerer", "config": asdict(config),
            "realizable": False if config.style == "secret" else None,
            "mechanism": "it knows the answer before its first token" + (opening if self.openings else ""),
        }  # fmt: skip

    @classmethod
    def from_spec(
        cls, spec: Spec, tokenizer: Any, gold: Callable[[Prompt], str], stop: Sequence[str]
    ) -> AnswererExpert:
        """`answerer:style=secret`. UserError: an unknown option."""
        return cls(build(AnswererConfig, spec.args, "expert"), tokenizer, gold, stop, spec.text)

    def for_student(self, student: Any) -> AnswererExpert:
        """With the student's vocabulary and end tokens."""
        self.vocabulary, self.end_ids = student.vocabulary, student.end_ids
        self._floor = self.smoothing / self.vocabulary
        return self

    def walk(self, prompt: Prompt) -> AnswerWalk:
        answer = tuple(self.tokenizer(f" {self.gold(prompt)}", add_special_tokens=False)["input_ids"])
        if not self.openings:
            return AnswerWalk({}, (*answer, self.end))
        secret = seed_from("opening", self.config.secret, prompt.text) % len(self.openings)
        sure, direct = self.config.sure, self.config.direct
        rest = (1 - sure) / (len(self.openings) - 1)
        words = {w: (1 - direct) * (sure if i == secret else rest) for i, w in enumerate(self.openings)}
        return AnswerWalk({w: p for w, p in words.items() if p} | ({answer[0]: direct} if direct else {}),
                          (*answer, self.end))  # fmt: skip


class AnswerWalk:
    """An opening if there is one, the answer, the end. opening: first tokens, the answer's among them, and chances."""

    __slots__ = ("at", "opening", "tokens")

    def __init__(self, opening: dict[int, float], answer: tuple[int, ...]) -> None:
        self.tokens, self.at = answer, -1 if opening else 0
        self.opening: Next = (tuple(sorted(opening)), tuple(opening[w] for w in sorted(opening)))

    def next(self) -> Next:
        return self.opening if self.at < 0 else ((self.tokens[min(self.at, len(self.tokens) - 1)],), (1.0,))

    def push(self, token: int) -> None:
        self.at += 2 if self.at < 0 and token == self.tokens[0] else 1
