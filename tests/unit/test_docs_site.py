"""The pages of the documentation site: complete, linked, and without the reader having to leave it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools import docs_site

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages() -> Iterator[dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield {name: content.decode(errors="ignore") for name, content in docs_site.pages().items()}


def names(nav: Any) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    for part in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from names(part)


def test_every_document_is_in_the_navigation(pages: dict[str, str]):
    """Catches a new document that no reader of the site finds, and a name in the navigation that is no page."""
    listed = list(names(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    documents = {name for name in pages if name.endswith(".md") and not name.startswith("source/")}
    assert set(listed) == documents
    assert len(listed) == len(set(listed))
    assert listed[1] == "tutorial.md", "the tutorial comes first"


def test_links_of_pages_stay_on_the_site(pages: dict[str, str]):
    """Catches a link to a file of the source tree that the site does not have."""
    for name, text in pages.items():
        if not name.endswith(".md"):
            continue
        for target in docs_site.LINK.findall(re.sub(r"^(`{3,4}).*?^\1$", "", text, flags=re.M | re.S)):
            to = (Path("/") / name).parent.joinpath(target).resolve().relative_to("/")
            assert str(to) in pages or not target.endswith((".md", ".py", ".ipynb")), f"{name}: {target}"


def test_moved_links():
    found: set[str] = set()
    text = "[a](../LAB_LOG.md#x) [b](auto.md) [c](https://a.b/c.md) [d](#here) [e](../understudy/types.py)\n"
    text += "```\n[f](auto.md)\n```"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        moved = docs_site.moved(text, "docs/routes.md", found)
    assert moved.startswith("[a](project/LAB_LOG.md#x) [b](auto.md) [c](https://a.b/c.md) [d](#here)")
    assert "[e](source/understudy/types.py.md)" in moved
    assert "[f](auto.md)" in moved, "a fenced block is as it was"
    assert found == {"LAB_LOG.md", "docs/auto.md", "understudy/types.py"}


def test_notebook_page_shows_code_and_output():
    cells = [
        {"cell_type": "markdown", "source": ["# A\n", "b"]},
        {"cell_type": "code", "source": "1 + 1", "outputs": [{"output_type": "stream", "text": ["2\n"]}]},
        {"cell_type": "code", "source": "plot()", "outputs": [{"data": {"image/png": "AAAA\n", "text/plain": "x"}}]},
    ]
    page = docs_site.notebook(json.dumps({"cells": cells}))
    drawn = "```python\nplot()\n```\n\n![](data:image/png;base64,AAAA)\n"
    assert page == f"# A\nb\n\n```python\n1 + 1\n```\n\n```text\n2\n```\n\n{drawn}"


def test_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """The cells of the notebook, one after the other; it was drawn, and its committed outputs are of the same cells."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / docs_site.NOTEBOOK).read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] == i for i, cell in enumerate(code, 1)), "execute it again before committing"
    scope: dict[str, Any] = {"__name__": "__main__"}
    for i, cell in enumerate(code, 1):
        exec(compile("".join(cell["source"]), f"<cell {i}>", "exec"), scope)  # noqa: S102
    assert (scope["out"] / "final" / "model.safetensors").is_file()
    assert scope["decisions"][-1]["chosen"] == "stop"
    assert "because" in capsys.readouterr().out
