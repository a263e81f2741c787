"""The configuration of a reasoning_gym data set from text. Imported by the child process alone (child.py)."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.errors import UserError
from understudy.specs import nearest, unknown

OURS = ("seed", "size")  # of every data set: streams of problems are named by the task
UNWRITTEN = "is of a kind that cannot be written on a command line: leave it at its default"
LISTS = (list, tuple, Sequence, typing.Sequence)


def configured(name: str, config: type, options: Mapping[str, str], levels: Mapping[str, Any], own: list[str]) -> Any:
    """The configuration of data set `name`, checked by its own rules. own: names of the options that are ours.

    levels: what a curriculum says; `options` win. UserError names the option and what is wrong with it.
    """
    hints = typing.get_type_hints(config)
    known = [f.name for f in dataclasses.fields(config) if f.name not in OURS]
    values = dict(levels)
    for key, text in options.items():
        if key not in known:
            close = nearest(key, [*known, *own])
            hint = f"unknown for {name}" + (f" (did you mean {close}?)" if close else "")
            raise UserError(f"task.{key}", text, f"{hint}; it has {', '.join(known) or 'no options'}")
        values[key] = _converted(text, hints[key], f"task.{key}")
    given = ",".join(f"{k}={v}" for k, v in values.items()) or name
    field = f"task.{next(iter(options))}" if len(options) == 1 else "task"
    try:
        made = config(**values)
        if hasattr(made, "validate"):
            made.validate()
    except UserError:
        raise
    except Exception as error:  # its rules are assertions, and errors of any kind
        raise UserError(field, next(iter(options.values())) if len(options) == 1 else given, _line(error)) from None
    return made


def leveled(name: str, curricula: Mapping[str, Any], level: int, alone: bool, field: str) -> dict[str, Any]:
    """What the curriculum of data set `name` sets at a level. alone: of ranges the last step only."""
    # imported here: only where reasoning_gym is
    from reasoning_gym.coaching.base_curriculum import DefaultCurriculumContext, RangeAttributeMode

    if name not in curricula:
        raise UserError(field, level, f"{name} has no curriculum: give its options by name (ood_OPTION=value for ood)")
    curriculum = curricula[name]()
    top = top_level(curriculum)
    if level > top:
        raise UserError(field, level, f"{name} has levels 0 to {top}")
    curriculum.set_global_level(level)
    mode = RangeAttributeMode.UPPER_BOUND if alone else RangeAttributeMode.INCLUSIVE
    made = curriculum.generate_configuration(context=DefaultCurriculumContext(mode))
    fields = set()
    for attribute in curriculum.attributes.values():
        for part in ("field_name", "lower_field_name", "upper_field_name"):
            if hasattr(attribute, part):
                fields.add(getattr(attribute, part))
    return {f: getattr(made, f) for f in sorted(fields)}


def top_level(curriculum: Any) -> int:
    """The highest level that changes anything."""
    return max((len(a.levels) for a in curriculum.attributes.values()), default=1) - 1


def described(name: str, config: type, curricula: Mapping[str, Any]) -> dict[str, Any]:
    """For a listing: option -> (type, default), and the number of levels (0 = no curriculum)."""
    hints, made = typing.get_type_hints(config), config()
    options = {
        f.name: [_kind(hints[f.name]), _shown(getattr(made, f.name))]
        for f in dataclasses.fields(config) if f.name not in OURS
    }  # fmt: skip
    return {"options": options, "levels": top_level(curricula[name]()) + 1 if name in curricula else 0}


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ":".join(_shown(x) for x in value)
    return str(value.value if isinstance(value, enum.Enum) else value)


def _kind(hint: Any) -> str:
    kinds = [k for k in typing.get_args(hint) if k is not type(None)] if typing.get_origin(hint) is typing.Union else []
    hint = kinds[0] if kinds else hint
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    if (typing.get_origin(hint) or hint) in LISTS or hint is tuple:
        return "a list, separated by :"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return " or ".join(str(m.value) for m in hint)
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _converted(text: str, hint: Any, field: str) -> Any:
    """`text` as a value of the annotated type. The items of a list are separated by colons."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union or type(None) in args:
        return None if text == "none" else _converted(text, next(k for k in args if k is not type(None)), field)
    if origin is typing.Literal:
        if text not in args:
            raise UserError(field, text, unknown(text, map(str, args)))
        return text
    if (origin or hint) in LISTS or (isinstance(origin, type) and issubclass(origin, Sequence)):
        inner = next((k for k in args if k is not Ellipsis), str)
        if typing.get_origin(inner):
            raise UserError(field, text, UNWRITTEN)
        items = [_converted(item, inner, field) for item in text.split(":")]
        return tuple(items) if (origin or hint) is tuple else items
    try:
        if hint is bool:
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if hint in (int, float, str):
            return hint(text)
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return next(m for m in hint if text in (m.name, m.value))
        if hint in (datetime.date, datetime.time):
            return hint.fromisoformat(text)
    except (KeyError, ValueError, StopIteration):
        raise UserError(field, text, f"must be {_kind(hint)}") from None
    raise UserError(field, text, UNWRITTEN)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
