"""Countdown: combine the numbers, each exactly once, into an expression that equals the target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, cached_property, lru_cache
from itertools import permutations
from typing import Any

from understudy.errors import UserError
from understudy.protocols import Expert
from understudy.randomness import seed_from
from understudy.specs import Spec
from understudy.tasks.countdown import formats
from understudy.tasks.countdown.config import CountdownConfig
from understudy.tasks.countdown.problems import Problem, candidates, enumerate_problems, read_rows, side
from understudy.tasks.generated import GeneratedTask, place
from understudy.tasks.search_format import STYLE_TOKENS
from understudy.tasks.tokenizer import NO, OK, shared_tokenizer
from understudy.types import Prompt


class CountdownTask(GeneratedTask):
    name = "countdown"
    Config = CountdownConfig
    config: CountdownConfig

    def __init__(self, config: CountdownConfig | None = None) -> None:
        config = config or CountdownConfig()
        self._rows = read_rows(config) if config.data else None
        usual = max(p.numbers[-1] for p in self._rows) if self._rows else config.max_number
        self.config = config.resolved(usual)
        self.attempts = config.attempts
        search = self.config.format == "search"
        self.keywords: tuple[str, ...] = (OK, NO, "=-", "~") if search else ("<answer>", "wait", "check", "=")
        self.max_new_tokens: int = self.config.max_new_tokens or (self._longest() if search else 1024)

    # -- problems --------------------------------------------------------------------------------------------

    @cached_property
    def _near(self) -> dict[str, list[Problem]]:
        """The problems of the usual range, or of the data file, on each side of the wall."""
        if self._rows is not None:
            return _walled(self._rows, "data", self.config)
        return _enumerated(self.config, self.config.max_number, 1, "max_number")

    @property
    def _wide(self) -> list[Problem]:
        return _enumerated(self.config, self.config.wide_max, 1, "wide_max")["train"]

    @property
    def _ood(self) -> list[Problem]:
        return _enumerated(self.config, self.config.ood_max, self.config.ood_min, "ood_max")["test"]

    def pool(self, split: str) -> list[Problem]:
        """The distinct problems that the stream of `split` draws from (train: without the wide range)."""
        if split == "ood":
            return self._ood
        self.check_split(split)
        return self._near[split]

    def prompts(self, split: str, n: int, seed: int, start: int = 0) -> list[Prompt]:
        """train: independent draws. test, ood: passes over all distinct problems, each in a new random order.

        The order of the numbers within a prompt is random everywhere.
        """
        pool = self.pool(split)
        wide = self._wide if split == "train" and self.config.wide_share else pool
        out = []
        for index in range(start, start + n):
            dice = seed_from("countdown", split, seed, index)
            if split == "train":
                coin = seed_from("countdown", "wide", seed, index) / 2**64
                source = wide if coin < self.config.wide_share else pool
                dice, at = divmod(dice, len(source))
                problem = source[at]
            else:
                problem = pool[place(len(pool), index, "countdown", "order", split, seed)]
            out.append(self._prompt(problem, dice))
        return out

    def _prompt(self, problem: Problem, dice: int) -> Prompt:
        orders = _orders(len(problem.numbers))
        numbers = tuple(problem.numbers[i] for i in orders[dice % len(orders)])
        if self.config.format == "search":
            text = formats.search_prompt(numbers, problem.target, self.config.digits)
        else:
            text = formats.answer_prompt(numbers, problem.target, self.config.ops)
        key = f"countdown {','.join(map(str, numbers))}>{problem.target}"
        return Prompt(key, text, {"nums": numbers, "target": problem.target, "difficulty": problem.difficulty})

    # -- answers ---------------------------------------------------------------------------------------------

    def verify(self, prompt: Prompt, text: str, ended: bool) -> float:
        numbers, target, ops = prompt.data["nums"], prompt.data["target"], self.config.ops
        if self.config.format == "search":
            c = self.config
            good = ended and formats.verify_search(text, numbers, target, ops, c.attempts, c.digits, c.check)
        else:
            good = formats.verify_answer(text, numbers, target, ops)
        return 1.0 if good else 0.0

    def gold(self, prompt: Prompt) -> str:
        if self.config.format == "search":
            chain = next((text for text, right in self.candidates(prompt) if right), None)
            answer = None if chain is None else chain + OK
        else:
            solution = formats.solve(prompt.data["nums"], prompt.data["target"], self.config.ops)
            answer = None if solution is None else f"<answer> {solution} </answer>"
        if answer is None:
            hint = f"no expression with ops={self.config.ops} hits the target: drop it or allow more operators"
            raise UserError("task.data" if self.config.data else "task", prompt.key, hint)
        return answer

    def problem(self, prompt: Prompt) -> tuple[tuple[int, ...], int]:
        """(sorted numbers, target): prompts that differ only in the order of the numbers are one problem."""
        return tuple(sorted(prompt.data["nums"])), prompt.data["target"]

    def candidates(self, prompt: Prompt) -> Sequence[tuple[str, bool]]:
        """Every chain that an attempt can be, and whether it is right. For experts only."""
        numbers, target = self.problem(prompt)
        chains, digits = candidates(numbers, self.config.ops, self.config.digits), self.config.digits
        if self.config.check:
            chains = tuple((formats.checked(text, value, target, digits), value) for text, value in chains)
        return [(text, value == target) for text, value in chains]

    # -- models ----------------------------------------------------------------------------------------------

    def tokenizer(self) -> Any:
        return shared_tokenizer(pairs=self.config.tokens == "pairs")

    def expert(self, spec: Spec, tokenizer: Any) -> Expert:
        """`solver`, `search`, `always_ok`, ... (experts/programs/solver.py), in the search format."""
        # imported here: tasks do without torch
        from understudy.experts.programs.solver import SolverExpert

        if self.config.format != "search":
            hint = "writes the search format only: use task countdown:format=search, or a model"
            raise UserError("expert", spec.text, hint)
        return SolverExpert.from_spec(spec, tokenizer, self)

    def _longest(self) -> int:
        """Tokens of the longest completion that the format has room for (each character one token)."""
        config = self.config
        largest = max(config.ood_max, config.wide_max if config.wide_share else 0)
        wide = config.digits
        n = max([config.n_numbers, *(len(p.numbers) for p in self._rows or ())])
        length = one = max(len(str(largest)), wide)
        for steps in range(2, n + 1):
            most = largest**steps if "*" in config.ops else largest * steps
            # a difference may have a sign
            stated = max(len(str(most)), len(str(largest * (steps - 1))) + 1, wide)
            length += 1 + one + 1 + stated
        if config.check:
            taken = max(len(str(config.max_target)), wide)
            most = len(str((largest**n if "*" in config.ops else largest * n) + config.max_target)) + 1
            length += 1 + taken + 1 + max(most, wide)
        return STYLE_TOKENS + config.attempts * (length + 2)  # the verdict, and a newline or the end token


@cache
def _orders(n: int) -> list[tuple[int, ...]]:
    return list(permutations(range(n)))


@lru_cache(maxsize=8)
def _enumerated(config: CountdownConfig, largest: int, at_least: int, field: str) -> dict[str, list[Problem]]:
    """The problems of a range on each side of the wall. Kept, because each training in a process makes its own task."""
    return _walled(enumerate_problems(config, largest, at_least, field), field, config)


def _walled(problems: Iterable[Problem], field: str, config: CountdownConfig) -> dict[str, list[Problem]]:
    sides: dict[str, list[Problem]] = {"train": [], "test": []}
    for problem in problems:
        sides[side(problem.numbers, problem.target, config)].append(problem)
    for name, pool in sides.items():
        if not pool:
            hint = f"leaves no problem for {name}: widen the range of numbers, targets or difficulty"
            raise UserError(f"task.{field}", getattr(config, field), hint)
    return sides
