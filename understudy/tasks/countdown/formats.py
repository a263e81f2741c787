"""The two formats of prompts and completions: `search` (several checked attempts) and `answer` (the public tags).

search, prompt `3 5 7>15`, a completion of up to `attempts` lines, each a chain and a verdict:
    5-3=2+7=9 no
    3+5=8+7=15 ok
An attempt is right if its chain is right at every step, uses each number once and hits the target (the rest:
search_format.py). With `check` a chain also states its difference from the target, which must be right too:
`3+5=8+7=15-15=0 ok`.

answer, an English prompt; the last `<answer> expr </answer>` counts, and may read `expr = target`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

from understudy.tasks.countdown.expressions import MAX_LENGTH, Reading, chain_reading, read, spell
from understudy.tasks.search_format import passes


def search_prompt(numbers: Sequence[int], target: int, digits: int = 0) -> str:
    return f"{' '.join(spell(n, digits) for n in numbers)}>{spell(target, digits)}\n"


def answer_prompt(numbers: Sequence[int], target: int, ops: str) -> str:
    return (
        f"Using the numbers [{', '.join(map(str, numbers))}], create an equation that equals {target}. "
        f"You can use basic arithmetic operations ({', '.join(ops)}) and each number exactly once. "
        "Think it through, then return the final answer in <answer> </answer> tags, "
        "for example <answer> (1 + 2) - 3 </answer>.\n"
    )


def right(reading: Reading | None, numbers: Sequence[int], target: int, ops: str) -> bool:
    """Whether it equals the target with each number once and allowed operators only."""
    return (
        reading is not None
        and reading.value == target
        and sorted(reading.numbers) == sorted(numbers)
        and reading.operators <= set(ops)
    )


def checked(chain: str, value: int, target: int, digits: int = 0) -> str:
    """The chain, whose value is `value`, followed by its difference from the target."""
    return f"{chain}-{spell(target, digits)}={spell(value - target, digits)}"


def verify_search(
    text: str, numbers: Sequence[int], target: int, ops: str, attempts: int, digits: int = 0, check: bool = False
) -> bool:
    def hits(chain: str) -> bool:
        if check:
            zero = checked("", target, target, digits)
            if not chain.endswith(zero):
                return False
            chain = chain.removesuffix(zero)
        return right(chain_reading(chain, digits), numbers, target, ops)

    return passes(text, attempts, MAX_LENGTH, hits)


def verify_answer(text: str, numbers: Sequence[int], target: int, ops: str) -> bool:
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, max(end, 0))
    if start < 0:
        return False
    inner = text[start + len("<answer>") : end]
    if len(inner) > MAX_LENGTH:
        return False
    left, equals, stated = inner.strip(" \n\t").partition("=")
    if equals:
        worth = read(stated)
        if worth is None or worth.value != target:
            return False
    return right(read(left), numbers, target, ops)


def solve(numbers: Sequence[int], target: int, ops: str) -> str | None:
    """An expression over all of `numbers`, parentheses anywhere, that equals target, or None."""
    seen: set[tuple[Fraction, ...]] = set()

    def search(parts: list[tuple[Fraction, str]]) -> str | None:
        if len(parts) == 1:
            return parts[0][1] if parts[0][0] == target else None
        state = tuple(sorted(value for value, _ in parts))
        if state in seen:
            return None
        seen.add(state)
        for i, j in combinations(range(len(parts)), 2):
            rest = [part for k, part in enumerate(parts) if k not in (i, j)]
            for (a, left), (b, other) in ((parts[i], parts[j]), (parts[j], parts[i])):
                for op in ops:
                    if op == "/" and b == 0:
                        continue
                    value = a + b if op == "+" else a - b if op == "-" else a * b if op == "*" else a / b
                    solution = search([*rest, (value, f"({left} {op} {other})")])
                    if solution is not None:
                        return solution
        return None

    solution = search([(Fraction(n), str(n)) for n in numbers])
    return solution[1:-1] if solution is not None and len(numbers) > 1 else solution
