"""The finding in plain words, computed: nothing here may say more than the intervals do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from understudy.diagnosis.outcome import MARGIN
from understudy.evaluation.intervals import Interval
from understudy.evaluation.numbers import percent, points
from understudy.report.comparison import forecasts
from understudy.report.comparison.load import Comparison
from understudy.report.comparison.summary import BASE, Arm, Contrast, Summary, summarise
from understudy.report.text import label, listed

GATE = 0.20  # an expert this close to the base is matched by standing still, so "within reach" shows nothing
_TIMES: dict[float, str] = {2: "Two", 3: "Three", 4: "Four", 5: "Five", 10: "Ten"}
TRIVIAL_RISE = 0.05  # a rise of accuracy worth holding against a divergence


def finding(comparison: Comparison) -> list[str]:
    """The headline, then the points that carry it; each computed from the runs."""
    s = summarise(comparison)
    contrasts = s.contrasts()
    if comparison.single or not contrasts:
        return _without_a_pair(s)
    lines = [headline(contrasts)]
    for reach in (False, None, True):
        group = [v for v in contrasts if v.realizable is reach]
        if group:
            lines.append(_group(s, group, reach))
    lines += [line for line in (_all_routes(s), *(_more_budget(s, v) for v in contrasts)) if line]
    lines += [line for line in (_out_of_distribution(s), discrepancy(s), forecasts.finding(s)) if line]
    return lines


def headline(contrasts: Sequence[Contrast]) -> str:
    """The result in one sentence."""
    by = {word: [v for v in contrasts if v.word == word and not v.small] for word in ("better", "none", "worse")}
    small = [v for v in contrasts if v.small]
    within = [v for v in contrasts if v.realizable is True]
    beyond = [v for v in contrasts if v.realizable is False]
    online, offline = contrasts[0].online.name, contrasts[0].offline.name
    as_hoped = all(v.word == "better" for v in beyond) and all(v.word == "none" or v.small for v in within)
    if within and beyond and as_hoped and len(within) + len(beyond) == len(contrasts):
        return (
            f"Rehearsing with the expert ({online}) beat studying its samples ({offline}) where the expert "
            "was out of the student’s reach. Where it was within reach, "
            + (f"the two differed by less than {100 * MARGIN:.0f} points." if small else "no difference was found.")
        )
    parts = []
    if by["better"]:
        parts.append(f"{online} beat {offline} with {_names(by['better'])}")
    if by["none"]:
        alone = not by["better"] and not by["worse"] and len(by["none"]) > 1
        whom = f"{'either' if len(by['none']) == 2 else 'any'} expert" if alone else ""
        pair = "" if by["better"] else f" between {online} and {offline}"
        parts.append(f"no difference{pair} was found with {whom or listed([_who(v) for v in by['none']])}")
    if by["worse"]:
        parts.append(f"{online} did worse than {offline} with {_names(by['worse'])}")
    if small:
        pair = "they" if parts else f"{online} and {offline}"
        parts.append(f"{pair} ended less than {100 * MARGIN:.0f} points apart with {_names(small)}")
    line = "; ".join(parts)
    return line[0].upper() + line[1:] + "."


def _group(s: Summary, group: Sequence[Contrast], reach: bool | None) -> str:
    head = {False: "Out of reach", True: "Within reach", None: "Reach not known"}[reach]
    if reach is None and all(s.realizable(expert) is None for expert in s.experts):
        head = "At equal budgets"
    online, offline = group[0].online.name, group[0].offline.name
    parts = []
    for word, verb in (
        ("better", f"{online} was ahead of {offline} with"),
        ("worse", f"{online} was behind {offline} with"),
        ("none", "no difference was found with"),
    ):
        if named := [f"{_who(v)} ({_gap(v.difference)})" for v in group if v.word == word]:
            parts.append(f"{verb} {listed(named)}")
    line = f"{head}: {'; '.join(parts)}."
    if small := [v for v in group if v.small]:
        names = listed([_who(v) for v in small])
        line += f" Less than {100 * MARGIN:.0f} points, as with {names}, is hardly worth a choice."
    surprises = [v for v in group if _expected(s, v) not in (None, "none" if v.small else v.word)]
    if surprises:
        what = {"better": f"{online} to be ahead", "none": "no difference", "worse": f"{online} to be behind"}
        hoped = listed(sorted({what[str(_expected(s, v))] for v in surprises}))
        line += f" Not as expected with {listed([_who(v) for v in surprises])}, where we expected {hoped}."
    return line + "".join(_gate(s, v.expert) for v in group if v.realizable)


def _all_routes(s: Summary) -> str:
    """Every route with each expert, best first, where there are more than an offline and an online one."""
    if not s.routes:
        return ""
    parts = []
    for expert in s.experts:
        known = [(found.value, arm.name) for arm in s.of(expert) if arm.finished and (found := s.accuracy(arm))]
        if before := s.accuracy(BASE):
            known.append((before.value, "no training"))
        if known:
            ranked = sorted(known, key=lambda pair: -pair[0])
            parts.append(f"with {label(expert, 40)} " + ", ".join(f"{name} {percent(value)}" for value, name in ranked))
    return f"All routes: {'; '.join(parts)}." if parts else ""


def _expected(s: Summary, v: Contrast) -> str | None:
    """What the paper's claim says of this expert, unless the comparison states another expectation."""
    stated = s.c.experts[v.expert].get("expect", "")
    if stated is None or stated in ("better", "none", "worse"):
        return stated
    return None if v.realizable is None else "none" if v.realizable else "better"


def _gate(s: Summary, expert: str) -> str:
    """Matching an expert that is hardly better than the base shows nothing."""
    gain = s.gain(expert)
    if gain is None:
        return ""
    side = "above" if gain.value >= 0 else "below"
    ahead = f" {label(expert, 40)} itself is {100 * abs(gain.value):.1f} points {side} the base"
    if gain.value >= GATE:
        return f"{ahead}, so matching it is not trivial."
    return f"{ahead}; a gain below {100 * GATE:.0f} points makes matching it a weak test."


def _more_budget(s: Summary, v: Contrast) -> str:
    """What a larger budget of the offline method does to the gap, against updates, tokens and seconds."""
    large = [a for a in s.of(v.expert) if a.method == v.offline.method and a.budget > 1 and a.finished]
    if not large:
        return ""
    arm = max(large, key=lambda a: a.budget)
    gap = s.difference(v.online, arm)
    if gap is None:
        return ""
    before, after = v.difference, gap
    narrows = "narrows" if abs(after.value) < abs(before.value) else "does not narrow"
    outcome = "" if after.excludes_zero else ", no difference found any more"
    effect = f"{narrows} the gap with {_who(v)} from {points(before.value)} to {_gap(after)}{outcome}"
    if not before.excludes_zero:
        effect = f"had no gap to narrow with {_who(v)}: {v.online.name} minus {arm.name} is {_gap(after)}"
    times = _TIMES.get(arm.budget, f"{arm.budget:g}")
    line = f"{times} times the budget: {arm.name} {effect}"
    usual, more = s.ledger(v.online), s.ledger(arm)
    cost = [
        f"{_times(more[name], usual[name])} the {word}"
        for name, word in (("updates", "updates"), ("train_seconds", "training seconds"))
        if more[name] and usual[name]
    ]
    tokens = [(m["expert_tokens_scored"] or 0) + (m["expert_tokens_sampled"] or 0) for m in (more, usual)]
    if all(tokens):
        cost.insert(1, f"{_times(*tokens)} the expert tokens")
    return line + (f", at {listed(cost)} of {v.online.name}." if cost else ".")


def _out_of_distribution(s: Summary) -> str:
    contrasts = s.contrasts("ood")
    parts = []
    for word, verb in (("better", "was ahead with"), ("worse", "was behind with")):
        if named := [f"{_who(v)} ({_gap(v.difference)})" for v in contrasts if v.word == word]:
            parts.append(f"{contrasts[0].online.name} {verb} {listed(named)}")
    same = [f"{_who(v)} ({points(v.difference.value)})" for v in contrasts if v.word == "none"]
    if same:
        parts.append(f"no difference was found with {listed(same)}")
    return f"Out of distribution: {'; '.join(parts)}." if parts else ""


@dataclass(frozen=True)
class Rise:
    """What the divergence from the expert did while the accuracy rose. accuracy, nats: before and after.

    allowed: the gap to the expert that the divergence at the end allows; gap: the gap there is.
    """

    expert: str
    arm: Arm
    accuracy: tuple[float, float]
    nats: tuple[float, float]
    allowed: float
    gap: float | None

    @property
    def loose(self) -> bool:
        """The bound would have allowed a gap at least three times the real one, and the divergence stayed."""
        stays = self.nats[1] >= 0.8 * self.nats[0]
        return stays and self.gap is not None and self.allowed > 3 * max(abs(self.gap), 0.05)


def rises(s: Summary) -> list[Rise]:
    """For each expert's online arm whose accuracy rose: kl(expert, student) before and after, and its bound.

    |gap| <= total variation <= sqrt(1 - exp(-KL)) (Bretagnolle and Huber), for any reward in [0, 1].
    """
    out = []
    for expert in s.experts:
        arm = s.arm(expert, s.online)
        curve = s.curve(arm) if arm else None
        nats = s.series(arm, "kl_expert_student") if arm else None
        if arm is None or curve is None or nats is None or len(nats.steps) < 2 or len(curve.steps) < 2:
            continue
        end, own = s.accuracy(arm), s.accuracy(expert)
        last = end.value if end else float(curve.mean[-1])
        low = end.low if end else float(curve.low[-1])
        if low <= float(curve.mean[0]) + TRIVIAL_RISE:
            continue
        measured = s.final_divergence(arm, "kl_expert_student")
        first_kl = float(nats.mean[0])
        last_kl = measured.value if measured else float(nats.mean[-1])
        allowed = math.sqrt(1 - math.exp(-max(last_kl, 0.0)))
        gap = own.value - last if own else None
        out.append(Rise(expert, arm, (float(curve.mean[0]), last), (first_kl, last_kl), allowed, gap))
    return out


def discrepancy(s: Summary) -> str:
    """The lesson of the divergences, only where the data show it."""
    loose = [d for d in rises(s) if d.loose]
    if not loose:
        return ""
    d = max(loose, key=lambda d: d.allowed - abs(d.gap or 0))
    return (
        f"Discrepancy: closeness to the expert does not explain the accuracy. With {label(d.expert, 40)}, "
        f"{d.arm.name} rose from {percent(d.accuracy[0])} to {percent(d.accuracy[1])} while "
        f"kl(expert, student) went from {d.nats[0]:.2f} to {d.nats[1]:.2f} nats per sequence. "
        f"That divergence alone would allow a gap of {100 * d.allowed:.0f} points to the expert; "
        f"the gap is {100 * abs(d.gap or 0):.1f}."
    )


def _without_a_pair(s: Summary) -> list[str]:
    lines = [_arm_line(s, arm) for arm in s.arms if arm.finished]
    if not lines:
        return ["No run has finished yet: there is nothing to compare."]
    if not s.c.single and len(lines) > 1:
        lines.insert(0, "No online and offline method share an expert, problems and seeds: no pair to compare.")
    return lines


def _arm_line(s: Summary, arm: Arm) -> str:
    after, before = s.accuracy(arm), s.accuracy(BASE)
    own = s.accuracy(arm.expert)
    if after is None:
        line = f"{arm.name} with {label(arm.expert, 40)} has no sampled accuracy on the test problems"
        far = s.final_divergence(arm, "kl_student_expert")
        return line + (
            f"; it is {far.value:.2f} nats per completion from the expert, KL(student, expert)." if far else "."
        )
    line = f"{arm.name} with {label(arm.expert, 40)} reached {percent(after.value)} sampled accuracy"
    if after.low < after.high:
        line += f" (95% interval {percent(after.low)} to {percent(after.high)})"
    if before:
        line += f", from {percent(before.value)} before training"
    return line + (f"; the expert has {percent(own.value)}." if own else ".")


def _who(v: Contrast) -> str:
    name = label(v.expert, 40)
    return f"“{name}”" if "," in name else name  # names stand in lists


def _names(contrasts: Sequence[Contrast]) -> str:
    return listed([f"{_who(v)} ({points(v.difference.value)} points)" for v in contrasts])


def _gap(interval: Interval) -> str:
    return f"{points(interval.value)} points, 95% interval {points(interval.low)} to {points(interval.high)}"


def _times(a: Any, b: Any) -> str:
    return f"{a / b:.1f}×".replace(".0×", "×")
