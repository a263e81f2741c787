"""An expert that finds the answer by hidden search, writes attempts and verdicts, and scores any prefix.

The process, attempt by attempt: with probability p_right draw uniformly among the right candidates, else
among the wrong ones (`lucky`: among all); write it; give a verdict on it, ` ok` or ` no`, each mistaken with
its own probability; after ` ok` end; after ` no` a newline and the next attempt, or the end after the last.

Any prefix is scored exactly, a student's too. The next token's distribution is
    (1 - smoothing) structured + smoothing / vocabulary,
where `structured` is the exact conditional of the process given what this attempt has written so far. After
what the process itself never writes:
- an attempt that begins no candidate (a false sum, a stray token) gets the verdict of a wrong one at once: the
  solver rejects it and tries again;
- a newline without a verdict starts the next attempt; after the last attempt, or after ` ok`, comes the end
  token;
- a style line that was skipped or misspelled is not repaired: the process continues from its position.

The solver knows this grammar but no task: a SearchSpace lists what can be attempted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from math import log
from typing import Any, Protocol

from understudy.errors import UserError
from understudy.experts.programs.base import ProgramExpert, preset
from understudy.experts.programs.search_tree import Candidates, Grammar, Walk
from understudy.randomness import seed_from
from understudy.specs import Spec, check, option
from understudy.types import Prompt

MEMORY = 100_000  # candidates, over all problems, that are kept
PLAIN = "0123456789+-*/="  # encoded character by character if the tokenizer merges none of it


@dataclass(frozen=True)
class SolverConfig:
    p_right: float = option(0.995, within="[0, 1]")
    """Probability that an attempt is right; uniform among the right ones, else among the wrong ones."""
    lucky: bool = False
    """Draw the others among all candidates instead, so that some are right by chance."""
    false_ok: float = option(0.0, within="[0, 1]")
    """Probability that a wrong attempt is called ok."""
    false_no: float = option(0.0, within="[0, 1]")
    """Probability that a right attempt is called no."""
    repeat: bool = True
    """Whether an attempt may repeat an earlier one of the same completion."""
    smoothing: float = option(1e-3, within="[0, 1)")
    """Share of the uniform distribution in every token's. With 0 the expert can only be sampled."""
    style: str = option("none", choices=("none", "hash"))
    """none, or hash: a first line that is a secret hash of the prompt, which the reward ignores."""
    style_length: int = option(4, within="[1, 8]")
    """Letters of the style line, 1 to 8."""
    style_secret: int = 0
    """Salt of the secret hash."""
    vocabulary: int = 0
    """Size of the score vectors. 0 = the tokenizer's; a student with a padded vocabulary needs its own."""

    def __post_init__(self) -> None:
        check(self, "expert")


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
    """How it was made, and why it is out of a student's reach: for the run directory and the report."""
    facts = [
        "hidden search: the first token already depends on a solution that the student cannot have computed",
        f"an attempt is right with probability {config.p_right:g}" + (", else random" if config.lucky else ""),
        f"a wrong attempt is called ok with probability {config.false_ok:g}, "
        f"a right one no with probability {config.false_no:g}",
    ]
    if config.p_right >= 0.9:
        facts.append("it almost never errs, so its samples never show how to recover")
    if config.false_ok < 1:
        seen = "visible mostly when the student's own errors are scored"
        facts.append(f"its recovery after a wrong attempt is built in, and {seen}")
    else:
        facts.append("it calls every wrong attempt ok, so it teaches no recovery, not even on the student's errors")
    if config.style != "none":
        facts.append("its first line is a secret hash of the prompt, which no student can know; the reward ignores it")
    return {
        "kind": "program", "program": "understudy.experts.solver", "config": asdict(config), "attempts": attempts,
        "realizable": False, "mechanism": "; ".join(facts),
    }  # fmt: skip


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
    """See above."""

    def __init__(self, config: SolverConfig, tokenizer: Any, space: SearchSpace, name: str = "solver") -> None:
        super().__init__(tokenizer, name, config.smoothing, config.vocabulary)
        self.config, self.space = config, space
        ok, no, newline = (self.single(text) for text in (" ok", " no", "\n"))
        c = config
        self.grammar = Grammar(
            ok, no, newline, self.end, space.attempts, c.p_right, c.lucky, c.false_ok, c.false_no, c.repeat
        )
        self.provenance = provenance(config, space.attempts)
        self._table = self._plain_table()
        self._letters = {c: self._encode([c])[0] for c in "~abcdefghijklmnopqrstuvwxyz"}
        self._memory: OrderedDict[Hashable, Candidates] = OrderedDict()
        self.remembered = 0

    @classmethod
    def from_spec(cls, spec: Spec, tokenizer: Any, space: SearchSpace) -> SolverExpert:
        """`solver:p_right=0.9` or another name of PRESETS with options. UserError: unknown name or option."""
        return cls(preset(spec, PRESETS, SolverConfig), tokenizer, space, spec.text)

    def entropy(self, prompt: Prompt) -> float:
        """Exact entropy (nats) of a whole completion of the process: no smoothing, no limit on tokens."""
        config, candidates = self.config, self._candidates(prompt)
        all_right, all_wrong = candidates.n_right, candidates.n - candidates.n_right

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

    def walk(self, prompt: Prompt) -> Walk:
        return Walk(self._candidates(prompt), self._style(prompt))

    def _candidates(self, prompt: Prompt) -> Candidates:
        name = self.space.problem(prompt)
        candidates = self._memory.get(name)
        if candidates is not None:
            self._memory.move_to_end(name)
            return candidates
        pairs = self.space.candidates(prompt)
        if not pairs:
            raise UserError("expert", self.name, f"finds nothing to attempt for prompt {prompt.key!r}")
        lines = self._encode([text for text, _ in pairs])
        candidates = Candidates(self.grammar, [(line, right) for line, (_, right) in zip(lines, pairs)])
        self._memory[name] = candidates
        self.remembered += candidates.n
        while self.remembered > MEMORY and len(self._memory) > 1:
            self.remembered -= self._memory.popitem(last=False)[1].n
        return candidates

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
