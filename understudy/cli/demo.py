"""understudy demo"""

from __future__ import annotations

from collections.abc import Sequence

from understudy.cli import options
from understudy.experiments.config import DemoConfig
from understudy.terminal import console


def demo_command(args: Sequence[str]) -> int:
    """understudy demo"""
    config = options.parse(
        DemoConfig,
        args,
        "understudy demo",
        "The paper's central experiment on this machine: tiny Hugging Face models made on the spot, Countdown with a\n"
        "verifier, an expert that the student can represent and one that it cannot, a diagnosis, then offline,\n"
        "online and offline-then-online imitation at equal FLOPs. Ends with a table, the finding in words, and the\n"
        "path of report.html.",
        epilog="examples\n"
        "  understudy demo --quick\n"
        "  understudy demo\n"
        "  understudy demo --seeds 3     (all four experts)",
    )
    from understudy.experiments.demo import plan_of  # only now: torch, which --help must not load
    from understudy.experiments.plan import run_plan

    plan = plan_of(config, ["understudy", "demo", *args])
    console.print(f"{len(plan.jobs())} runs, {config.workers} at a time, in {plan.out}", markup=False)
    run_plan(plan, config.workers)
    return 0
