"""The public data sets by name: hub id, official splits, schema, verifier. A new one is one entry here."""

from __future__ import annotations

from dataclasses import dataclass, field

BOXED = "Please reason step by step, and put your final answer within \\boxed{}."


@dataclass(frozen=True)
class DataSet:
    """The facts of a public data set. `splits`: our name -> the name of the official split."""

    hub: str
    schema: str
    splits: dict[str, str]
    subsets: tuple[str, ...] = ("",)
    """Configurations on the hub, read one after the other."""
    verifier: str = "math"
    instruction: str = ""
    shots_split: str = "train"
    """Official split that few-shot examples come from."""
    shots: int = 0
    missing: str = "error"
    """A row without an answer: error, or drop."""
    max_new_tokens: int = 2048
    about: str = ""
    """One line for the documentation."""
    names: tuple[str, ...] = field(default=(), compare=False)
    """More official split names, by which the files of a folder are recognised."""


DATASETS: dict[str, DataSet] = {
    "gsm8k": DataSet(
        "openai/gsm8k", "gsm8k", {"train": "train", "test": "test"}, ("main",), "number", BOXED,
        max_new_tokens=512, about="grade-school word problems, 7,473 and 1,319",
    ),
    "math": DataSet(
        "EleutherAI/hendrycks_math", "solved", {"train": "train", "test": "test"},
        ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra",
         "precalculus"),
        instruction=BOXED, about="MATH, 7,500 and 5,000; the answer is the last box of `solution`",
    ),
    "math500": DataSet(
        "HuggingFaceH4/MATH-500", "solved", {"test": "test"}, instruction=BOXED, about="500 problems of MATH's test",
    ),
    "deepscaler": DataSet(
        "agentica-org/DeepScaleR-Preview-Dataset", "solved", {"train": "train"}, instruction=BOXED, missing="drop",
        max_new_tokens=8192, about="about 40 thousand competition problems, training only",
    ),
    "dapo": DataSet(
        "BytedTSinghua-SIA/DAPO-Math-17k", "dapo", {"train": "train"}, max_new_tokens=8192,
        about="about 17 thousand problems with integer answers; the hub's file repeats them, we keep one of each",
    ),
    "openr1": DataSet(
        "open-r1/OpenR1-Math-220k", "openr1", {"train": "train"}, ("default",), instruction=BOXED, missing="drop",
        max_new_tokens=8192, about="problems with DeepSeek-R1's traces, training only",
    ),
    "aime24": DataSet(
        "HuggingFaceH4/aime_2024", "solved", {"test": "train"}, instruction=BOXED, max_new_tokens=8192,
        about="30 problems; the hub calls its one split train",
    ),
    "aime25": DataSet(
        "math-ai/aime25", "solved", {"test": "test"}, instruction=BOXED, max_new_tokens=8192, about="30 problems",
    ),
    "mmlu": DataSet(
        "cais/mmlu", "mmlu", {"test": "test"}, ("all",), "letter", shots_split="dev",
        shots=5, max_new_tokens=8, names=("validation", "auxiliary_train"),
        about="57 subjects, four choices, answered by log-prob of the letters",
    ),
    "data": DataSet(
        "", "data", {"train": "train", "test": "test", "ood": "ood"}, about="your own rows, in the formats below",
    ),
}  # fmt: skip
