"""understudy compare"""

from __future__ import annotations

from collections.abc import Sequence

from understudy.cli import options
from understudy.experiments.config import CompareConfig
from understudy.terminal import Board, console


def compare_command(args: Sequence[str]) -> int:
    """understudy compare"""
    config = options.parse(
        CompareConfig,
        args,
        "understudy compare",
        "Train experts x routes x seeds at equal budgets and draw one report. Finished runs are re-used; stopped at\n"
        "any time, the same command resumes.",
        epilog="example\n"
        "  understudy compare --student runs/base-{seed} --experts rl=runs/grpo-{seed} search=solver \\\n"
        "      --routes sft opd_full sft+opd_full sft:updates=1000 --seeds 0 1 2 --set updates=200 lr=1e-3",
    )
    from understudy.experiments.compare import check_inputs, plan_of  # only now: torch, which --help must not load
    from understudy.experiments.plan import flags, run_plan

    plan = plan_of(config, ["understudy", "compare", *args])
    for flag in flags(plan.runs):
        console.print(f"flag: {flag}", markup=False)
    if config.dry_run:
        from understudy.experiments.dry_run import dry_run
        from understudy.runs.directory import to_stderr

        with Board() as board:
            for line in dry_run(plan, config.workers, board.progress, to_stderr):
                console.print(line, markup=False, soft_wrap=True)
        return 0
    check_inputs(config)
    run_plan(plan, config.workers, launcher=config.launcher)
    return 0
