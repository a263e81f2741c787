"""A frozen dataclass as a command line: one option a field, its docstring as help, one-line errors.

argparse parses; specs.build converts, so that a bad value on the command line, in a file and in Python is told alike.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import sys
import textwrap
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from understudy.errors import UserError
from understudy.specs import build

T = TypeVar("T")


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are UserErrors: one line, exit 2, like every other mistake."""

    def error(self, message: str) -> NoReturn:
        raise UserError("command line", "", f"{message}; see {self.prog} --help")


def field_docs(cls: type) -> dict[str, str]:
    """The string literal under each field of a dataclass."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for item, after in zip(tree.body, tree.body[1:]):
        if (
            isinstance(item, ast.AnnAssign)
            and isinstance(item.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            docs[item.target.id] = " ".join(str(after.value.value).split())
    return docs


def parse(
    cls: type[T],
    argv: Sequence[str],
    prog: str,
    description: str,
    epilog: str = "",
    sections: Mapping[str, str] | None = None,
    positional: str | None = None,
    default: T | None = None,
    extra: Mapping[str, str] | None = None,
) -> tuple[T, dict[str, str]]:
    """(configuration, the extra options given).

    sections: heading -> its first field. positional: a tuple field that takes bare words. default: where unset fields
    come from. extra: more options, name -> help, returned as text.
    """
    parser = Parser(prog=prog, description=description, epilog=epilog, formatter_class=_Help, allow_abbrev=False)
    starts = {first: heading for heading, first in (sections or {}).items()}
    docs, hints = field_docs(cls), typing.get_type_hints(cls)
    group: Any = parser
    for name, text in (extra or {}).items():
        parser.add_argument(f"--{name}", metavar="PATH", help=text)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if field.name in starts:
            group = parser.add_argument_group(starts[field.name])
        _add(group, field, hints[field.name], docs.get(field.name, ""), field.name == positional)
    # bare words that were not given come as an empty list, which must not replace a default
    given = {k: v for k, v in vars(parser.parse_args(list(argv))).items() if v is not None and v != []}
    extras = {name: given.pop(name) for name in (extra or {}) if name in given}
    start = dataclasses.asdict(default) if default is not None else {}  # type: ignore[call-overload]
    return build(cls, start | given, ""), extras


def _add(group: Any, field: dataclasses.Field[Any], hint: Any, doc: str, bare: bool) -> None:
    kinds = [k for k in (typing.get_args(hint) or (hint,)) if k not in (type(None), Ellipsis)]
    flag = "--" + field.name.replace("_", "-")
    shown = doc
    has_default = field.default not in (None, "", (), dataclasses.MISSING)
    if has_default and "Default" not in doc and kinds[0] is not bool:
        value = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        shown += f" [{value}]"
    shown = shown.replace("%", "%%")  # argparse fills in % fields
    if typing.get_origin(hint) is tuple:
        if bare:
            group.add_argument(field.name, nargs="*", metavar=field.name.upper().rstrip("S"), help=shown, default=None)
        else:
            group.add_argument(flag, nargs="+", metavar=kinds[0].__name__.upper(), help=shown)
    elif kinds[0] is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=shown)
    else:
        group.add_argument(flag, metavar={"str": "NAME", "int": "N", "float": "X"}[kinds[0].__name__], help=shown)


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        # forty options on the usage line help nobody
        words = [a.metavar or a.dest for a in actions if not a.option_strings]
        super().add_usage(
            f"{self._prog} [options] {' '.join(f'[{w} ...]' for w in words)}".strip(), actions, groups, prefix
        )


def fail(error: UserError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2
