"""Verifiers by name: whether an answer is the right one. A new verifier is one class here and one line in VERIFIERS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from understudy.errors import UserError
from understudy.tasks.text.answers import letter, same_text
from understudy.tasks.text.mathpool import Pool, require, shared
from understudy.tasks.text.numbers import LONGEST, bare, number, plain


class Verifier(Protocol):
    def bad_gold(self, gold: str) -> str:
        """Why this verifier cannot use such a gold answer; "" if it can."""
        ...

    def right(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether each (gold, answer) agrees. Never raises for a model's answer."""
        ...


class Number:
    """Both plainly numbers and equal: leading zeros, thousands, units, percent signs and plain fractions are read."""

    def bad_gold(self, gold: str) -> str:
        return "" if number(gold, prose=False) is not None else "is not a plain number: use verifier=math or exact"

    def right(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        return [(value := number(a)) is not None and value == number(g, prose=False) for g, a in pairs]


class Letter:
    """The letter of a choice, A to J."""

    def bad_gold(self, gold: str) -> str:
        return "" if letter(gold) else "is not a letter from A to J: use another verifier"

    def right(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        return [letter(a) is not None and letter(a) == letter(g) for g, a in pairs]


class Exact:
    """The same words: case, spacing and the marks around the answer aside."""

    def bad_gold(self, gold: str) -> str:
        return "" if bare(gold) else "is empty"

    def right(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        return [len(a) <= LONGEST and _words(a) == _words(g) for g, a in pairs]


class Math:
    """Letters and plain numbers by our own rules; the rest by math-verify, in processes with a time limit."""

    def __init__(self, workers: int = 2, limit: float = 5.0) -> None:
        require()
        self.workers, self.limit = workers, limit

    @property
    def pool(self) -> Pool:
        return shared(self.workers, self.limit)

    def bad_gold(self, gold: str) -> str:
        return "" if plain(gold) and len(gold) <= LONGEST else "is empty or longer than 1000 characters"

    def right(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        out = [_decided(g, a) for g, a in pairs]
        undecided = [i for i, known in enumerate(out) if known is None]
        if undecided:
            for i, verdict in zip(undecided, self.pool.check([pairs[i] for i in undecided])):
                out[i] = verdict
        return [bool(known) for known in out]


class Ungraded:
    """For rows without an answer: nothing is graded (Task.graded), and no completion is right."""

    def bad_gold(self, gold: str) -> str:
        return "cannot be graded: the verifier is none"

    def right(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        return [False] * len(pairs)


def _decided(gold: str, answer: str) -> bool | None:
    """The verdict where no algebra is needed; None = math-verify must decide."""
    if not answer or len(answer) > LONGEST:
        return False
    if letter(gold) and len(plain(gold).strip("().:")) == 1:  # math-verify is wrong about lettered answers
        return letter(answer) == letter(gold)
    if same_text(gold, answer):
        return True
    a, b = number(gold, prose=False), number(answer)
    if a is not None and b is not None and ("%" in gold) == ("%" in answer):
        return a == b
    return None


def _words(text: str) -> str:
    return " ".join(bare(text).casefold().split())


VERIFIERS: dict[str, type[Verifier]] = {
    "math": Math, "number": Number, "letter": Letter, "exact": Exact, "none": Ungraded
}  # fmt: skip


def load_verifier(name: str, field: str = "task.verifier", workers: int = 2, limit: float = 5.0) -> Verifier:
    """The verifier of that name. UserError: unknown, or its extra is missing."""
    if name not in VERIFIERS:
        raise UserError(field, name, f"unknown; one of {', '.join(VERIFIERS)}")
    return Math(workers, limit) if name == "math" else VERIFIERS[name]()
