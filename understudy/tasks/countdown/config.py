"""The options of Countdown: `countdown:key=value,...`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from understudy.errors import UserError

MAX_NUMBERS = 6  # orders of the numbers are enumerated


@dataclass(frozen=True)
class CountdownConfig:
    format: str = "search"
    """search (attempts, each checked; for tiny models) or answer (public: <answer> expr </answer>)."""
    n_numbers: int = 3
    """Numbers a problem."""
    max_number: int = 9
    """Numbers are 1..max_number."""
    ops: str = "+-"
    """Operators that are allowed, out of + - * /."""
    max_target: int = 99
    """Targets are 1..max_target."""
    ood_min: int = 0
    """Out of distribution: at least one number is this or larger. 0 = one more than any usual number."""
    ood_max: int = 0
    """Out of distribution: no number is larger. 0 = ood_min + 9."""
    wide_share: float = 0.0
    """Share of train prompts with numbers up to wide_max (to pre-train a base; never a held-out problem)."""
    wide_max: int = 0
    """Largest number of a wide train prompt. 0 = ood_max."""
    difficulty_min: float = 0.0
    """Least share of a problem's candidate expressions that miss the target."""
    difficulty_max: float = 1.0
    """Largest share of a problem's candidate expressions that miss the target."""
    test_share: float = 0.15
    """Share of all problems that only test and ood prompts may use."""
    split_seed: int = 0
    """Salt of the hash of (sorted numbers, target) that decides which problems those are."""
    digits: int = 0
    """Digits that the search format writes a number with, zeros first (05): then places stand still, which a tiny
    model learns sooner. 0 = no zeros."""
    check: bool = False
    """Search format: an attempt ends by taking the target away (`...=15-15=0`), so that its verdict can be read off.
    A tiny model learns to check that way in a hundred updates; without it, by luck of the seed (LAB_LOG.md)."""
    attempts: int = 4
    """Attempts that a completion of the search format may make."""
    data: str = ""
    """File of JSON lines with `nums` and `target` (public rows) for train and test, not generated ones."""
    max_new_tokens: int = 0
    """Room for a completion. 0 = what the search format can need; 1024 for the answer format."""

    def __post_init__(self) -> None:
        need = self._need
        need("format", self.format in ("search", "answer"), "one of search, answer")
        need("n_numbers", 2 <= self.n_numbers <= MAX_NUMBERS, f"must be 2..{MAX_NUMBERS}")
        need("ops", bool(self.ops) and set(self.ops) <= set("+-*/"), "must be some of + - * /")
        need("ops", len(set(self.ops)) == len(self.ops), "names an operator twice")
        for field in ("max_number", "max_target", "attempts"):
            need(field, getattr(self, field) >= 1, "must be at least 1")
        need("max_target", self.max_target <= 100_000, "must be at most 100000")
        need("attempts", self.attempts <= 64, "must be at most 64")
        need("digits", 0 <= self.digits <= 9, "must be 0..9")
        for field in ("wide_share", "difficulty_min", "difficulty_max"):
            need(field, 0 <= getattr(self, field) <= 1, "must lie in [0, 1]")
        need("difficulty_max", self.difficulty_max >= self.difficulty_min, "must be at least difficulty_min")
        need("test_share", 0 < self.test_share < 1, "must lie strictly between 0 and 1")
        for field in ("max_new_tokens", "ood_min", "ood_max", "wide_max"):
            need(field, getattr(self, field) >= 0, "must be at least 0")

    def resolved(self, usual: int) -> CountdownConfig:
        """Every range concrete, where `usual` is the largest usual number. UserError: impossible."""
        ood_min = self.ood_min or usual + 1
        ood_max = self.ood_max or ood_min + 9
        config = replace(self, ood_min=ood_min, ood_max=ood_max, wide_max=self.wide_max or ood_max)
        config._need("ood_min", ood_min > usual, f"must be above {usual}, the largest usual number")
        config._need("ood_max", ood_max >= ood_min, f"must be at least ood_min={ood_min}")
        largest = max(usual, ood_max, config.wide_max)
        fits = "*" not in self.ops or largest**self.n_numbers < 2**60
        config._need("ops", fits, "products overflow: use smaller numbers")
        return config

    def _need(self, field: str, good: bool, hint: str) -> None:
        if not good:
            raise UserError(f"task.{field}", getattr(self, field), hint)
