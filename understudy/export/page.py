"""README.md of an export: how to run it, what was pinned and why, and what is not the same."""

from __future__ import annotations

from collections.abc import Sequence

from understudy import __version__
from understudy.export.job import Job, Written
from understudy.export.limits import VERSIONS, trainer_of
from understudy.export.source import Source

BEHIND = (
    "The guard (stop after a collapse, keep the better model) and the choice of the best model of a route: every phase "
    "starts from the last model of the one before. `understudy watch` reads the log and names what goes wrong.",
    "Evaluation: `understudy eval --model DIR --task TASK` on what the target has written.",
    "The random draws: the same prompts in the same order where the target allows it, other samples.",
)


def page(
    source: Source, target: str, jobs: Sequence[Job], written: Sequence[Written], install: str, rewards: bool
) -> str:
    """Markdown."""
    words = f" ({source.words})" if source.words else ""
    out = [
        f"# {source.route} for {target}", "",
        f"Written by `understudy export` {__version__} from the {source.kind} `{source.path.name}`{words}, for "
        f"**{VERSIONS[target]}** (its sources were read; another version may have other names and defaults).", "",
        "```", install, "sh run.sh", "```", "",
        "Everything runs from this folder: copy it as a whole. Models are named in the first lines of each phase's "
        "script or configuration; change a path there when it is another one on your machine.", "",
        "| phase | method | trainer | updates | completions per update | data |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for job in jobs:
        rows = f"`{job.data}`, {len(job.rows.prompts)} prompts"
        rows += f", {len(job.rows.rollouts)} completions of the expert" if job.rows.rollouts else ""
        whole = job.asked.updates if job.asked else job.config.updates
        updates = f"{job.config.updates}" + (f" of {whole} (--prompts)" if whole != job.config.updates else "")
        trainer = f"`{trainer_of(target, job.config)}`"
        out.append(f"| {job.name} | {job.config.method} | {trainer} | {updates} | {job.batch} | {rows} |")
    if rewards:
        words = "`rewards.py` is the task's verifier: it needs `understudy` installed where the training runs."
        out += ["", f"{words} Files that the task names are in `task/`."]
    differences = [(job, limit) for job in jobs for limit in job.differences]
    if differences:
        out += [
            "",
            "## DIFFERENCES",
            "",
            "This is not exactly the training that was chosen. Agreed to by `--allow-differences`:",
            "",
        ]
        out += [
            f"- {j.name}, `{x.field} = {getattr(j.asked, x.field)}`: {x.reason}; {x.nearest}." for j, x in differences
        ]
    for job, files in zip(jobs, written):
        out += ["", f"## {job.name}: defaults of {target} that would change the training", ""]
        out += [f"- {line}" for line in files.settings.pins()]
    notes = list(dict.fromkeys(note for files in written for note in files.notes))
    if notes:
        out += ["", "## The same method, other numbers", "", *(f"- {note}" for note in notes)]
    out += ["", "## What stays behind", "", *(f"- {line}" for line in BEHIND)]
    return "\n".join(out) + "\n"
