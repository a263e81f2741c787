"""The one loop: roll out, label, update, evaluate, save. It reads top to bottom and knows no method's name."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from understudy.config import TrainConfig, continued, defaults, resolve
from understudy.errors import Interrupted
from understudy.runs.directory import to_stderr
from understudy.terminal import Progress, no_progress
from understudy.training.labels import Clock
from understudy.training.session import Session, open_session
from understudy.training.update import check_finite, update

__all__ = ["Interrupted", "train"]


def train(config: TrainConfig, progress: Progress = no_progress, note: Callable[[str], None] = to_stderr) -> Path:
    """Train one run to its end, or resume it, and return its directory. A finished run is returned at once.

    Raises UserError for a mistake that the user can correct (nothing is lost), Interrupted after Ctrl-C or SIGTERM: it
    ends the program unless it is handled by name.
    """
    config = continued(config)
    c = resolve(config)
    left_open = [name for name in defaults.FIELDS if getattr(config, name) is None]
    with open_session(c, progress, note, left_open) as session:
        if session is None:
            return Path(c.out)
        try:
            _run(session)
        except Interrupted as stop:
            raise session.stopped(stop.number) from None
        if session.interrupted():  # while the last files were written
            raise session.stopped()
        return session.run.path


def _run(session: Session) -> None:
    """The updates that are left, and the end. Interrupted: what can be saved is."""
    c, student, ledger = session.config, session.student, session.ledger
    guard = session.guarding
    guard.begin(session.first_step, session.save)
    for step in range(session.first_step, c.updates):
        if session.spent() >= 1 or guard.stopped:
            break
        fresh = step % c.updates_per_rollout == 0  # rollouts in use are not saved: resume only where new ones begin
        if fresh and step and _due(step, c.save_every):
            guard.checkpoint(step)
        if fresh and session.interrupted():
            session.save(step)
            raise session.stopped()
        if fresh and step > session.first_step and _due(step, c.save_every):
            session.save(step)  # before the evaluation: a resume repeats it and must not log it twice
        with session.repeatable(step, fresh):
            if _due(step, c.eval_every) and (step or c.eval_start):
                with student.gathered_weights():
                    session.evaluator.during(step)
            began = time.perf_counter()
            session.set_schedules(step)
            with student.gathered_weights():
                labelled = session.rollouts.labelled(step)
            metrics = update(student, session.optimizer, labelled, c, clock := Clock())
        check_finite(metrics, step, labelled, c)
        session.log(step, metrics, began, clock.seconds)
        guard.watch(step + 1, session.rollouts.seen, metrics, max((step + 1) / c.updates, session.spent()))
    session.save(ledger.updates)
    if session.interrupted():
        raise session.stopped()
    outcome = guard.conclude(ledger.updates)
    with student.gathered_weights():
        final = session.evaluator.final(ledger.updates)
    session.finish(final | {"guard": outcome} if outcome else final)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
