"""What an export is: the source, the target, and what changes on the machine where it will run. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.specs import option

EVALUATION_TARGETS = ("inspect", "lm-eval")
"""What an evaluation is written for."""


@dataclass(frozen=True)
class ExportConfig:
    source: tuple[str, ...] = ()
    """A run, route, auto or diagnosis folder, or a file of training options; for inspect and lm-eval an evaluation."""
    to: str = option("", heading="target")
    """trl, verl, ms-swift or tinker; of an evaluation (understudy eval --out DIR): inspect or lm-eval."""
    out: str = ""
    """New folder. Default: SOURCE-TARGET beside the source."""
    allow_differences: bool = False
    """Write the nearest where the target has a cell only roughly; README.md lists every difference."""
    student: str = option("", heading="what changes on another machine")
    """Name of the student there: a path or hub id. Its tokenizer must be the same. Default: as here."""
    expert: str = ""
    """Name of the expert there. Default: as here."""
    devices: int = option(1, least=1)
    """GPUs of the student's training."""
    micro_batch: int = option(0, least=0)
    """Completions per GPU and pass. 0 = all of an update's, in one pass."""
    prompts: int = option(0, least=0, heading="data")
    """Write at most so many prompts (the training is then shorter). 0 = those of all updates."""
    sample_expert: bool = False
    """Draw the completions of an expert that is a model here where the run has none. Programs are always drawn."""
    task: str = ""
    """The task's text, if its files are elsewhere now, or to confirm code that it names. Default: the source's."""
    trust_remote_code: bool = False
    """Run code that comes with a model, where the source says so too."""
