"""One row of a data set: typed reading of its fields, with errors that name file, line and field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from understudy.errors import UserError


@dataclass(frozen=True)
class Row:
    """One record and its source: "FILE, line 3"."""

    where: str
    values: Mapping[str, Any]

    def refuse(self, field: str, hint: str) -> UserError:
        return UserError("task.data", f"{self.where}, field `{field}`", hint)

    def has(self, field: str) -> bool:
        """Whether there is a value: not null, NaN or an empty text."""
        value = self.values.get(field)
        return not (value is None or value != value or (isinstance(value, str) and not value.strip()))

    def get(self, field: str) -> Any:
        if field not in self.values:
            raise self.refuse(field, f"is missing; this row has {self.fields() or 'no fields'}: is it this data set?")
        return self.values[field]

    def fields(self) -> str:
        """Names of the first fields, for messages."""
        return ", ".join(f"`{k}`" for k in list(self.values)[:8])

    def text(self, field: str) -> str:
        """Text that is not empty and can be written."""
        return self.as_text(field, self.get(field))

    def as_text(self, field: str, value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.refuse(field, f"must be text that is not empty, not {kind(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.refuse(field, "holds half a surrogate pair: write the file as UTF-8") from None
        return value

    def answer(self, field: str) -> str:
        """Text, or a number as text."""
        value = self.get(field)
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.refuse(field, f"must be text or a number, not {kind(value)}")
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            raise self.refuse(field, "must be a finite number, or text")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return self.as_text(field, str(value))

    def whole(self, field: str, least: int, most: int) -> int:
        value = self.get(field)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refuse(field, f"must be a whole number from {least} to {most}, not {value!r}")
        return value

    def texts(self, field: str) -> list[str]:
        return [self.as_text(f"{field}[{i}]", x) for i, x in enumerate(self.items(field))]

    def items(self, field: str) -> list[Any]:
        """A list, also one that was written as JSON text."""
        value = self.structure(field)
        if not isinstance(value, (list, tuple)):
            raise self.refuse(field, f"must be a list, not {kind(value)}")
        return list(value)

    def inner(self, field: str) -> Row:
        """An object, also one that was written as JSON text."""
        value = self.structure(field)
        if not isinstance(value, Mapping):
            raise self.refuse(field, f"must be an object, not {kind(value)}")
        return Row(f"{self.where}, in `{field}`", value)

    def structure(self, field: str) -> Any:
        """The value; a text that begins like a list or an object is read as JSON (columns of csv and parquet)."""
        value = self.get(field)
        if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            if value.lstrip().startswith(("[{'", "{'")):
                hint = "is the print of a Python object, not JSON: write it with json.dumps, or use parquet"
                raise self.refuse(field, hint) from None
            return value


def kind(value: Any) -> str:
    """What a value is, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return "empty text" if not value.strip() else "text"
    return {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}.get(
        type(value), type(value).__name__
    )
