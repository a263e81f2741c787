"""From a row in a public schema to an Item: the problem, its answer, and the traces of an expert if there are any."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from understudy.tasks.text.answers import last_box
from understudy.tasks.text.rows import Row
from understudy.tasks.text.turns import read_turns

LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Item:
    """One problem, independent of the prompt it is put in."""

    problem: str
    """The problem alone: what makes two items the same."""
    answer: str = ""
    """Gold answer; for a choice, its letter. "" = none is known."""
    turns: tuple[tuple[str, str], ...] = ()
    """(role, content) if the row has a conversation; () = the task writes the prompt."""
    verbatim: bool = False
    """The problem is the whole prompt: nothing is added around it."""
    choices: tuple[str, ...] = ()
    subject: str = ""
    verifier: str = ""
    traces: tuple[str, ...] = field(default=(), repr=False)
    """Completions of experts, thoughts and answer."""
    where: str = field(default="", compare=False)
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Of a user's own row, without its texts: what a reward function may read."""
    variant: str = ""
    """Sets apart the problems of a data set that differ in nothing but spelling (`mark`); "" = there are no others."""

    def key(self, name: str) -> str:
        """Stable: a function of the data set's name and the problem, not of files, order, template or options."""
        return f"{name} {self.fingerprint()}"

    def fingerprint(self) -> str:
        """What names a problem within its data set."""
        return f"{self.mark}-{self.variant}" if self.variant else self.mark

    @cached_property
    def mark(self) -> str:
        """Equal for spellings of one problem: a train problem that is held out in another spelling is left out."""
        text = "\x1f".join([normal(self.problem), *map(normal, self.choices)])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @cached_property
    def exact(self) -> str:
        """Equal for the same text alone: what makes two rows one problem."""
        text = "\x1f".join([self.problem, *self.choices, *(role for role, _ in self.turns)])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def normal(text: str) -> str:
    """The text without case, spacing, dollar signs and differences of Unicode spelling."""
    return re.sub(r"[\s$]+", "", unicodedata.normalize("NFKC", text).casefold())


class Unanswered(Exception):
    """The row has no usable answer; the task decides whether that is an error."""


@dataclass(frozen=True)
class Schema:
    """How to read one kind of row. `columns` are read; `trace_columns` only when traces are wanted."""

    read: Callable[[Row, bool], Item]
    columns: tuple[str, ...]
    trace_columns: tuple[str, ...] = ()


def read_gsm8k(row: Row, traces: bool = True) -> Item:
    """`answer` is a worked solution that ends in `#### ANSWER`."""
    solution, mark, answer = row.text("answer").rpartition("####")
    if not mark or not answer.strip():
        raise row.refuse("answer", "must end in `#### ANSWER`")
    # <<48/2=24>> calls a calculator, which no student has
    trace = re.sub(r"<<[^<>]*>>", "", solution).strip() + f"\n#### {answer.strip()}"
    return Item(row.text("question"), answer.strip(), traces=(trace,), where=row.where)


def _solved(row: Row, traces: bool) -> Item:
    """`problem` and `answer`, or `problem` and a `solution` whose last box is the answer."""
    problem = row.text("problem")
    solution = row.text("solution") if row.has("solution") and str(row.get("solution")).strip() else ""
    if "answer" in row.values:
        if not row.has("answer") or not str(row.get("answer")).strip():
            raise Unanswered("answer")
        answer = row.answer("answer")
    else:
        row.get("solution")
        box = last_box(solution)
        if box is None:
            raise Unanswered("solution")
        answer = box
    return Item(problem, answer, traces=(solution,) if solution else (), where=row.where)


def _openr1(row: Row, traces: bool) -> Item:
    item = _solved(row, False)
    if not traces:
        return Item(item.problem, item.answer, where=row.where)
    completions: list[str] = []
    if row.has("generations"):
        texts = row.items("generations")
        marks = []
        for name in ("correctness_math_verify", "is_reasoning_complete"):
            if row.has(name):
                values = row.items(name)
                if len(values) != len(texts):
                    raise row.refuse(name, f"has {len(values)} entries for {len(texts)} generations")
                marks.append(values)
        for i, text in enumerate(texts):
            if all(m[i] for m in marks):
                completions.append(row.as_text(f"generations[{i}]", text))
    elif row.has("messages"):
        completions = [turn.content for turn in read_turns(row, "messages") if turn.role == "assistant"][-1:]
    return Item(item.problem, item.answer, traces=tuple(completions), where=row.where)


_DAPO_BEFORE = re.compile(r"\s*Solve the following math problem step by step\.[^\n]*\n+")
_DAPO_AFTER = re.compile(r'\n+\s*Remember to put your answer on its own line after "Answer:"\.?\s*$')


def _dapo(row: Row, traces: bool) -> Item:
    turns = [turn.pair for turn in read_turns(row, "prompt")]
    if turns[-1][0] != "user":
        raise row.refuse("prompt", f"must end with a user's turn, not with role {turns[-1][0]!r}")
    model = row.inner("reward_model")
    answer = model.answer("ground_truth")
    text = turns[-1][1]
    problem = _DAPO_AFTER.sub("", _DAPO_BEFORE.sub("", text, count=1)) or text
    return Item(problem, answer, turns=tuple(turns), where=row.where)


def read_choices(row: Row, traces: bool = False) -> Item:
    """`choices`, and `answer` as a letter or as a number from 0."""
    choices = row.texts("choices")
    if not 2 <= len(choices) <= len(LETTERS):
        raise row.refuse("choices", f"must hold 2 to {len(LETTERS)} texts, not {len(choices)}")
    value = row.get("answer")
    if isinstance(value, str) and len(value) == 1 and value in LETTERS[: len(choices)]:
        right = value
    else:
        right = LETTERS[row.whole("answer", 0, len(choices) - 1)]
    subject = row.text("subject").replace("_", " ") if row.has("subject") and row.get("subject") else ""
    return Item(row.text("question"), right, choices=tuple(choices), subject=subject, where=row.where)


_SOLVED = ("problem", "answer", "solution")
SCHEMAS: dict[str, Schema] = {
    "gsm8k": Schema(read_gsm8k, ("question", "answer")),
    "solved": Schema(_solved, _SOLVED),
    "openr1": Schema(
        _openr1, ("problem", "answer"), ("generations", "messages", "correctness_math_verify", "is_reasoning_complete")
    ),
    "dapo": Schema(_dapo, ("prompt", "reward_model")),
    "mmlu": Schema(read_choices, ("question", "subject", "choices", "answer")),
}
