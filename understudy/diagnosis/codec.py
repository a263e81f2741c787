"""Frozen dataclasses as JSON values and back: strictly, or tolerantly. Needs neither torch nor numpy.

Strict reading returns the same object, and raises UserError for a field that is unknown, missing or of another kind.
Tolerant reading is for a page that must be drawn from what is left of a damaged file, or from a file of an earlier
version: it raises only for an object that lacks what it cannot be without (`needs`).
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal, Self

from understudy.errors import UserError

RENAMED = {"mend": "hint"}
"""Field names of diagnoses written by earlier versions."""
LARGEST = 1e30
"""Tolerant reading takes a larger number for damage: a plot of it would be about that number alone."""


class Unreadable(Exception):
    """Tolerant reading: leave this value out."""


class Json:
    """A dataclass with JSON both ways. A number that JSON cannot hold is written as "inf", "-inf" or "nan"."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Fields without which tolerant reading leaves the whole object out."""

    def to_dict(self) -> dict[str, Any]:
        out = _encode(self)
        assert isinstance(out, dict)
        return out

    @classmethod
    def from_dict(cls, data: Any, tolerant: bool = False) -> Self:
        """UserError for anything else than `to_dict` writes. tolerant: only where a field of `needs` is missing."""
        name = cls.__name__.lower()
        if not tolerant:
            return typing.cast(Self, _decode(data, cls, name))
        try:
            return typing.cast(Self, _salvage(data, cls))
        except Unreadable:
            raise UserError(name, "", f"is damaged, or holds no {' and '.join(cls.needs)}") from None

    def repaired(self) -> Self:
        """Called on what tolerant reading has read; may raise Unreadable."""
        return self


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _encode(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encode(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "tolist"):  # numpy and torch, scalars included
        return _encode(value.tolist())
    raise TypeError(f"a diagnosis cannot hold a {type(value).__name__}: {value!r}")


# --- strict -----------------------------------------------------------------------------------------


def _decode(value: Any, hint: Any, name: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _decode(value, _inner(args), name)
    if origin is Literal:
        if value not in args:
            raise UserError(name, value, f"must be one of {', '.join(map(str, args))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(name, value, "must be a list")
        return tuple(_decode(v, args[0], f"{name}.{i}") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(name, value, "must be an object")
        return {k: _decode(v, args[1], f"{name}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return _object(value, typing.cast(type, hint), name)
    if hint is float:
        if value in ("inf", "-inf", "nan"):
            return float(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise UserError(name, value, f"must be a {hint.__name__}: is this file from this version?")


def _object(value: Any, cls: type, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise UserError(name, value, "must be an object")
    value = {RENAMED.get(k, k): v for k, v in value.items()}
    hints, defaults = _fields(cls)
    unknown = [k for k in value if k not in hints]
    absent = [k for k in hints if k not in value and k not in defaults]
    if unknown or absent:
        message = f"{unknown[0]} is unknown" if unknown else f"{absent[0]} is missing"
        raise UserError(name, "", f"{message}: written by another version? make it again")
    return cls(**{k: _decode(v, hints[k], f"{name}.{k}") for k, v in value.items()})


@cache
def _fields(cls: type) -> tuple[dict[str, Any], dict[str, Any]]:
    """(name -> type, name -> function that makes the default) of a dataclass."""
    hints, defaults = typing.get_type_hints(cls), {}
    fields = dataclasses.fields(cls)
    for f in fields:
        if f.default_factory is not dataclasses.MISSING:
            defaults[f.name] = f.default_factory
        elif f.default is not dataclasses.MISSING:
            defaults[f.name] = lambda value=f.default: value
    return {f.name: hints[f.name] for f in fields}, defaults


def _inner(args: tuple[Any, ...]) -> Any:
    return next(a for a in args if a is not type(None))


# --- tolerant ---------------------------------------------------------------------------------------


def finite(value: Any) -> float | None:
    """A finite float of no absurd size, or None."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and abs(value) <= LARGEST else None


def _salvage(value: Any, hint: Any) -> Any:
    """Of lists and objects, what can be read; Unreadable where nothing can."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _or(None, value, _inner(args))
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _salvage_object(value, hint)
    if origin is tuple and isinstance(value, list):
        return tuple(v for v in (_or(Unreadable, v, args[0]) for v in value) if v is not Unreadable)
    if origin is dict and isinstance(value, Mapping):
        items = {str(k): _or(Unreadable, v, args[1]) for k, v in value.items()}
        return {k: v for k, v in items.items() if v is not Unreadable}
    if origin is Literal and value in args:
        return value
    if hint is float and (number := finite(value)) is not None:
        return number
    if hint is int and (number := finite(value)) is not None and number.is_integer() and abs(number) <= 2**53:
        return int(number)
    if hint in (str, bool) and isinstance(value, hint):
        return value
    raise Unreadable


def _or(fallback: Any, value: Any, hint: Any) -> Any:
    try:
        return _salvage(value, hint)
    except Unreadable:
        return fallback


def _salvage_object(value: Mapping[str, Any], cls: Any) -> Any:
    value = {RENAMED.get(k, k): v for k, v in value.items()}
    hints, defaults = _fields(cls)
    out = {}
    for name, hint in hints.items():
        read = _or(Unreadable, value[name], hint) if name in value else Unreadable
        if read is Unreadable:
            if name in cls.needs or (hint is int and name in value):
                raise Unreadable  # 0 in place of a damaged number would be a false statement
            missing = name not in value or hint is not float
            read = defaults[name]() if name in defaults and missing else _nothing(hint)
        out[name] = read
    return cls(**out).repaired()


def _nothing(hint: Any) -> Any:
    """What stands for an absent value of this type."""
    if hint is float:
        return math.nan
    if dataclasses.is_dataclass(hint):
        return _salvage_object({}, hint)
    origin = typing.get_origin(hint) or hint
    return None if origin in (typing.Union, types.UnionType) else origin()
