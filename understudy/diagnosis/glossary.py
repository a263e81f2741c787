"""What each number means, in plain words, and what a diagnosis takes for granted."""

from __future__ import annotations

from understudy.diagnosis.config import DiagnoseConfig
from understudy.diagnosis.types import Evidence

MEANINGS: dict[str, tuple[str, str]] = {
    "student_accuracy": ("student's accuracy", "share right now, before training"),
    "expert_accuracy": ("expert's accuracy", "what there is to learn from"),
    "headroom": ("headroom", "expert minus student on the same prompts: nothing to gain where it is 0"),
    "kl_student_expert": ("reverse KL", "how strange the student's texts are to the expert; OPD lowers it"),
    "kl_expert_student": ("forward KL", "how strange the expert's texts are to the student; SFT lowers it"),
    "gap_nats": ("preference for right", "nats by which the expert prefers the student's right answers"),
    "auc": ("ranking", "how often it puts a right answer above a wrong one; 0.5 is a coin"),
    "tilt_ceiling": ("ceiling of re-weighting", "accuracy if the student only re-weighs its own answers"),
    "takeover_gain": ("gain of taking over", "expert minus student from the student's own beginnings"),
    "expert_at_work": ("expert in the SFT pilot", "its accuracy on what the SFT pilot learnt from"),
    "online_accuracy": ("online pilot at work", "its accuracy at its end, on what it was about to learn from"),
    "online_trend": ("online pilot's rise", "gain of that accuracy per doubling of what it had seen"),
}
"""Name -> (label, meaning)."""
OF_SEVERAL = {
    "gradient_score": (
        "gradient score",
        "how alike the student's gradients on the expert's text are, and how small; lower is better",
    )
}
"""Likewise of what is measured only where several experts are compared."""


def assumptions(config: DiagnoseConfig, seen: Evidence, shared: int, prompts: int, steps: bool) -> tuple[str, ...]:
    """What the verdict rests on and cannot check."""
    out = [
        "Prompts are drawn from the task's train stream under another seed, never from its test split.",
        f"The full training is {config.updates} updates of {config.prompts_per_update} prompts; another length, "
        "learning rate or model would need its own diagnosis.",
        "The pilots' updates are smaller than the full training's, and their schedule is shrunk to their length.",
        "How accuracy goes on after the pilots is predicted, not known; that of the online route is an estimate.",
        "Whether the student can represent the expert cannot be decided from finite data; floors and controls only "
        "make it more or less likely.",
    ]
    if shared:
        out.append(f"The task has few problems: {shared} of {prompts} prompts are among the pilots' training prompts.")
    if not seen.has_verifier:
        out.append(
            "No reward is known here: distances and learning curves are measured, but not whether getting nearer to "
            "the expert means getting better, nor which route ends at the higher accuracy."
        )
    if "score" not in seen.capabilities:
        out.append(
            "The expert only gives samples: no distance can be measured, and online training toward its scores is not "
            "possible at all; only the offline route, and its accuracy, can be judged."
        )
    elif not steps:
        out.append(
            "The expert gives scores of tokens but no distributions: divergences are noisier, and it cannot go on from "
            "a student's beginning."
        )
    return tuple(out)
