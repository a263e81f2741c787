"""understudy auto"""

from __future__ import annotations

from collections.abc import Sequence

from understudy import distributed
from understudy.cli import options
from understudy.cli.several import processes
from understudy.errors import Interrupted
from understudy.routes.auto_config import AutoConfig, checked
from understudy.runs.hub import prepare_push, push
from understudy.terminal import Board, console


def auto_command(args: Sequence[str]) -> int:
    """understudy auto"""
    config = options.parse(
        AutoConfig,
        args,
        "understudy auto",
        "Train the student within a budget and decide on the way: offline first, online while that pays (a guard\n"
        "stops what harms or adds nothing), the best model of all as the result. Every decision is a line of\n"
        "decisions.jsonl with its evidence. Stopped at any time, the same command resumes.",
        epilog="examples\n"
        "  understudy auto --student PATH_OR_HUB_ID --expert PATH_OR_HUB_ID --task countdown --budget 2h\n"
        "  understudy auto --student PATH --expert http://HOST:8000/v1 --task data:path=q.jsonl --budget '$40' \\\n"
        "      --price-per-hour 2.50 --price-per-million 0.80\n"
        "  understudy auto --student PATH --expert solver --budget 3e12 --dry-run",
    )
    config, budget, _ = checked(config)
    is_main = distributed.launched().rank == 0
    if config.push_to_hub and not config.dry_run and is_main:
        prepare_push(config.push_to_hub)  # what the hub refuses is found before anything is spent
    look = f"lengths, pace, and accuracy on {config.look_prompts} fresh prompts"
    if is_main:
        console.print(
            f"budget {budget.text}, in {config.out}: first a look at student and expert ({look})", markup=False
        )
    from understudy.report import auto as page  # only now: these load torch or the drawing kit, which --help must not
    from understudy.routes.auto import auto

    def announce(lines: list[str]) -> None:
        for line in lines:
            console.print(line, markup=False)

    try:
        with processes(), Board() as board:
            path = auto(config, board.progress, lambda line: board.progress("note", 0, 0, line), announce)
    except Interrupted as stop:
        if is_main:
            console.print(f"interrupted: {stop}", markup=False)
        return stop.code
    if config.dry_run or not is_main:
        return 0
    report = page.build(path)
    console.print(page.terminal(path, console.width))
    for sentence in page.finding(path):
        console.print(f"- {sentence}", markup=False)
    console.print(f"model: {path / 'final'}\nreport: {report}", markup=False)
    if config.push_to_hub:
        console.print(f"pushed: {push(path, config.push_to_hub)}", markup=False)
    return 0
