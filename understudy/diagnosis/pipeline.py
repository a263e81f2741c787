"""The stages of a diagnosis: preflight, headroom, measures, pilots, verdict, in that order, in one resumable directory.

runs/diagnose-solver-0/
  config.json provenance.json status.json    as of any run
  data/                                      completions and scores, made once
  pilots/sft-64/ pilots/opd-256/ ...         short trainings: run directories like any other
  diagnosis.json                             the answer, with everything it rests on
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from understudy.config import Resolved
from understudy.diagnosis import preflight as preflight_
from understudy.diagnosis.config import VOLATILE, DiagnoseConfig, full_training, share
from understudy.diagnosis.cost import Sizes, timed
from understudy.diagnosis.forecast import judge
from understudy.diagnosis.glossary import MEANINGS, assumptions
from understudy.diagnosis.measures import evidence
from understudy.diagnosis.measures.collect import Setting, Table, can_continue, collect, prompts, takeover
from understudy.diagnosis.outcome import MARGIN
from understudy.diagnosis.pilots.controls import controls, prices
from understudy.diagnosis.pilots.estimates import ahead, floor, start
from understudy.diagnosis.pilots.pilot import Pilots
from understudy.diagnosis.types import VERSION, Check, Control, Cost, Diagnosis, Evidence, PilotPoint
from understudy.errors import UserError
from understudy.experts import load_expert
from understudy.policy import load_policy, resolve_device
from understudy.runs.directory import RunDir, to_stderr
from understudy.runs.files import plain, read_json, write_json
from understudy.runs.provenance import device_name, provenance
from understudy.runs.read import differences, is_run, read_config
from understudy.tasks import load_task
from understudy.terminal import Progress

FILE = "diagnosis.json"
MEASURING = 0.22
"""Of the budget, what samples, scores and takeovers may take; the rest is the pilots'."""
LEAST = 24
"""Prompts to measure on, however small the budget."""


def run(config: DiagnoseConfig, show: Progress, note: Callable[[str], None] = to_stderr) -> Diagnosis:
    """`config` as `checked` gives it."""
    path = Path(config.out)
    found = read(path, config) if (path / FILE).is_file() else None
    if found is None:
        found = _made(config, show, note)
    else:
        costs = _timed(found.costs, found.setting["paces"], config.device_flops)
        found = dataclasses.replace(found, costs=costs, setting=found.setting | _machine(config))
    write_json(path / FILE, found.to_dict())
    return found


def read(path: Path, config: DiagnoseConfig | None = None) -> Diagnosis:
    """A finished diagnosis; UserError if it is damaged, or not of `config`."""
    if config is not None and is_run(path):
        changed = differences(read_config(path), asdict(config), VOLATILE, asdict(DiagnoseConfig()))
        if changed:
            hint = f"holds another diagnosis: {', '.join(changed[:6])}; choose another --out"
            raise UserError("out", path, hint)
    return Diagnosis.from_dict(read_json(path / FILE, "diagnosis"))


def _made(config: DiagnoseConfig, show: Progress, note: Callable[[str], None]) -> Diagnosis:
    torch.set_num_threads(1)
    offline = full_training(config, "sft")
    setting, online = _loaded(config, offline)
    show("preflight", 0, 1, "")
    checks = preflight_.preflight(setting, config.expert)
    preflight_.block(checks)

    def made() -> dict[str, Any]:
        return provenance(device=str(resolve_device(config.device)))

    with RunDir.open(
        config.out, asdict(config), made, volatile=VOLATILE, defaults=asdict(DiagnoseConfig()), note=note
    ) as directory:
        done = _Stages(config, setting, offline, online, directory, show).diagnosis(checks)
        directory.status("done")
    return done


def _loaded(config: DiagnoseConfig, offline: Resolved) -> tuple[Setting, Resolved | None]:
    """(who and what, the online training or None where the expert's capabilities allow none)."""
    task = load_task(config.task)
    student = load_policy(
        config.student, "student", task.tokenizer(), config.seed, offline.device, offline.dtype,
        config.trust_remote_code,
    )  # fmt: skip
    # measured as it is: the training's own sampling transforms belong to no divergence
    expert = load_expert(dataclasses.replace(offline.expert_spec, temperature=1.0, top_p=1.0), task, student)
    if "sample" not in expert.capabilities:
        raise UserError("expert", config.expert, "cannot be sampled: there is nothing to imitate offline")
    weights = config.expert_parameters
    if not weights and expert.policy is not None:
        weights = expert.policy.describe()["parameters"]
    sizes = Sizes(student.describe()["parameters"], weights)
    room = offline.max_new_tokens or task.max_new_tokens
    reward = config.verifier and task.verified
    online = None
    if "score" in expert.capabilities:
        online = full_training(config, "opd_full" if "distribution" in expert.capabilities else "opd")
    return Setting(task, student, expert, sizes, room, config.seed, reward), online


class _Stages:
    """The stages after the preflight, in order."""

    def __init__(
        self, config: DiagnoseConfig, setting: Setting, offline: Resolved, online: Resolved | None,
        directory: RunDir, show: Progress,
    ) -> None:  # fmt: skip
        self.config, self.setting, self.directory, self.show = config, setting, directory, show
        self.offline, self.online, self.share = offline, online, share(config.budget)
        self.sequences = offline.updates * offline.prompts_per_update
        self.spent = Cost()

    def diagnosis(self, checks: tuple[Check, ...]) -> Diagnosis:
        config, setting = self.config, self.setting
        most = math.ceil(min(1.0, 2 * self.share) * self.sequences)  # training prompts that a pilot may see
        self.show("measures", 0, 3, "student samples")
        some, shared = prompts(setting, self._affordable(), most)
        student = collect(setting, self.directory, some, config.samples, "student", "student")
        self.show("measures", 1, 3, "expert samples")
        expert = collect(setting, self.directory, some, config.expert_samples, "expert", "expert")
        self.show("measures", 2, 3, "takeover")
        taken, took = takeover(setting, self.directory, student)
        self.spent += student.cost + expert.cost + took + self._preflight_cost(student)
        self.show("measures", 3, 3, "")
        measures = evidence.measures(student, expert, taken)
        stopped = judge.NO_HEADROOM if judge.no_headroom(measures) else ""
        series = evidence.series(setting.task, student, expert)
        full = self._full(expert, float(student.length.mean()))
        points: list[PilotPoint] = []
        checked_: dict[str, Control] = {}
        paces: dict[str, Cost] = {}
        budget = {"updates": self.offline.updates, "sequences": self.sequences / self.offline.updates,
                  "share": self.share}  # fmt: skip
        if not stopped and config.pilots:
            points, checked_, full, found = self._pilots(student, expert, full, most)
            paces = {p.kind: p.cost for p in points if p.label == "curve"}
            series["online_reward"] = found.pop("rewards")
            measures |= found.pop("at_work")
            series["floor_curve"] = ahead(points, self.sequences)
            budget |= found
        seen = Evidence(
            measures,
            tuple(points),
            floor(points),
            checked_,
            {k: float(v) for k, v in budget.items()},
            setting.reward,
            tuple(sorted(setting.expert.capabilities)),
        )
        known = {
            "offline": self.offline.method, "online": self.online.method if self.online else None,
            "prompts_measured": len(some), "stopped": stopped, "margin": MARGIN,
            "paces": {k: v.to_dict() for k, v in (paces | {"diagnosis": self.spent}).items()},
            "parameters": {"student": setting.sizes.student, "expert": setting.sizes.expert},
            "mechanism": setting.expert.provenance.get("mechanism", ""), "meanings": plain(MEANINGS),
        }  # fmt: skip
        costs = _timed({"diagnosis": self.spent} | full, known["paces"], config.device_flops)
        return Diagnosis(
            VERSION, plain(asdict(config)) | known | _machine(config), checks, seen,
            judge.judge(seen), costs, series,
            assumptions(config, seen, shared, len(some), can_continue(setting.expert)),
        )  # fmt: skip

    def _affordable(self) -> int:
        """Prompts to measure on. Lengths of student and expert are taken to be alike, as nothing is known yet."""
        c, n, e = self.config, self.setting.sizes.student, self.setting.sizes.expert
        caps = self.setting.expert.capabilities
        score = e if "score" in caps else 0.0
        each = c.samples * (4 * n + 2 * score) + c.expert_samples * (2 * n + 2 * e + 2 * score)
        if can_continue(self.setting.expert) and self.setting.reward:
            each += 6 * (e + n)
        both = (2 * e + 6 * n) + (2 * e + 8 * n if self.online is not None else 0)
        n_prompts = MEASURING * self.share * self.sequences * both / each
        return int(min(c.prompts, max(LEAST, n_prompts)))

    def _preflight_cost(self, student: Table) -> Cost:
        tokens = preflight_.FEW * float(student.length.mean())
        return self.setting.sizes.cost(expert_scored=2 * tokens, sampled=tokens)

    def _full(self, expert: Table, student_length: float) -> dict[str, Cost]:
        """Both full trainings: offline at the expert's length, online at so many tokens a completion."""
        sizes = self.setting.sizes
        out = {"sft": sizes.sft(self.sequences, float(expert.length.mean()), self.offline.prompt_pool)}
        if self.online is not None:
            out["opd"] = sizes.opd(self.sequences, student_length)
        return out

    def _pilots(
        self, student: Table, expert: Table, full: dict[str, Cost], most: int
    ) -> tuple[list[PilotPoint], dict[str, Control], dict[str, Cost], dict[str, Any]]:
        """(points, controls, full trainings as priced after the online pilot, {rewards, at_work, ...})."""
        pilots = Pilots(self.setting, self.directory, self.offline, self.online, expert, self.show)
        count, length = len(student.reward), float(student.length.mean())
        wanted = self.config.controls != "none" and "score" in self.setting.expert.capabilities

        def reserve(n: int, some: int) -> float:
            return sum(prices(pilots, n, some).values()) if wanted else 0.0

        def flops() -> float:
            spent = self.spent.flops + pilots.spent.flops
            return self.share * sum(c.flops for c in full.values()) - spent

        size = pilots.prices(length).fit(flops(), most, count, reserve)
        pilots.prompts = [r.prompt for r in student.rollouts if r.sample == 0][: size.prompts]
        points: list[PilotPoint] = []
        if size.sequences:
            kinds = ["sft"] + (["opd"] if self.online is not None else [])
            points = [start(kind, student, expert, size.prompts) for kind in kinds]
            online = pilots.online_point(size, length)
            if online:
                gain = _gain(points[-1], online[-1])
                length = pilots.online_length(size, length, gain)
                full = self._full(expert, length)
                size = pilots.prices(length).fit(flops(), most, count, reserve, size)
            points += pilots.offline_points(size) + online
        found = controls(pilots, size, self.config.controls)
        self.spent += pilots.spent
        facts = {
            "rewards": pilots.rewards(size),
            "at_work": pilots.at_work(size),
            "pilot_batch": size.batch,
            "pilot_sequences": size.sequences,
        }
        return points, found, full, facts


def _gain(before: PilotPoint, after: PilotPoint) -> float:
    """In accuracy; 0 where no verifier tells."""
    if before.accuracy is None or after.accuracy is None:
        return 0.0
    return after.accuracy.value - before.accuracy.value


def _timed(costs: dict[str, Cost], paces: dict[str, Any], device_flops: float) -> dict[str, Cost]:
    """Hours of the full trainings at the pilots' pace, or of everything on the accelerator that was named."""
    out = {}
    for name, cost in costs.items():
        pace = Cost.from_dict(paces[name]) if name in paces else None
        out[name] = timed(cost, pace, device_flops)
        if name == "diagnosis" and not device_flops and pace is not None:
            out[name] = dataclasses.replace(cost, seconds=pace.seconds)  # as it was
    return out


def _machine(config: DiagnoseConfig) -> dict[str, Any]:
    named = f"an accelerator that sustains {config.device_flops:.3g} FLOP/s"
    here = device_name(str(resolve_device(config.device)))
    return {"machine": named if config.device_flops else f"this machine ({here})", "device_flops": config.device_flops}
