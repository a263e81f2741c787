"""Options of a comparison and of the demo. Without torch, so that --help is fast."""

from __future__ import annotations

from dataclasses import InitVar, dataclass

from understudy.diagnosis.config import BUDGET


@dataclass(frozen=True)
class CompareConfig:
    student: str = ""
    """Initial model of every student: a model directory, run directory or hub id. {seed} is replaced by the seed."""
    experts: tuple[str, ...] = ()
    """LABEL=SPEC each: a model or a programmatic expert. {seed} is replaced by the seed."""
    routes: tuple[str, ...] = ("sft", "opd_full", "sft+opd_full", "sft+gkd")
    """Methods, and routes of several: sft+opd_full, sft:40%+gkd (see understudy train --help). NAME:field=value,...
    changes a field for one of them and is flagged: sft:updates=1000."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of prompts, samples and their order."""
    task: str = "countdown"
    """Prompts and verifier, with options, such as `countdown:max_number=9`."""
    out: str = "runs/compare"
    """Directory of the runs and of the report."""
    axis: str = "flops"
    """Quantity that is equal for all runs: flops, updates (and prompts), or any other column of the ledger."""
    budget: float = 0.0
    """Amount of the axis that each run may use. 0 = on axis flops (and on any other where a route has several phases)
    what `updates` updates of opd_full are expected to spend, else as many updates as the runs have."""
    set: tuple[str, ...] = ()
    """field=value for every run (see understudy train --help): updates=200 lr=1e-3."""
    diagnose: bool = True
    """Diagnose each expert before the runs, and show the verdict beside the outcome (where sft and opd_full, or opd,
    are compared at the usual budget). --no-diagnose leaves it out."""
    diagnose_budget: str = BUDGET
    """Largest cost of a diagnosis, as a share of both trainings (FLOPs)."""
    workers: int = 2
    """Runs at the same time."""
    launcher: str = "local"
    """Where runs are started: local processes, or a ray cluster (RAY_ADDRESS, or one on this machine)."""
    strict: bool = False
    """Refuse runs that differ in more than the studied field, instead of flagging them."""
    dry_run: bool = False
    """Print the runs with their cost and time, from a short look at the models, and stop. Writes nothing."""
    methods: InitVar[tuple[str, ...]] = ()
    """The same as `routes`, by its former name."""

    def __post_init__(self, methods: tuple[str, ...]) -> None:
        if methods:
            object.__setattr__(self, "routes", tuple(methods))


@dataclass(frozen=True)
class DemoConfig:
    seeds: int = 1
    """Independent repetitions, each with its own base and experts: 3 for the full picture."""
    quick: bool = False
    """Only the hidden-search expert, fewer updates, smaller evaluations. It shows nothing about realizable experts."""
    full: bool = False
    """All four experts, and hidden search offline also with five times the updates. Always so with several seeds."""
    diagnose: bool = True
    """Diagnose each expert before the runs, and show the verdict beside the outcome."""
    first_seed: int = 300
    """Seeds are first_seed, first_seed + 1, ... The settings were chosen on seeds below 300."""
    split_seed: int = 2028
    """Selects the problems that are held out. The settings were chosen on split_seed 0, 2026 and 2027."""
    out: str = ""
    """Output directory. Default: runs/demo, runs/demo-quick. The same command again resumes."""
    workers: int = 2
    """Runs at a time: one per core."""
