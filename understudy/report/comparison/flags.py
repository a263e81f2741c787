"""What may make a comparison unfair or unrepeatable, found in the runs themselves; and where they ran."""

from __future__ import annotations

from understudy.evaluation.numbers import count
from understudy.report.comparison.route_table import START, chosen, spent_by_phases
from understudy.report.comparison.summary import Arm, Summary
from understudy.report.text import goes_online, label, listed, mapping, method_name, visible


def all_flags(s: Summary) -> list[str]:
    """The flags that compare.json states, then what the runs show."""
    flags = [visible(flag, 400) for flag in s.c.flags]
    if s.c.single:
        return flags
    for expert in s.experts:
        arms = [arm for arm in s.of(expert) if arm.budget == 1 and arm.finished]
        seeds = {arm.name: sorted(e.seed for e in arm.finished) for arm in arms}
        if len({tuple(v) for v in seeds.values()}) > 1:
            listing = "; ".join(f"{name} {v}" for name, v in seeds.items())
            flags.append(f"{label(expert)}: the methods have different finished seeds ({listing})")
        column = "train_seconds" if s.c.axis == "seconds" else s.c.axis
        spent = {arm.name: _spent(s, arm, column) for arm in arms}
        known = [v for v in spent.values() if v]
        if len(known) > 1 and max(known) > 1.02 * min(known):
            listing = ", ".join(f"{name} {count(v)}" for name, v in spent.items())
            flags.append(f"{label(expert)}: budgets meant to be equal in {column.replace('_', ' ')} differ ({listing})")
    flags += [
        f"{label(e.expert)}, {method_name(e.method)}, seed {e.seed}: {chosen(e.run)}"
        for e in s.c.entries
        if mapping(e.run.route.get("selection")).get("best") == START
    ]
    commits = {str(mapping(e.run.provenance.get("git")).get("commit"))[:12] for e in s.c.entries}
    if len(commits) > 1:
        flags.append(f"the runs come from different commits: {listed(sorted(map(label, commits)))}")
    if any(mapping(e.run.provenance.get("git")).get("dirty") for e in s.c.entries):
        flags.append("some runs come from a source tree with uncommitted changes")
    for name in ("versions", "device"):
        if len({str(e.run.provenance.get(name)) for e in s.c.entries}) > 1:
            flags.append(f"the runs differ in {name}")
    missing = [m for m in s.c.methods if not any(arm.method == m and arm.finished for arm in s.arms)]
    if missing:
        flags.append(f"no finished run of {listed([method_name(m) for m in missing])}")
    return flags


def _spent(s: Summary, arm: Arm, column: str) -> float | None:
    """Of the budget, mean over seeds."""
    routes = [spent_by_phases(e.run, column) for e in arm.finished]
    known = [value for value in routes if value is not None]
    return sum(known) / len(known) if known else s.ledger(arm).get(column)


def versions(s: Summary) -> list[tuple[str, str]]:
    """Name and version, as the first run recorded them."""
    for entry in s.c.entries:
        provenance = entry.run.provenance
        rows = [(label(k), label(v)) for k, v in mapping(provenance.get("versions")).items()]
        commit = mapping(provenance.get("git")).get("commit")
        if rows:
            return rows + ([("commit", label(commit)[:12])] if commit else [])
    return []


def machines(s: Summary) -> list[str]:
    """The distinct devices the runs ran on."""
    devices = []
    for entry in s.c.entries:
        device, threads = entry.run.provenance.get("device"), entry.run.provenance.get("threads")
        if device:
            devices.append(label(device, 120) + (f", {threads} thread(s) per run" if threads else ""))
    return list(dict.fromkeys(devices))


def limits(s: Summary) -> list[str]:
    """Honest limits that follow from the data at hand."""
    n = len(s.seeds)
    lines = []
    if n == 1:
        lines.append(
            "One seed: the intervals cover which problems were drawn, not the luck of training. "
            "Differences between seeds can be larger than they show."
        )
    else:
        lines.append(
            f"{n} seeds: intervals resample seeds and problems together (hierarchical bootstrap, 95%). "
            f"With so few seeds they are approximate: in simulation 90% to 99% coverage at three seeds."
            if n < 6
            else f"{n} seeds: intervals resample seeds and problems together (hierarchical bootstrap, 95%)."
        )
    checked = len(s.contrasts()) + len(s.contrasts("ood"))
    if checked > 1:
        lines.append(
            f"{checked} differences are tested and none is corrected for the others: if no method differed, "
            f"about one in twenty would still exclude zero."
        )
    several = [m for m in s.c.methods if goes_online(m)]
    if s.routes and s.online and len(several) > 1:
        lines.append(
            f"{method_name(s.online)} is the best of {len(several)} routes with an online phase, chosen by the very "
            f"problems that it is judged on: its lead is a little too large."
        )
    lines.append("“No difference found” is not “no difference”: read how large a one the interval still allows.")
    if any(i and i.n_prompts and i.low == i.high for arm in s.arms for i in [s.accuracy(arm)]):
        lines.append(
            "An accuracy without an interval had all problems come out alike: resampling them says nothing "
            "about what rarer problems would show."
        )
    lines.append("Seconds were measured on the machine named below, with whatever else it was doing.")
    return lines
