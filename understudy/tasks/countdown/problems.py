"""Which problems exist, and which side of the train/test wall each is on.

A problem is (sorted numbers, target). A hash of it alone, salted by split_seed, puts it on the train or the
test side, so no order of numbers, no number range and no data file carries a train problem into test or ood.
Whether it exists at all is decided by enumerating its candidate chains: all orders of the numbers times all
operators, worked from left to right, (a op b) op c, every value a whole number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement, islice, permutations, product
from math import comb, factorial
from pathlib import Path

import numpy as np

from understudy.errors import UserError, check_file
from understudy.tasks.countdown.config import MAX_NUMBERS, CountdownConfig
from understudy.tasks.countdown.expressions import spell
from understudy.tasks.generated import is_held_out

MOST_CHAINS = 60_000_000  # at most so many per enumeration, about five seconds
CHUNK = 200_000  # chains evaluated at a time


@dataclass(frozen=True)
class Problem:
    numbers: tuple[int, ...]  # sorted
    target: int
    difficulty: float  # share of its candidate chains that miss the target; nan where not computed


def candidates(numbers: tuple[int, ...], ops: str, digits: int = 0) -> tuple[tuple[str, int], ...]:
    """Every distinct chain over `numbers` as (text, value), in order of text: ("3+5=8+7=15", 15)."""
    chains: dict[str, int] = {}

    def grow(text: str, value: int, left: tuple[int, ...]) -> None:
        if not left:
            chains[text] = value
            return
        for i, number in enumerate(left):
            if number in left[:i]:
                continue
            rest = left[:i] + left[i + 1 :]
            for op in ops:
                result = apply(op, value, number)
                if result is not None:
                    grow(f"{text}{op}{spell(number, digits)}={spell(result, digits)}", result, rest)

    for i, number in enumerate(numbers):
        if number not in numbers[:i]:
            grow(spell(number, digits), number, numbers[:i] + numbers[i + 1 :])
    return tuple(sorted(chains.items()))


def apply(op: str, a: int, b: int) -> int | None:
    """a op b if it is a whole number, else None."""
    if op == "+":
        return a + b
    if op == "-":
        return a - b
    if op == "*":
        return a * b
    return a // b if b and a % b == 0 else None


def difficulty(numbers: tuple[int, ...], target: int, ops: str) -> float:
    chains = candidates(numbers, ops)
    return sum(value != target for _, value in chains) / max(1, len(chains))


def side(numbers: tuple[int, ...], target: int, config: CountdownConfig) -> str:
    """train or test: a function of the sorted numbers, the target and split_seed alone."""
    problem = f"{','.join(map(str, numbers))}|{target}"
    return "test" if is_held_out(problem, config.split_seed, config.test_share) else "train"


def enumerate_problems(config: CountdownConfig, largest: int, at_least: int, field: str) -> Iterator[Problem]:
    """All problems of numbers in 1..largest, one of them at_least or more, in the ranges of the config."""
    n, ops = config.n_numbers, config.ops
    chains = factorial(n) * len(ops) ** (n - 1)
    count = comb(largest + n - 1, n) - (comb(at_least + n - 2, n) if at_least > 1 else 0)
    if count * chains > MOST_CHAINS:
        hint = f"{count:,} number sets of {chains:,} chains are too many to try: lower it, n_numbers or ops"
        raise UserError(f"task.{field}", largest, hint)
    wanted = (s for s in combinations_with_replacement(range(1, largest + 1), n) if s[-1] >= at_least)
    rows = max(1, CHUNK // chains)
    while sets := list(islice(wanted, rows)):
        yield from _problems_of(sets, config)


def _problems_of(sets: list[tuple[int, ...]], config: CountdownConfig) -> Iterator[Problem]:
    numbers_KN = np.array(sets, dtype=np.int64)
    hits_KT = np.zeros((len(sets), config.max_target + 1), dtype=np.int32)
    total_K = np.zeros(len(sets), dtype=np.int32)
    rows_K = np.arange(len(sets))
    # repeated numbers give equal chains, equally many of each: shares are those of distinct chains
    for order in permutations(range(config.n_numbers)):
        for ops in product(config.ops, repeat=config.n_numbers - 1):
            value_K = numbers_KN[:, order[0]].copy()
            valid_K = np.ones(len(sets), dtype=bool)
            for op, column in zip(ops, order[1:]):
                b_K = numbers_KN[:, column]
                if op == "+":
                    value_K = value_K + b_K
                elif op == "-":
                    value_K = value_K - b_K
                elif op == "*":
                    value_K = value_K * b_K
                else:
                    valid_K &= value_K % b_K == 0
                    value_K = value_K // b_K
            total_K += valid_K
            hit_K = valid_K & (value_K >= 1) & (value_K <= config.max_target)
            np.add.at(hits_KT, (rows_K[hit_K], value_K[hit_K]), 1)
    for k, target in zip(*np.nonzero(hits_KT)):
        hard = 1 - float(hits_KT[k, target]) / float(total_K[k])
        if config.difficulty_min <= hard <= config.difficulty_max:
            yield Problem(sets[k], int(target), hard)


def read_rows(config: CountdownConfig) -> list[Problem]:
    """The distinct problems of a JSON lines file of public rows {"nums": [3, 5, 7], "target": 15}.

    UserError names the file and the line of a malformed row. In the search format, rows that no chain solves
    are left out (their solution needs parentheses elsewhere).
    """
    path = Path(config.data)
    check_file(path, "task.data")
    try:
        with path.open(encoding="utf-8") as file:
            rows = {_read_row(line, i, path): None for i, line in enumerate(file, 1) if line.strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("task.data", config.data, f"cannot be read ({error})") from None
    if not rows:
        hint = 'holds no rows; one JSON object {"nums": [...], "target": ...} per line'
        raise UserError("task.data", config.data, hint)
    whole_range = config.difficulty_min == 0 and config.difficulty_max == 1
    problems = []
    for numbers, target in rows:
        hard = float("nan")
        if config.format == "search" or not whole_range:
            hard = difficulty(numbers, target, config.ops)
            if not config.difficulty_min <= hard <= config.difficulty_max:
                continue
            if config.format == "search" and hard == 1:
                continue
        problems.append(Problem(numbers, target, hard))
    if not problems:
        raise UserError("task.data", config.data, f"no row can be solved with ops={config.ops} in the difficulty range")
    return problems


def _read_row(line: str, number: int, path: Path) -> tuple[tuple[int, ...], int]:
    def refuse(hint: str) -> UserError:
        return UserError("task.data", f"{path}, line {number}", hint)

    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise refuse("is not JSON; one object per line") from None
    if not isinstance(row, dict) or "nums" not in row or "target" not in row:
        raise refuse("must be an object with `nums` and `target`")
    nums, target = row["nums"], row["target"]
    if not isinstance(nums, list) or not all(type(n) is int and 0 <= n < 10**9 for n in nums):
        raise refuse("`nums` must be a list of whole numbers from 0 to 999999999")
    if not 2 <= len(nums) <= MAX_NUMBERS:
        raise refuse(f"`nums` must hold 2 to {MAX_NUMBERS} numbers")
    if type(target) is not int or abs(target) >= 10**9:
        raise refuse("`target` must be a whole number")
    return tuple(sorted(nums)), target
