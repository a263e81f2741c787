"""Outcomes of a scenario with intervals, and costs, from finished run directories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from understudy.diagnosis.cost import Sizes
from understudy.diagnosis.types import Cost, Estimate
from understudy.errors import UserError
from understudy.evaluation import intervals
from understudy.experiments.job import Note
from understudy.runs.files import read_json, write_json
from understudy.runs.read import read_final, read_ledger, read_provenance
from understudy.terminal import Progress

GAPS = (("opd_minus_sft", "opd", "sft"), ("sft_gain", "sft", "student"), ("opd_gain", "opd", "student"))


def outcomes(sft: str, online: str, student: str) -> dict[str, Estimate]:
    """Accuracies of student, expert, sft and opd, and paired differences (GAPS), on one set of held-out prompts.

    sft, online: run directories; student: the file that `look` left. UserError when their prompts differ.
    """
    runs = {"sft": _final(sft), "opd": _final(online)}
    start = read_json(Path(student))
    for path, run in zip((sft, online), runs.values()):
        if run["splits"]["test"]["keys"] != start["keys"]:
            raise UserError("run", path, f"was evaluated on other prompts than {student}: choose another --out")
    right_PK = {name: np.array(run["splits"]["test"]["sampled"], dtype=float) for name, run in runs.items()}
    right_PK["student"] = np.array(start["sampled"], dtype=float)
    right_PK["expert"] = np.array(runs["sft"]["expert"]["test"]["sampled"], dtype=float)
    ends = {
        name: _estimate(intervals.bootstrap_prompts(values), "bootstrap over prompts")
        for name, values in right_PK.items()
    }
    for name, one, other in GAPS:
        gap = intervals.paired_difference([right_PK[one]], [right_PK[other]])
        ends[name] = _estimate(gap, "paired bootstrap over prompts")
    return ends


def cost(run: str) -> Cost:
    """What one training spent, by its own ledger, counted as a diagnosis counts."""
    provenance = read_provenance(run)
    expert = provenance.get("expert", {}).get("provenance", {}).get("parameters", 0)  # a program has none
    return Sizes(float(provenance["student"]["parameters"]), float(expert)).of_ledger(read_ledger(run))


def look(
    model: str, task_text: str, prompts: int, samples: int, seed: int, out: str, progress: Progress, note: Note
) -> None:
    """Write to `out` the outcomes of a model on the prompts of the last evaluation of a run of this seed."""
    import torch  # here and below: the other functions, and `calibrate table`, need no torch

    from understudy.evaluation.sampled import held_out, sample_policy, sampling_seed
    from understudy.policy import load_policy
    from understudy.tasks import load_task

    torch.set_num_threads(1)
    task = load_task(task_text)
    policy = load_policy(model, "student", task.tokenizer()).add_stop_tokens(task.stop)
    chosen = held_out(task, policy, "test", prompts, 0, task.max_new_tokens)
    done = sample_policy(policy, task, chosen, samples, sampling_seed(seed, 0), task.max_new_tokens, greedy=False)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(out), {"model": Path(model).name, "task": task_text} | done.outcome())


def _final(run: str) -> dict[str, Any]:
    final = read_final(run)
    if final is None:
        raise UserError("run", run, "has not finished: the same command resumes it")
    return final


def _estimate(interval: intervals.Interval, method: str) -> Estimate:
    i = interval
    return Estimate(i.value, i.low, i.high, i.n_prompts, "accuracy", method, i.level)
