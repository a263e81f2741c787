"""A chain of operations modulo a small number, from left to right.

Prompt `3+5*2-6`, modulo 7. The two formats:
    steps     3+5=1        one line for each operation, which begins with the result of the line before
              1*2=2
              2-6=3
    direct    3            the result alone: the whole chain is computed out of sight
`<` takes back the last symbol: `3+5=2<1`. The reward is 1 iff what is left has this form (the prompt's operations, each
line beginning with the result before it), the last result is right, and the completion ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from understudy.specs import check, option, require
from understudy.tasks.generated import DrawnConfig, DrawnTask
from understudy.tasks.pens import BACK, TypingPen, typed
from understudy.tasks.search_format import STYLE_TOKENS, unstyled
from understudy.types import Prompt

OPERATIONS = "+-*"
DIGITS = "0123456789"
LINE = 6  # symbols of a line of one step, the newline among them


@dataclass(frozen=True)
class ChainConfig(DrawnConfig):
    format: str = option("steps", choices=("steps", "direct"))
    """steps (a line for each operation) or direct (the result at once)."""
    steps: int = option(8, within="[1, 16]")
    """Operations of a prompt."""
    ood_steps: int = 0
    """Out of distribution: operations of a prompt there. 0 = one more."""
    modulus: int = option(7, within="[2, 10]")
    """All numbers are smaller than this. With a prime, no step makes up for a wrong one before it."""
    ops: str = "+-*"
    """The operations: some of +-*; nothing is multiplied by 0."""
    aligned: bool = False
    """Dots after each operation of the prompt, so that it stands as far from the next one as their lines in the
    completion do: a small network then finds it by its distance."""
    corrections: int = option(4, least=0)
    """Symbols that a completion has room to take back."""

    def __post_init__(self) -> None:
        check(self, "task")
        good = bool(self.ops) and set(self.ops) <= set(OPERATIONS) and len(set(self.ops)) == len(self.ops)
        require(
            self, "task",
            ("ops", good, "some of +-*, each once"),
            ("ood_steps", self.ood_steps == 0 or self.steps < self.ood_steps <= 20, "must exceed steps, at most 20"),
        )  # fmt: skip


class ChainTask(DrawnTask):
    name = "chain"
    Config = ChainConfig
    config: ChainConfig
    keywords: tuple[str, ...] = (BACK, "=", "~")

    def __init__(self, config: ChainConfig | None = None) -> None:
        super().__init__(config)
        self.ood_steps = self.config.ood_steps or self.config.steps + 1
        self.max_new_tokens: int = STYLE_TOKENS + self._longest(self.ood_steps) + 1
        if self.config.format == "direct":
            self.realizable = False
            self.mechanism = "the result is computed out of sight, operation after operation, before its first symbol"
        else:
            self.mechanism = "each line follows from the one before, so a student that calculates can follow"

    def _longest(self, steps: int) -> int:
        """Symbols of a completion, those that it takes back among them."""
        return (LINE * steps - 1 if self.config.format == "steps" else 1) + 2 * self.config.corrections

    def draw(self, dice: Random, ood: bool) -> dict[str, Any]:
        c, steps = self.config, self.ood_steps if ood else self.config.steps
        ops, digits = "".join(dice.choices(c.ops, k=steps)), DIGITS[: c.modulus]
        numbers = dice.choice(digits) + "".join(dice.choice(digits[op == "*" :]) for op in ops)
        return {"numbers": numbers, "ops": ops}

    def problem(self, data: dict[str, Any]) -> str:
        return f"{data['numbers']} {data['ops']}"

    def text(self, data: dict[str, Any]) -> str:
        numbers, ops = data["numbers"], data["ops"]
        room = "." * (LINE - 2) if self.config.aligned else ""
        return str(numbers[0] + "".join(op + number + room for op, number in zip(ops, numbers[1:])))

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        numbers, ops = prompt.data["numbers"], prompt.data["ops"]
        if not ended or len(text) > STYLE_TOKENS + self._longest(len(ops)):
            return 0.0
        left = typed(unstyled(text))
        result = self._results(numbers, ops)[-1]
        if self.config.format == "direct" or left is None:
            return 1.0 if left == result else 0.0
        lines, before = left.split("\n"), numbers[0]
        if len(lines) != len(ops):
            return 0.0
        for line, op, number in zip(lines, ops, numbers[1:]):
            written = line[-1:]
            if line != f"{before}{op}{number}={written}" or written not in DIGITS:
                return 0.0
            before = written
        return 1.0 if before == result else 0.0

    def _results(self, numbers: str, ops: str) -> tuple[str, ...]:
        return results(numbers, ops, self.config.modulus)

    def pen(self, prompt: Prompt) -> TypingPen:
        numbers, ops, modulus = prompt.data["numbers"], prompt.data["ops"], self.config.modulus
        true = self._results(numbers, ops)
        digits = DIGITS[:modulus]

        def slips(right: str) -> str:
            """The other digits, upwards from the right one and on from 0."""
            after = digits.index(right) + 1
            return digits[after:] + digits[: after - 1]

        def direct(text: str) -> tuple[str, str]:
            return ("", "") if text else (true[-1], slips(true[-1]))

        def steps(text: str) -> tuple[str, str]:
            """A mistake is carried on: each line begins with what the text says that the result before it was."""
            step, place = divmod(len(text), LINE)
            if step >= len(ops):
                return "", ""
            if place == 0:
                return _read(text[-2:-1], true[step - 1], digits) if step else numbers[0], ""
            if place == 4:
                begun = numbers[0] if step == 0 else true[step - 1]
                right = calculated(_read(text[-4:-3], begun, digits), ops[step], numbers[step + 1], modulus)
                return right, slips(right)
            if place == 5:
                return ("\n" if step + 1 < len(ops) else ""), ""
            return (ops[step], numbers[step + 1], "=")[place - 1], ""

        if self.config.format == "direct":
            return TypingPen(direct, 1)
        return TypingPen(steps, len(ops))


def _read(symbol: str, otherwise: str, digits: str) -> str:
    """A digit that was written; `otherwise` where something else stands."""
    return symbol if symbol and symbol in digits else otherwise


def calculated(a: str, op: str, b: str, modulus: int) -> str:
    """One operation."""
    x, y = int(a), int(b)
    return str((x + y if op == "+" else x - y if op == "-" else x * y) % modulus)


@lru_cache(maxsize=4096)
def results(numbers: str, ops: str, modulus: int) -> tuple[str, ...]:
    """The result of each operation of a chain."""
    out = [numbers[0]]
    for op, number in zip(ops, numbers[1:]):
        out.append(calculated(out[-1], op, number, modulus))
    return tuple(out[1:])
