"""From a problem to a prompt: plain text or chat turns, system prompt, worked examples, prefill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.tasks.text.schemas import LETTERS, Item
from understudy.types import Prompt


@dataclass(frozen=True)
class PromptStyle:
    """Everything that, with an item, determines its prompt."""

    template: str = "plain"
    system: str = ""
    instruction: str = ""
    prefill: str = ""

    def prompt(self, name: str, item: Item, shots: Sequence[Item] = ()) -> Prompt:
        """The prompt of `item` after the examples `shots`; its data are for the verifier and the evaluation."""
        data: dict[str, Any] = {
            "answer": item.answer, "verifier": item.verifier, "where": item.where, "problem": item.fingerprint()
        }  # fmt: skip
        if item.columns:
            data["row"] = item.columns
        if item.choices:
            # after "Answer:" a letter follows a space; an assistant's turn begins with it
            lead = " " if self.template == "plain" and not self.prefill else ""
            data["choices"] = tuple(lead + c for c in LETTERS[: len(item.choices)])
        key = item.key(name)
        if self.template == "chat":
            turns = self._turns(item, shots)
            return Prompt(key, item.problem, data, messages=turns, prefill=self.prefill)
        return Prompt(key, self._plain(item, shots) + self.prefill, data)

    def _turns(self, item: Item, shots: Sequence[Item]) -> tuple[tuple[str, str], ...]:
        own_system = any(role == "system" for role, _ in item.turns)
        turns = [("system", self.system)] if self.system and not own_system else []
        for shot in shots:
            turns += [*self._turns_of(shot), ("assistant", _shown(shot))]
        return (*turns, *self._turns_of(item))

    def _turns_of(self, item: Item) -> list[tuple[str, str]]:
        if item.turns:
            role, last = item.turns[-1]
            return [*item.turns[:-1], (role, _joined(last, self.instruction))]
        return [("user", _joined(_head(item) + _question(item), self.instruction))]

    def _plain(self, item: Item, shots: Sequence[Item]) -> str:
        if (item.verbatim or self.template == "bare") and not shots:
            return _joined(self.system, item.problem, self.instruction)
        if item.turns and not shots:
            return _joined(self.system, *(content for _, content in item.turns), self.instruction) + "\n"
        if item.choices:
            parts = [_head(item).rstrip()] if item.subject else []
            parts += [f"{_question(s)}\nAnswer: {s.answer}" for s in shots]
            return _joined(self.system, *parts, f"{_question(item)}\nAnswer:")
        examples = [f"Question: {s.problem}\nAnswer: {_shown(s)}" for s in shots]
        last = f"Question: {item.problem}\n" + (f"{self.instruction}\n" if self.instruction else "") + "Answer:"
        return _joined(self.system, *examples, last)


def _head(item: Item) -> str:
    if not item.choices:
        return ""
    about = f" about {item.subject}" if item.subject else ""
    return f"The following are multiple choice questions (with answers){about}.\n\n"


def _question(item: Item) -> str:
    lines = [item.problem.strip(), *(f"{c}. {text}" for c, text in zip(LETTERS, item.choices))]
    return "\n".join(lines)


def _shown(item: Item) -> str:
    """What a worked example answers: the letter, the shortest trace, or the answer in a box."""
    if item.choices:
        return item.answer
    return min(item.traces, key=len) if item.traces else boxed(item.answer)


def boxed(answer: str) -> str:
    return f"\\boxed{{{answer}}}"


def _joined(*parts: str) -> str:
    return "\n\n".join(p for p in parts if p)
