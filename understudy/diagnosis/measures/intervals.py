"""Values of prompts to `Estimate`s: the interval of a mean, of a ratio, of a share; and checks of arrays of samples.

The unit of replication is the PROMPT. Samples of one prompt are averaged first and never counted as independent: every
function takes one number per prompt, (P,), and treats the prompts as a random sample of the population of prompts.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from understudy.diagnosis.types import Estimate
from understudy.errors import UserError

Floats = NDArray[np.float64]
LEVEL = 0.95
T = "t over prompts"


def mean(
    values: ArrayLike,
    unit: str,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    method: str = T,
    level: float = LEVEL,
) -> Estimate:
    """Mean of (P,) values of prompts with its t interval.

    `bounds`: what a value can be; the interval is cut there. Where all prompts sit on one bound a t interval has
    no width, and the exact one replaces it: values that differ from the bound are then, with confidence `level`,
    rarer than 1 - (tail)^(1/P). One prompt: the interval is everything. Infinite values: an infinite mean.
    """
    values_P = per_prompt("values", values)
    n, (floor, ceiling) = len(values_P), bounds
    if not np.isfinite(values_P).all():
        with np.errstate(invalid="ignore"):
            value = float(values_P.mean())
        bad = int((~np.isfinite(values_P)).sum())
        return Estimate(value, value, value, n, unit, f"{method}; infinite on {bad} of {n} prompts", level)
    value = min(max(float(values_P.mean()), floor), ceiling)
    if n == 1:
        return Estimate(value, floor, ceiling, 1, unit, "one prompt: no interval", level)
    half = t_quantile(n - 1, level) * float(values_P.std(ddof=1)) / math.sqrt(n)
    low, high = max(value - half, floor), min(value + half, ceiling)
    if half == 0 and value in bounds and math.isfinite(ceiling - floor):
        rare = (1 - (0.5 * (1 - level)) ** (1 / n)) * (ceiling - floor)
        low, high = (value, value + rare) if value == floor else (value - rare, value)
        method = "exact: every prompt alike"
    return Estimate(value, low, high, n, unit, method, level)


def ratio(
    over: ArrayLike,
    under: ArrayLike,
    unit: str,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    empty: str = "nothing to divide by",
    level: float = LEVEL,
) -> Estimate:
    """sum(over) / sum(under) of (P,) values with a t interval of the linearised residuals (over - ratio under).

    All of `under` zero: value nan, interval = `bounds`, and `empty` says why in the method.
    """
    over_P, under_P = per_prompt("over", over), per_prompt("under", under)
    n, total = len(over_P), float(under_P.sum())
    if total == 0:
        return Estimate(math.nan, *bounds, n, unit, f"no number: {empty}", level)
    value = float(over_P.sum()) / total
    if not math.isfinite(value):
        return Estimate(value, *bounds, n, unit, "no number: infinite scores", level)
    if n == 1:
        return Estimate(value, *bounds, 1, unit, "one prompt: no interval", level)
    error_P = (over_P - value * under_P) * n / total
    half = t_quantile(n - 1, level) * float(error_P.std(ddof=1)) / math.sqrt(n)
    low, high = max(value - half, bounds[0]), min(value + half, bounds[1])
    return Estimate(value, low, high, n, unit, "ratio of sums, t over prompts", level)


def share(outcomes: ArrayLike, unit: str = "accuracy", level: float = LEVEL) -> Estimate:
    """Mean of (P,) or (P, K) outcomes of 0 and 1: Wilson's interval at the effective number of samples.

    The effective number is v (1 - v) / se^2 with se over prompts, so samples of one prompt count for what they are
    worth, and the interval stays honest near 0 and 1, where a t interval of the same data does not. Outcomes
    between 0 and 1 (graded rewards): a t interval cut at 0 and 1.
    """
    outcomes_PK = samples("outcomes", outcomes)
    n, total = len(outcomes_PK), outcomes_PK.size
    if outcomes_PK.min() < 0 or outcomes_PK.max() > 1:
        raise UserError("outcomes", "outside 0 to 1", "give rewards between 0 and 1")
    values_P = outcomes_PK.mean(axis=1)
    value = float(values_P.mean())
    if n == 1 or value in (0.0, 1.0) or not is_binary(outcomes_PK):
        return mean(values_P, unit, (0.0, 1.0), level=level)
    variance = float(values_P.var(ddof=1)) / n
    # at the least what the prompts could say if every sample were independent: chance can make prompts look alike
    effective = min(value * (1 - value) / variance, total) if variance > 0 else total
    z2 = t_quantile(n - 1, level) ** 2 / effective
    centre = (value + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * (value * (1 - value) + z2 / 4)) / (1 + z2)
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    return Estimate(value, low, high, n, unit, "Wilson at the effective number of samples", level)


def t_quantile(df: float, level: float) -> float:
    return float(stdtrit(df, 0.5 + 0.5 * level))


# --- what arrays must look like -------------------------------------------------------------------


def samples(name: str, values: ArrayLike, least: int = 1) -> Floats:
    """(P, K) float64 from (P,) or (P, K); UserError when empty, nan, of another shape or with K < `least`."""
    values_PK = np.asarray(values, dtype=np.float64)
    if values_PK.ndim == 1:
        values_PK = values_PK[:, None]
    if values_PK.ndim != 2 or values_PK.size == 0:
        raise UserError(name, f"shape {values_PK.shape}", "give (prompts, samples), not empty")
    if np.isnan(values_PK).any():
        raise UserError(name, "nan", "leave out prompts that could not be scored")
    if values_PK.shape[1] < least:
        raise UserError(name, f"{values_PK.shape[1]} per prompt", f"draw at least {least} samples of each prompt")
    return values_PK


def per_prompt(name: str, values: ArrayLike) -> Floats:
    """(P,) float64; UserError when empty, nan or of another shape."""
    values_P = np.asarray(values, dtype=np.float64)
    if values_P.ndim != 1:
        raise UserError(name, f"shape {values_P.shape}", "give one number per prompt")
    return samples(name, values_P)[:, 0]


def same_shape(**arrays: Floats) -> None:
    """UserError unless all have the shape of the first."""
    if len({a.shape for a in arrays.values()}) > 1:
        shapes = " and ".join(str(a.shape) for a in arrays.values())
        raise UserError(", ".join(arrays), shapes, "must have one shape, (prompts, samples)")


def is_binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())
