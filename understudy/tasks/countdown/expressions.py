"""A parser for arithmetic that a model wrote: model text is data, never code.

Only + - * / and parentheses over unsigned ASCII integers are an expression: for anything else `read` and `read_chain`
return None, at once, and never raise. All arithmetic is exact (fractions).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_LENGTH = 400  # characters of one expression
MAX_DEPTH = 20  # parentheses inside parentheses
MAX_DIGITS = 9  # of one number

_NUMBER = re.compile(r"[0-9]+")
_CHAIN_STEP = re.compile(r"([+\-*/])([0-9]+)=(-?[0-9]+)")


@dataclass(frozen=True)
class Reading:
    """The value of an expression, and its parts."""

    value: Fraction
    numbers: tuple[int, ...]  # in the order of appearance
    operators: frozenset[str]


class _Refused(Exception):
    pass


def read(text: str) -> Reading | None:
    """The reading of `text`; None if it is no expression within the bounds above, or divides by zero."""
    if len(text) > MAX_LENGTH:
        return None
    parser = _Parser(text)
    try:
        value = parser.sum(0)
        parser.skip()
        if parser.at != len(text):
            return None
    except _Refused:
        return None
    return Reading(value, tuple(parser.numbers), frozenset(parser.operators))


class _Parser:
    """Recursive descent; the recursion is bounded by MAX_DEPTH."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.numbers: list[int] = []
        self.operators: set[str] = set()

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1

    def operator(self, which: str) -> str:
        """The next character if it is one of `which`, consumed; else an empty string."""
        self.skip()
        character = self.text[self.at : self.at + 1]
        if not character or character not in which:
            return ""
        self.at += 1
        return character

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while op := self.operator("+-"):
            self.operators.add(op)
            right = self.product(depth)
            value = value + right if op == "+" else value - right
        return value

    def product(self, depth: int) -> Fraction:
        value = self.atom(depth)
        while op := self.operator("*/"):
            self.operators.add(op)
            right = self.atom(depth)
            if op == "*":
                value *= right
            elif right == 0:
                raise _Refused
            else:
                value /= right
        return value

    def atom(self, depth: int) -> Fraction:
        if self.operator("("):
            if depth == MAX_DEPTH:
                raise _Refused
            value = self.sum(depth + 1)
            if not self.operator(")"):
                raise _Refused
            return value
        digits = _NUMBER.match(self.text, self.at)
        if digits is None or len(digits.group()) > MAX_DIGITS:
            raise _Refused
        self.at = digits.end()
        self.numbers.append(int(digits.group()))
        return Fraction(self.numbers[-1])


@dataclass(frozen=True)
class Chain:
    """A running calculation `3+5=8+7=15`: each step starts from the value that the step before stated."""

    first: str
    steps: tuple[tuple[str, str, str], ...]  # (operator, number, stated value)

    def nested(self, upto: int | None = None) -> str:
        """The expression that the first `upto` steps (default: all) stand for: `(3+5)+7`."""
        text = self.first
        for i, (op, number, _) in enumerate(self.steps[:upto]):
            text = f"({text}){op}{number}" if i else f"{text}{op}{number}"
        return text


def read_chain(text: str) -> Chain | None:
    """The chain that `text` spells, whether or not its arithmetic holds; None for anything else."""
    first = _NUMBER.match(text) if len(text) <= MAX_LENGTH else None
    if first is None:
        return None
    steps, at = [], first.end()
    while at < len(text):
        step = _CHAIN_STEP.match(text, at)
        if step is None:
            return None
        steps.append((step.group(1), step.group(2), step.group(3)))
        at = step.end()
    if not 1 <= len(steps) <= MAX_DEPTH:
        return None
    return Chain(first.group(), tuple(steps))


def spell(number: int, digits: int = 0) -> str:
    """5, or 05 with two digits; a sign takes the place of a digit (-5)."""
    return f"{number:0{digits}d}" if digits else str(number)


def chain_reading(text: str, digits: int = 0) -> Reading | None:
    """The reading of a chain if each value it states is right and each number spelled right, else None."""
    chain = read_chain(text)
    if chain is None:
        return None
    reading: Reading | None = None
    for i, (_, _, stated) in enumerate(chain.steps):
        reading = read(chain.nested(i + 1))
        if reading is None or reading.value.denominator != 1 or spell(int(reading.value), digits) != stated:
            return None
    if reading is None or any(
        spell(int(n), digits) != n for n in (chain.first, *(number for _, number, _ in chain.steps))
    ):
        return None
    return reading
