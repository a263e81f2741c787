"""The template engine of every page: one file, no network, no scripts, every text escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from understudy.errors import UserError
from understudy.runs.files import describe_os_error, write_output

_HERE = Path(__file__).parent


def filled(
    template: str, styles: Sequence[str], values: Mapping[str, Any], folder: Path = _HERE,
    filters: Mapping[str, Callable[..., Any]] | None = None,
) -> str:  # fmt: skip
    """A template with its style sheets and `values` as text; every value is escaped.

    Templates and style sheets are looked for in `folder` and then here, where base.html.j2 (the head and the frame of
    a page), macros.html.j2 and style.css are. filters: more functions for the template, by name.
    """
    environment = _environment(folder, tuple((filters or {}).items()))
    places = (next(place for place in (folder / name, _HERE / name) if place.is_file()) for name in styles)
    style = Markup("\n".join(place.read_text(encoding="utf-8").strip() for place in places))
    return environment.get_template(template).render(style=style, **values)


@lru_cache(maxsize=8)
def _environment(folder: Path, filters: tuple[tuple[str, Callable[..., Any]], ...]) -> jinja2.Environment:
    """Kept for the next page: compiling the templates takes longer than filling them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _HERE]),
        autoescape=True,  # for every file name: model text is data, never markup
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(dict(filters))
    return environment


def save(page: str, target: Path, name: str) -> Path:
    """Write `page`, whole or not at all, to `target`, or to `name` in it if that is a folder."""
    if target.is_dir():
        target = target / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_output(target, page.encode("utf-8", errors="replace"), b"<!doctype html", "a page of a report")
    except OSError as error:
        raise UserError("out", target, describe_os_error(error) or str(error)) from error
    return target
