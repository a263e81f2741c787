"""The checks behind the rules: a log in, the first update at which its numbers show a fault out. Pure functions.

Every check goes through the log in order and uses what was known at that update alone, so that a log that still grows
gets the same findings. `over`: what was found is no longer so in the last rows.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

from understudy.training.guard import FIRST, RUNAWAY, Guard, Rules
from understudy.training.monitor import WINDOW, Seen
from understudy.watch.log import Log, Series, mean


@dataclass(frozen=True)
class Found:
    """A fault. step: the update at which the log shows it; since: where it began, as far as that can be seen."""

    step: int
    since: int
    text: str
    over: bool = False


Check = Callable[[Log], Found | None]

AT_LIMIT_START, AT_LIMIT_MORE, AT_LIMIT = 0.8, 0.3, 0.5
SPIKE, SPIKES, SPIKE_HISTORY = 20.0, 3, 50
KL_START = 3.0
SHORT = 4  # tokens
COLLAPSE = 0.5
"""A warning costs less than a stop: the guard stops at a quarter of the start's accuracy, a finding needs a half."""
HORIZON = 10_000
"""Updates over which the error is spread where their number is not known. Fixed: so a growing log stays one test."""
DROP_NOISE = 4.0
BY_TEST = "by a test with an error of 5% for the whole log"
BY_NOISE = "beyond the noise of the log; the number of prompts per update allows a test with a stated error"
ENTROPY_LEFT, LENGTH_LEFT = 0.1, 0.25
MASS_LOSS, MASS = 0.05, 0.8
CLIPPED = 0.3
SAME_REWARD, SAME_WINDOW = 0.9, 10
SAMPLER = {"drift": 0.1, "probability_gap": 0.05, "kl_sampler": 0.05}
RATIO = (0.8, 1.25)
LEAST_ROWS = 30
"""Rows before "nothing learned" can be said."""


def not_finite(log: Log) -> Found | None:
    bad = [
        (row.step, name)
        for row in log.rows
        for name in ("loss", "grad_norm")
        if not math.isfinite(row.values.get(name, 0.0))
    ]
    if not bad:
        return None
    step, name = bad[0]
    end = log.rows[-WINDOW:]
    over = all(math.isfinite(r.values.get(n, 0.0)) for r in end for n in ("loss", "grad_norm"))
    return Found(step, step, f"{name} is not a finite number ({len(bad)} times)", over)


def spikes(log: Log) -> Found | None:
    series = log.of("grad_norm")
    at, largest = [], (0.0, 0)
    start = sorted(series.values[:10])[len(series.values[:10]) // 2] if series.values else 0.0
    for i in range(10, len(series)):
        before = sorted(series.values[max(0, i - SPIKE_HISTORY) : i])
        usual, value = before[len(before) // 2], series.values[i]
        if usual > 0 and value > SPIKE * usual and value > 2 * start:  # small next to tiny ones is no spike
            at.append(i)
            largest = max(largest, (value, series.steps[i]))
    if len(at) < SPIKES:
        return None
    text = f"{len(at)} gradient norms are over {SPIKE:g} times the usual one, the largest {largest[0]:.3g} at update "
    text += str(largest[1])
    return Found(series.steps[at[SPIKES - 1]], series.steps[at[0]], text, at[-1] < len(series) - SPIKE_HISTORY)


def rate_zero(log: Log) -> Found | None:
    series = log.of("lr")
    run = 0
    for i, (step, value) in enumerate(zip(series.steps, series.values)):
        run = run + 1 if value == 0 else 0
        ending = log.updates and step > 0.97 * log.updates
        if run == 3 and not ending:
            over = series.values[-1] > 0
            return Found(step, series.steps[i - 2], "the learning rate is 0: these updates change nothing", over)
    return None


def end_token(log: Log) -> Found | None:
    series = _cut(log)
    if len(series) < 3 or series.first(3) < AT_LIMIT_START or _labels(log):
        return None
    text = f"{series.first(3):.0%} of the completions reach the length limit from the first update on"
    return Found(series.steps[2], series.steps[0], text, series.last(WINDOW) < AT_LIMIT)


def _labels(log: Log) -> bool:
    """Whether completions are a few tokens by design, such as one label: these end at their limit, and one surprising
    token makes a large mean divergence that says little."""
    return len(log.of("length")) > 0 and log.of("length").first(FIRST) <= SHORT


def limit_grows(log: Log) -> Found | None:
    series = _cut(log)
    start = series.first(min(FIRST, len(series)))
    if not start < AT_LIMIT_START:
        return None
    for i, now in series.windows(WINDOW):
        if i >= FIRST + WINDOW - 1 and now > max(AT_LIMIT, start + AT_LIMIT_MORE):
            text = f"completions that reach the length limit: {start:.0%} in the first updates, {now:.0%} now"
            return Found(series.steps[i], _since(series, i, start + 0.1), text, series.last(WINDOW) <= AT_LIMIT)
    return None


def _cut(log: Log) -> Series:
    """Share of completions at the limit; where only lengths are logged, 1 if their mean is at the limit, else 0."""
    if log.has("at_limit") or not log.limit:
        return log.of("at_limit")
    lengths = log.of("length")
    return Series(lengths.steps, [float(value >= 0.97 * log.limit) for value in lengths.values])


def length_falls(log: Log) -> Found | None:
    series = log.of("length")
    if len(series) < 2 * FIRST or series.first(FIRST) < 8:
        return None
    start = series.first(FIRST)
    for i, now in series.windows(WINDOW):
        if i >= 2 * FIRST - 1 and now < LENGTH_LEFT * start and not _gained(log, series.steps[i]):
            text = f"completions shrank from {start:.0f} to {now:.0f} tokens, and the reward did not rise"
            over = series.last(WINDOW) >= LENGTH_LEFT * start
            return Found(series.steps[i], _since(series, i, (1 + LENGTH_LEFT) / 2 * start, False), text, over)
    return None


def entropy_collapse(log: Log) -> Found | None:
    series = log.of("entropy")
    if len(series) < 2 * FIRST or not log.has("reward"):
        return None
    start, expert = series.first(FIRST), log.of("expert_entropy")
    for i, now in series.windows(WINDOW):
        step = series.steps[i]
        if i < 2 * FIRST - 1 or now >= ENTROPY_LEFT * start:
            continue
        upto = bisect_right(expert.steps, step)
        if now >= 0.5 * mean(expert.values[max(0, upto - WINDOW) : upto]) or _gained(log, step):
            continue
        text = f"the entropy fell from {start:.2f} to {now:.3f} nats per token, and the reward did not rise"
        return Found(step, _since(series, i, start / 2, False), text, series.last(WINDOW) >= ENTROPY_LEFT * start)
    return None


def entropy_runs(log: Log) -> Found | None:
    return _runs(log, "entropy", "the entropy")


def kl_runs(log: Log) -> Found | None:
    return _runs(log, "kl_expert", "the divergence from the expert")


def _runs(log: Log, signal: str, words: str) -> Found | None:
    factor, more = RUNAWAY["kl" if signal == "kl_expert" else signal]
    series = log.of(signal)
    if len(series) <= WINDOW:
        return None
    start = series.first(FIRST)
    for i, now in series.windows(WINDOW):
        if now > factor * start and now > start + more and not _gained(log, series.steps[i]):
            text = f"{words} rose from {start:.2f} to {now:.2f} nats per token"
            end = series.last(WINDOW)
            return Found(series.steps[i], _since(series, i, 2 * start), text, not (end > factor * start))
    return None


def kl_start(log: Log) -> Found | None:
    series = log.of("kl_expert")
    if len(series) < 3 or series.first(3) <= KL_START or _labels(log):
        return None
    text = f"the divergence from the expert starts at {series.first(3):.1f} nats per token"
    return Found(series.steps[2], series.steps[0], text, series.last(WINDOW) < KL_START / 2)


def reward_falls(log: Log) -> Found | None:
    """With counts and rewards in [0, 1] the guard's alarm; else a fall to half of the best that is beyond the noise."""
    series = log.of("reward")
    if log.prompts and series.values and all(0 <= v <= 1 for v in series.values):
        return _alarm(log, series)
    best_n = list(accumulate((value for _, value in series.windows(FIRST)), max))
    for i, now in series.windows(WINDOW):
        if i < FIRST + WINDOW - 1:
            continue
        best = best_n[i - FIRST - WINDOW + 1]  # of windows that end before this one begins
        half = now < COLLAPSE * best if best > 0 else now < best - abs(best)
        if half and best - now > DROP_NOISE * series.noise(i + 1) * (2 / WINDOW) ** 0.5:
            over = series.last(WINDOW) >= COLLAPSE * best if best > 0 else False
            return Found(series.steps[i], _since(series, i, (best + now) / 2, False), _fell(best, now, BY_NOISE), over)
    return None


def _alarm(log: Log, series: Series) -> Found | None:
    was = series.steps[0] - 1
    guard = Guard(Rules(log.updates or HORIZON, collapse=COLLAPSE))
    for i, (step, value) in enumerate(zip(series.steps, series.values)):
        n = log.prompts * (1 if log.tool == "understudy" else max(1, step - was))  # others log means of several updates
        was = step
        stop = guard.observe(step, Seen(n, value * n, 0.0))
        if stop is not None:
            start, now = series.first(FIRST), mean(series.values[max(0, i - WINDOW + 1) : i + 1])
            return Found(step, stop.since, _fell(start, now, BY_TEST), series.last(WINDOW) >= COLLAPSE * start)
    return None


def _fell(before: float, now: float, how: str) -> str:
    return f"the reward fell from {before:.3g} to {now:.3g} ({how})"


def accuracy_falls(log: Log) -> Found | None:
    """Held-out accuracy below its best by more than three standard errors of the difference of two shares."""
    series, n = log.of("accuracy"), log.facts.get("accuracy_prompts", 0.0)
    for i, (best, now) in enumerate(zip(accumulate(series.values, max), series.values[1:]), start=1):
        least = max(0.05, 3 * (max(0.0, best * (1 - best) + now * (1 - now)) / max(n, 1)) ** 0.5)
        if n and best - now > least:
            at = series.steps[list(series.values).index(best)]
            text = f"held-out accuracy fell from {best:.2f} (update {at}) to {now:.2f}"
            return Found(series.steps[i], at, text, best - series.values[-1] <= least)
    return None


def overfits(log: Log) -> Found | None:
    series = log.of("eval_loss")
    for i, best in enumerate(list(accumulate(series.values, min))[1:-1], start=2):
        if series.values[i] > 1.1 * best > 0 and series.values[i - 1] > 1.02 * best:
            at = series.steps[list(series.values).index(best)]
            text = f"the held-out loss rose from {best:.3g} (update {at}) to {series.values[i]:.3g}"
            return Found(series.steps[i], at, text, series.values[-1] <= 1.02 * best)
    return None


def mass_leaks(log: Log) -> Found | None:
    series = log.of("student_mass")
    if len(series) < WINDOW:
        return None
    start = series.first(FIRST)
    for i, now in series.windows(WINDOW):
        if now < MASS or (i >= 2 * FIRST - 1 and now < start - MASS_LOSS):
            text = f"the student gives {now:.2f} of its probability to the kept tokens, {start:.2f} at first"
            over = series.last(WINDOW) >= max(MASS, start - MASS_LOSS)
            return Found(series.steps[i], series.steps[max(0, i - WINDOW + 1)], text, over)
    return None


def sampler_differs(log: Log) -> Found | None:
    for signal, limit in SAMPLER.items():
        series = log.of(signal)
        for i, _ in series.windows(3):
            now = mean([abs(v) for v in series.values[i - 2 : i + 1]])
            if now > limit:
                over = mean([abs(v) for v in series.values[-3:]]) <= limit
                text = f"sampler and trainer disagree: {signal} is {now:.3g} (usual: under {limit:g})"
                return Found(series.steps[i], series.steps[i - 2], text, over)
    series = log.of("ratio")
    for i, now in series.windows(3):
        if not RATIO[0] <= now <= RATIO[1]:
            over = RATIO[0] <= series.last(3) <= RATIO[1]
            text = f"sampler and trainer disagree: the mean importance ratio is {now:.2f} (1 where they agree)"
            return Found(series.steps[i], series.steps[i - 2], text, over)
    return None


def clips(log: Log) -> Found | None:
    series = log.of("clipped")
    for i, now in series.windows(WINDOW):
        if now > CLIPPED:
            text = f"{now:.0%} of the tokens have a ratio outside the clip range"
            return Found(series.steps[i], series.steps[i - WINDOW + 1], text, series.last(WINDOW) <= CLIPPED)
    return None


def no_signal(log: Log) -> Found | None:
    series, rewards = log.of("same_reward"), log.of("reward")
    for i, now in series.windows(SAME_WINDOW):
        if now >= SAME_REWARD:
            step = series.steps[i]
            level = mean([v for s, v in zip(rewards.steps, rewards.values) if s <= step][-SAME_WINDOW:])
            text = f"in {now:.0%} of the groups all completions have the same reward (mean {level:.2f})"
            return Found(step, series.steps[i - SAME_WINDOW + 1], text, series.last(SAME_WINDOW) < SAME_REWARD)
    return None


def nothing_learned(log: Log) -> Found | None:
    """Compares the ends of a log of 30 rows or more: the reward and the divergence from the expert, or the loss."""
    if not log.samples and not log.has("kl_expert"):
        return _flat(log.of("loss"), "the loss", lower=True)
    kl = log.of("kl_expert")
    flat = _flat(kl, "the divergence from the expert", lower=True)
    if not log.has("reward") or (len(kl) >= LEAST_ROWS and flat is None):
        return flat
    reward = log.of("reward")
    return None if reward.values and reward.last(WINDOW) >= 0.9 else _flat(reward, "the reward", lower=False)


def _flat(series: Series, words: str, lower: bool) -> Found | None:
    """The last third of the series is no better than its first rows."""
    if len(series) < LEAST_ROWS:
        return None
    ends = len(series) // 3
    first, last = series.first(FIRST), series.last(ends)
    needed = 0.0 if lower else 2 * series.noise() * (1 / FIRST + 1 / ends) ** 0.5
    if (first - last if lower else last - first) > needed:
        return None
    text = f"{words} is {last:.3g} in the last third of {len(series)} logged updates and was {first:.3g} at the start"
    return Found(series.steps[-1], series.steps[0], text)


def _gained(log: Log, step: int) -> bool:
    """Whether the reward up to `step` is above its start by more than noise. False where no reward is logged."""
    series = log.of("reward")
    n = sum(s <= step for s in series.steps)
    if n < 2 * FIRST:
        return False
    now = mean(series.values[max(FIRST, n - 2 * WINDOW) : n])
    return now - series.first(FIRST) > max(2 * series.noise(n) * (2 / WINDOW) ** 0.5, 0.02)


def _since(series: Series, i: int, level: float, above: bool = True) -> int:
    """The step from which on the series was past `level` up to its index i."""
    while i > 0 and (series.values[i - 1] > level) == above:
        i -= 1
    return series.steps[i]
