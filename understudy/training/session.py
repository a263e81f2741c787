"""What a training needs, opened and checked: task, student, expert, run directory, optimizer, evaluator.

Mistakes are found before anything is written; a run directory of another training is refused before a model is loaded.
"""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from understudy import distributed, running
from understudy.config import GUARD_FIELDS, VOLATILE, Resolved, before_it_was_open, defaults, to_dict
from understudy.errors import Interrupted, UserError
from understudy.evaluation.numbers import duration
from understudy.evaluation.schedule import Evaluator
from understudy.experts import load_expert
from understudy.experts.extrapolated import Extrapolated
from understudy.experts.local import LocalExpert, provenance_of
from understudy.experts.server.check import PROMPTS
from understudy.methods import table
from understudy.policy import Policy, check_same_language, load_policy, resolve_device
from understudy.policy.sharding import shard
from understudy.policy.templates import lost_note
from understudy.protocols import Expert, Task
from understudy.runs.checkpoint import random_state, set_random_state
from understudy.runs.directory import RunDir, check_free
from understudy.runs.provenance import provenance
from understudy.runs.read import is_run, read_config, read_provenance
from understudy.runs.shared import SharedRun
from understudy.runs.trackers import names_of, open_trackers
from understudy.servers.config import names_vllm
from understudy.tasks import load_task
from understudy.terminal import Progress, no_progress
from understudy.training.acting import Actor
from understudy.training.card import card, find_diagnosis
from understudy.training.checks import (
    before_loading,
    before_training,
    between_families,
    check_capabilities,
    with_costs,
    with_room,
)
from understudy.training.engine_sampler import EngineSampler
from understudy.training.guarding import Guarding
from understudy.training.monitor import Monitor
from understudy.training.rollouts import RolloutSource, samples_are_kept
from understudy.training.server_sampler import ServerSampler
from understudy.training.state import load_state, save_state, seed_all
from understudy.training.update import check_weights, learning_rate
from understudy.training.vllm_sampler import VllmSampler
from understudy.types import Ledger, flops_of


@dataclass
class Session:
    """One open training: what the loop reads and calls."""

    config: Resolved
    recorded: dict[str, Any]
    """The configuration as config.json holds it."""
    first_step: int
    student: Policy
    optimizer: torch.optim.Optimizer
    rollouts: RolloutSource
    evaluator: Evaluator
    run: RunDir
    ledger: Ledger
    show: Progress
    monitor: Monitor
    guarding: Guarding
    weights: tuple[float, float]
    """Number of weights of student and expert, by which the ledger counts FLOPs."""

    def interrupted(self) -> bool:
        """Whether any process is to stop."""
        return distributed.any_of(bool(running.requested()))

    def stopped(self, number: int = 0) -> Interrupted:
        """The exception that ends an interrupted training; it says where the next one goes on. number: the signal."""
        saved, n = self.run.saved, self.config.updates
        if not self.run.done:
            self.run.status("stopped", "interrupted", step=saved)
        where = f"saved at update {saved} of {n}; the same command resumes from there"
        if not saved:
            where = "before the first update was saved; the same command begins again"
        if self.run.done:
            where = f"{self.run.path} was finished before"
        return Interrupted(where, number or running.requested() or signal.SIGINT)

    @contextmanager
    def repeatable(self, step: int, savable: bool) -> Iterator[None]:
        """Around update `step` before it changes a weight: where it is stopped, the state before it is saved.

        savable: whether a resume can begin here; else the last checkpoint stays.
        """
        ledger, random, lengths = self.ledger.as_dict(), random_state(), self.run.lengths()
        try:
            yield
        except Interrupted:
            for name, value in ledger.items():
                setattr(self.ledger, name, value)
            if savable and step > self.run.saved:
                self.run.rewind(lengths)
                set_random_state(random)
                self.save(step)
            raise

    def spent(self) -> float:
        """Share of what `budget` has for training that the ledger's column `budget_axis` has reached, the same in all
        processes. The guard's reserve is not for training."""
        c = self.config
        if not c.budget:
            return 0.0
        reached = float(distributed.agreed(getattr(self.ledger, c.budget_axis)))
        return reached / (c.budget * (1 - self.guarding.reserve))

    def set_schedules(self, step: int) -> None:
        """The learning rate of update `step`, and how far the training is."""
        spent = self.spent()
        self.rollouts.progress = max(step / self.config.updates, min(spent, 1.0))
        lr = learning_rate(self.config, step, spent)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def save(self, step: int) -> None:
        """A checkpoint before update `step`."""
        check_weights(self.student, step)
        state = {
            "ledger": self.ledger.as_dict(), "updates": self.config.updates, "monitor": self.monitor.as_list(),
            **self.guarding.as_dict(),
        }  # fmt: skip
        save_state(self.run, step, self.student, self.optimizer, state)

    def log(self, step: int, metrics: dict[str, Any], began: float, scored: float = 0.0) -> None:
        """Count and record update `step`; began: when it did, by time.perf_counter; scored: seconds of it that the
        expert took while the student learned."""
        self.ledger.updates += 1
        self.ledger.student_tokens_trained += metrics["tokens"]
        self.ledger.student_prompt_tokens_trained += metrics.pop("prompt_tokens")
        self.ledger.train_seconds += time.perf_counter() - began
        self.ledger.flops = flops_of(self.ledger.as_dict(), *self.weights)
        record = {"kind": "train", "step": step + 1, "lr": self.optimizer.param_groups[0]["lr"]} | metrics
        record |= self.monitor.add(self.rollouts.seen)
        seconds, sample = time.perf_counter() - began, self.rollouts.seconds["sample"]
        score = self.rollouts.seconds["score"] + scored
        parts = {"seconds_sample": sample, "seconds_score": score, "seconds_learn": seconds - sample - score}
        self.run.log(record | {"seconds": seconds} | parts | {"ledger": self.ledger.as_dict()})
        self.show("train", step + 1, self.config.updates, self._note(step + 1, metrics["loss"]))

    def _note(self, step: int, loss: float | None) -> str:
        """For the progress: loss, reward with its band, the last accuracy, time left."""
        c, spent = self.config, self.ledger
        share = step / c.updates
        if c.budget:
            share = max(share, getattr(spent, c.budget_axis) / c.budget)
        left = (spent.train_seconds + spent.eval_seconds) * (1 - share) / share
        parts = [f"loss {loss:.3f}" if loss is not None else "no data", self.monitor.shown, self.evaluator.latest]
        parts.append(f"{duration(left)} left" if share < 1 else "")
        return ", ".join(filter(None, parts))

    def finish(self, final: dict[str, Any]) -> None:
        """Write the model with its card, and final.json."""

        def write(folder: Path) -> None:
            self.student.save(folder)
            if distributed.is_main():
                path, config = self.run.path, self.recorded
                text = card(
                    config, read_provenance(path), self.ledger.as_dict(), final, find_diagnosis(path, config)
                )  # fmt: skip
                (folder / "README.md").write_text(text, encoding="utf-8")

        self.run.finish(write, final)


@contextmanager
def open_session(
    config: Resolved, progress: Progress, note: Callable[[str], None], left_open: Sequence[str] = ()
) -> Iterator[Session | None]:
    """Everything that the training of `config` needs, at the update where it goes on; None where it is finished.

    left_open: the fields of defaults.FIELDS that the user did not give; a new run says what they became, and why.
    """
    recorded = to_dict(config)
    torch.set_num_threads(config.threads)
    names_of(config.tracker)
    distributed.join(config.processes)
    config = dataclasses.replace(config, device=distributed.device(config.device))
    if config.expert_device:
        resolve_device(config.expert_device, "expert_device")
        config = dataclasses.replace(config, expert_device=distributed.device(config.expert_device))
    if not distributed.is_main():  # the first process reports for all
        progress, note = no_progress, lambda _: None
    with ExitStack() as stack:
        run = None
        if distributed.agreed(is_run(Path(config.out))):
            run = stack.enter_context(_open_run(config, recorded, note))
            if run.done:
                yield None
                return
            began = distributed.agreed(list(read_config(run.path)) if distributed.is_main() else [])
            if "guard" not in began:  # an earlier version began it, without a guard
                config = dataclasses.replace(config, guard=False)
            if "guard_rows" not in began:  # likewise, and it trains on every row
                config = dataclasses.replace(config, guard_rows=0.0)
        progress("loading", 0, 1, f"task {config.task}"[:80])
        task = load_task(config.task)
        if task.about():
            note(task.about())
        digest = _same_data(run, task)
        if run is None:
            check_free(Path(config.out))
            before_loading(config, task)
        progress("loading", 0, 1, f"student {config.student}"[:80])
        student = load_model(config.student, "student", config, task)
        if run is None:
            config, about_room = with_room(config, task, student)
            config = with_costs(config, task, left_open)
            recorded |= {name: getattr(config, name) for name in ("max_new_tokens", *left_open)}
            for line in filter(None, (about_room, *defaults.reasons(config, left_open))):
                note(line)
        fit(student, config, note)
        if line := before_training(config, task, student):
            note(line)
        if line := lost_note(student.tokenizer, task.prompts("train", PROMPTS, config.seed), student.name):
            note(line)
        expert, base = lazy_expert(config, task, student), _lazy_base(config, task, student)
        if _expert_is_needed(config):
            progress("loading", 0, 1, f"expert {config.expert}"[:80])
        facts = _facts(expert()) if _expert_is_needed(config) else {}
        for line in filter(None, (expert().about, between_families(config, expert())) if facts else ()):
            note(line)
        sampler, signal_of = _sampler(config, student, task), _lazy_signal(config, student, expert, base)
        if distributed.size() > 1:
            note(shard(student))
        run = run or stack.enter_context(_open_run(config, recorded, note))
        if sampler is not None:
            stack.callback(sampler.close)
        stack.enter_context(_interruptible())
        optimizer = torch.optim.AdamW(
            student.trained().values(), lr=config.lr, betas=(0.9, config.adam_beta2), weight_decay=config.weight_decay
        )
        # the training is a function of (config, step, weights, random state), so this is all that a resume needs
        seed_all(config.seed)
        first_step, ledger, monitor, guard, kept = 0, Ledger(), Monitor(), None, run.restore()
        if kept is not None:
            first_step, ledger = kept.step, Ledger(**kept.state["ledger"])
            monitor, guard = Monitor(kept.state.get("monitor", ())), kept.state.get("guard")
            load_state(kept, student, optimizer, config.seed)
        if distributed.is_main():
            trackers = open_trackers(config.tracker, run.path, recorded, first_step, note)
            run.listeners.append(stack.enter_context(trackers).on_record)
            run.sample_listeners.append(trackers.on_samples)
        run.describe(student=student.describe() | provenance_of(config.student), **facts, **digest)
        rollouts = RolloutSource(Actor(config, task, student, expert, base, sampler, signal_of), run, ledger, progress)
        evaluator = Evaluator(config, task, student, expert if config.expert else None, run, ledger, progress)
        sizes = _sizes(run)

        def spend(began: float) -> None:
            ledger.train_seconds += time.perf_counter() - began
            ledger.flops = flops_of(ledger.as_dict(), *sizes)

        guarding = Guarding(config, rollouts.actor, run, ledger, spend, guard)
        yield Session(
            config, recorded, first_step, student, optimizer, rollouts, evaluator, run, ledger, progress,
            monitor, guarding, sizes,
        )  # fmt: skip


def _same_data(run: RunDir | None, task: Task) -> dict[str, str]:
    """The digest of the task's data, to be kept with the run. UserError: a run that goes on began with other data."""
    digest = task.digest()
    known = distributed.agreed(read_provenance(run.path).get("data", "") if run and distributed.is_main() else "")
    if known and known != digest:
        hint = "was begun with other rows than these: put the data back as they were, or choose another --out"
        raise UserError("task", run.path if run else "", hint)
    return {"data": digest} if digest else {}


def _sizes(run: RunDir) -> tuple[float, float]:
    """Weights of student and expert; 0 for a program, and for a server, which does not say."""
    facts = distributed.agreed(read_provenance(run.path) if distributed.is_main() else {})
    expert = (facts.get("expert") or {}).get("provenance", {}).get("parameters") or 0
    return float(facts["student"]["parameters"]), float(expert)


def _open_run(config: Resolved, recorded: dict[str, Any], note: Callable[[str], None]) -> RunDir:
    def facts() -> dict[str, Any]:
        return provenance(device=str(resolve_device(config.device)))

    kind = RunDir if distributed.size() == 1 else SharedRun
    # a run that an earlier version began has no guard, whatever is asked for now
    before = before_it_was_open() | {name: recorded[name] for name in GUARD_FIELDS}
    return kind.open(config.out, recorded, facts, volatile=VOLATILE, defaults=before, keep=config.keep, note=note)


def load_model(path: str, field: str, config: Resolved, task: Task) -> Policy:
    policy = load_policy(
        path, field, task.tokenizer(), config.seed, config.device, config.dtype, config.trust_remote_code
    )
    return policy.add_stop_tokens(task.stop)


def fit(student: Policy, config: Resolved, note: Callable[[str], None]) -> None:
    """The adapter, the memory and the precision that `config` asks for."""
    if config.dtype != "float32" and student.device.type == "cpu":
        note(f"dtype {config.dtype} on a CPU: matrix products can be 100 times slower than in float32")
    if config.dtype == "bfloat16" and not config.lora_rank and config.lr < 1e-3:
        note("dtype bfloat16: it rounds away most steps of this learning rate, norms hardly move; use --dtype mixed")
    if config.lora_rank:
        alpha = config.lora_alpha or 2.0 * config.lora_rank
        student.adapt(config.lora_rank, alpha, config.lora_dropout, config.lora_targets, config.seed)
    if config.activation_checkpointing:
        student.save_memory()


def _expert_is_needed(config: Resolved) -> bool:
    """Whether to load the expert now. Completions that are kept already need none."""
    kept = config.replay == "fixed" and samples_are_kept(config, Path(config.out))
    return bool(config.expert and config.eval_expert) or (table.needs_expert(config) and not kept)


def lazy_expert(config: Resolved, task: Task, student: Policy) -> Callable[[], Expert]:
    @cache
    def load() -> Expert:
        expert = load_expert(config.expert_spec, task, student)
        check_same_language(student, expert, config.expert)
        check_capabilities(config, expert)
        return expert

    return load


def _facts(expert: Expert) -> dict[str, Any]:
    facts = {"name": expert.name, "capabilities": sorted(expert.capabilities), "provenance": expert.provenance}
    return {"expert": facts}


def _lazy_base(config: Resolved, task: Task, student: Policy) -> Callable[[], Policy]:
    if config.behavior != "base" and not config.extrapolates:
        return lambda: student  # never called
    name = config.base or config.student
    if student.adapter is not None and name == config.student:
        return student.reference  # the same weights without the adapter: no second copy
    base = load_model(name, "base", config, task)
    check_same_language(student, base, name)
    return lambda: base


def _lazy_signal(
    config: Resolved, student: Policy, expert: Callable[[], Expert], base: Callable[[], Policy]
) -> Callable[[], Expert]:
    """What target and weight read of the expert."""
    if not config.extrapolates:
        return expert
    if distributed.size() > 1 and student.adapter is not None and config.target == "distribution":
        hint = "student and base share their weights under --lora-rank, which several processes cannot: use one"
        raise UserError("signal", config.signal, hint)
    return cache(lambda: Extrapolated(expert(), LocalExpert(base()).fit(student.vocabulary), config.extrapolation))


def _sampler(config: Resolved, student: Policy, task: Task) -> EngineSampler | None:
    if config.sampler == "local":
        return None
    if distributed.size() > 1:
        hint = "one process gives another engine its weights: use --sampler local with several"
        raise UserError("sampler", config.sampler, hint)
    prompts = student.encode(task.prompts("train", PROMPTS, config.seed))
    if names_vllm(config.sampler):
        return VllmSampler(config.sampler, student, prompts)
    return ServerSampler(config.sampler, student, prompts, Path(config.out) / "data" / "sampler")


def _interruptible() -> AbstractContextManager[None]:
    """The first Ctrl-C or SIGTERM stops at the next check, several processes after this update; the second at once."""

    def again(number: int) -> bool:
        # (torchrun sends each of its processes a SIGTERM after a Ctrl-C that has reached them already)
        return distributed.size() == 1 or number == signal.SIGINT

    return running.interruptible(lambda: distributed.size() == 1, again)
