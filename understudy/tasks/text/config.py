"""The options of a task whose prompts come from a data set: `gsm8k:key=value,...`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from understudy.errors import MEBIBYTE, UserError, check_file
from understudy.specs import check, option, require
from understudy.tasks.text.answers import EXTRACTS
from understudy.tasks.text.catalog import DATASETS
from understudy.tasks.text.formats import FORMATS, renaming
from understudy.types import Prompt


@dataclass(frozen=True)
class Wording:
    """How a problem is asked, and what of a completion is read."""

    template: str = option("plain", choices=("plain", "bare", "chat"))
    """plain (`Question: ...`, `Answer:`, for base models), bare (the problem's own words) or chat (the model's own chat
    template with its generation prompt)."""
    system: str = ""
    """System prompt (chat), or first lines (plain). @FILE reads it from a file, for text with commas."""
    instruction: str | None = None
    """Written after each problem; @FILE reads it from a file, `none` = nothing. Default: the data set's."""
    prefill: str = ""
    """First words of every completion, given in the prompt, such as a thinking tag; @FILE reads it from a file."""
    thinking: str = "think"
    """Name of the tags whose contents are not graded: think for <think>...</think>. none = grade everything."""
    thinking_open: bool | None = None
    """The prompt (template or prefill) opens the thought, so that a completion which never closes it is wrong. Default:
    as the prompt that the model reads ends."""
    stop: str = ""
    """Texts that end a completion, separated by || (\\n is a line break). One-token ones also stop the sampler."""

    def check_wording(self) -> None:
        good = self.thinking.replace("_", "").isalnum()
        require(self, "task", ("thinking", good, "must be the name of a tag, or none"))

    @property
    def tag(self) -> str:
        return "" if self.thinking == "none" else self.thinking

    def opened(self, prompt: Prompt) -> bool:
        """Whether a completion of `prompt` begins inside a thought."""
        if self.thinking_open is not None:
            return self.thinking_open and bool(self.tag)
        return bool(self.tag) and prompt.opened == self.tag.casefold()

    @property
    def stops(self) -> tuple[str, ...]:
        texts = filter(None, self.stop.split("||"))
        return tuple(text.replace("\\n", "\n").replace("\\t", "\t") for text in texts)

    def words(self, field: str, default: str = "") -> str:
        """The text of system, instruction or prefill: literal, `none`, or read from @FILE."""
        value = getattr(self, field)
        if value is None:
            return default
        if value == "none":
            return ""
        if not value.startswith("@"):
            return str(value)
        file = Path(value[1:]).expanduser()
        check_file(file, f"task.{field}", MEBIBYTE)
        try:
            return file.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, ValueError) as error:
            raise UserError(f"task.{field}", value, f"cannot be read ({error})") from None


@dataclass(frozen=True)
class TextConfig(Wording):
    template: str = option("", choices=("", "plain", "chat"))
    """plain (text, for base models) or chat (the model's own chat template with its generation prompt). Default: plain,
    but chat where all of your own rows are conversations."""
    path: str = ""
    """JSON lines, JSON, csv, parquet or arrow file, or folder of them by split. Default: the data set on the hub."""
    format: str = option("", choices=("", *FORMATS))
    """data only: the format of the rows (table above). Default: recognised, row by row."""
    rename: str = ""
    """data only: fields of the file by the names that a format has: old:new, several separated by ||."""
    bad: str = option("error", choices=("error", "drop"))
    """Rows that cannot be used (a tool call, an image, an empty turn): error, or drop them and say how many."""
    too_long: str = option("error", choices=("error", "drop"))
    """Prompts that leave no room for max_new_tokens in the student's context: error, or drop, both before training."""
    hub: str = ""
    """Another hub id with the same schema; for data, the hub id."""
    revision: str = ""
    """Commit or tag on the hub, to pin the data."""
    limit: int = option(0, least=0)
    """Read at most this many rows of each split. 0 = all."""
    test: str = ""
    """Another data set as the test split: aime24, math500, ... Default: the official one, else a share of train."""
    test_path: str = ""
    """Where the test split is, if not under `path`."""
    ood: str = ""
    """A data set as the split `ood`, out of distribution."""
    ood_path: str = ""
    """Where the ood split is."""
    forget: str = ""
    """A data set as the split `forget`, such as mmlu: what must not get worse."""
    forget_path: str = ""
    """Where the forget split is."""
    test_share: float = option(0.1, within="(0, 1)")
    """Share of the problems held out, by a hash of each, where there is no official test split."""
    shots: int | None = None
    """Worked examples before each problem. Default: none (mmlu 5, of the same subject)."""
    verifier: str = ""
    """math, number, letter, exact, or none (no rewards, no accuracy). Default: the data set's, none where no row has an
    answer; a row may name its own."""
    extract: str = option("marked", choices=EXTRACTS)
    """box (only \\boxed{}), marked (also <answer>, ####, `answer is`), number (else the last number)."""
    missing: str = option("", choices=("", "error", "drop"))
    """Rows without an answer: error or drop. Default: the data set's."""
    traces: bool | None = None
    """Read the expert's traces and keep only train problems that have one: for --expert recorded. Default: read those
    of your own rows, leave no row out."""
    time_limit: float = option(5.0, least=0.1)
    """Seconds that math-verify may take over one answer; then it is wrong."""
    workers: int = option(2, within="[1, 64]")
    """Processes of math-verify."""
    max_new_tokens: int = option(0, least=0)
    """Room for a completion. 0 = the data set's."""

    def __post_init__(self) -> None:
        check(self, "task")
        names = f"unknown; one of {', '.join(DATASETS)}"
        for name in ("test", "ood", "forget"):
            chosen, path = getattr(self, name), getattr(self, f"{name}_path")
            require(
                self, "task",
                (name, not chosen or chosen in DATASETS, names),
                (name, chosen != "data" or bool(path), f"needs {name}_path=FILE"),
                (f"{name}_path", not path or bool(chosen) or name == "test", f"needs {name}=NAME too"),
            )  # fmt: skip
        require(
            self, "task",
            ("shots", self.shots is None or 0 <= self.shots <= 64, "must be 0..64"),
        )  # fmt: skip
        self.check_wording()
        renaming(self.rename)
