"""The completions of an evaluation (`understudy eval --out DIR`) as logs that the viewers of other tools open.

inspect: a log of Inspect (version 2 of its JSON, inspect_ai 0.3), for `inspect view --log-dir OUT`. Sampled and greedy
completions are two logs, as one log has one way of sampling.
lm-eval: results_DATE.json and samples_TASK_DATE.jsonl of lm-evaluation-harness 0.4, in a folder of the model's name.

Needs no model, and none of the two packages.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import UserError
from understudy.evaluation.completions import COMPLETIONS, RESULTS, Row
from understudy.runs.files import dumps, new_folder, os_errors_explained, plain, read_json
from understudy.runs.read import read_lines, read_or_note

METRIC = "reward"
STANDARD_ERROR = "reward_stderr"


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation, from its folder. config: as it was given. date: when it began, UTC, in ISO format."""

    config: dict[str, Any]
    results: dict[str, Any]
    rows: list[Row]
    date: str
    version: str

    @property
    def task(self) -> str:
        """The task's name without its options, and the split."""
        return f"{str(self.config['task']).partition(':')[0]}_{self.config['split']}"

    def of(self, kind: str) -> list[list[Row]]:
        """The rows of one kind by prompt, each list in the order of its samples."""
        by_prompt: dict[int, list[Row]] = {}
        for row in sorted(self.rows, key=lambda row: (row["prompt_number"], row["sample"])):
            if row["kind"] == kind:
                by_prompt.setdefault(row["prompt_number"], []).append(row)
        return list(by_prompt.values())


def is_evaluation(folder: Path) -> bool:
    """Whether `understudy eval --out` wrote this folder."""
    return read_or_note(folder / "config.json", [], required=False).get("command") == "eval"


def read_evaluation(folder: Path) -> Evaluation:
    """UserError: no evaluation, or one that is not finished."""
    if not is_evaluation(folder):
        hint = "is no evaluation" if folder.exists() else "does not exist"
        raise UserError("source", folder, f"{hint}; give a folder that `understudy eval --out` wrote")
    if not (folder / RESULTS).is_file():
        raise UserError("source", folder, "is not finished: the same `understudy eval` command goes on with it")
    provenance = read_or_note(folder / "provenance.json", [], required=False)
    date = str(provenance.get("started") or datetime.fromtimestamp(0, UTC).isoformat())
    version = str((provenance.get("versions") or {}).get("understudy") or "")
    results, config = read_json(folder / RESULTS), read_json(folder / "config.json")
    return Evaluation(config, results, read_lines(folder / COMPLETIONS), date, version)


def write_exchange(folder: Path | str, to: str, out: Path | str) -> list[Path]:
    """Write the evaluation in `folder` as `to` (a key of TARGETS) into the new folder `out`; the files.

    UserError: `folder` is no finished evaluation, or `out` exists.
    """
    if to not in TARGETS:
        raise UserError("to", to, f"unknown; one of {', '.join(TARGETS)}")
    out = Path(out)
    if out.exists():
        raise UserError("out", out, "exists already: give another --out, or delete it")
    files = TARGETS[to](read_evaluation(Path(folder)))
    with os_errors_explained(out), new_folder(out) as tmp:
        for name, data in files.items():
            (tmp / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp / name).write_bytes(data)
    return [out / name for name in files]


# ---------------------------------------------------------------- Inspect


def inspect_logs(e: Evaluation) -> dict[str, bytes]:
    """File name -> JSON: one log per kind of completion."""
    stamp = re.sub(r"[:+]", "-", e.date[:19])
    files = {}
    for kind in ("sampled", "greedy"):
        groups = e.of(kind)
        if groups:
            task = e.task if kind == "sampled" else f"{e.task}_greedy"
            # Inspect takes time, task and id of a log from its name, split at "_"
            name = f"{stamp}_{_safe(task).replace('_', '-')}_{_digest(e.config, kind)}.json"
            files[name] = json.dumps(plain(_inspect_log(e, kind, groups)), indent=2, ensure_ascii=False).encode()
    return files


def _inspect_log(e: Evaluation, kind: str, groups: Sequence[Sequence[Row]]) -> dict[str, Any]:
    c, graded = e.config, all(row["reward"] is not None for group in groups for row in group)
    model = f"understudy/{c['model']}"
    identity = _digest(c, kind)
    sampling: dict[str, Any] = {"seed": c["seed"]} | (
        {"max_tokens": c["max_new_tokens"]} if c["max_new_tokens"] else {}
    )
    sampling |= {"temperature": 0.0} if kind == "greedy" else {"temperature": c["temperature"], "top_p": c["top_p"]}
    metrics = {name: {"name": name, "value": value} for name, value in _accuracy(groups).items()} if graded else {}
    if kind == "sampled":
        for name, interval in (e.results.get("measures") or {}).items():
            metrics[name] = {"name": name, "value": interval["value"], "metadata": dict(interval)}
    samples = [_inspect_sample(model, row, graded) for group in groups for row in group]
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": identity, "run_id": identity, "task_id": identity, "created": e.date, "task": e.task,
            "dataset": {"name": c["task"], "samples": len(groups), "shuffled": False}, "model": model,
            "model_generate_config": sampling, "config": {"epochs": len(groups[0]), "epochs_reducer": ["mean"]},
            "task_args": {"task": c["task"], "split": c["split"]},
            "packages": {"understudy": e.version} if e.version else {},
            "metadata": {"kind": kind, "data": c.get("data", "")},
        },
        "results": {
            "total_samples": len(samples), "completed_samples": len(samples),
            "scores": [{"name": METRIC, "scorer": METRIC, "metrics": metrics}] if graded else [],
        },
        "stats": {"started_at": e.date, "completed_at": e.date},
        "samples": samples,
    }  # fmt: skip


def _inspect_sample(model: str, row: Row, graded: bool) -> dict[str, Any]:
    stop = "stop" if row["ended"] else "max_tokens"
    answer = {"role": "assistant", "content": row["completion"], "source": "generate", "model": model}
    return {
        "id": row["prompt_number"] + 1, "epoch": max(0, row["sample"]) + 1, "input": row["prompt"], "target": "",
        "messages": [{"role": "user", "content": row["prompt"], "source": "input"}, answer],
        "output": {
            "model": model, "choices": [{"message": answer, "stop_reason": stop}], "completion": row["completion"],
        },
        "scores": {METRIC: {"value": row["reward"], "answer": row["completion"]}} if graded else {},
        "metadata": {"key": row["key"], "rendered": row["rendered"], "tokens": row["tokens"], "ended": row["ended"]},
    }  # fmt: skip


# ---------------------------------------------------------------- lm-evaluation-harness


def lm_eval_files(e: Evaluation) -> dict[str, bytes]:
    """The results and, per prompt, the samples. The metric `reward` is the mean over a prompt's samples."""
    c, groups, greedy = e.config, e.of("sampled"), e.of("greedy")
    graded = all(row["reward"] is not None for row in e.rows)
    task, model = _safe(e.task), _safe(str(c["model"]))
    stamp = re.sub(r":", "-", e.date[:19])
    result: dict[str, Any] = {"name": task, "alias": task, "sample_len": len(groups)}
    if graded:
        result |= _metrics("none", groups) | (_metrics("greedy", greedy) if greedy else {})
    for name, interval in (e.results.get("measures") or {}).items():
        if name.startswith("pass@"):
            result[f"{name},none"] = interval["value"]
    sampling = {k: c[k] for k in ("temperature", "top_p", "max_new_tokens", "seed")} | {"do_sample": True}
    rows = [_lm_eval_sample(group, sampling, "none", graded) for group in groups]
    rows += [
        _lm_eval_sample(g, {"do_sample": False, "max_new_tokens": c["max_new_tokens"]}, "greedy", graded)
        for g in greedy
    ]
    hashes = "".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows)
    results = {
        "results": {task: result}, "group_subtasks": {task: []},
        "configs": {task: {"task": task, "repeats": c["samples"], "output_type": "generate_until",
                           "dataset_path": c["task"], "test_split": c["split"], "generation_kwargs": sampling}},
        "versions": {task: None}, "n-shot": {task: 0},
        "higher_is_better": {task: {METRIC: True} if graded else {}},
        "n-samples": {task: {"original": len(groups), "effective": len(groups)}},
        "config": {"model": "understudy", "model_args": {"pretrained": c["model"], "dtype": c["dtype"]},
                   "gen_kwargs": sampling, "random_seed": c["seed"], "limit": None},
        "git_hash": None, "date": datetime.fromisoformat(e.date).timestamp(), "model_source": "understudy",
        "model_name": c["model"], "model_name_sanitized": model, "task_hashes": {task: _sha(hashes)},
    }  # fmt: skip
    return {
        f"{model}/results_{stamp}.json": json.dumps(plain(results), indent=2, ensure_ascii=False).encode(),
        f"{model}/samples_{task}_{stamp}.jsonl": b"".join(map(dumps, rows)),
    }


def _metrics(name: str, groups: Sequence[Sequence[Row]]) -> dict[str, float]:
    """As lm-eval names them: metric,filter."""
    accuracy = _accuracy(groups)
    return {f"{METRIC},{name}": accuracy[METRIC], f"{STANDARD_ERROR},{name}": accuracy["stderr"]}


def _lm_eval_sample(group: Sequence[Row], sampling: dict[str, Any], name: str, graded: bool) -> dict[str, Any]:
    first = group[0]
    texts, doc = [row["completion"] for row in group], {"key": first["key"], "prompt": first["prompt"]}
    row = {
        "doc_id": first["prompt_number"], "doc": doc, "target": "",
        "arguments": {"gen_args_0": {"arg_0": first["rendered"], "arg_1": sampling}},
        "resps": [texts], "filtered_resps": [texts], "filter": name, "metrics": [METRIC] if graded else [],
        "doc_hash": _sha(json.dumps(doc, sort_keys=True)), "prompt_hash": _sha(first["rendered"]),
        "target_hash": _sha(""),
    }  # fmt: skip
    return row | ({METRIC: float(np.mean([r["reward"] for r in group]))} if graded else {})


# ---------------------------------------------------------------- both


TARGETS: dict[str, Callable[[Evaluation], dict[str, bytes]]] = {"inspect": inspect_logs, "lm-eval": lm_eval_files}


def _accuracy(groups: Sequence[Sequence[Row]]) -> dict[str, float]:
    """The mean over prompts of their mean reward, and its standard error over prompts (0 for one prompt)."""
    means = np.array([np.mean([row["reward"] for row in group]) for group in groups])
    return {
        METRIC: float(means.mean()),
        "stderr": float(means.std(ddof=1) / len(means) ** 0.5) if len(means) > 1 else 0.0,
    }


def _safe(name: str) -> str:
    """A name for files, as lm-eval makes one."""
    return re.sub(r"[\"<>:/|\\?*\[\]\s]+", "__", name).strip("._") or "model"


def _digest(config: dict[str, Any], kind: str) -> str:
    """The same for the same evaluation: 22 characters, as Inspect's ids have."""
    return _sha(json.dumps([config, kind], sort_keys=True))[:22]


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
