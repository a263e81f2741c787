"""Reading a run directory: what a folder is, its files as Python values, how two configurations differ.

Needs neither torch nor transformers.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.errors import MEBIBYTE, UserError, check_file
from understudy.runs.files import plain, read_json
from understudy.runs.lock import Lock

LOCK = ".lock"
LARGEST_LOG = 2048 * MEBIBYTE
_STEP = re.compile(r"step-(\d+)")


def is_run(path: Path, damaged: bool = False) -> bool:
    """Whether `path` holds a run. (A model folder has a config.json too, but none of the others.)

    damaged: also one of which only config.json and metrics.jsonl are left, which a report can show.
    """
    # os.path instead of Path.is_file: a name that is too long for the system is no run, not an error
    names = ("provenance.json", "status.json") + ("metrics.jsonl",) * damaged
    return os.path.isfile(path / "config.json") and any(os.path.isfile(path / name) for name in names)


def is_done(path: Path) -> bool:
    """Whether the run in `path` finished and its results are there."""
    try:
        state = read_json(path / "status.json").get("state")
    except UserError:
        return False
    return state == "done" and (path / "final.json").is_file() and (path / "final").is_dir()


def route_file(path: Path) -> Path:
    """Where a route directory, whose phases are runs, keeps its plan and state."""
    return path / "route.json"


def is_route(path: Path) -> bool:
    """Whether the run in `path` is a route: a folder of phases, each a run."""
    return os.path.isfile(route_file(path))


def phases_of(path: Path) -> list[Path]:
    """The run directories of a route's phases in their order, those that have begun."""
    found = [p for p in (path / "phases").glob("*-*") if p.name.partition("-")[0].isdigit() and is_run(p, damaged=True)]
    return sorted(found, key=lambda p: int(p.name.partition("-")[0]))


def checkpoints(path: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first, verified or not."""
    steps = []
    if (path / "checkpoints").is_dir():
        for entry in (path / "checkpoints").iterdir():
            match = _STEP.fullmatch(entry.name)
            if match and entry.is_dir():
                steps.append((int(match.group(1)), entry))
    return [entry for _, entry in sorted(steps)]


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint's folder."""
    return int(checkpoint.name.removeprefix("step-"))


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}; lists stay whole."""
    if isinstance(value, Mapping) and (value or not name):
        out: dict[str, Any] = {}
        for key, item in value.items():
            out |= flatten(item, f"{name}.{key}" if name else str(key))
        return out
    return {name: value}


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    volatile: frozenset[str] = frozenset(),
    defaults: Mapping[str, Any] | None = None,
) -> list[str]:
    """Every field that differs, as "name old -> new".

    volatile: fields that may differ (dotted names; a name covers what is under it).
    defaults: the values of fields that `old` lacks because an earlier version wrote it.
    """
    before, after, implied = flatten(old), flatten(plain(new)), flatten(plain(defaults or {}))
    out = []
    for name in dict.fromkeys([*after, *before]):
        ignored = any(name == free or name.startswith(f"{free}.") for free in volatile)
        if name not in before and name in implied and after.get(name) == implied[name]:
            continue
        if not ignored and (name in before, before.get(name)) != (name in after, after.get(name)):
            out.append(f"{name} {_shown(before, name)} -> {_shown(after, name)}")
    return out


def _shown(fields: Mapping[str, Any], name: str) -> str:
    text = json.dumps(fields[name], ensure_ascii=False) if name in fields else "(absent)"
    return text if len(text) <= 60 else text[:57] + "..."


def json_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """`config` as JSON holds it. UserError at the first number that JSON cannot hold."""
    for name, value in flatten(config).items():
        if isinstance(value, float) and plain(value) is None:
            raise UserError(name, value, "must be a finite number")
    return dict(plain(config))


# ---------------------------------------------------------------- readers


def read_config(path: Path | str) -> dict[str, Any]:
    """config.json of a run. UserError when `path` is not a run."""
    return read_json(_run(path) / "config.json")


def read_provenance(path: Path | str) -> dict[str, Any]:
    return read_json(_run(path) / "provenance.json")


def read_final(path: Path | str) -> dict[str, Any] | None:
    """final.json of a run; None while it is not finished."""
    path = _run(path)
    return read_json(path / "final.json") if (path / "final.json").exists() else None


def read_status(path: Path | str) -> dict[str, Any]:
    """status.json; a run that says "running" while no process holds it is reported as "stopped"."""
    path = _run(path)
    status = read_json(path / "status.json")
    if status.get("state") == "running" and not Lock.is_held(path / LOCK):
        reason = "its process ended without a word; the same command resumes it"
        status |= {"state": "stopped", "reason": reason}
    return status


def read_ledger(path: Path | str) -> dict[str, Any]:
    """The latest budgets of a run; {} before the first record."""
    path = _run(path)
    if (path / "ledger.json").exists():
        return read_json(path / "ledger.json")
    records = [record["ledger"] for record in read_metrics(path) if "ledger" in record]
    return dict(records[-1]) if records else {}


def read_metrics(path: Path | str, kind: str | None = None) -> list[dict[str, Any]]:
    """The records of metrics.jsonl in order: those of one kind ("train", "eval"), or all. Of a route see `read_log`."""
    records = read_log(_run(path), "metrics.jsonl")
    return [record for record in records if kind is None or record.get("kind") == kind]


def read_samples(path: Path | str) -> list[dict[str, Any]]:
    return read_log(_run(path), "samples.jsonl")


def read_log(path: Path, name: str, notes: list[str] | None = None) -> list[dict[str, Any]]:
    """The lines of a log (see `read_lines`). Of a route those of its phases, one after the other.

    There steps and ledgers go on from phase to phase, the cost of the first look included; `phase` and `phase_step` say
    where a line comes from.
    """
    if not is_route(path):
        return read_lines(path / name, notes)
    out = []
    plan = read_json(route_file(path)) if notes is None else read_or_note(route_file(path), notes)
    look = (plan.get("measured") or {}).get("ledger") or {}
    step, spent = 0, {n: v for n, v in look.items() if _is_number(v)}
    for index, phase in enumerate(phases_of(path)):
        lines, ledger = read_lines(phase / name, notes), read_or_note(phase / "ledger.json", [], required=False)
        for line in lines:
            if not _is_number(line.get("step")):
                continue
            out.append(line | {"step": line["step"] + step, "phase": index, "phase_step": line["step"]})
            if isinstance(line.get("ledger"), dict):
                out[-1]["ledger"] = _plus(spent, line["ledger"])
        ledger = ledger or next((x["ledger"] for x in reversed(lines) if isinstance(x.get("ledger"), dict)), {})
        step, spent = step + int(ledger.get("updates") or 0), _plus(spent, ledger)
    return out


def _plus(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    return {**a, **{name: a.get(name, 0) + value for name, value in b.items() if _is_number(value)}}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_lines(path: Path, notes: list[str] | None = None) -> list[dict[str, Any]]:
    """JSON lines; [] when the file is absent. A last line without its newline (half written) is ignored.

    Raises UserError with the line number at a damaged line; with `notes`, skips it and says so there.
    """
    try:
        check_file(path, "run", LARGEST_LOG)
        *lines, last = path.read_bytes().split(b"\n")
    except (OSError, UserError) as error:
        if notes is None and not isinstance(error, FileNotFoundError):
            raise
        if notes is not None and isinstance(error, UserError):
            notes.append(f"{path.name} {error.hint}")
        return []
    records = []
    for number, line in enumerate(lines if notes is None else [*lines, last], start=1):
        if notes is not None and not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append(record)
        elif notes is None:
            raise UserError("run", f"{path} line {number}", "is not a JSON object; restore or delete the line")
        else:
            damage = "half written" if number > len(lines) else "damaged"
            notes.append(f"{path.name} line {number} is {damage} and was skipped")
    return records


def read_or_note(path: Path, notes: list[str], required: bool = True) -> dict[str, Any]:
    """The JSON object in `path`; {} where it is damaged or missing, and a line in `notes` that says so.

    required: whether a missing file is worth a line.
    """
    try:
        return read_json(path)
    except UserError:
        if os.path.exists(path):
            notes.append(f"{path.name} cannot be read and was skipped")
        elif required:
            notes.append(f"{path.name} is missing")
        return {}


def _run(path: Path | str) -> Path:
    path = Path(path)
    if not is_run(path):
        hint = "is not a run directory" if path.exists() else "does not exist"
        raise UserError("run", path, f"{hint}; give a folder that `understudy train` wrote")
    return path
