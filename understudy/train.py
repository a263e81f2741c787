"""The one loop: roll out, label, update, evaluate, save. It reads top to bottom and knows no method's name."""

from __future__ import annotations

import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy import algorithms
from understudy.checkpoint import load_optimizer, optimizer_tensors, random_state, set_random_state
from understudy.config import VOLATILE, TrainConfig, resolve, to_dict
from understudy.errors import UserError
from understudy.evaluate import held_out
from understudy.evaluator import Evaluator
from understudy.experts import load_expert
from understudy.experts.base import Expert
from understudy.experts.local import made_by
from understudy.label import Labelled, batches, objective
from understudy.ledger import Ledger
from understudy.losses import reduce, token_losses
from understudy.policy import Policy, check_same_language, load_policy, resolve_device
from understudy.provenance import provenance
from understudy.randomness import seed_from
from understudy.rollout import Source
from understudy.run import RunDir, is_run, to_stderr
from understudy.tasks import Task, load_task

Progress = Callable[[str, int, int, str], None]
"""progress(phase, done, total, note): called as work goes on."""


class Interrupted(Exception):
    """Ctrl-C: everything is saved; str() says how to resume."""


def train(
    config: TrainConfig, progress: Progress | None = None, note: Callable[[str], None] = to_stderr
) -> Path:
    """Train one run to its end, or resume it, and return its directory. A finished run is returned at once.

    Raises UserError for a mistake that the user can mend (nothing is lost), Interrupted after Ctrl-C.
    """
    config = resolve(config)
    torch.set_num_threads(config.threads)
    show = progress or (lambda *_: None)

    def opened() -> RunDir:
        def made() -> dict[str, Any]:
            return provenance(device=str(resolve_device(config.device)))

        return RunDir.open(config.out, to_dict(config), made, volatile=VOLATILE, keep=config.keep, note=note)

    with ExitStack() as stack:
        run = None
        if is_run(Path(config.out)):  # another's run is refused before a model is loaded
            run = stack.enter_context(opened())
            if run.done:
                return run.path
        task = load_task(config.task)
        student = load_policy(
            config.student, "student", task.tokenizer(), config.seed, config.device, config.dtype,
            config.trust_remote_code,
        )  # fmt: skip
        expert, base = _lazy_expert(config, task, student), _lazy_base(config, task, student)
        # a mistake should show before anything is written; a script that is cached needs no expert
        cached = os.path.exists(Path(config.out) / "data" / "fixed.safetensors")
        wanted = (config.expert and config.eval_expert) or (algorithms.needs_expert(config) and not cached)
        facts = _facts(expert()) if wanted else {}
        _preflight(config, task, student)
        sampler = _sampler(config, student, task)
        run = run or stack.enter_context(opened())
        if sampler is not None:
            stack.callback(sampler.close)
        interrupted = stack.enter_context(_interruptible())
        ledger = Ledger()
        optimizer = torch.optim.AdamW(
            student.model.parameters(),
            lr=config.lr,
            betas=(0.9, config.adam_beta2),
            weight_decay=config.weight_decay,
        )
        # everything below is a function of (config, step, weights, random state), so this is all that a resume needs
        _seed(config.seed)
        first, found = 0, run.restore()
        if found is not None:
            first, ledger = found.step, Ledger(**found.state["ledger"])
            student.load_weights(found.path)
            load_optimizer(optimizer, found.tensors, found.state["optimizer"])
            set_random_state(found.tensors)
        run.describe(student=student.describe() | made_by(config.student), **facts)
        source = Source(config, task, student, expert, base, run, ledger, show, sampler)
        evaluator = Evaluator(config, task, student, expert if config.expert else None, run, ledger, show)

        def save(step: int) -> None:
            _check_weights(student, step)
            tensors, meta = optimizer_tensors(optimizer)
            state = {"ledger": ledger.as_dict(), "optimizer": meta, "updates": config.updates}
            run.save(step, student.save, tensors | random_state(), state)

        def stopped(step: int) -> Interrupted:
            run.status("stopped", "interrupted", step=step)
            return Interrupted(
                f"saved at update {step} of {config.updates}; the same command resumes from there"
            )

        for step in range(first, config.updates):
            if config.budget and getattr(ledger, config.budget_axis) >= config.budget:
                break
            boundary = step % config.updates_per_rollout == 0
            if boundary and interrupted():
                save(step)
                raise stopped(step)
            if boundary and step > first and _due(step, config.save_every):
                save(step)  # before the evaluation: a resume repeats it and must not log it twice
            if _due(step, config.eval_every):
                evaluator.during(step)
            began = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, step)
            labelled = source.labelled(step)
            told = update(student, optimizer, labelled, config)
            _check_finite(told, step, labelled, config)
            ledger.updates += 1
            ledger.student_tokens_trained += told["tokens"]
            ledger.train_seconds += time.perf_counter() - began
            run.log(
                {"kind": "train", "step": step + 1, "lr": learning_rate(config, step)}
                | told
                | _ledgered(ledger, began)
            )
            show(
                "train",
                step + 1,
                config.updates,
                f"loss {told['loss']:.3f}" if told["loss"] is not None else "no data",
            )
        save(ledger.updates)
        if interrupted():
            raise stopped(ledger.updates)
        final = evaluator.final(ledger.updates)
        run.finish(student.save, final)
        return run.path


def update(
    student: Policy, optimizer: torch.optim.Optimizer, labelled: Sequence[Labelled], config: TrainConfig
) -> dict[str, Any]:
    """One optimizer step on these labelled rollouts; what it measured. No rollouts (none passed): no step."""
    if not labelled:
        return {
            "loss": None,
            "grad_norm": None,
            "tokens": 0,
            "reward": None,
            "length": None,
            "logp_drift": None,
        }
    total_tokens = sum(len(x.rollout.ids) for x in labelled)
    # a row whose weights are all zero has zero gradient: it counts in the mean, but is not computed
    pulled = [x for x in labelled if bool(x.weight.any())]
    goal = objective(config)
    student.model.train()
    optimizer.zero_grad(set_to_none=False)
    loss_sum, drift_sum, clipped, tokens = 0.0, 0.0, 0.0, 0
    for batch in batches(pulled, student, config.micro_batch):
        loss_N, logp_N = token_losses(student.hidden(batch), student.head, batch, goal, config.logit_chunk)
        loss = reduce(loss_N, batch.row_N, config.reduction, total_tokens, len(labelled))
        loss.backward()
        loss_sum += float(loss.detach())
        tokens += len(loss_N)
        if batch.behavior_logp_N is not None:
            gap_N = logp_N - batch.behavior_logp_N
            drift_sum += float(gap_N.abs().sum())
            if config.clip is not None:
                clipped += float((gap_N.exp() - 1).abs().gt(config.clip).sum())
    student.model.eval()
    for p in student.model.parameters():  # nothing pulled: zero gradients, as the full computation would have
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    limit = config.grad_clip or math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(student.model.parameters(), limit))
    if math.isfinite(loss_sum) and math.isfinite(norm):
        optimizer.step()
    rewards = [x.rollout.reward for x in labelled if x.rollout.reward is not None]
    acted_is_target = config.behavior in ("student",) and config.target != "expert_token"
    return {
        "loss": loss_sum,
        "grad_norm": norm,
        "tokens": total_tokens,
        "reward": sum(rewards) / len(rewards) if rewards else None,
        "length": total_tokens / len(labelled),
        "logp_drift": drift_sum / tokens if tokens and acted_is_target else None,
        "ratio_clipped": clipped / tokens if tokens and config.clip is not None else None,
    }


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up to lr, then the schedule, at update `step` (from 0)."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    progress = (step - config.warmup) / max(1, config.updates - config.warmup)
    return config.lr * (
        1 - progress if config.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _ledgered(ledger: Ledger, began: float) -> dict[str, Any]:
    return {"seconds": time.perf_counter() - began, "ledger": ledger.as_dict()}


def _check_finite(told: dict[str, Any], step: int, labelled: Sequence[Labelled], config: TrainConfig) -> None:
    """Stop before a bad update reaches a checkpoint: the last good one stays."""
    keys = ", ".join(x.rollout.prompt.key for x in labelled[:3])
    where = f"at update {step + 1}, batch {keys}{', ...' if len(labelled) > 3 else ''}"
    for name in ("loss", "grad_norm"):
        value = told[name]
        if value is not None and not math.isfinite(value):
            raise UserError(
                name,
                value,
                f"not finite {where}; stopped, the last checkpoint is kept: lower --lr or set --grad-clip",
            )
    drift = told["logp_drift"]
    first_use = config.updates_per_rollout == 1 or step % config.updates_per_rollout == 0
    if drift is not None and first_use and config.replay == "fresh" and drift > config.drift_limit:
        raise UserError(
            "logp_drift",
            f"{drift:.3f}",
            f"recomputed and recorded log-probs differ {where} by more than drift_limit={config.drift_limit}: "
            "the sampler and the trainer do not score alike (dtype? sampling transforms?)",
        )


def _check_weights(student: Policy, step: int) -> None:
    """A finite loss can still make an infinite step: no such weights may replace a good checkpoint."""
    for name, p in student.model.named_parameters():
        if not bool(torch.isfinite(p).all()):
            mend = f"not finite after update {step}; stopped, the last checkpoint is kept: lower --lr"
            raise UserError("weights", name, mend)


def _lazy_expert(config: TrainConfig, task: Any, student: Policy) -> Callable[[], Expert]:
    made: list[Expert] = []

    def load() -> Expert:
        if not made:
            expert = load_expert(config, task, student)
            check_same_language(student, expert, config.expert)
            _check_capabilities(config, expert)
            made.append(expert)
        return made[0]

    return load


def _check_capabilities(config: TrainConfig, expert: Expert) -> None:
    implied = {"top_k"} if "distribution" in expert.capabilities else set()
    missing = algorithms.capabilities(config) - expert.capabilities - implied
    if missing:
        hint = getattr(expert, "hint", "")
        raise UserError(
            "expert",
            config.expert,
            f"cannot {' or '.join(sorted(missing))}, which method {config.method} needs; it can "
            f"{', '.join(sorted(expert.capabilities)) or 'nothing'}{': ' if hint else ''}{hint}",
        )


def _sampler(config: TrainConfig, student: Policy, task: Task) -> Any:
    if config.sampler == "local":
        return None
    from understudy.engine import ServerSampler

    return ServerSampler(config, student, task)


def _lazy_base(config: TrainConfig, task: Any, student: Policy) -> Callable[[], Policy]:
    if config.behavior != "base":
        return lambda: student  # never called
    c = config
    base = load_policy(
        c.base or c.student, "base", task.tokenizer(), c.seed, c.device, c.dtype, c.trust_remote_code
    )
    check_same_language(student, base, c.base or c.student)
    return lambda: base


def _seed(seed: int) -> None:
    """The global random state, which a model's dropout draws from: the same whatever the process did before."""
    random.seed(seed_from("python", seed))
    np.random.seed(seed_from("numpy", seed) % 2**32)
    torch.manual_seed(seed_from("torch", seed) % 2**63)


def _facts(e: Expert) -> dict[str, Any]:
    return {"expert": {"name": e.name, "capabilities": sorted(e.capabilities), "provenance": e.provenance}}


def _preflight(config: TrainConfig, task: Task, student: Policy) -> None:
    """Refuse now what would stop the run at its first batch, or after hours at its last evaluation."""
    room = config.max_new_tokens or task.max_new_tokens
    for split in filter(None, config.eval_splits.split(",")):
        if split not in task.splits:
            raise UserError("eval_splits", split, f"unknown; one of {', '.join(task.splits)}")
        held_out(task, student, split, config.final_prompts, config.eval_seed, room)
    student.check_room(student.encode(task.prompts("train", config.prompts_per_update, config.seed)), room)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C asks for a stop after this update, the second one stops at once."""
    asked = threading.Event()

    def handler(*_: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for s, old in before.items():
            signal.signal(s, old)
