"""An expert that finds the answer by hidden search, writes attempts and verdicts, and scores any prefix.

The process, attempt by attempt: with probability p_right draw uniformly among the right candidates, else
among the wrong ones (`lucky`: among all); write it; give a verdict on it, ` ok` or ` no`, each mistaken with
its own probability; after ` ok` end; after ` no` a newline and the next attempt, or the end after the last.

Any prefix is scored exactly, a student's too. The next token's distribution is
    (1 - smoothing) structured + smoothing / vocabulary,
where `structured` is the exact conditional of the process given what this attempt has written so far. What
the process itself never writes is met like this:
- an attempt that begins no candidate (a false sum, a stray token) gets the verdict of a wrong one at once: an
  honest solver admits it and tries again;
- a newline without a verdict starts the next attempt; after the last attempt, or after ` ok`, the end token
  is due;
- a style line that was skipped or misspelled is not made good: the process goes on from its place.

The solver knows this grammar but no task: a SearchSpace tells it what can be attempted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from functools import cache
from itertools import product
from math import log
from typing import Any, Protocol

from understudy.errors import UserError
from understudy.experts.programs.base import ProgramExpert
from understudy.experts.programs.search_tree import Candidates, Grammar, Walk
from understudy.experts.programs.solver_config import PRESETS, SolverConfig, provenance
from understudy.randomness import seed_from
from understudy.specs import Spec, build
from understudy.types import Prompt

MEMORY = 100_000  # candidates, over all problems, that stay ready
PLAIN = "0123456789+-*/="  # what may be encoded character by character if the tokenizer merges none of it


class SearchSpace(Protocol):
    attempts: int
    """Attempts that a completion may make."""

    def problem(self, prompt: Prompt) -> Hashable:
        """Equal for prompts with the same candidates."""
        ...

    def candidates(self, prompt: Prompt) -> Sequence[tuple[str, bool]]:
        """Every distinct text that an attempt can be, and whether it is right. No text begins another."""
        ...


class SolverExpert(ProgramExpert):
    """See above. One instance serves any number of prompts, on the CPU."""

    def __init__(self, config: SolverConfig, tokenizer: Any, space: SearchSpace, name: str = "solver") -> None:
        super().__init__(tokenizer, name, config.smoothing, config.vocabulary)
        self.config, self.space = config, space
        ok, no, newline = (self.single(text) for text in (" ok", " no", "\n"))
        self.grammar = Grammar(
            ok,
            no,
            newline,
            self.end,
            space.attempts,
            config.p_right,
            config.lucky,
            config.false_ok,
            config.false_no,
            config.repeat,
        )
        self.provenance = provenance(config, space.attempts)
        self._table = self._plain_table()
        self._letters = {c: self._encode([c])[0] for c in "~abcdefghijklmnopqrstuvwxyz"}
        self._memory: OrderedDict[Hashable, Candidates] = OrderedDict()
        self._remembered = 0

    @classmethod
    def from_spec(cls, spec: Spec, tokenizer: Any, space: SearchSpace) -> SolverExpert:
        """`solver:p_right=0.9` or another name of PRESETS with options. UserError: unknown name or option."""
        if spec.name not in PRESETS:
            raise UserError("expert", spec.text, f"unknown; one of {', '.join(PRESETS)}, or a model directory")
        config = build(SolverConfig, {**PRESETS[spec.name], **spec.args}, "expert")
        return cls(config, tokenizer, space, spec.text)

    def entropy(self, prompt: Prompt) -> float:
        """Exact entropy (nats) of a whole completion of the process: no smoothing, no limit on tokens."""
        config, found = self.config, self._candidates(prompt)
        all_right, all_wrong = found.n_right, found.n - found.n_right

        @cache
        def from_attempt(k: int, right: int, wrong: int) -> float:
            """Entropy from attempt k on, with so many right and wrong candidates not yet tried."""
            if k == self.space.attempts:
                return 0.0
            if right + wrong == 0:  # every candidate was tried: all are open again
                right, wrong = all_right, all_wrong
            p = self.grammar.right_share(right, wrong)
            total = _coin(p)
            for share, left, p_no, used in (
                (p, right, config.false_no, (1, 0)),
                (1 - p, wrong, 1 - config.false_ok, (0, 1)),
            ):
                if share > 0:
                    after = (right, wrong) if config.repeat else (right - used[0], wrong - used[1])
                    again = p_no * from_attempt(k + 1, *after) if p_no else 0.0
                    total += share * (log(left) + _coin(p_no) + again)
            return total

        return from_attempt(0, all_right, all_wrong)

    # -- inside ----------------------------------------------------------------------------------------------

    def walk(self, prompt: Prompt) -> Walk:
        """A cursor at the beginning of a completion of `prompt`."""
        return Walk(self._candidates(prompt), self._style(prompt))

    def _candidates(self, prompt: Prompt) -> Candidates:
        name = self.space.problem(prompt)
        found = self._memory.get(name)
        if found is not None:
            self._memory.move_to_end(name)
            return found
        pairs = self.space.candidates(prompt)
        if not pairs:
            raise UserError("expert", self.name, f"finds nothing to attempt for prompt {prompt.key!r}")
        lines = self._encode([text for text, _ in pairs])
        found = Candidates(self.grammar, [(line, right) for line, (_, right) in zip(lines, pairs)])
        self._memory[name] = found
        self._remembered += found.n
        while self._remembered > MEMORY and len(self._memory) > 1:
            self._remembered -= self._memory.popitem(last=False)[1].n
        return found

    def _style(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of the secret first line. Hashes the text: the key may carry a place in a stream."""
        if self.config.style == "none":
            return ()
        dice, letters = seed_from("style", self.config.style_secret, prompt.text), "~"
        for _ in range(self.config.style_length):
            dice, letter = divmod(dice, 26)
            letters += chr(ord("a") + letter)
        return (*(token for c in letters for token in self._letters[c]), self.grammar.newline)

    def _plain_table(self) -> dict[str, int] | None:
        """Character -> id, if each pair of PLAIN characters stays two tokens (so no longer merge exists)."""
        pairs = [a + b for a, b in product(PLAIN, PLAIN)]
        ids = self.tokenizer(pairs, add_special_tokens=False)["input_ids"]
        table = {pair[0]: row[0] for pair, row in zip(pairs, ids)}
        plain = all(row == [table[a], table[b]] for (a, b), row in zip(product(PLAIN, PLAIN), ids))
        return table if plain else None

    def _encode(self, texts: list[str]) -> list[tuple[int, ...]]:
        table = self._table
        if table is not None and all(set(text) <= table.keys() for text in texts):
            return [tuple([table[c] for c in text]) for text in texts]
        return [tuple(ids) for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _coin(p: float) -> float:
    """Entropy of a coin, nats."""
    return 0.0 if p in (0, 1) else -p * log(p) - (1 - p) * log(1 - p)
