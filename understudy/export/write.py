"""Export: read the source, refuse what the target cannot express, and write everything into one new folder."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from understudy.config import Resolved
from understudy.errors import UserError
from understudy.evaluation.exchange import is_evaluation
from understudy.export import rewards, swift, tinker, trl, verl
from understudy.export.config import ExportConfig
from understudy.export.data import Rows, check_rewards, language_of, rows_of
from understudy.export.job import Job, Written, check_batch
from understudy.export.limits import TARGETS, VERSIONS, Limit, is_offline, is_reward, limits_of, teaches
from understudy.export.limits import written as written_as
from understudy.export.page import page
from understudy.export.source import Phase, Source, read
from understudy.policy import Policy
from understudy.protocols import Task
from understudy.runs.files import new_folder, os_errors_explained
from understudy.servers.urls import names_server
from understudy.specs import check, unknown
from understudy.tasks import load_task
from understudy.terminal import Progress, no_progress

MODULES: Mapping[str, ModuleType] = {"trl": trl, "verl": verl, "ms-swift": swift, "tinker": tinker}
INSTALL = {
    "trl": "pip install trl==1.16.0 datasets pyyaml peft",
    "verl": "pip install verl==0.9.1 vllm",
    "ms-swift": "pip install ms-swift==4.6.0 vllm",
    "tinker": "pip install tinker-cookbook==0.6.1    # and TINKER_API_KEY in the environment",
}


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    source: Source
    jobs: tuple[Job, ...]
    written: tuple[Written, ...]


def export(config: ExportConfig, progress: Progress = no_progress) -> Exported:
    """Write the folder. UserError, with nothing written: see `checked`, or the data cannot be had."""
    source, out = checked(config)
    task = load_task(_task_text(config, source))
    with os_errors_explained(out), new_folder(out) as tmp:
        jobs = _jobs(config, source, task, tmp, progress)
        written = [MODULES[config.to].write(job) for job in jobs]
        files = _together(config, source, task, jobs, written)
        for name, text in files.items():
            path = tmp / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if "load_task" in files.get("rewards.py", ""):
            for name, found in rewards.bundled(_task_text(config, source))[1].items():
                (tmp / "task").mkdir(exist_ok=True)
                shutil.copyfile(found, tmp / "task" / name)
    return Exported(out, source, tuple(jobs), tuple(written))


def checked(config: ExportConfig) -> tuple[Source, Path]:
    """The source and the folder to write. UserError: one of them will not do, or the target cannot express a phase."""
    check(config)
    if len(config.source) != 1:
        hint = "give one run, route, auto or diagnosis folder, or a file of options"
        raise UserError("source", " ".join(config.source), hint)
    if config.to not in TARGETS:
        raise UserError("to", config.to, unknown(config.to, TARGETS) if config.to else f"missing: {', '.join(TARGETS)}")
    if is_evaluation(Path(config.source[0])):
        raise UserError("source", config.source[0], "is an evaluation: --to inspect or lm-eval")
    source = read(config.source[0])
    for phase in source.phases:
        refuse(config, phase)
    path = source.path.resolve()
    name = path.stem if path.is_file() else path.name
    default = path.with_name(f"{name}-{config.to}")
    out = Path(config.out) if config.out else default
    if os.path.lexists(out):
        raise UserError("out", out, "exists already: give another --out, or delete it")
    return source, out


def _task_text(config: ExportConfig, source: Source) -> str:
    return config.task or source.phases[0].config.task


def refuse(config: ExportConfig, phase: Phase) -> None:
    """UserError: the target has no such cell, differs without the user's agreement, or lacks a model to load."""
    c, target = phase.config, config.to
    for limit in limits_of(target, c):
        if not (limit.difference and config.allow_differences):
            raise UserError(limit.field, getattr(c, limit.field), _refusal(target, c, limit))
    student, expert = config.student or c.student, config.expert or c.expert
    if teaches(c):
        if names_server(expert):
            raise UserError("expert", expert, f"{target} loads its teacher itself: give --expert MODEL")
        if "/" not in expert.partition(":")[0] and not os.path.exists(expert):
            hint = f"is a program: method {c.method} needs a teacher that {target} can load (its samples can be: sft)"
            raise UserError("expert", expert, hint)
    if target == "tinker":
        for name, value in (("student", student), ("expert", expert if teaches(c) else "")):
            if value and (value.startswith("scratch") or os.path.exists(value) or value.count("/") != 1):
                raise UserError(name, value, f"tinker hosts its models: give --{name} with the name that it has there")


def _refusal(target: str, c: Resolved, limit: Limit) -> str:
    package = VERSIONS[target].split()[0]
    nearest = limit.nearest if not limit.difference else f"--allow-differences: {limit.nearest}"
    return f"{package} cannot express this cell of {c.method}: {limit.reason}; nearest: {nearest}"


def _jobs(config: ExportConfig, source: Source, task: Task, tmp: Path, progress: Progress) -> list[Job]:
    """Each phase with its data. A student made from scratch is saved to student/ of the export."""
    jobs: list[Job] = []
    first = source.phases[0].config
    student = language_of(first, task, tmp / "student")
    name = config.student or ("student" if first.student.startswith("scratch") else _place(first.student))
    start, begin = name, first.first_prompt
    for number, phase in enumerate(source.phases, start=1):
        job = _job(config, phase, task, student, f"{number}-{phase.config.method}", begin, progress)
        job = dataclasses.replace(job, student=start, base=name, asked=phase.config)
        check_batch(job)
        jobs.append(job)
        own = getattr(MODULES[config.to], "model_of", None)
        start = own(job) if own else job.output
        if not phase.config.prompt_pool:
            begin += job.config.updates * phase.config.prompts_per_update
    return jobs


def _job(
    config: ExportConfig, phase: Phase, task: Task, student: Policy, name: str, first_prompt: int, progress: Progress
) -> Job:
    asked = phase.config
    c = written_as(config.to, asked)
    phase = dataclasses.replace(phase, config=c)
    if phase.run is not None:
        first_prompt = c.first_prompt
    needs = getattr(MODULES[config.to], "needs_completions", is_offline)
    rows = rows_of(phase, task, student, first_prompt, config.prompts, needs(c), config.sample_expert, progress)
    updates = len(rows.prompts) // c.prompts_per_update
    _check_text(rows, student, config.to)
    if is_reward(c):
        if not task.verified:
            raise UserError("task", c.task, f"has no verifier, so that {c.method} has no reward")
        check_rewards(task, rows.prompts[:8])
    bos = student.tokenizer.bos_token_id
    text = rows.texts[0]
    begins = bos is not None and rows.prompts[0].ids[0] == bos and not text.startswith(str(student.tokenizer.bos_token))
    return Job(
        config.to, name, dataclasses.replace(c, updates=updates), "", "", _place(config.expert or c.expert),
        f"models/{name}", rows, c.max_new_tokens or task.max_new_tokens, student.end_ids, begins and not rows.chat,
        config.devices, config.micro_batch, task.verified,
        tuple(x for x in limits_of(config.to, asked) if x.difference),
    )  # fmt: skip


def _place(name: str) -> str:
    """A model's name for a script, which runs elsewhere: a run directory stands for its final model."""
    final = Path(name) / "final"
    found = str(final) if os.path.isfile(final / "config.json") else name
    return os.path.abspath(found) if os.path.isdir(found) else found


def _check_text(rows: Rows, student: Policy, target: str) -> None:
    """UserError where a prompt that is the whole text would become other tokens in the target."""
    if rows.chat:
        return
    again = student.tokenizer(list(rows.texts[:64]))["input_ids"]
    for prompt, ids in zip(rows.prompts, again):
        if tuple(ids) != prompt.ids:
            hint = f"{target} would read other tokens than Understudy: use template=chat without a prefill"
            raise UserError("task", prompt.key, hint)


def _together(
    config: ExportConfig, source: Source, task: Task, jobs: Sequence[Job], written: Sequence[Written]
) -> dict[str, str]:
    """The files of all phases, and those that they share."""
    files: dict[str, str] = {}
    for part in written:
        files |= part.files
    text, _ = rewards.bundled(_task_text(config, source))
    online = [job for job in jobs if not is_offline(job.config)]
    if any(is_reward(job.config) for job in jobs) or (config.to == "verl" and online and task.verified):
        files["rewards.py"] = rewards.text_of(config.to, text, jobs[0].end_ids)
    elif config.to == "verl" and online:
        files["rewards.py"] = rewards.CONSTANT
    judged = "load_task" in files.get("rewards.py", "")
    lines = [
        "#!/bin/sh",
        f"# The phases one after the other, for {VERSIONS[config.to]}.",
        "set -e",
        'cd "$(dirname "$0")"',
    ]
    files["run.sh"] = "\n".join([*lines, *(part.command for part in written)]) + "\n"
    files["README.md"] = page(source, config.to, jobs, written, INSTALL[config.to], judged)
    return files
