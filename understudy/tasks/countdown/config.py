"""The options of Countdown: `countdown:key=value,...`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from understudy.specs import check, option, require

MAX_NUMBERS = 6  # orders of the numbers are enumerated


@dataclass(frozen=True)
class CountdownConfig:
    format: str = option("search", choices=("search", "answer"))
    """search (attempts, each checked; for tiny models) or answer (public: <answer> expr </answer>)."""
    n_numbers: int = option(3, within=f"[2, {MAX_NUMBERS}]")
    """Numbers per problem."""
    max_number: int = option(9, least=1)
    """Numbers are 1..max_number."""
    ops: str = "+-"
    """Operators that are allowed, out of + - * /."""
    max_target: int = option(99, within="[1, 100000]")
    """Targets are 1..max_target."""
    ood_min: int = option(0, least=0)
    """Out of distribution: at least one number is this or larger. 0 = one more than any usual number."""
    ood_max: int = option(0, least=0)
    """Out of distribution: no number is larger. 0 = ood_min + 9."""
    wide_share: float = option(0.0, within="[0, 1]")
    """Share of train prompts with numbers up to wide_max (to pre-train a base; never a held-out problem)."""
    wide_max: int = option(0, least=0)
    """Largest number of a wide train prompt. 0 = ood_max."""
    difficulty_min: float = option(0.0, within="[0, 1]")
    """Least share of a problem's candidate expressions that miss the target."""
    difficulty_max: float = option(1.0, within="[0, 1]")
    """Largest share of a problem's candidate expressions that miss the target."""
    test_share: float = option(0.15, within="(0, 1)")
    """Share of all problems that only test and ood prompts may use."""
    split_seed: int = 0
    """Salt of the hash of (sorted numbers, target) that decides which problems those are."""
    digits: int = option(0, within="[0, 9]")
    """Digits of each number in the search format, with leading zeros (05): positions are then fixed, which a tiny model
    learns sooner. 0 = no zeros."""
    check: bool = False
    """Search format: an attempt ends by subtracting the target (`...=15-15=0`), so that its verdict can be read off.
    A tiny model learns to check that way in a hundred updates; without it, only with some seeds (LAB_LOG.md)."""
    attempts: int = option(4, within="[1, 64]")
    """Attempts that a completion of the search format may make."""
    tokens: str = option("digits", choices=("digits", "pairs"))
    """Tokenizer of models made from scratch: digits (each one token), or pairs (two digits are one: another family)."""
    data: str = ""
    """File of JSON lines with `nums` and `target` (public rows) for train and test, not generated ones."""
    max_new_tokens: int = option(0, least=0)
    """Room for a completion. 0 = what the search format can need; 1024 for the answer format."""

    def __post_init__(self) -> None:
        check(self, "task")
        require(
            self, "task",
            ("ops", bool(self.ops) and set(self.ops) <= set("+-*/"), "must be some of + - * /"),
            ("ops", len(set(self.ops)) == len(self.ops), "names an operator twice"),
            ("difficulty_max", self.difficulty_max >= self.difficulty_min, "must be at least difficulty_min"),
        )  # fmt: skip

    def resolved(self, usual: int) -> CountdownConfig:
        """Every range concrete, where `usual` is the largest usual number. UserError: impossible."""
        ood_min = self.ood_min or usual + 1
        ood_max = self.ood_max or ood_min + 9
        config = replace(self, ood_min=ood_min, ood_max=ood_max, wide_max=self.wide_max or ood_max)
        largest = max(usual, ood_max, config.wide_max)
        require(
            config, "task",
            ("ood_min", ood_min > usual, f"must be above {usual}, the largest usual number"),
            ("ood_max", ood_max >= ood_min, f"must be at least ood_min={ood_min}"),
            ("ops", "*" not in self.ops or largest**self.n_numbers < 2**60, "products overflow: use smaller numbers"),
        )  # fmt: skip
        return config
