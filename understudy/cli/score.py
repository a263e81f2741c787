"""understudy score: store an expert's log-probs of kept completions, so that training can do without the expert."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.cli import confirm, options
from understudy.config import DTYPES, ExpertSpec, load, resolve
from understudy.errors import MEBIBYTE, UserError, check_file
from understudy.runs.files import describe_os_error
from understudy.servers.config import parse_server
from understudy.servers.urls import names_server
from understudy.specs import check, option
from understudy.terminal import Board, Progress, console, no_progress
from understudy.types import Prompt, Rollout

PART = 512  # completions between two reports of progress


@dataclass(frozen=True)
class ScoreConfig:
    expert: str = ""
    """Expert that scores (= teacher): a model directory or hub id, a server's address, or a programmatic expert."""
    run: str = ""
    """Run directory whose completions are scored: those in its data/, where replay fixed and round keep them."""
    rollouts: str = ""
    """Instead of a run: a file of JSON lines, each {"prompt_ids": [...], "ids": [...]} or {"prompt": TEXT,
    "completion": TEXT, "ended": true}."""
    out: str = ""
    """Folder of the cache; it may already hold scores, also of other experts. Training reads it by --score-cache."""
    student: str = ""
    """Whose tokenizer the completions use. Default: the run's student; of a file, the expert if it is a model."""
    task: str = ""
    """Task that a programmatic expert needs. Default: the run's, else countdown."""
    top_k: int = option(0, least=0)
    """Also keep the expert's top tokens at every position, for --top-k-of expert. Default: as the run needs."""
    device: str = "auto"
    """auto, cpu, cuda."""
    dtype: str = option("float32", choices=DTYPES)
    """Type of the expert's weights: float32 or bfloat16."""
    trust_remote_code: bool = False
    """Run code that comes with a model. Off by default."""
    json: bool = False
    """Print JSON."""


def score_command(args: Sequence[str]) -> int:
    """understudy score"""
    config = options.parse(
        ScoreConfig,
        args,
        "understudy score",
        "Score completions by an expert once, and keep its log-probs in a folder. An expert that does not fit into\n"
        "memory beside the student can be run before the training, or on another machine.",
        epilog="examples\n"
        "  understudy score --expert http://127.0.0.1:8000/v1 --run runs/base-0 --out scores\n"
        "  understudy score --expert BIG_MODEL --rollouts completions.jsonl --out scores\n"
        "  understudy train ... --expert BIG_MODEL --score-cache scores      (BIG_MODEL itself is not needed)",
    )
    with Board() as board:
        result = score(config, board.progress)
    if config.json:
        print(json.dumps(result))
    else:
        counts = f"{result['completions']} completions, {result['tokens']} tokens, {result['new']} scored now"
        mean = f"mean log-prob {result['mean_logp']:.3f} nats per token"
        console.print(f"{counts}; {mean}; cache: {config.out}", markup=False)
    return 0


def score(config: ScoreConfig, progress: Progress = no_progress) -> dict[str, Any]:
    """{"completions", "tokens", "new", "mean_logp"}. UserError: nothing to score, or the expert cannot."""
    for name in ("expert", "out"):
        if not getattr(config, name):
            raise UserError(name, "", "missing")
    if bool(config.run) == bool(config.rollouts):
        raise UserError("run", config.run, "give either --run DIR or --rollouts FILE")
    check(config)
    if names_server(config.expert):
        parse_server(config.expert, "expert")  # an address with a secret in it is refused before anything is loaded
    # seconds of imports, which --help does not need
    from understudy.experts import is_programmatic
    from understudy.experts.cache.expert import with_cache
    from understudy.policy import check_same_language, load_policy
    from understudy.tasks import load_task
    from understudy.training.rollouts import kept_rollouts

    run = resolve(load(config.run)) if config.run else None
    if run is not None:
        confirm.of_source(vars(config), {"task": run.task}, False)
        needed = run.top_k if run.target == "distribution" and run.top_k_of == "expert" else 0
        name, text, seed, k = run.student, run.task, run.seed, config.top_k or needed
    else:
        is_model = not names_server(config.expert) and not is_programmatic(config.expert)
        name, text, seed, k = config.expert if is_model else "scratch", "countdown", 0, config.top_k
    name, text = config.student or name, config.task or text
    trust = config.trust_remote_code
    task = load_task(text)
    student = load_policy(name, "student", task.tokenizer(), seed, "cpu", trust_remote_code=trust)
    student.add_stop_tokens(task.stop)
    if run is not None:
        rollouts = kept_rollouts(run, task, student, Path(config.run))
    else:
        rollouts = list(_of_file(config, student))
    if not rollouts:
        raise UserError("run", config.run or config.rollouts, "holds no completions")
    spec = ExpertSpec(
        config.expert, config.out, device=config.device, dtype=config.dtype, trust_remote_code=trust, task=text,
        seed=seed,
    )  # fmt: skip
    expert = with_cache(spec, task, student)
    check_same_language(student, expert, config.expert)
    if "score" not in expert.capabilities:
        raise UserError("expert", config.expert, f"cannot score: {expert.hint}")
    if k and not expert.capabilities & {"top_k", "distribution"}:
        raise UserError("top_k", k, "this expert does not give its top tokens: use 0")
    total, tokens = 0.0, 0
    for at in range(0, len(rollouts), PART):
        progress("score", at, len(rollouts), "")
        for entry in expert.entries(rollouts[at : at + PART], k):
            total, tokens = total + float(entry["logp"].sum()), tokens + len(entry["logp"])
    progress("score", len(rollouts), len(rollouts), "")
    expert.cache.close()
    return {"completions": len(rollouts), "tokens": tokens, "new": expert.misses, "mean_logp": total / tokens}


def _of_file(config: ScoreConfig, student: Any) -> Iterator[Rollout]:
    path = Path(config.rollouts)
    check_file(path, "rollouts", 1024 * MEBIBYTE)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError("rollouts", path, f"cannot be read: {describe_os_error(error)}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
            prompt, ids, ended = _row(row, student)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            hint = 'must be {"prompt_ids": [...], "ids": [...]} or {"prompt": TEXT, "completion": TEXT, "ended": true}'
            raise UserError("rollouts", where, hint) from None
        if not prompt or not ids or any(not 0 <= i < student.vocabulary for i in (*prompt, *ids)):
            raise UserError("rollouts", where, "needs tokens of the student's vocabulary on both sides")
        yield Rollout(Prompt(where, "", ids=prompt), 0, ids, (float("nan"),) * len(ids), ended, "", "file")


def _row(row: Any, student: Any) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    if "ids" in row:
        prompt, ids = (tuple(int(i) for i in row[name]) for name in ("prompt_ids", "ids"))
        return prompt, ids, bool(ids) and ids[-1] in student.end_ids
    texts = (row["prompt"], row["completion"])
    if not all(isinstance(text, str) for text in texts):
        raise TypeError
    prompt = tuple(student.tokenizer(texts[0], add_special_tokens=True)["input_ids"])
    ids = tuple(student.tokenizer(texts[1], add_special_tokens=False)["input_ids"])
    ended = bool(row.get("ended", True))
    from understudy.policy.templates import last_token  # imports torch, which --help does not need

    end = last_token(student.tokenizer, student.end_ids, Prompt("", texts[0]))
    return prompt, (*ids, end) if ended else ids, ended
