"""Reading our own run and route directories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.errors import UserError
from understudy.runs.read import is_route, is_run, phases_of, read_lines, read_or_note
from understudy.watch.log import Log, Row
from understudy.watch.names import LAST_STEP, number, translated, whole

OWN = ("student", "mixture_batch")
"""Actors whose completions are the student's own in full."""


def is_ours(folder: Path) -> bool:
    """Whether `folder` is a run or a route of ours. tinker-cookbook too writes config.json and metrics.jsonl."""
    if is_run(folder) or is_route(folder) or phases_of(folder):
        return True
    return is_run(folder, damaged=True) and "prompts_per_update" in read_or_note(folder / "config.json", [])


def read_run(path: Path) -> list[Log]:
    """One log of a run; of a route one per phase."""
    phases = phases_of(path)  # of a route, or of a directory of auto
    if phases or is_route(path):
        if not phases:
            raise UserError("log", path, "is a route that has begun no phase yet")
        return [_read(phase, f"{path} phase {phase.name}") for phase in phases]
    return [_read(path, str(path))]


def _read(path: Path, name: str) -> Log:
    notes: list[str] = []
    config = read_or_note(path / "config.json", notes)
    records = read_lines(path / "metrics.jsonl", notes)
    status = read_or_note(path / "status.json", [], required=False)
    rows: dict[int, dict[str, float]] = {}
    facts: dict[str, float] = {}
    samples = False
    for record in records:
        at = number(record.get("step"))
        if at is None or not abs(at[0]) < LAST_STEP:
            continue
        row = rows.setdefault(int(at[0]), {})
        if record.get("kind") == "train":
            values, own = translated("understudy", record), _own(record, config)
            samples |= own
            if not own:  # the expert's rewards and lengths say nothing about the student
                values = {k: v for k, v in values.items() if k not in ("reward", "length", "at_limit")}
            elif _loss_is_kl(config) and "loss" in values:
                values["kl_expert"] = values["loss"]
            row |= values
        elif record.get("kind") == "eval" and record.get("split") == "test":
            for signal, value in _evaluation(record).items():
                row.setdefault(signal, value)
            facts["accuracy_prompts"] = float((number(record.get("n")) or (0.0,))[0])
    if not any(rows.values()):
        raise UserError("log", name, "has no update yet: its metrics.jsonl is empty")
    return Log(
        "understudy", name, tuple(Row(step, values) for step, values in sorted(rows.items()) if values),
        updates=whole(config.get("updates")), prompts=whole(config.get("prompts_per_update")),
        limit=whole(config.get("max_new_tokens")), samples=samples, done=status.get("state") == "done",
        notes=tuple(notes), facts=facts,
    )  # fmt: skip


def _own(record: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether the student alone wrote the completions of this update. Earlier versions logged no actor."""
    if "actor" in record:
        return record["actor"] in OWN and record.get("at_limit", 0.0) is not None
    return config.get("behavior") == "student"


def _loss_is_kl(config: Mapping[str, Any]) -> bool:
    """Whether the training loss is KL(student, expert) in nats per token."""
    return (
        config.get("target") == "distribution" and config.get("divergence") == "kl_student_expert"
        and config.get("reduction") == "token_mean" and not config.get("top_k")
    )  # fmt: skip


def _evaluation(record: Mapping[str, Any]) -> dict[str, float]:
    out = {}
    accuracy = number(record.get("sampled"))
    if accuracy and record.get("n"):
        out["accuracy"] = accuracy[0]
    kl, length = number(record.get("kl_student_expert")), number(record.get("length"))
    if kl and length and length[0] > 0:
        out["kl_expert"] = kl[0] / length[0]
    return out
