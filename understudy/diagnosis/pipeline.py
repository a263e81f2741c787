"""The stages of a diagnosis: preflight, headroom, measures, pilots, verdict, in that order, in one resumable directory.

runs/diagnose-solver-0/
  config.json provenance.json status.json    as of any run
  data/                                      completions and scores, cached
  pilots/sft-64/ pilots/opd-256/ ...         short trainings: run directories like any other
  diagnosis.json                             the answer, with everything it rests on
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from understudy.config import Resolved
from understudy.diagnosis.config import VOLATILE, DiagnoseConfig, full_training, share
from understudy.diagnosis.cost import Sizes, timed
from understudy.diagnosis.forecast import judge
from understudy.diagnosis.forecast.recommend import recommended
from understudy.diagnosis.glossary import MEANINGS, OF_SEVERAL, assumptions
from understudy.diagnosis.measures import evidence
from understudy.diagnosis.measures.collect import Setting, Table, can_continue, collect, draw_prompts, takeover
from understudy.diagnosis.measures.gradients import graded
from understudy.diagnosis.outcome import MARGIN
from understudy.diagnosis.pilots.controls import controls, prices
from understudy.diagnosis.pilots.estimates import start
from understudy.diagnosis.pilots.learning_curve import ahead, floor
from understudy.diagnosis.pilots.pilot import Pilots
from understudy.diagnosis.plan import LOOK, Plan, beforehand, full_costs, look, make
from understudy.diagnosis.preflight import FEW, block, preflight
from understudy.diagnosis.types import FILE, VERSION, Check, Control, Cost, Diagnosis, Estimate, Evidence, PilotPoint
from understudy.errors import UserError
from understudy.experts import load_expert
from understudy.policy import load_policy, resolve_device
from understudy.policy.room import check_lengths
from understudy.runs.directory import RunDir, to_stderr
from understudy.runs.files import plain, write_json
from understudy.runs.provenance import device_name, provenance
from understudy.runs.read import differences, is_run, read_config
from understudy.tasks import load_task
from understudy.terminal import Progress
from understudy.training.checks import check_assignment

PROMPTS = 64
"""Prompts whose mean length the costs rest on."""
Announce = Callable[[Plan], None]


def silent(plan: Plan) -> None:
    """An Announce that does nothing."""


def run(
    config: DiagnoseConfig, progress: Progress, note: Callable[[str], None] = to_stderr, announce: Announce = silent
) -> Diagnosis:
    """Writes diagnosis.json to config.out; a finished diagnosis is read, and only its hours are worked out again.

    config: as `checked` returns it. announce: called with the plan before anything is written. UserError for a failed
    preflight check, and where config.out holds another diagnosis.
    """
    directory = Path(config.out)
    if (directory / FILE).is_file():
        result = _finished(directory, config)
    else:
        result = _diagnosed(config, progress, note, announce)
    write_json(directory / FILE, result.to_dict())
    return result


def _finished(directory: Path, config: DiagnoseConfig) -> Diagnosis:
    if is_run(directory):
        changed = differences(read_config(directory), asdict(config), VOLATILE, asdict(DiagnoseConfig()))
        if changed:
            hint = f"holds another diagnosis: {', '.join(changed[:6])}; choose another --out"
            raise UserError("out", directory, hint)
    result = Diagnosis.load(directory)
    costs = _timed(result.costs, result.setting["paces"], config.device_flops)
    return recommended(dataclasses.replace(result, costs=costs, setting=result.setting | _machine(config)))


def planned(config: DiagnoseConfig, progress: Progress, announce: Announce = silent) -> Plan:
    """What `run` would do and cost; nothing is written. announce, UserError: as there."""
    return opened(config, progress, announce).plan


@dataclass(frozen=True)
class Opened:
    """A diagnosis that may begin."""

    setting: Setting
    offline: Resolved
    online: Resolved | None
    checks: tuple[Check, ...]
    plan: Plan

    @property
    def trained(self) -> int:
        """Training prompts that a pilot may see."""
        return math.ceil(min(1.0, 2 * self.plan.share) * self.offline.updates * self.offline.prompts_per_update)


def opened(
    config: DiagnoseConfig, progress: Progress, announce: Announce = silent, beside: Setting | None = None,
    grade: bool = False,
) -> Opened:  # fmt: skip
    """Models loaded, checked and looked at. beside: of another expert, with the same task and student. grade: measure
    the gradient score too. UserError: it cannot be diagnosed."""
    torch.set_num_threads(1)
    offline = full_training(config, "sft")
    progress("loading", 0, 1, "models")
    setting, online, loading = _loaded(config, offline, beside)
    setting = dataclasses.replace(setting, graded=grade)
    plan = beforehand(config, setting, offline, online)
    if plan is not None:
        announce(plan)  # which may end it here, before anything is sampled
    progress("preflight", 0, 1, "")
    checks = preflight(setting, config.expert)
    block(checks)
    if plan is None:
        progress("plan", 0, 1, "a look at a few completions")
        prompts, _ = draw_prompts(setting, LOOK, 0)
        plan = make(config, setting, offline, online, look(setting, prompts, loading))
        announce(plan)
    return Opened(setting, offline, online, checks, plan)


def _diagnosed(
    config: DiagnoseConfig, progress: Progress, note: Callable[[str], None], announce: Announce
) -> Diagnosis:  # fmt: skip
    return carried_out(config, opened(config, progress, announce), progress, note)


def carried_out(
    config: DiagnoseConfig, begun: Opened, progress: Progress, note: Callable[[str], None]
) -> Diagnosis:  # fmt: skip
    """The stages after the plan, in config.out, where another process may have left some of them."""
    setting, offline, online, checks, plan = begun.setting, begun.offline, begun.online, begun.checks, begun.plan
    if not plan.fits:
        note(f"budget {config.budget} {plan.refusal}")

    def origin() -> dict[str, Any]:
        return provenance(device=str(resolve_device(config.device)))

    with RunDir.open(
        config.out, asdict(config), origin, volatile=VOLATILE, defaults=asdict(DiagnoseConfig()), note=note
    ) as directory:
        stages = _Stages(config, setting, offline, online, directory, progress, plan)
        result = stages.diagnosis(checks, begun.trained)
        directory.status("done")
    return result


def _loaded(
    config: DiagnoseConfig, offline: Resolved, beside: Setting | None
) -> tuple[Setting, Resolved | None, float]:  # fmt: skip
    """(models and task, the online training or None where the expert's capabilities allow none, seconds that loading
    the student took)."""
    task = beside.task if beside else load_task(config.task)
    began = time.perf_counter()
    student = beside.student if beside else load_policy(
        config.student, "student", task.tokenizer(), config.seed, offline.device, offline.dtype,
        config.trust_remote_code,
    ).add_stop_tokens(task.stop)  # fmt: skip
    loading = time.perf_counter() - began
    check_assignment(offline, task)
    # without transforms: the training's own sampling transforms belong to no divergence
    expert = load_expert(dataclasses.replace(offline.expert_spec, temperature=1.0, top_p=1.0), task, student)
    if "sample" not in expert.capabilities:
        raise UserError("expert", config.expert, "cannot be sampled: there is nothing to imitate offline")
    weights = config.expert_parameters
    weights = weights or expert.provenance.get("parameters") or 0
    seen = student.encode(task.prompts("train", PROMPTS, config.seed))
    sizes = Sizes(
        student.describe()["parameters"],
        weights,
        sum(len(p.ids) for p in seen) / len(seen),
        sum(expert.prompt_tokens([p]) for p in seen) / len(seen),
    )
    room = offline.max_new_tokens or task.max_new_tokens
    check_lengths(task, student, ("train", "test"), room)
    online = None
    if "score" in expert.capabilities:
        online = full_training(config, "opd_full" if "distribution" in expert.capabilities else "opd")
    drawn = beside.drawn if beside else {}
    reward = config.verifier and task.verified
    return Setting(task, student, expert, sizes, room, config.seed, reward, drawn=drawn), online, loading


@dataclass
class _PilotResults:
    """full: costs of the full trainings; facts: what Evidence.budget says of the pilots."""

    full: dict[str, Cost]
    points: list[PilotPoint] = field(default_factory=list)
    controls: dict[str, Control] = field(default_factory=dict)
    measures: dict[str, Estimate] = field(default_factory=dict)
    rewards: list[list[float]] | None = None
    facts: dict[str, float] = field(default_factory=dict)


class _Stages:
    """The stages after the preflight, in order."""

    def __init__(
        self, config: DiagnoseConfig, setting: Setting, offline: Resolved, online: Resolved | None,
        directory: RunDir, progress: Progress, plan: Plan,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.config, self.setting, self.directory, self.progress = config, setting, directory, progress
        self.offline, self.online, self.share = offline, online, share(config.budget)
        self.sequences = offline.updates * offline.prompts_per_update
        self.spent = Cost()
        self.look = Cost(flops=plan.stages[0].flops, seconds=plan.stages[0].seconds)

    def diagnosis(self, checks: tuple[Check, ...], most: int) -> Diagnosis:
        """most: training prompts that a pilot may see."""
        config, setting = self.config, self.setting
        self.progress("measures", 0, 3, "student samples")
        prompts, shared = draw_prompts(setting, self.plan.prompts, most)
        student = collect(setting, self.directory, prompts, config.samples, "student", "student")
        self.progress("measures", 1, 3, "expert samples")
        expert = collect(setting, self.directory, prompts, config.expert_samples, "expert", "expert")
        self.progress("measures", 2, 3, "takeover")
        continuations, cost = takeover(setting, self.directory, student)
        self.plan.happened("measure", student.cost + expert.cost + cost)
        self.spent += student.cost + expert.cost + cost + self._preflight_cost(student, checks) + self.look
        self.progress("measures", 3, 3, "")
        measures = evidence.measures(student, expert, continuations)
        if setting.graded:
            measures["gradient_score"], cost = graded(setting, self.directory, expert)
            self.spent += cost
        series = evidence.series(setting.task, student, expert)
        stopped = judge.NO_HEADROOM if judge.no_headroom(measures) else ""
        pilots = _PilotResults(self._full(expert, float(student.length.mean())))
        if not stopped and config.pilots:
            pilots = self._pilots(student, expert, pilots.full, most)
            series |= {"online_reward": pilots.rewards, "floor_curve": ahead(pilots.points, self.sequences)}
        budget = {"updates": self.offline.updates, "sequences": self.sequences / self.offline.updates,
                  "share": self.share} | pilots.facts  # fmt: skip
        seen = Evidence(
            measures | pilots.measures, tuple(pilots.points), floor(pilots.points), pilots.controls,
            {k: float(v) for k, v in budget.items()}, setting.reward, tuple(sorted(setting.expert.capabilities)),
        )  # fmt: skip
        paces = {p.kind: p.cost for p in pilots.points if p.label == "curve"} | {"diagnosis": self.spent}
        facts = {
            "offline": self.offline.method, "online": self.online.method if self.online else None,
            "prompts_measured": len(prompts), "stopped": stopped, "margin": MARGIN,
            "lengths": self._lengths(student, expert, pilots.full),
            "paces": {k: v.to_dict() for k, v in paces.items()},
            "parameters": {"student": setting.sizes.student, "expert": setting.sizes.expert},
            "plan": plain(self.plan.to_dict()),
            "mechanism": setting.expert.provenance.get("mechanism", ""), "meanings": plain(MEANINGS | OF_SEVERAL),
        }  # fmt: skip
        found = Diagnosis(
            VERSION, plain(asdict(config)) | facts | _machine(config), checks, seen, judge.judge(seen),
            _timed({"diagnosis": self.spent} | pilots.full, facts["paces"], config.device_flops), series,
            assumptions(config, seen, shared, len(prompts), can_continue(setting.expert)),
        )  # fmt: skip
        return recommended(found)

    def _lengths(self, student: Table, expert: Table, full: dict[str, Cost]) -> dict[str, float]:
        """Mean tokens of a prompt, and of a completion in online and in offline training."""
        prompts = [len(r.prompt.ids) for r in student.rollouts if r.sample == 0]
        online = full["opd"].student_tokens_trained / self.sequences if "opd" in full else float(student.length.mean())
        prompt, as_expert = sum(prompts) / len(prompts), self.setting.sizes.expert_prompt
        more = {"expert_prompt": as_expert} if self.setting.expert.own_prompts else {}
        return {"prompt": prompt, "student": online, "expert": float(expert.length.mean())} | more

    def _preflight_cost(self, student: Table, checks: tuple[Check, ...]) -> Cost:
        tokens, sizes = FEW * float(student.length.mean()), self.setting.sizes
        cost = sizes.cost(expert_scored=2 * tokens, sampled=tokens, prompts=(2 * FEW, FEW, 0))
        if any("behind" in c.value for c in checks):  # the expert was sampled twice per prompt, behind either template
            cost += sizes.cost(expert_sampled=4 * tokens, prompts=(2 * FEW, 0, 0))
        return cost

    def _full(self, expert: Table, student_length: float) -> dict[str, Cost]:
        length = float(expert.length.mean())
        return full_costs(self.setting.sizes, self.offline, self.online is not None, student_length, length)

    def _pilots(self, student: Table, expert: Table, full: dict[str, Cost], most: int) -> _PilotResults:
        """`full` is priced again after the online pilot, which shows how long online completions become."""
        pilots = Pilots(self.setting, self.directory, self.offline, self.online, expert, self.progress)
        count, length = len(student.reward), float(student.length.mean())
        controlled = self.config.controls != "none" and "score" in self.setting.expert.capabilities

        def reserve(sequences: int, prompts: int) -> float:
            of = prices(self.setting.sizes, self.offline, float(expert.length.mean()), sequences, prompts)
            return sum(of.values()) if controlled else 0.0

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
            self.plan.happened("online", pilots.spent)
            if online:
                length = pilots.online_length(size, length, _gain(points[-1], online[-1]))
                full = self._full(expert, length)
                size = pilots.prices(length).fit(flops(), most, count, reserve, size)
            before = pilots.spent
            points += pilots.offline_points(size) + online
            self.plan.happened("offline", _less(pilots.spent, before))
        before = pilots.spent
        results = controls(pilots, size, self.config.controls)
        self.plan.happened("controls", _less(pilots.spent, before))
        self.spent += pilots.spent
        facts: dict[str, float] = {"pilot_batch": size.batch, "pilot_sequences": size.sequences}
        return _PilotResults(full, points, results, pilots.at_work(size), pilots.rewards(size), facts)


def _less(cost: Cost, before: Cost) -> Cost:
    return Cost(*(getattr(cost, f.name) - getattr(before, f.name) for f in dataclasses.fields(Cost)))


def _gain(before: PilotPoint, after: PilotPoint) -> float:
    """In accuracy; 0 without a verifier."""
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
            out[name] = dataclasses.replace(cost, seconds=pace.seconds)  # measured
    return out


def _machine(config: DiagnoseConfig) -> dict[str, Any]:
    named = f"an accelerator that sustains {config.device_flops:.3g} FLOP/s"
    here = device_name(str(resolve_device(config.device)))
    return {"machine": named if config.device_flops else f"this machine ({here})", "device_flops": config.device_flops,
            "price_per_hour": config.price_per_hour, "price_per_million": config.price_per_million}  # fmt: skip
