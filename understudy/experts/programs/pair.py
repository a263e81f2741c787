"""Two programs as one expert: each prompt is answered and scored by the program of its own task."""

from __future__ import annotations

from collections.abc import Callable

from understudy.errors import UserError
from understudy.experts.programs.base import Cursor, ProgramExpert
from understudy.protocols import Expert
from understudy.types import Prompt


class PairExpert(ProgramExpert):
    """`first` answers where is_first(prompt), else `second`. It smooths as `first` does, and can what `first` can."""

    def __init__(self, first: Expert, second: Expert, is_first: Callable[[Prompt], bool]) -> None:
        if not isinstance(first, ProgramExpert) or not isinstance(second, ProgramExpert):
            raise UserError("expert", first.name, "a pair of tasks takes programmatic experts, or a model")
        super().__init__(first.tokenizer, first.name, first.smoothing, first.vocabulary)
        self.parts, self.is_first = (first, second), is_first
        self.provenance = {**first.provenance, "other": second.provenance}

    def walk(self, prompt: Prompt) -> Cursor:
        return self.parts[0 if self.is_first(prompt) else 1].walk(prompt)
