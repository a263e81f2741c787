"""Options as frozen dataclasses: text becomes one (NAME:key=value,... or key=value), and its fields are checked."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from understudy.errors import UserError

T = TypeVar("T")
SELF = "self"
"""The expert that is the student itself: experts/privileged.py."""

COUNT = 10**9
"""Most of any whole number that has a least value and no other bound."""
ROWS = 10**6
"""Most prompts, and most samples of one, that are in memory together."""
TOGETHER = 10**8
"""Most completions of one step: more than any memory holds."""


@dataclass(frozen=True)
class Spec:
    """NAME[:key=value,key=value]: how tasks, scratch models and programmatic experts are named."""

    name: str
    args: Mapping[str, str]
    text: str


def parse_spec(text: str, field: str) -> Spec:
    name, _, rest = text.partition(":")
    args: dict[str, str] = {}
    for item in filter(None, (piece.strip() for piece in rest.split(","))):
        key, equals, value = item.partition("=")
        if not equals or not key or key in args:
            raise UserError(field, text, f"{item!r} is not a new key=value; write {name}:key=value,key=value")
        args[key.strip()] = value.strip()
    return Spec(name.strip(), args, text)


def names_self(text: str) -> bool:
    """Whether an expert's text names the student itself."""
    return text.partition(":")[0].strip() == SELF


_NAMED = re.compile(r"(?:^|(?<=\s))([\w.+-]+)=")
_SEVERAL = "write NAME=SPEC for each, such as a=PATH b=http://HOST:PORT/v1"


def names_several(text: str) -> bool:
    """Whether an expert's text names several: `a=SPEC b=SPEC`."""
    return bool(_NAMED.match(text)) and len(_NAMED.findall(text)) > 1


def parse_several(text: str, field: str = "expert") -> dict[str, str]:
    """`a=SPEC b=SPEC`, split at blanks before NAME=: {"a": SPEC, "b": SPEC}, in their order.

    UserError: a name twice or without a spec, fewer than two experts.
    """
    if not names_several(text):
        raise UserError(field, "", f"there is one expert only: give it without a name, or {_SEVERAL}")
    _, *pieces = _NAMED.split(text)
    out: dict[str, str] = {}
    for name, spec in zip(pieces[::2], pieces[1::2]):
        if name in out:
            raise UserError(field, name, "is the name of two experts: give each a name of its own")
        if not spec.strip():
            raise UserError(field, f"{name}=", "names no expert: " + _SEVERAL)
        out[name] = spec.strip()
    return out


def several_text(given: Mapping[Any, Any] | Sequence[Any], field: str = "expert") -> str:
    """The text of one expert or several: of the words of a command line, or of {name: spec}.

    UserError: one of several words has no name; a name or a spec that the text could not hold.
    """
    if isinstance(given, Mapping):
        for name, spec in given.items():
            if not isinstance(spec, (str, os.PathLike)):
                raise UserError(field, name, f"must be the text of an expert, not a {type(spec).__name__}")
        pairs = {str(name): str(spec).strip() for name, spec in given.items()}
        text = " ".join(f"{name}={spec}" for name, spec in pairs.items())
        for name in pairs:
            if not _NAMED.fullmatch(f"{name}="):
                raise UserError(field, name, "a name of an expert has letters, digits and _ . + - only")
        if parse_several(text, field) != pairs:
            raise UserError(field, "", "the text of one of several experts has no blank before NAME=")
        return text
    words = [str(word) for word in given]
    for number, word in enumerate(words, start=1):
        if len(words) > 1 and not _NAMED.match(word):  # not repeated: it may hold a password
            raise UserError(field, "", f"word {number} of {len(words)} has no name: {_SEVERAL}")
    return " ".join(words)


def experts_in(text: str, field: str = "expert") -> dict[str, str]:
    """Name -> spec of the expert or experts that a text names; of one alone the name is "". UserError: no such text."""
    if names_several(text):
        return parse_several(text, field)
    if _NAMED.match(text) and not os.path.exists(text):
        raise UserError(field, text.partition("=")[0] + "=", f"names one expert: leave the name out, or {_SEVERAL}")
    return {"": text}


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`; "" where none is similar."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, cutoff=0.6)), "")


def unknown(name: str, known: Iterable[str]) -> str:
    """The hint for a name that is none of `known`: all of them, or only the nearest of a long list."""
    known = list(known)
    close = nearest(name, known)
    if close and len(known) > 40:
        return f"unknown; did you mean {close}?"
    return f"unknown; one of {', '.join(known)}" + (f" (did you mean {close}?)" if close else "")


@functools.cache
def hints_of(cls: type) -> dict[str, Any]:
    """Field -> its type, resolved once per class; not to be changed."""
    return typing.get_type_hints(cls)


def build(cls: type[T], args: Mapping[str, Any], field: str) -> T:
    """`cls(**args)` with strings converted to the annotated types; UserError names the key, the value and the hint."""
    hints = hints_of(cls)  # type: ignore[arg-type]
    known = {f.name: hints[f.name] for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values, prefix, options = {}, f"{field}." if field else "", options_of(cls)
    for key, value in args.items():
        if key not in known:
            raise UserError(prefix + key, value, unknown(key, known))
        if options[key].get("several") and isinstance(value, (Mapping, list, tuple)):
            value = several_text(value, prefix + key)
        values[key] = _convert(value, known[key], prefix + key)
    return cls(**values)


def require(config: object, prefix: str, *rules: tuple[str, bool, str]) -> None:
    """UserError for the first of `rules`, (field, whether its value is good, hint), that does not hold."""
    for field, good, hint in rules:
        if not good:
            raise UserError(f"{prefix}.{field}" if prefix else field, getattr(config, field), hint)


def option(
    default: Any, *, choices: Iterable[str] = (), least: float | None = None, most: float | None = None,
    within: str = "", why: str = "", volatile: bool = False, recipe: bool = False, heading: str = "",
    several: bool = False,
) -> Any:  # fmt: skip
    """A dataclass field with what `check` requires of its value, and what it is for.

    choices: the legal texts. least, most: bounds of a number. within: an interval such as "(0, 1]". why: added to the
    message about `most` and `within`. volatile: a run may be resumed with another value. recipe: it says how the
    student learns, whatever the method. heading: the field begins a part of the help. several: one or more words, see
    `several_text`.
    """
    metadata = {
        "choices": tuple(choices), "least": least, "most": most, "within": within, "why": why, "volatile": volatile,
        "recipe": recipe, "heading": heading, "several": several,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def options_of(cls: type) -> dict[str, Mapping[str, Any]]:
    """Field name -> the metadata that `option` gave it; a field that a subclass declares again keeps it."""
    options: dict[str, Mapping[str, Any]] = {}
    for base in reversed(cls.__mro__):
        for field in getattr(base, "__dataclass_fields__", {}).values():
            options[field.name] = field.metadata or options.get(field.name, {})
    return options


def check(config: Any, prefix: str = "") -> None:
    """UserError for the first field whose value is outside its choices or bounds. prefix: before the field's name."""
    options = options_of(type(config))
    prefix = f"{prefix}." if prefix else ""
    for name, metadata in options.items():
        choices, value = metadata.get("choices"), getattr(config, name)
        if choices and value not in choices:
            raise UserError(prefix + name, value, unknown(str(value), filter(None, choices)))
    for name, metadata in options.items():
        value, least, most = getattr(config, name), metadata.get("least"), metadata.get("most")
        within = metadata.get("within")
        if most is None and least is not None and type(value) is int:
            most = COUNT
        why = f": {metadata['why']}" if metadata.get("why") else ""
        if least is not None and not value >= least:
            raise UserError(prefix + name, value, f"must be at least {least}")
        if most is not None and not value <= most:
            raise UserError(prefix + name, value, f"must be at most {str(most).replace('e+', 'e')}{why}")
        if within and not _lies(value, within):
            words = "be positive" if within in ("(0, inf)", "(0, inf]") else f"lie in {within}"
            raise UserError(prefix + name, value, f"must {words}{why}")


def together(config: Any, prompts: str, samples: str) -> None:
    """UserError: two fields whose product is a number of completions that no memory holds."""
    n = getattr(config, prompts) * getattr(config, samples)
    if n > TOGETHER:
        hint = f"with {samples}={getattr(config, samples)} these are {n:,} completions at a time, which no memory holds"
        raise UserError(prompts, getattr(config, prompts), hint)


def _lies(value: float, within: str) -> bool:
    low, high = (float(part) for part in within[1:-1].split(","))
    above = value > low if within[0] == "(" else value >= low
    return above and (value < high if within[-1] == ")" else value <= high)


_KINDS = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}


def _convert(value: Any, hint: Any, field: str) -> Any:
    options = typing.get_args(hint) or (hint,)
    if value is None and type(None) in options:
        return None
    kind = next(k for k in options if k is not type(None))
    try:
        if typing.get_origin(hint) is tuple:
            items = value if isinstance(value, (list, tuple)) else str(value).split(",")
            return tuple(_convert(item, options[0], field) for item in items)
        if kind is bool:
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        if kind is int:
            if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
                raise ValueError
            whole = int(value)
            if abs(whole) >= 10**30:
                raise UserError(field, value, "must have at most 30 digits")
            return whole
        if kind is float:
            number = float(value)
            if number != number or number in (float("inf"), float("-inf")):
                raise ValueError
            return number
        if kind is str and isinstance(value, str):
            return value
        raise ValueError
    except (KeyError, ValueError, TypeError, OverflowError):
        raise UserError(field, value, f"must be {_KINDS.get(kind, kind.__name__)}") from None
