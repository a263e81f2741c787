"""What is compared: a comparison directory (compare.json), or a comparison of loose run directories."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.errors import UserError, check_file
from understudy.report.comparison.diagnoses import OfExpert, read
from understudy.report.comparison.runs import Outcome, Run, load_run, outcomes
from understudy.report.text import label, mapping, number, plain_value
from understudy.runs.read import is_run, read_or_note

# what a row of the table of methods sets: runs of different methods may differ in these
_OF_THE_METHOD = (
    "method seed out expert behavior target weight replay importance divergence beta gamma clip importance_cap "
    "advantage_norm student_share expert_share round_updates samples_per_prompt prompt_pool drift_limit "
    "route look_prompts select_prompts"
)


@dataclass(frozen=True, eq=False)
class Entry:
    """One run's place in the comparison."""

    expert: str
    method: str
    seed: int
    budget: float
    run: Run


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything that the page shows. `single`: a page about one training run."""

    title: str
    axis: str
    experts: dict[str, dict[str, Any]]
    methods: list[str]
    entries: list[Entry]
    base: dict[int, dict[str, Outcome]]
    settings: dict[str, Any]
    command: str
    flags: list[str]
    notes: list[str] = field(default_factory=list)
    single: bool = False
    diagnoses: list[OfExpert] = field(default_factory=list)


def load(paths: Sequence[Path]) -> Comparison:
    """One comparison directory, or one or more run directories. UserError when a path is neither."""
    paths = [Path(path) for path in paths]
    if not paths:
        raise UserError("paths", "", "give a comparison directory or one or more run directories")
    for path in paths:
        if not path.exists():
            raise UserError("paths", path, "does not exist; give a comparison directory or run directories")
        if not path.is_dir():
            raise UserError("paths", path, "is not a directory; give the run directory itself")
    compared = [path for path in paths if (path / "compare.json").exists()]
    if compared:
        if len(paths) > 1:
            raise UserError("paths", compared[0], "is a comparison: report on it alone, or name its runs")
        return _load_comparison(compared[0])
    for path in paths:
        if not is_run(path, damaged=True):
            inside = sorted(str(p.parent) for p in path.glob("*/config.json") if is_run(p.parent, damaged=True))[:3]
            hint = f"name the runs in it: {' '.join(inside)}" if inside else "it has no compare.json, no run"
            raise UserError("paths", path, hint)
    return _from_runs(paths)


def _load_comparison(root: Path) -> Comparison:
    check_file(root / "compare.json", "compare.json")
    try:
        raw = json.loads((root / "compare.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("compare.json", root, f"cannot be read ({error}); run the comparison again") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("runs"), list):
        raise UserError("compare.json", root, "holds no list of runs; run the comparison again")
    notes: list[str] = []
    entries = []
    for item in raw["runs"]:
        if not isinstance(item, dict) or not isinstance(item.get("path"), str):
            notes.append("compare.json: a run without a path was skipped")
            continue
        path = root / item["path"]
        if not is_run(path, damaged=True):
            notes.append(f"run {label(item['path'])} is missing: not started yet, or moved")
            continue
        method, budget = str(item.get("method", "")), number(item.get("budget")) or 1.0
        run = load_run(path, label(item["path"], 200))
        entries.append(Entry(str(item.get("expert", "")), method, int(number(item.get("seed")) or 0), budget, run))
    experts = {str(k): v for k, v in mapping(raw.get("experts")).items() if isinstance(v, dict)}
    for entry in entries:
        experts.setdefault(entry.expert, {})
    methods = [str(method) for method in _items(raw.get("methods"))]
    methods += [m for m in dict.fromkeys(entry.method for entry in entries) if m not in methods]
    flags = [item if isinstance(item, str) else plain_value(item, 400) for item in _items(raw.get("flags"))]
    diagnoses = read(root, raw.get("diagnoses"), notes)
    return Comparison(
        title=label(raw.get("title") or "Offline or online imitation", 120),
        axis=str(raw.get("axis") or "updates"),
        experts=experts,
        methods=methods,
        entries=entries,
        base=_base(root, raw.get("base"), {entry.seed for entry in entries}, notes),
        settings=mapping(raw.get("settings")),
        command=_command(raw.get("command")),
        flags=flags,
        notes=notes + [note for entry in entries for note in entry.run.notes],
        diagnoses=diagnoses,
    )


def _from_runs(paths: list[Path]) -> Comparison:
    runs = [load_run(path, label(path.resolve().name)) for path in paths]
    labels = [str(run.config.get("method") or run.name) for run in runs]
    experts = [_expert_label(run) for run in runs]
    seeds = [int(number(run.config.get("seed")) or 0) for run in runs]
    triples = list(zip(experts, labels, seeds, strict=True))
    if len(set(triples)) < len(triples):  # two runs of one method: only their folders tell them apart
        labels = [f"{method} {run.name}" for method, run in zip(labels, runs, strict=True)]
    single = len(runs) == 1
    return Comparison(
        title=f"Training run {runs[0].name}" if single else "Comparison of runs",
        axis="flops" if all(run.config.get("budget_axis") == "flops" for run in runs) else "updates",
        experts={name: {"spec": name} for name in dict.fromkeys(experts)},
        methods=list(dict.fromkeys(labels)),
        entries=[Entry(e, m, s, 1.0, run) for e, m, s, run in zip(experts, labels, seeds, runs, strict=True)],
        base={},
        settings=runs[0].config,
        command=_command(runs[0].provenance.get("command")),
        flags=[] if single else _differences(runs),
        notes=[note for run in runs for note in run.notes],
        single=single,
    )


def _expert_label(run: Run) -> str:
    known = mapping(run.provenance.get("expert")).get("name")
    return label(known or run.config.get("expert") or "no expert", 40)


def _differences(runs: list[Run]) -> list[str]:
    """Fields outside the method's own cells in which the runs differ: each may explain a gap."""
    flags = []
    for name in dict.fromkeys(name for run in runs for name in run.config):
        values = [plain_value(run.config.get(name)) for run in runs]
        if name not in _OF_THE_METHOD.split() and len(set(values)) > 1:
            listing = ", ".join(f"{v} ({r.name})" for v, r in zip(values, runs, strict=True))
            flags.append(f"the runs differ in {label(name)}: {label(listing, 300)}")
    return flags


def _base(root: Path, raw: Any, seeds: set[int], notes: list[str]) -> dict[int, dict[str, Outcome]]:
    """Outcomes of the base per seed, from {"SEED": {"path"}} or {"path": ".../{seed}"}; {} when not there."""
    found = {}
    table = mapping(raw)
    for seed in sorted(seeds):
        item = table.get(str(seed), table)
        path = item.get("path") if isinstance(item, dict) else item
        if not isinstance(path, str):
            continue
        final = read_or_note(root / path.replace("{seed}", str(seed)) / "final.json", notes, required=False)
        found_here = outcomes(final.get("splits"), f"base of seed {seed}", notes)
        if found_here:
            found[seed] = found_here
    return found


def _items(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _command(raw: Any) -> str:
    return shlex.join(str(word) for word in raw) if isinstance(raw, list) else str(raw or "")
