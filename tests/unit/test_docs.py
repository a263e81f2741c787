"""The documentation is current: generated pages, names of files, links, commands, Python and its output."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tools import docs, docs_algorithms
from understudy import config, specs
from understudy.cli import main, options
from understudy.methods import losses, table

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(p for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
NAMES = [str(p.relative_to(ROOT)) for p in PAGES]
each_page = pytest.mark.parametrize("page", PAGES, ids=NAMES)
TOP = {p.name for p in ROOT.iterdir()} - {"runs"}
FILE = r"(?:[\w./-]+/|[\w./-]+\.(?:py|md|toml|txt|yml|css|j2|json|jsonl))"
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}(_[A-Z]+)*\b|\.\.\.")


def fences(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of each fenced block."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S):
        yield match[1], match[2]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def code(page: Path) -> list[str]:
    """The contents of `backticks` outside fenced blocks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


# ---------------------------------------------------------------- generated pages


@pytest.mark.parametrize("name", docs.PAGES)
def test_generated_pages_are_up_to_date(name: str):
    """Catches an edit of the table, its rules, a default, a data set, a recipe or a measure without `make docs`."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert docs.PAGES[name](text) == text, "run: make docs"


def test_the_command_writes_what_is_out_of_date(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Catches a check that reports nothing, and a page that loses the text around its generated part."""
    assert docs.main([], tmp_path) == 2
    (tmp_path / "docs").mkdir()
    for name in docs.PAGES:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    page = tmp_path / "docs/tasks.md"
    page.write_text(page.read_text().replace("| `gsm8k` |", "| `gsm9k` |"))
    assert docs.main(["--check"], tmp_path) == 1
    assert "docs/tasks.md" in capsys.readouterr().out
    assert docs.main([], tmp_path) == 0
    assert page.read_bytes() == (ROOT / "docs/tasks.md").read_bytes()
    assert docs.main(["--check"], tmp_path) == 0


def test_every_rule_refuses_something():
    """Catches a rule that is always hidden by an earlier one, so that its reason is never shown."""
    for rule, example in zip(table.RULES, docs_algorithms.refusals(), strict=True):
        assert example, f"no run is refused because {rule.reason}"


def test_the_page_explains_every_choice():
    assert set(docs_algorithms.CELLS["divergence"]) == set(losses.DIVERGENCES)
    options_of = specs.options_of(config.TrainConfig)
    for name, values in docs_algorithms.CELLS.items():
        assert set(values) == set(options_of[name]["choices"]) - {""}, name
    page = docs_algorithms.page()
    for name in losses.REDUCTIONS:
        assert f"- `{name}`:" in page
    for row in table.TABLE.values():
        assert row.equation in page
        assert set(row.defaults) <= {*docs_algorithms.KNOBS, *docs_algorithms.CELLS}, (
            "a default that the page does not explain"
        )


# ---------------------------------------------------------------- files and links


@each_page
def test_files_that_are_named_exist(page: Path):
    for text in code(page):
        path = text.split("::")[0].rstrip("/")
        if re.fullmatch(r"[\w./-]+", path) and path.split("/")[0] in TOP and ("/" in text or "." in path):
            assert (ROOT / path).exists(), f"{page.name} names {text}"


@each_page
def test_files_in_a_drawn_tree_exist(page: Path):
    for language, block in fences(page):
        folders: list[tuple[int, str]] = []
        for line in block.splitlines() if not language else []:
            drawn = re.match(rf"[\s│├└─]*({FILE}(?:,? {FILE})*)(?:\s|$)", line)
            if not drawn:
                continue
            names = re.findall(FILE, drawn[1])
            indent = re.search(r"[\w.]", line).start()
            folders = [(at, name) for at, name in folders if at < indent]
            here = "".join(name for _, name in folders)
            if (here or names[0]).split("/")[0] in TOP:
                for name in names:
                    assert (ROOT / here / name).exists(), f"{page.name} draws {here}{name}"
            if names[0].endswith("/"):
                folders.append((indent, names[0]))


@each_page
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path) if path else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.M)
            anchors = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in anchors, f"{page.name} links to {target}"


# ---------------------------------------------------------------- commands


class Parsed(Exception):
    """Raised once the command line is parsed, to stop before the command runs."""


def commands() -> list[tuple[str, str]]:
    result = []
    for page in PAGES:
        lines = [text for text in code(page) if text.startswith("understudy ")]
        for language, block in fences(page):
            if language in ("", "sh", "bash", "console"):
                joined = block.replace("\\\n", " ")
                lines += [x.lstrip("$ ") for x in joined.splitlines() if re.match(r"(\$ )?(\S*/)?understudy \w", x)]
        result += [(page.name, line.split("  #")[0].split(" # ")[0].strip()) for line in lines]
    return list(dict.fromkeys(result))


@pytest.mark.parametrize(("page", "command"), commands(), ids=lambda x: x[:60])
def test_commands_parse(page: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Catches a renamed option, a removed method, or an illegal cell in an example."""
    parse = options.parse

    def parse_only(*args: Any, **kwargs: Any) -> Any:
        parsed = parse(*args, **kwargs)
        if isinstance(parsed, config.TrainConfig) and parsed.student and not PLACEHOLDER.search(command):
            config.resolve(parsed)
        raise Parsed

    monkeypatch.setattr(options, "parse", parse_only)
    # an example's run directory does not exist: --config is read from a default configuration instead
    monkeypatch.setattr(
        "understudy.cli.train.load", lambda path: config.TrainConfig(student="x", expert="solver"), raising=False
    )
    words = [w for w in shlex.split(command) if w != "..."][1:]
    if PLACEHOLDER.fullmatch(words[0]):
        words = ["--help"]
    status: object = 0
    try:
        status = main.main(words)
    except Parsed:
        pass
    except SystemExit as done:  # --help
        status = done.code or 0
    assert status == 0, f"{page}: {command}\n{capsys.readouterr().err}"


# ---------------------------------------------------------------- Python


@each_page
def test_python_imports_what_exists(page: Path):
    for language, block in fences(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("understudy"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{page.name}: from {node.module} import {alias.name}"


def test_the_output_in_concepts_is_what_its_python_prints():
    blocks = list(fences(ROOT / "docs/concepts.md"))
    ran = 0
    for (language, source), (_, shown) in itertools.pairwise(blocks):
        if language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(source, "docs/concepts.md", "exec"), {})  # noqa: S102  our own documentation
            assert [x.rstrip() for x in out.getvalue().splitlines()] == shown.splitlines()
            ran += 1
    assert ran == 2
