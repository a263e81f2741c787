"""What a claim is: texts, and a function that computes rows, each compared with its bound."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, TypeVar

import numpy as np

from understudy.errors import UserError
from understudy.randomness import generator
from understudy.theory.families.bandit import FamilyF
from understudy.theory.scalars import monte_carlo_tolerance

EXACT = 1e-9
N_GRID = (1, 8, 16, 64, 256, 1024, 4096)
H_GRID = (1, 2, 4, 8, 16)

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Options:
    """Parameters of a claim; None means the claim's default or grid."""

    l: int | None = None
    eps: float | None = None
    kappa: float | None = None
    n: int | None = None
    H: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("l", 2), ("n", 1), ("H", 1)):
            value = getattr(self, name)
            if value is not None and not low <= value <= 10**6:
                raise UserError(name, value, f"from {low} to {10**6}")
        if self.eps is not None and not 0 < self.eps <= 1:
            raise UserError("eps", self.eps, "a probability in (0, 1]")
        if self.kappa is not None and not 0 <= self.kappa < 0.5:
            raise UserError("kappa", self.kappa, "an error rate in [0, 0.5)")

    def given(self) -> set[str]:
        return {f.name for f in dataclasses.fields(self) if f.name != "seed" and getattr(self, f.name) is not None}

    def words(self) -> list[str]:
        """The given parameters as options of the command line, without the seed."""
        return [f"--{name} {getattr(self, name):g}" for name in sorted(self.given())]

    def rng(self, name: str) -> np.random.Generator:
        """Random numbers of one claim: a function of (claim, seed) alone."""
        return generator("theory", name, self.seed)

    def value(self, name: str, default: Number) -> Number:
        given = getattr(self, name)
        return default if given is None else given

    def positive_kappa(self, default: float) -> float:
        """kappa of a claim that takes its logarithm."""
        if self.kappa == 0:
            raise UserError("kappa", 0, "this claim takes log kappa: use a positive error rate")
        return self.value("kappa", default)

    def grid(self, name: str, default: tuple[Number, ...]) -> tuple[Number, ...]:
        """The default grid, or just the value that was given."""
        given = getattr(self, name)
        return default if given is None else (given,)

    def family(self) -> FamilyF:
        """Family F at these parameters; by default l = 8, eps = .01, kappa = .1."""
        return FamilyF(self.value("l", 8), self.value("eps", 0.01), self.value("kappa", 0.1))


@dataclass(frozen=True)
class Row:
    """One check: `observed` stands in `relation` to `bound`, up to `tolerance`."""

    computed: str
    relation: Literal["=", "<=", ">="]
    bound: float
    observed: float
    tolerance: float = EXACT
    headline: bool = False

    @property
    def holds(self) -> bool:
        if math.isnan(self.observed) or math.isnan(self.bound):
            return False
        if self.relation == "=":
            return self.observed == self.bound or abs(self.observed - self.bound) <= self.tolerance
        if self.relation == "<=":
            return self.observed <= self.bound + self.tolerance
        return self.observed >= self.bound - self.tolerance

    @property
    def bound_text(self) -> str:
        """'≤ 0.5', or '= 0.469223 ± 0.03' where the tolerance is more than rounding."""
        sign, slack = {"=": ("=", "±"), "<=": ("≤", "+"), ">=": ("≥", "−")}[self.relation]
        return f"{sign} {number(self.bound)}" + (f" {slack} {self.tolerance:.1g}" if self.tolerance > 1e-5 else "")


def number(x: float) -> str:
    """Six significant digits; tiny numbers with a real superscript."""
    if math.isnan(x):
        return "not a number"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    x += 0.0  # no minus zero
    if x == 0 or 1e-4 <= abs(x) < 1e6:
        return f"{x:.6g}".replace("-", "−")
    mantissa, exponent = f"{x:.2e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa}·10{power}".replace("-", "−")


def equal(computed: str, bound: float, observed: float, tolerance: float = EXACT, headline: bool = False) -> Row:
    return Row(computed, "=", float(bound), float(observed), tolerance, headline)


def at_most(computed: str, bound: float, observed: float, tolerance: float = EXACT, headline: bool = False) -> Row:
    return Row(computed, "<=", float(bound), float(observed), tolerance, headline)


def at_least(computed: str, bound: float, observed: float, tolerance: float = EXACT, headline: bool = False) -> Row:
    return Row(computed, ">=", float(bound), float(observed), tolerance, headline)


def monte_carlo(computed: str, exact: float, mean: float, error: float, headline: bool = False) -> Row:
    """A simulation against its exact value: 4 standard errors + 2e-4."""
    return equal(computed, exact, mean, monte_carlo_tolerance(error), headline)


def curve(last: int = 4096, points: int = 60) -> list[int]:
    """Whole numbers from 1 to `last`, about evenly spaced on a log scale: the n of a figure."""
    return sorted({round(x) for x in np.geomspace(1, last, points)})


@dataclass(frozen=True)
class Result:
    """The rows of one claim and the data of its figure."""

    rows: list[Row]
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return all(row.holds for row in self.rows)

    @property
    def headlines(self) -> list[Row]:
        """Rows for the short table; a failing row is always among them."""
        return [r for r in self.rows if r.headline or not r.holds] or self.rows[:1]


@dataclass(frozen=True)
class Claim:
    """A statement of docs/theory.md, what computes it, and what would refute it."""

    name: str
    title: str
    section: str
    statement: str
    not_said: str
    refuted_by: str
    test: str
    run: Callable[[Options], Result]
    options: frozenset[str] = frozenset()
    figure: str = ""
    """Caption of its figure; empty if it has none."""
    alt: str = ""

    def check(self, options: Options) -> None:
        """UserError for an option that this claim does not read."""
        for name in sorted(options.given() - self.options):
            reads = " ".join(sorted(self.options)) or "seed only"
            hint = f"claim '{self.name}' does not read it (it reads: {reads})"
            raise UserError(name, getattr(options, name), hint)

    def checked(self, options: Options) -> Result:
        self.check(options)
        return self.run(options)

    def record(self, result: Result) -> dict[str, Any]:
        """For claims.json: every row in full precision; an infinite or undefined number is null."""
        rows = []
        for row in result.rows:
            numbers = {k: getattr(row, k) if math.isfinite(getattr(row, k)) else None for k in ("bound", "observed")}
            record = {"computed": row.computed, "relation": row.relation} | numbers
            rows.append(record | {"tolerance": row.tolerance, "holds": row.holds})
        return {"name": self.name, "section": self.section, "holds": result.holds, "rows": rows}


def largest_difference(one: Callable[..., float], two: Callable[..., float], *grids: Iterable[Any]) -> float:
    """max |one(...) - two(...)| over the product of the grids: a brute-force number against its closed form."""
    return max(abs(one(*point) - two(*point)) for point in product(*grids))
