"""What an expert of another family costs beside one of the student's family, on the same texts.

    PYTHONPATH=. python -m benchmarks.foreign            (a minute on one thread)

Two models of random weights, four layers of 256, on Countdown's solutions: one writes digits, one pairs of digits. For
each as the student, the other one scores (opd) and gives distributions (opd_full), in turns with a model of the
student's own tokens; processor seconds, the median of the ratios and their range. `per token` divides the ratio by the
expert's tokens per token of the student: what the alignment costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from understudy.experts.foreign.expert import ForeignExpert
from understudy.experts.local import LocalExpert
from understudy.policy import make_scratch
from understudy.protocols import Expert
from understudy.specs import parse_spec
from understudy.tasks import load_task
from understudy.types import Rollout

REPEATS, PROMPTS = 7, 32


@torch.no_grad()
def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def ratios(same: Expert, foreign: Expert, work: Callable[[Expert], object]) -> list[float]:
    """In turns, sorted; the first pair is left out."""
    pairs = [(seconds(lambda: work(same)), seconds(lambda: work(foreign))) for _ in range(REPEATS)]
    return sorted(b / a for a, b in pairs[1:])


def main() -> None:
    torch.set_num_threads(1)
    spec = parse_spec("scratch:width=256,layers=4,heads=4,context=256", "student")
    tasks = [load_task(f"countdown:digits=2,check=true,tokens={name}") for name in ("digits", "pairs")]
    models = [make_scratch(spec, task.tokenizer(), 1) for task in tasks]
    for own, other in ((0, 1), (1, 0)):
        task, student = tasks[own], models[own]
        prompts = student.encode(task.prompts("train", PROMPTS, 0))
        texts = [task.gold(p) for p in prompts]
        rollouts = [
            Rollout(p, 0, (*ids, student.end_ids[0]), (0.0,) * (len(ids) + 1), True, text, "student")
            for p, text, ids in zip(prompts, texts, student.continuations(prompts, texts))
        ]
        same: Expert = LocalExpert(make_scratch(spec, task.tokenizer(), 2))
        foreign = ForeignExpert(LocalExpert(models[other]), models[other], student)
        longer, n = foreign.alignment(rollouts)["expert_tokens"], sum(len(r.ids) for r in rollouts)
        whole, table_NV = slice(0, n), torch.randn(n, student.vocabulary).log_softmax(-1)

        def copies(rollouts: list[Rollout] = rollouts) -> list[Rollout]:
            return [Rollout(**vars(r)) for r in rollouts]  # so that nothing is aligned before

        def score(expert: Expert) -> object:
            return expert.score(copies())

        def compare(expert: Expert, table_NV: torch.Tensor = table_NV, whole: slice = whole) -> object:
            return expert.signal([[r] for r in copies()]).beside(table_NV, whole, 0, "")

        for name, work in (("scores", score), ("distributions", compare)):
            seen = ratios(same, foreign, work)
            print(
                f"{n} tokens, {longer:.2f} of the expert for each, {name}: {median(seen):.2f} "
                f"[{seen[0]:.2f}, {seen[-1]:.2f}], per token {median(seen) / longer:.2f}"
            )


if __name__ == "__main__":
    main()
