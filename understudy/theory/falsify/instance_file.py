"""The JSON file in which a reader gives an instance of their own: `understudy theory falsify --instance FILE`.

instance.schema.json is its schema (--schema prints it); `load` reports each possible error in one line.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from understudy.errors import UserError, check_file
from understudy.theory.families.instance import Bandit
from understudy.theory.families.trap import Trap
from understudy.theory.scalars import Array

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("instance.schema.json").read_text(encoding="utf-8"))
FORMAT = SCHEMA["properties"]["format"]["const"]
LIMIT = 1_000_000  # numbers in the table of students
CELLS = 20_000  # contexts x actions


def load(path: str | Path) -> Bandit:
    """Read and check an instance file. UserError names field, value and remedy for anything wrong."""
    path = Path(path)
    check_file(path, "instance")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError("instance", path, f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError("instance", path, "is not UTF-8 text: give a JSON file") from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = "too deep, or a number without end"
        if isinstance(error, json.JSONDecodeError):
            where = f"line {error.lineno}, column {error.colno}"
        raise UserError("instance", path, f"is not JSON ({where})") from None
    return parse(data, path.stem)


def parse(data: object, name: str = "instance") -> Bandit:
    """A checked Bandit from decoded JSON."""
    if not isinstance(data, dict):
        raise UserError("instance", type(data).__name__, "the file must hold one JSON object")
    if unknown := sorted(set(data) - set(SCHEMA["properties"])):
        raise UserError("instance", unknown[0], f"unknown field; known: {', '.join(SCHEMA['properties'])}")
    for required in SCHEMA["required"]:
        if required not in data:
            raise UserError("instance", "", f"the field '{required}' is missing (--schema prints the format)")
    if data["format"] != FORMAT:
        raise UserError("format", data["format"], f"write {FORMAT!r}")
    expert = _table(data["expert"], "expert")
    x, y = expert.shape
    if x * y > CELLS:
        raise UserError("expert", f"{x} x {y}", f"at most {CELLS} cells: pool contexts or actions")
    expert = _policy(expert, "expert")
    reward = _reward(data["reward"], (x, y), "reward")
    mu = np.full(x, 1 / x)
    if "mu" in data:
        mu = _array(data["mu"], 1, "mu")
        if mu.shape != (x,):
            raise UserError("mu", f"{len(mu)} numbers", f"give one for each of the {x} contexts of 'expert'")
        mu = _policy(mu[None], "mu")[0]
    students = _students(data["students"], (x, y))
    base = None
    if "base" in data:
        base = _policy(_table(data["base"], "base", (x, y)), "base")
        if bool(((students > 0).any(0) & (base == 0) & (mu > 0)[:, None]).any()):
            raise UserError("base", "0", "must be positive wherever some student plays (Theorem 4)")
    names = data.get("student_names", [])
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise UserError("student_names", type(names).__name__, "give a list of strings")
    if names and len(names) != len(students):
        raise UserError("student_names", f"{len(names)} names", f"there are {len(students)} students")
    title = data.get("name", name)
    if not isinstance(title, str):
        raise UserError("name", title, "give a string")
    alternatives = _alternatives(data.get("alternatives", []), expert, reward)
    return Bandit(mu, expert, students, reward, base, alternatives, title, tuple(names))


def dump(bandit: Bandit) -> dict[str, Any]:
    """The JSON object that `parse` reads back; floats in full precision."""
    data: dict[str, Any] = {"format": FORMAT, "name": bandit.name}
    data |= {field: getattr(bandit, field).tolist() for field in ("mu", "expert", "reward", "students")}
    if bandit.student_names:
        data["student_names"] = list(bandit.student_names)
    if bandit.base is not None:
        data["base"] = bandit.base.tolist()
    if bandit.alternatives:
        data["alternatives"] = [{"expert": e.tolist(), "reward": r.tolist()} for e, r in bandit.alternatives[1:]]
    return data


def example() -> dict[str, Any]:
    """An instance file that `parse` accepts: Example T, and the same world with the reward bit flipped."""
    b = Trap().bandit()
    worlds = ((b.expert, b.reward), (b.expert[:, [2, 3, 0, 1]], 1 - b.reward))
    names = ("good, cannot fake the style", "bad, fakes it a little")
    return dump(dataclasses.replace(b, name="the trap", student_names=names, alternatives=worlds))


def _students(data: object, shape: tuple[int, int]) -> Array:
    if not isinstance(data, list) or not data:
        raise UserError("students", data, "give a non-empty list of tables")
    if len(data) * shape[0] * shape[1] > LIMIT:
        raise UserError("students", f"{len(data)} tables of {shape}", f"at most {LIMIT} numbers in all")
    names = [f"students[{k}]" for k in range(len(data))]
    return np.stack([_policy(_table(one, n, shape), n) for one, n in zip(data, names)])


def _alternatives(data: object, expert: Array, reward: Array) -> tuple[tuple[Array, Array], ...]:
    if not isinstance(data, list):
        raise UserError("alternatives", type(data).__name__, "give a list of {expert, reward}")
    worlds = [(expert, reward)]
    shape = (expert.shape[0], expert.shape[1])
    for i, one in enumerate(data):
        name = f"alternatives[{i}]"
        if not isinstance(one, dict) or set(one) != {"expert", "reward"}:
            raise UserError(name, "", "give an object with exactly the fields 'expert' and 'reward'")
        other = _policy(_table(one["expert"], f"{name}.expert", shape), f"{name}.expert")
        worlds.append((other, _reward(one["reward"], shape, f"{name}.reward")))
    return tuple(worlds) if data else ()


def _array(data: object, ndim: int, name: str) -> Array:
    """Nested lists of finite numbers as an array. UserError names the position of anything else."""
    if ndim == 0:
        if isinstance(data, bool) or not isinstance(data, int | float) or not math.isfinite(data):
            raise UserError(name, data, "give a finite number")
        return np.asarray(float(data))
    if not isinstance(data, list) or not data:
        raise UserError(name, data, "give a non-empty list")
    rows = [_array(one, ndim - 1, f"{name}[{i}]") for i, one in enumerate(data)]
    for i, row in enumerate(rows):
        if row.shape != rows[0].shape:
            raise UserError(f"{name}[{i}]", f"{len(row)} numbers", f"the first row has {len(rows[0])}")
    return np.stack(rows)


def _table(data: object, name: str, shape: tuple[int, int] | None = None) -> Array:
    table = _array(data, 2, name)
    if shape is not None and table.shape != shape:
        got = f"{table.shape[0]} x {table.shape[1]}"
        raise UserError(name, got, f"must be {shape[0]} contexts x {shape[1]} actions, like 'expert'")
    return table


def _policy(table: Array, name: str) -> Array:
    for i, row in enumerate(table):
        where = f"{name}[{i}]" if name != "mu" else "mu"
        if row.min() < 0:
            raise UserError(where, row.min(), "a probability cannot be negative")
        if abs(row.sum() - 1) > 1e-6:
            raise UserError(where, f"sums to {row.sum():.9g}", "probabilities must sum to 1 (within 1e-6)")
    return np.asarray(table / table.sum(-1, keepdims=True))


def _reward(data: object, shape: tuple[int, int], name: str) -> Array:
    table = _table(data, name, shape)
    outside = np.argwhere((table < 0) | (table > 1))
    if len(outside):
        i, j = outside[0]
        raise UserError(f"{name}[{i}][{j}]", table[i, j], "rewards lie in [0, 1]")
    return table
