"""Reading the logs of several programs: which one wrote a file, and its rows. Loads no model, executes nothing."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from understudy.errors import MEBIBYTE, UserError, check_file
from understudy.watch.log import Log, Row
from understudy.watch.names import LAST_STEP, number, translated, whole
from understudy.watch.ours import is_ours, read_run

KNOWN = (
    "trainer_state.json (transformers, TRL), logging.jsonl (ms-swift), a console log or file logger of verl, "
    "metrics.jsonl of tinker-cookbook, prime-rl or understudy, or a folder with one of them"
)
LARGEST_LOG = 2048 * MEBIBYTE
LARGEST_LINE = 2**24  # characters
_VERL = re.compile(r"\bstep:(\d{1,15}) - (.*)")
_VERL_ITEM = re.compile(r"(\S+?):(?:np\.\w+\()?(-?(?:[\d.]+(?:e[-+]?\d+)?|inf|nan))\)?$", re.IGNORECASE)
_PLAIN = re.compile(r"\{'[\w/]+': .*\}")  # how transformers prints its logs where there is no progress bar


def read(path: Path | str) -> list[Log]:
    """The training in `path`, or those of a route's phases. UserError: nothing there, or nothing that is known."""
    path = Path(path)
    if not path.exists():
        raise UserError("log", path, "does not exist")
    if path.is_dir():
        if is_ours(path):
            return read_run(path)
        path = _inside(path)
    if path.name == "metrics.jsonl" and is_ours(path.parent):
        return read_run(path.parent)
    return [_read_file(path)]


def _inside(folder: Path) -> Path:
    """The log in a folder of another program."""
    for pattern in ("trainer_state.json", "logging.jsonl", "metrics.jsonl", "checkpoint-*/trainer_state.json"):
        found = sorted(folder.glob(pattern), key=_checkpoint)
        if found:
            return found[-1]
    logs = [p for pattern in ("*.jsonl", "*.log", "*.txt", "*.out") for p in sorted(folder.glob(pattern))]
    if len(logs) == 1:
        return logs[0]
    if logs:
        raise UserError("log", folder, f"holds several logs ({', '.join(p.name for p in logs[:3])}): name one")
    nested = sorted(folder.glob("*/logging.jsonl")) + sorted(folder.glob("*/trainer_state.json"))
    hint = f"look at {nested[-1]}" if nested else f"known: {KNOWN}"
    raise UserError("log", folder, f"holds no training log; {hint}")


def _checkpoint(path: Path) -> int:
    digits = path.parent.name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _read_file(path: Path) -> Log:
    check_file(path, "log", LARGEST_LOG)
    if path.suffix == ".json":
        return _trainer_state(path)
    tool, records = "", []
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in iter(lambda: lines.readline(LARGEST_LINE), ""):
                found = _parse(line)
                if found is not None and (not tool or found[0] in ("", tool)):
                    tool = tool or found[0]
                    records.append(found[1])
    except OSError as error:
        raise UserError("log", path, f"cannot be read: {error.strerror or error}") from error
    if not records:
        raise UserError("log", path, f"holds no line of a training log; known: {KNOWN}")
    if not tool:
        raise UserError("log", path, f"its lines are JSON, but of no known program; known: {KNOWN}")
    if tool == "understudy":
        raise UserError("log", path, "give the run directory that this file is in")
    config = _config(path.parent) if tool == "tinker" else {}
    return _log(tool, path, records, config)


def _trainer_state(path: Path) -> Log:
    """transformers.TrainerState: its log_history, one record per log, evaluations among them."""
    try:
        state = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise UserError("log", path, f"cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError("log", path, "is not JSON") from error
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list):
        raise UserError("log", path, f"has no log_history; known: {KNOWN}")
    records = [record for record in history if isinstance(record, dict)]
    return _log("trl", path, records, {"updates": state.get("max_steps")})


def _parse(line: str) -> tuple[str, dict[str, Any]] | None:
    """(program, record) of one line; "" where the line alone does not say; None: no record."""
    text = line.strip()
    if text.startswith("{") and text.endswith("}"):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            return _sniff(record)
    match = _VERL.search(text)
    if match:
        items = (_VERL_ITEM.match(item.strip()) for item in match.group(2).split(" - "))
        return "verl", {m.group(1): float(m.group(2)) for m in items if m} | {"step": int(match.group(1))}
    match = _PLAIN.search(text)
    if match:
        try:
            record = ast.literal_eval(match.group(0))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        if isinstance(record, dict) and any(k in record for k in ("loss", "eval_loss", "reward", "learning_rate")):
            return "trl", {str(k): v for k, v in record.items()}
    return None


def _sniff(record: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    if isinstance(record.get("data"), dict) and "step" in record:
        return "verl", {**record["data"], "step": record["step"]}
    if "global_step/max_steps" in record or "iteration" in record:
        done, _, planned = str(record.get("global_step/max_steps", record.get("iteration"))).partition("/")
        return "ms-swift", {**record, "step": done, "updates": planned}
    if "log_history" in record:
        return None  # the summary at the end of an ms-swift log
    if record.get("kind") in ("train", "eval"):
        return "understudy", record
    keys = " ".join(record)
    if "env/all/" in keys or "train_mean_nll" in keys or "sampling_client/" in keys or "progress/done_frac" in keys:
        return "tinker", record
    if "train/agg/" in keys or "entropy/all/" in keys or "mismatch_kl/" in keys or "optim/zero_grad_ratio" in keys:
        return "prime-rl", record
    return "", record


def _log(tool: str, path: Path, records: Iterable[Mapping[str, Any]], config: Mapping[str, Any]) -> Log:
    """Records -> rows: those of one step are one row, where the later value counts."""
    rows: dict[int, dict[str, float]] = {}
    planned = whole(config.get("updates"))
    step = 0
    for record in records:
        planned = whole(record.get("updates")) or planned
        if tool == "trl" and "train_runtime" in record:
            continue  # the summary, whose train_loss is a mean over the whole run
        at = number(record.get("step"))
        counted = tool == "trl" and not any(str(name).startswith("eval_") for name in record)
        step = int(at[0]) if at and abs(at[0]) < LAST_STEP else step + counted
        share = number(record.get("progress/done_frac"))
        if share and 1e-9 < share[0] <= 1:
            planned = round((step + 1) / share[0])
        values = translated(tool, record)
        if values:
            rows.setdefault(step, {}).update(values)
    if not rows:
        raise UserError("log", path, "has no update with a number that is known; see docs/watch.md")
    logged = {name for values in rows.values() for name in values}
    samples = bool({"reward", "at_limit", "kl_expert"} & logged)
    for values in rows.values():
        if tool == "trl" and samples and not {"reward", "kl_expert"} & logged and "loss" in values:
            # DistillationTrainer: its loss is the divergence from the teacher (a Jensen-Shannon one for 0 < beta < 1)
            values["kl_expert"] = values["loss"]
    if "kl_expert" in logged and not any(values.get("reward") for values in rows.values()):
        for values in rows.values():  # a distillation without a reward: some programs log 0
            values.pop("reward", None)
    ordered = tuple(Row(step, values) for step, values in sorted(rows.items()))
    return Log(
        tool, str(path), ordered, updates=planned, limit=whole(config.get("max_tokens")),
        prompts=whole(config.get("groups_per_batch")), samples=samples,
    )  # fmt: skip


def _config(folder: Path) -> dict[str, Any]:
    """tinker-cookbook's config.json beside its metrics: the numbers in it, by name, however deep."""
    try:
        check_file(folder / "config.json", "log")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, UserError):
        return {}
    return {name: value for name, value in _leaves(config) if name in ("max_tokens", "groups_per_batch")}


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, str(key))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, name)
    else:
        yield name, value
