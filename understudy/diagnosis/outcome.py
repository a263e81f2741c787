"""What a verdict is about: the three answers, and which of them the outcome of both trainings makes true.

student, sft, opd: accuracies before, after full SFT and after full online training with the same budget.
"""

from __future__ import annotations

from typing import Literal

Answer = Literal["offline suffices", "go online", "neither", "undecided"]
ANSWERS: tuple[Answer, ...] = ("offline suffices", "go online", "neither", "undecided")
OFFLINE, ONLINE, NEITHER, UNDECIDED = ANSWERS

OFTEN_WRONG = 0.85
"""Accuracy of an expert below which `auto` tries online training first: samples teach no more than that accuracy."""
ACCURATE, SOON = 0.95, 0.1
"""Accuracy of an expert from which `auto` begins with samples though there are rewards, and what they must gain in its
first phase for more of them to follow."""
MARGIN = 0.05
"""Gains below this are called none: five points of accuracy."""
TOLERANCE = 0.02
"""Outcomes this near to a boundary between two answers are close calls, however well they were measured."""


def truth(student: float, sft: float, opd: float, margin: float = MARGIN) -> Answer:
    """What the answer should have been."""
    if max(sft, opd) - student <= margin:
        return NEITHER
    return ONLINE if opd - sft > margin else OFFLINE


def is_close(
    student: float, sft: float, opd: float, gain_half: float = 0.0, lead_half: float = 0.0, margin: float = MARGIN
) -> bool:
    """Could the outcome's own uncertainty, at least the tolerance, have put it on the other side of a boundary?

    gain_half, lead_half: half widths of the intervals of the better training's gain and of opd - sft.
    """
    gain = max(sft, opd) - student - margin
    if abs(gain) <= max(TOLERANCE, gain_half):
        return True
    return gain > 0 and abs(opd - sft - margin) <= max(TOLERANCE, lead_half)
