"""Numbers for people: shares, points, counts, FLOPs, durations, with their intervals; a dash where there is none.

One place for the terminal, the pages and the recipes. Needs neither torch nor numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

MINUS = "\N{MINUS SIGN}"
DASH = "–"


class Bounded(Protocol):
    """A value with its interval: `Interval`, or `Estimate` of a diagnosis."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def percent(share: float | None, digits: int = 1) -> str:
    return DASH if share is None or not math.isfinite(share) else f"{100 * share:.{digits}f}%"


def points(share: float, digits: int = 1) -> str:
    """A difference of two shares as signed percentage points."""
    rounded = round(100 * share, digits)
    sign = "+" if rounded > 0 else MINUS if rounded < 0 else "±"
    return f"{sign}{abs(rounded):.{digits}f}"


def decimal(x: float) -> str:
    """Three digits or two decimals, whichever is shorter: 0.52, 62.6, 135."""
    size = abs(x)
    shown = f"{size:.2f}" if size < 9.995 else f"{size:.1f}" if size < 99.95 else f"{size:,.0f}"
    return (MINUS if x < 0 and float(shown.replace(",", "")) else "") + shown


def with_bounds(e: Bounded | None, form: Callable[[float], str] = decimal) -> str:
    """ "0.52 [0.45, 0.60]", each number by `form`."""
    return DASH if e is None or math.isnan(e.value) else f"{form(e.value)} [{form(e.low)}, {form(e.high)}]"


def between(interval: Bounded, digits: int = 1) -> str:
    """ "[85.1, 91.0]" for an accuracy; empty where there is no interval."""
    if interval.low == interval.high:
        return ""
    return f"[{100 * interval.low:.{digits}f}, {100 * interval.high:.{digits}f}]"


def with_interval(interval: Bounded | None) -> str:
    """ "88.0% [85.1, 91.0]" """
    return DASH if interval is None else f"{percent(interval.value)} {between(interval)}".strip()


def points_interval(interval: Bounded | None) -> str:
    return with_bounds(interval, points)


def count(value: Any) -> str:
    """12,345 or 1.23M: budgets."""
    if not _is_number(value):
        return DASH
    if abs(value) >= 1e9:
        return f"{value / 1e9:.2f}B"
    return f"{value / 1e6:.2f}M" if abs(value) >= 1e6 else f"{value:,.0f}"


def brief(value: float) -> str:
    """The same in at most five characters: 950, 12k, 1.2M."""
    if abs(value) < 9_950:
        return f"{value:.0f}"
    return f"{value / 1e3:.0f}k" if abs(value) < 999_500 else f"{value / 1e6:.1f}M"


def large(value: Any, space: str = "") -> str:
    """1234567 -> "1.23M": FLOPs and tokens, to compare costs by. `space` stands before the letter."""
    if not _is_number(value):
        return DASH
    for size, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:  # rounded to 1000, it is the next one's
            return f"{value / size:.3g}{space}{letter}"
    return f"{value:.0f}"


def duration(seconds: Any, digits: int = 1) -> str:
    """ "77 s", "5.0 min", "1.5 h"; digits: of minutes and of a few seconds."""
    if not _is_number(seconds):
        return DASH
    if seconds < 99.5:
        return f"{seconds:.{digits if seconds < 9.95 else 0}f} s"
    if seconds < 5400:
        return f"{seconds / 60:.{digits}f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
