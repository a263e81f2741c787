"""A frozen dataclass as a command line: one option per field, its docstring as help, one-line errors.

argparse parses; specs.build converts, so that a bad value on the command line, in a file and in Python gets the same
message.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import inspect
import textwrap
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from understudy.cli import confirm, foreign, rewards
from understudy.errors import UserError
from understudy.specs import build, hints_of, nearest, options_of

T = TypeVar("T")

SYNONYMS = {"expert": "teacher", "experts": "teachers", "routes": "methods"}
"""Field -> a second name of its option."""
_METAVARS = {"str": "NAME", "int": "N", "float": "X"}


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are UserErrors: one line, exit status 2, like every other mistake."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("argument --config: expected"):
            raise UserError("config", "", "needs a value")
        raise UserError("command line", "", f"{message}; see {self.prog} --help")

    def parse(self, argv: Sequence[str]) -> dict[str, Any]:
        """Field -> text, of the options that were given; underscores in an option's name are dashes.

        UserError: for an unknown one it names the option that does the same here, or the nearest.
        """
        found, unknown = self.parse_known_args([self._dashed(word) for word in argv])
        if unknown:
            self.error(f"unrecognized arguments: {foreign.shown(unknown)}{self._instead(unknown)}")
        # bare words that were not given come as an empty list, which must not replace a default
        return {name: value for name, value in vars(found).items() if value is not None and value != []}

    def _dashed(self, word: str) -> str:
        name, equals, value = word.partition("=")
        dashed = name.replace("_", "-")
        return dashed + equals + value if name.startswith("--") and dashed in self._option_string_actions else word

    def _instead(self, unknown: Sequence[str]) -> str:
        """What to write in place of the first of these words."""
        names = [flag[2:] for flag in self._option_string_actions if flag not in ("-h", "--help")]
        own = {name.replace("-", "_") for name in names}
        word, _, value = unknown[0].partition("=")
        if not word.startswith("-"):
            return f": {text}" if (text := foreign.bare(word, own)) else ""
        if not value and len(unknown) > 1 and not unknown[1].startswith("--"):
            value = unknown[1]
        if text := foreign.hint(word, value, own):
            return f": {text}"
        close = nearest(word.lstrip("-").replace("_", "-"), names)  # every option has the same dashes
        return f" (did you mean --{close}?)" if close else ""


@functools.cache
def field_docs(cls: type) -> dict[str, str]:
    """The help of each field of a dataclass, inherited ones too: its metadata, or the string literal under it."""
    described = {f.name: f.metadata["help"] for f in dataclasses.fields(cls) if "help" in f.metadata}
    if described:
        return described
    docs = {}
    for base in filter(dataclasses.is_dataclass, reversed(cls.__mro__)):
        tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(tree, ast.ClassDef)
        for item, after in zip(tree.body, tree.body[1:]):
            match item, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=text)):
                    docs[name] = " ".join(str(text).split())
    return docs


def parse(
    cls: type[T],
    argv: Sequence[str],
    prog: str,
    description: str,
    epilog: str = "",
    positional: str | None = None,
    read: Callable[[str], T] | None = None,
) -> T:
    """The configuration that the words of `argv` give.

    positional: a tuple field that takes bare words. read: gives the command an option --config FILE; `read(FILE)` is
    where fields that are not on the command line come from.
    """
    parser = Parser(prog=prog, description=description, epilog=epilog, formatter_class=_Help, allow_abbrev=False)
    docs, hints, metadata = field_docs(cls), hints_of(cls), options_of(cls)  # type: ignore[arg-type]
    group: Any = parser
    if read is not None:
        text = "Start from this configuration: a run directory, its config.json, or a JSON or YAML file of options."
        parser.add_argument("--config", metavar="FILE", help=text)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if heading := metadata[field.name].get("heading"):
            group = parser.add_argument_group(heading)
        _add(group, field, hints[field.name], docs.get(field.name, ""), field.name == positional)
    if "task" in hints:
        rewards.add_options(parser)
    given = parser.parse(argv)
    start: dict[str, Any] = {}
    if read is not None and "config" in given:
        file = given.pop("config")
        start = dataclasses.asdict(read(file))  # type: ignore[call-overload]
        confirm.confirmed(given, start, file)
    if "task" in hints:
        given = rewards.merged(given, start, getattr(cls, "task", ""))
    return build(cls, start | given, "")


def _add(group: Any, field: dataclasses.Field[Any], hint: Any, doc: str, bare: bool) -> None:
    kind = next(k for k in (typing.get_args(hint) or (hint,)) if k not in (type(None), Ellipsis))
    flags = ["--" + name.replace("_", "-") for name in (field.name, SYNONYMS.get(field.name)) if name]
    if field.default not in (None, "", (), dataclasses.MISSING) and "Default" not in doc and kind is not bool:
        doc += f" [{' '.join(map(str, field.default)) if isinstance(field.default, tuple) else field.default}]"
    doc = doc.replace("%", "%%")  # argparse fills in % fields
    if bare:
        group.add_argument(field.name, nargs="*", metavar=field.name.upper().rstrip("S"), help=doc)
    elif typing.get_origin(hint) is tuple or field.metadata.get("several"):
        group.add_argument(*flags, dest=field.name, nargs="+", metavar=kind.__name__.upper(), help=doc)
    elif kind is bool:
        group.add_argument(*flags, dest=field.name, action=argparse.BooleanOptionalAction, help=doc)
    else:
        group.add_argument(*flags, dest=field.name, metavar=_METAVARS[kind.__name__], help=doc)


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        # the options are listed below: the usage line names bare words only
        words = "".join(f" [{a.metavar or a.dest} ...]" for a in actions if not a.option_strings)
        super().add_usage(f"{self._prog} [options]{words}", actions, groups, prefix)
