"""Files of options: a run's config.json, or JSON or YAML that somebody wrote."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import yaml

from understudy.errors import MEBIBYTE, UserError, check_file

LARGEST_FILE = MEBIBYTE
"""Bytes of a file of options."""


LONGEST_LINE = 20_000
"""Characters of a line of YAML: it has numbers in base 60, whose digits cost more the more there are."""
DEEPEST = 100
"""Lists and mappings of YAML inside each other: the time of the library grows with the square of the depth."""


def _yaml(text: str, path: Path) -> Any:
    """The value. UserError: it repeats parts of itself (a few lines can stand for a billion), or has endless lines."""
    if max(map(len, text.splitlines()), default=0) > LONGEST_LINE:
        raise UserError("config", path, f"has a line of more than {LONGEST_LINE:,} characters")
    depth, deepest = 0, 0
    for bracket in re.findall(r"[][{}]", text):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise ValueError("lists inside each other are too deep")
    value = yaml.safe_load(text)
    if _size(value, {}) > LARGEST_FILE:
        raise UserError("config", path, "stands for too many values: its aliases repeat each other")
    return value


def _size(value: Any, known: dict[int, int]) -> int:
    """Values of it as a tree, where each alias is a copy; a part of itself counts once."""
    if not isinstance(value, (list, dict)):
        return 1
    if id(value) not in known:
        known[id(value)] = 1
        parts = value if isinstance(value, list) else value.values()
        known[id(value)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(value)]


def read_fields(path: str | Path) -> dict[str, Any]:
    """The fields in such a file, not checked."""
    path = Path(path)
    path = path / "config.json" if os.path.isdir(path) else path
    in_yaml = path.suffix in (".yaml", ".yml")
    try:
        check_file(path, "config", LARGEST_FILE)
        text = path.read_text(encoding="utf-8")
        data = _yaml(text, path) if in_yaml else json.loads(text)
    except FileNotFoundError:
        raise UserError("config", path, "no such file; give a run directory or its config.json") from None
    except (OSError, ValueError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise UserError("config", path, f"cannot be read as {'YAML' if in_yaml else 'JSON'} ({error})") from None
    if not isinstance(data, dict):
        kind = "YAML mapping" if in_yaml else "JSON object"
        raise UserError("config", path, f"must be a {kind} of configuration fields")
    return {str(name): value for name, value in data.items()}
