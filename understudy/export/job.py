"""What a target writes files from, and how its settings become text: YAML and shell with a comment per decision."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.config import Resolved
from understudy.errors import UserError
from understudy.export.data import Rows
from understudy.export.limits import VERSIONS, Limit


@dataclass(frozen=True)
class Job:
    """One phase for one target."""

    target: str
    name: str
    """Of its folder and its data: 1-sft."""
    config: Resolved
    student: str
    """Model that it starts from, as the target shall read it: a path (from the export's folder) or a hub id."""
    base: str
    """Model that the first phase starts from."""
    expert: str
    output: str
    """Where the target shall write its model, from the export's folder."""
    rows: Rows
    room: int
    """Longest completion, in tokens."""
    end_ids: tuple[int, ...]
    bos: bool
    """Whether prompts of plain text begin with the tokenizer's BOS."""
    devices: int = 1
    micro: int = 0
    """Completions per device and pass. 0 = all of an update's."""
    verified: bool = True
    differences: tuple[Limit, ...] = ()
    asked: Resolved | None = None
    """The training that the source names; `config` is the one that is written."""

    @property
    def batch(self) -> int:
        """Completions of an update."""
        return self.config.prompts_per_update * self.config.samples_per_prompt

    @property
    def per_device(self) -> int:
        return self.micro or self.batch // self.devices

    @property
    def accumulation(self) -> int:
        """Passes per update and device."""
        return self.batch // (self.devices * self.per_device)

    @property
    def length(self) -> int:
        """Tokens of the longest row: nothing is cut."""
        return self.rows.longest + self.room

    @property
    def data(self) -> str:
        return f"data/{self.name}.jsonl"


def check_batch(job: Job) -> None:
    """UserError unless the update's completions can be dealt evenly."""
    if job.batch % job.devices:
        hint = f"an update has {job.batch} completions, which {job.devices} devices cannot share evenly"
        raise UserError("devices", job.devices, hint)
    if job.micro and (job.batch // job.devices) % job.micro:
        hint = f"a device has {job.batch // job.devices} completions per update: give a divisor of it"
        raise UserError("micro_batch", job.micro, hint)


@dataclass(frozen=True)
class Setting:
    """One option of the target. why: a comment; empty where the name says enough."""

    name: str
    value: Any
    why: str = ""
    pinned: bool = False
    """Whether the target's default is another value that would change the training."""


@dataclass
class Settings:
    """The options of a phase in their order."""

    items: list[Setting] = field(default_factory=list)

    def add(self, name: str, value: Any, why: str = "") -> None:
        self.items.append(Setting(name, value, why))

    def pin(self, name: str, value: Any, why: str) -> None:
        """An option whose default in the target is another one."""
        self.items.append(Setting(name, value, why, True))

    @property
    def values(self) -> dict[str, Any]:
        return {item.name: item.value for item in self.items}

    def pins(self) -> list[str]:
        """One line of Markdown per pinned option."""
        return [f"`{i.name}: {scalar(i.value)}`" + (f": {i.why}" if i.why else "") for i in self.items if i.pinned]


@dataclass(frozen=True)
class Written:
    """What a target writes for one phase."""

    files: Mapping[str, str]
    """Path from the export's folder -> text, data included."""
    command: str
    """Shell line that trains this phase, from the export's folder."""
    settings: Settings
    notes: tuple[str, ...] = ()
    """What is not the same, though it is the same method."""


Target = Callable[[Job], Written]


def head(job: Job, what: str, sign: str = "#") -> str:
    """The first comment of a file."""
    written = f"Written by `understudy export` for {VERSIONS[job.target]}. Paths are relative to the export's folder."
    lines = (f"{what}: phase {job.name}, method {job.config.method}.", written)
    return "\n".join(f"{sign} {line}" for line in lines)


def scalar(value: Any) -> str:
    """A value as YAML reads it back: JSON, of which 1e-05 becomes 1.0e-05 (YAML 1.1 takes the first for text)."""
    if isinstance(value, float) and math.isfinite(value):
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text.partition("e")[0] else text
    if isinstance(value, list):
        return "[" + ", ".join(map(scalar, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def yaml_lines(settings: Settings) -> str:
    """`name: value  # why`, nested where names are dotted."""
    out: list[str] = []
    open_: list[str] = []
    for item in settings.items:
        *groups, name = item.name.split(".")
        shared = 0
        while shared < min(len(groups), len(open_)) and groups[shared] == open_[shared]:
            shared += 1
        out += [f"{'  ' * depth}{groups[depth]}:" for depth in range(shared, len(groups))]
        open_ = groups
        comment = f"  # {item.why}" if item.why else ""
        out.append(f"{'  ' * len(groups)}{name}: {scalar(item.value)}{comment}")
    return "\n".join(out) + "\n"


def shell_options(settings: Settings, indent: str = "  ") -> str:
    """`--name value` lines of one command, and the comments in front of it (a comment would end the command)."""

    def shown(value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return "'" + value.replace("'", "'\\''") + "'"
        return repr(value) if isinstance(value, float) else str(value)

    return " \\\n".join(f"{indent}--{item.name} {shown(item.value)}" for item in settings.items)


def json_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
