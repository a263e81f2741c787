"""What a log shows: findings, rules that found nothing, rules that could not be judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from understudy.errors import UserError
from understudy.watch.checks import Found
from understudy.watch.formats import read
from understudy.watch.log import SIGNALS, Log
from understudy.watch.names import TOOLS
from understudy.watch.rules import RULES, Rule, applies, lacking


@dataclass(frozen=True)
class Finding:
    """One rule that found something."""

    rule: Rule
    found: Found


@dataclass(frozen=True)
class Verdict:
    """All that is said about one log."""

    log: Log
    findings: tuple[Finding, ...]
    clear: tuple[Rule, ...]
    unknown: tuple[tuple[Rule, str], ...]
    """(rule, the signal that is not logged)."""

    @property
    def present(self) -> tuple[Finding, ...]:
        """The findings that still hold in the last rows."""
        return tuple(f for f in self.findings if not f.found.over)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        log = self.log
        return {
            "log": log.name,
            "tool": log.tool,
            "updates": [log.rows[0].step, log.rows[-1].step],
            "logged": len(log.rows),
            "done": log.done,
            "signals": sorted({name for row in log.rows for name in row.values}),
            "findings": [
                {"name": f.rule.name, **asdict(f.found), "remedy": f.rule.remedy, "rule": f.rule.rule,
                 "source": f.rule.source}
                for f in self.findings
            ],
            "clear": [rule.name for rule in self.clear],
            "not_judged": [
                {"name": rule.name, "missing": signal, "hint": how_to_log(log, signal)} for rule, signal in self.unknown
            ],
            "notes": list(log.notes),
        }  # fmt: skip


def judge(log: Log) -> Verdict:
    """Every rule that is about a training of this kind."""
    findings, clear, unknown = [], [], []
    for rule in RULES:
        if not applies(rule, log):
            continue
        if signal := lacking(rule, log):
            unknown.append((rule, signal))
            continue
        found = rule.check(log)
        if found is None:
            clear.append(rule)
        else:
            findings.append(Finding(rule, found))
    if len(findings) > 1:  # what another finding explains is no finding of its own
        findings = [f for f in findings if f.rule.name != "nothing-learned"]
    return Verdict(log, tuple(findings), tuple(clear), tuple(unknown))


def watch(path: Path | str, prompts: int = 0) -> list[Verdict]:
    """The verdicts on the training in `path`, one per phase. prompts: per update, where the log does not say.

    UserError: no log, or none that is known.
    """
    return [judge(_with_prompts(log, prompts)) for log in read(path)]


def _with_prompts(log: Log, prompts: int) -> Log:
    return Log(**(vars(log) | {"prompts": prompts})) if prompts else log


def follow(
    path: Path | str, prompts: int = 0, every: float = 10.0, sleep: Callable[[float], None] | None = None
) -> Iterator[list[Verdict]]:
    """The verdicts again whenever the log has grown; ends with a run of ours that is done.

    A log that has no update yet is waited for; one that does not exist is refused.
    """
    seen: list[tuple[str, int, bool]] | None = None
    while True:
        try:
            verdicts = watch(path, prompts)
        except UserError as error:
            if not Path(path).exists() or not error.hint.startswith(("has no update", "holds no")):
                raise
            verdicts = []
        now = [(v.log.name, len(v.log.rows), v.log.done) for v in verdicts]
        if now != seen and verdicts:
            yield verdicts
        seen = now
        if verdicts and verdicts[-1].log.done:
            return
        (sleep or time.sleep)(every)


def how_to_log(log: Log, signal: str) -> str:
    """What to set so that `signal` is logged; "" where nothing is known."""
    return TOOLS[log.tool].missing.get(signal, "")


def lines(verdict: Verdict, known: frozenset[str] = frozenset(), full: bool = True) -> list[str]:
    """The verdict as text. known: names of findings that were shown before. full: also what was not found."""
    log = verdict.log
    first, last = log.rows[0].step, log.rows[-1].step
    of = f" of {log.updates}" if log.updates else ""
    out = [f"{log.name}: {TOOLS[log.tool].title}, {len(log.rows)} rows, update {first} to {last}{of}"] if full else []
    out += [f"  note     {note}" for note in log.notes] if full else []
    for finding in verdict.findings:
        rule, found = finding.rule, finding.found
        if rule.name in known:
            continue
        since = f", began about {found.since}" if found.since != found.step else ""
        state = "is over" if found.over else "FOUND"
        out.append(f"  {state:8} {rule.name}, update {found.step}{since}: {found.text}")
        out.append(f"           do: {rule.remedy}")
        out.append(f"           rule: {rule.rule} ({rule.source})")
    if not full:
        return out
    if log.has("weight_reward"):
        parts = (
            f"{name} {log.of(name).last(5):.3g}"
            for name in ("loss_expert", "loss_reward", "weight_expert", "weight_reward")
        )
        out.append(f"  parts    mean of the last 5: {', '.join(parts)}")
    if verdict.clear:
        out.append(f"  clear    {', '.join(rule.name for rule in verdict.clear)}")
    missing: dict[str, list[str]] = {}
    skipped = []
    for rule, signal in verdict.unknown:
        if rule.optional or (signal == "kl_expert" and log.has("reward")):  # the latter: a training without an expert
            skipped.append(rule.name)
        else:
            missing.setdefault(signal, []).append(rule.name)
    for signal, names in missing.items():
        hint = how_to_log(log, signal)
        text = f"  unknown  {', '.join(names)}: {signal} ({SIGNALS[signal]}) is not logged"
        out.append(f"{text}: {hint}" if hint else text)
    return [*out, f"  skipped  {', '.join(skipped)}: nothing about it is logged"] if skipped else out
