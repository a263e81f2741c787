"""understudy auto: look, decide, train a phase, look, decide, ... within a budget; the best model of all is the result.

    config.json provenance.json status.json     as of any run; the method is `auto`
    look.json looks/NAME.json                   lengths and pace; rewards of start, expert and every phase's model
    decisions.jsonl                             one line per decision; a phase is trained as its line says
    phases/0-sft/ phases/1-opd_full/ ...        run directories like any other, guarded where they are online
    auto.json report.html                       everything in one file, and drawn
    final/ final.json ledger.json               the best model, its evaluation, what everything cost together

What happens next is a function of these files, so it can be killed anywhere and resumed.
"""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from understudy import distributed
from understudy.config import VOLATILE, TrainConfig, resolve
from understudy.evaluation.schedule import Evaluator
from understudy.policy import resolve_device
from understudy.routes import gains
from understudy.routes.auto_config import AutoConfig, checked, phase_of, recorded, to_choose_from
from understudy.routes.auto_experts import decision, lines_of, look_at_all, others, with_expert
from understudy.routes.auto_look import first_look, in_flops, known_at_start, outline, price_of, rewards_of, value_of
from understudy.routes.auto_page import card_lines, write_auto
from understudy.routes.budget import Budget
from understudy.routes.decisions import Money, add_decision, ended_with_start, line_of, read_decisions, why_it_ended
from understudy.routes.look import Measured, Models, here
from understudy.routes.plan import after
from understudy.routes.policy import OFFLINE, START, STOP, Choice, Known, Node, Policy, decide
from understudy.routes.reserve import reserve_of
from understudy.routes.run import prompts_seen
from understudy.routes.selection import CARD, copy_model
from understudy.runs.directory import RunDir, to_stderr
from understudy.runs.files import read_json, write_json
from understudy.runs.provenance import provenance
from understudy.runs.read import is_done, is_run, read_final, read_ledger, read_provenance
from understudy.runs.shared import SharedRun
from understudy.tasks import load_task
from understudy.terminal import Progress, no_progress
from understudy.training.card import card
from understudy.training.session import lazy_expert, load_model
from understudy.training.train import train
from understudy.types import Ledger

SLACK = 2.0
"""A phase may have so many times the updates that its budget is expected to buy: completions become shorter."""
Announce = Callable[[list[str]], None]


def auto(
    config: AutoConfig,
    progress: Progress = no_progress,
    note: Callable[[str], None] = to_stderr,
    announce: Announce = lambda lines: None,
) -> Path:
    """Train by decisions made on the way, or resume it, and return the directory. A finished one is returned at once.

    announce: called with some lines about what will be done and what it costs, before the first phase; with dry_run
    nothing follows and nothing is written. Raises UserError for a mistake that the user can correct (nothing is lost),
    Interrupted after Ctrl-C.
    """
    config, budget, shared = checked(config)
    distributed.join()
    if not distributed.is_main():  # the first process reports for all
        progress, note, announce = no_progress, lambda _: None, lambda _: None
    torch.set_num_threads(config.threads)
    folder = Path(config.out)
    with ExitStack() as stack:
        run = stack.enter_context(_open(config, shared, note)) if distributed.first(lambda: is_run(folder)) else None
        if run is not None and run.done:
            return folder
        file = folder / "look.json"
        seen = distributed.first(lambda: read_json(file) if file.is_file() else None)
        if seen is None:
            seen = (look_at_all if to_choose_from(config) else first_look)(config, budget, shared, progress)
        asked = config, shared
        config, shared = with_expert(seen, *asked)
        budget = in_flops(budget, shared, Measured.from_dict(seen["measured"]))
        announce([*lines_of(seen), *outline(config, budget, seen)])
        if config.dry_run:
            return folder
        run = run or stack.enter_context(_open(*asked, note))
        distributed.first(lambda: write_json(file, seen))
        _Auto(config, budget, shared, seen, run, progress, note).finish()
    return folder


def _open(config: AutoConfig, shared: TrainConfig, note: Callable[[str], None]) -> RunDir:
    def facts() -> dict[str, Any]:
        return provenance(device=str(resolve_device(config.device)))

    kind = RunDir if distributed.size() == 1 else SharedRun
    return kind.open(config.out, recorded(config, shared), facts, volatile=VOLATILE, note=note)


class _Auto:
    """An open auto directory, after its first look.

    Of several processes the first one reads and writes its files and decides; all of them train and look.
    """

    def __init__(
        self, config: AutoConfig, budget: Budget, shared: TrainConfig, seen: dict[str, Any], run: RunDir,
        progress: Progress, note: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.config, self.budget, self.shared, self.seen = config, budget, shared, seen
        self.run, self.progress, self.note = run, progress, note
        self.folder = Path(config.out)
        self.policy, self.gains = Policy(), gains.load()
        self.measured = Measured.from_dict(seen["measured"])
        dearest = max(price_of(budget, shared, self.measured, method) for method in seen["methods"])
        self.reserve = reserve_of(budget, seen, dearest)

    # -- the loop -----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Decide and train until the decision is to stop; then the result."""
        self.run.restore()
        while (line := distributed.first(self.next)) is not None:
            if distributed.first(lambda line=line: is_done(self.place(line))):  # type: ignore[misc]
                self.look_at(line)
            else:
                self.train(line)
        self.result()

    def next(self) -> dict[str, Any] | None:
        """The decision whose phase is to be trained, or looked at where it has ended; made now where all are done.
        None: the last decision was to stop."""
        while True:
            lines = read_decisions(self.folder)
            if not lines and "chosen" in self.seen:
                add_decision(self.folder, decision(self.seen, self.money(lines)))
                self.note(f"expert {self.seen['chosen']} is chosen")
                continue
            for line in lines:
                if line["training"] and not (is_done(self.place(line)) and self.is_looked_at(line)):
                    return line
            if lines and lines[-1]["training"] is None and "expert" not in lines[-1]:
                return None
            known = self.known(lines)
            choice = decide(known, self.policy, self.gains)
            training = None if choice.option.method == STOP else self.training(choice, lines)
            line = line_of(len(lines), known, choice, self.money(lines), training)
            add_decision(self.folder, line)
            self.note(f"decision {len(lines) + 1}: {choice.option.action}, because {choice.why}")
            self.write("running")

    def place(self, line: dict[str, Any]) -> Path:
        """The run directory of a decision's phase."""
        return self.folder / "phases" / f"{line['number']}-{line['training']['method']}"

    def train(self, line: dict[str, Any]) -> None:
        """The phase of a decision, or what is left of it."""
        fields, path = dict(line["training"]), self.place(line)
        parent = fields.pop("parent")
        start = self.shared.student if parent == START else str(self.folder / "phases" / parent)
        label = f"phase {line['number'] + 1}, {fields['method']}"
        before = line["spent"]

        def show(phase: str, done: int, total: int, text: str) -> None:
            if phase == "note":
                self.progress(phase, done, total, text)
                return
            now = before + (self.budget.spent(read_ledger(path)) if is_run(path) else 0.0)
            spent = f"{self.budget.shown(now)} of {self.budget.shown(self.budget.amount)} spent"
            self.progress(f"{label}: {phase}", done, total, f"{text}; {spent}")

        train(dataclasses.replace(self.shared, student=start, out=str(path), **fields), show, self.note)

    def training(self, choice: Choice, lines: list[dict[str, Any]]) -> dict[str, Any]:
        """Fields of the phase that a choice is: what its line keeps."""
        method, amount = choice.option.method, choice.option.share * self.budget.amount
        row = resolve(phase_of(self.shared, method))
        measured = self.measured
        if choice.option.parent != START:
            measured = dataclasses.replace(measured, lengths=after(measured.lengths, row))
        updates = max(1, round(amount / price_of(self.budget, self.shared, measured, method)))
        column, value = self.budget.limit(amount)
        exact = column in ("", "updates")
        trained = [self.place(line) for line in lines if line["training"]]
        fields: dict[str, Any] = {
            "method": method, "parent": choice.option.parent, "prompts_per_update": row.prompts_per_update,
            "updates": updates if exact else math.ceil(SLACK * updates),
            "budget_axis": "updates" if exact else column, "budget": 0.0 if exact else value,
            "first_prompt": self.shared.first_prompt + prompts_seen(trained), "eval_every": 0, "eval_expert": False,
            "eval_divergences": False, "eval_splits": "test", "final_prompts": 16, "final_samples": 1,
        }  # fmt: skip
        if choice.reach:
            fields |= {"guard_reach": choice.reach, "guard_trial": choice.trial}
        if method != OFFLINE and not exact:
            fields["guard_reserve"] = round(self.reserve.guard(amount), 6)
        return fields

    # -- what is known ------------------------------------------------------------------------------------------

    def look_file(self, name: str) -> Path:
        return self.folder / "looks" / f"{name}.json"

    def is_looked_at(self, line: dict[str, Any]) -> bool:
        """Whether the rewards of a finished phase's model are known: those of its start where it ended with that."""
        path = self.place(line)
        if not self.seen["verified"] or self.look_file(path.name).is_file():
            return True
        if not ended_with_start(read_final(path) or {}):
            return False
        parent = line["training"]["parent"]
        entry = self.seen["looks"][START] if parent == START else read_json(self.look_file(parent))
        self._keep_look(path.name, entry | {"ledger": Ledger().as_dict()})
        return True

    def look_at(self, line: dict[str, Any]) -> None:
        """Rewards of a finished phase's model on the look's prompts."""
        path = self.place(line)
        self.progress("look", 0, 1, path.name)
        task = load_task(self.shared.task)
        plain = resolve(dataclasses.replace(here(self.shared), method=OFFLINE))
        student = load_model(str(path), "student", plain, task)
        models = Models(task, student, None)
        left = distributed.first(lambda: self.budget.amount - self.spent())
        entry = rewards_of(
            self.config, self.shared, models, False, self.seen["trained"], self.measured,
            lambda ledger: self.budget.spent(ledger) < left,
        )  # fmt: skip
        distributed.first(lambda: self._keep_look(path.name, entry))
        del models, student
        gc.collect()

    def _keep_look(self, name: str, entry: dict[str, Any]) -> None:
        self.look_file(name).parent.mkdir(exist_ok=True)
        write_json(self.look_file(name), entry)

    def known(self, lines: list[dict[str, Any]]) -> Known:
        """All finished phases."""
        at_start = known_at_start(self.seen, self.budget, self.shared)
        nodes = [at_start.start]
        for line in filter(lambda each: each["training"], lines):
            path = self.place(line)
            file = self.look_file(path.name)
            nodes.append(Node(
                path.name, line["training"]["parent"], line["training"]["method"],
                self.budget.spent(read_ledger(path)) / self.budget.amount,
                value_of(read_json(file)) if file.is_file() else None, why_it_ended(read_final(path) or {}),
            ))  # fmt: skip
        left = max(0.0, 1 - (self.spent() + self.reserve.after) / self.budget.amount)
        return dataclasses.replace(at_start, nodes=tuple(nodes), left=left)

    def parts(self) -> list[tuple[str, dict[str, Any]]]:
        """(what, ledger) of everything so far."""
        looks = {name: entry["ledger"] for name, entry in self.seen["looks"].items() if entry}
        out = [("first look: lengths and pace", self.seen["measured"]["ledger"])]
        out += [(f"look at {name}", ledger) for name, ledger in looks.items()]
        out += [(f"look at expert {name}", entry["ledger"]) for name, entry in others(self.seen).items()]
        for path in sorted((self.folder / "phases").glob("*-*"), key=lambda p: int(p.name.partition("-")[0])):
            out.append((path.name, read_ledger(path)))
            if self.look_file(path.name).is_file():
                out.append((f"look at {path.name}", read_json(self.look_file(path.name))["ledger"]))
        return out

    def spent(self) -> float:
        return sum(self.budget.spent(ledger) for _, ledger in self.parts())

    def money(self, lines: list[dict[str, Any]]) -> Money:
        named = [(what, ledger) for what, ledger in self.parts() if "look" in what]
        of_experts = [ledger for what, ledger in named if "chosen" in self.seen and what.startswith("look at expert")]
        looks = [ledger for _, ledger in named if not any(ledger is other for other in of_experts)]
        if not lines and of_experts:
            looks = of_experts
        looks = looks[-1:] if any(line["training"] for line in lines) else looks
        evidence, seconds = (sum(f(x) for x in looks) for f in (self.budget.spent, lambda x: x["eval_seconds"]))
        return Money(self.budget.amount, self.spent(), evidence, seconds)

    # -- the result ---------------------------------------------------------------------------------------------

    def write(self, state: str, final: dict[str, Any] | None = None) -> dict[str, Any]:
        """auto.json, and what it holds."""
        over = [line for line in read_decisions(self.folder) if self._is_over(line)]
        return write_auto(
            self.folder, state, self.config, self.budget, self.seen, self.policy, self.gains, self.known(over),
            self.parts(), final,
        )  # fmt: skip

    def _is_over(self, line: dict[str, Any]) -> bool:
        return bool(line["training"]) and is_done(self.place(line))

    def _outcome(self) -> tuple[str, dict[str, Any]]:
        """(the best model's name, the ledger of everything)."""
        known = self.known([line for line in read_decisions(self.folder) if line["training"]])
        parts = self.parts()
        return known.best.name, {name: sum(part.get(name, 0) for _, part in parts) for name in Ledger().as_dict()}

    def result(self) -> None:
        """The best model with its evaluation on held-out prompts, its card, auto.json and the page."""
        best, ledger = distributed.first(self._outcome)
        model = self.shared.student if best == START else str(self.folder / "phases" / best)
        c = resolve(dataclasses.replace(
            here(self.shared), method=OFFLINE, final_prompts=self.config.final_prompts,
            final_samples=self.config.final_samples, eval_divergences=False,
        ))  # fmt: skip
        task = load_task(c.task)
        student = load_model(model, "student", c, task)
        everything = Ledger(**ledger)
        evaluator = Evaluator(c, task, student, lazy_expert(c, task, student), self.run, everything, self.progress)
        final = evaluator.final(everything.updates)
        distributed.first(lambda: write_json(self.folder / "ledger.json", ledger))
        self.run.describe(student=student.describe(), best=best)
        summary = distributed.first(lambda: self.write("done", final))

        def save(target: Path) -> None:
            if not distributed.is_main():
                return
            if best == START:
                student.save(target)
            else:
                copy_model(Path(model) / "final", target)
            text = card(recorded(self.config, self.shared), read_provenance(self.folder), ledger, final)
            text = text.replace("## Recipe", "\n".join([*card_lines(summary), "", "## Recipe"]), 1)
            (target / CARD).write_text(text, encoding="utf-8")

        self.run.finish(save, final | {"selection": {"best": best, "prompts": self.config.look_prompts}})
