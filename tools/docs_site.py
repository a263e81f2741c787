"""python -m tools.docs_site [--pages-only]: the documentation as a site, in build/docs-site/site (zensical.toml).

A page links to files of the source tree, as a reader of the repository expects. On the site these files are pages
too: the Markdown files of the root under project/, a source file under source/, the notebook with its outputs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

OUT = Path("build/docs-site")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
NOTEBOOK = "examples/quickstart.ipynb"


def place(path: str) -> str:
    """Where a file of the source tree stands on the site, relative to its root."""
    if path == "docs/README.md":
        return "index.md"
    if path == NOTEBOOK:
        return "quickstart.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"project/{path}" if path.endswith(".md") and "/" not in path else f"source/{path}.md"


def moved(text: str, path: str, found: set[str]) -> str:
    """The Markdown of the file `path` with its links as they are on the site. Adds the files they name to `found`."""

    def link(match: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(path), match[1]))
        if not Path(target).is_file():  # a placeholder, or a folder: test_docs.py judges links
            return match[1]
        found.add(target)
        return os.path.relpath(place(target), os.path.dirname(place(path)) or ".")

    parts = re.split(r"(^```.*?^```$)", text, flags=re.M | re.S)
    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in parts)


def notebook(text: str) -> str:
    """A notebook as Markdown: its text, its code, and what the code printed or drew."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", [])})
            if "image/png" in data:
                parts.append(f"![](data:image/png;base64,{''.join(data['image/png']).strip()})")
            elif "text/html" in data:
                parts.append("".join(data["text/html"]))
            else:
                parts.append("```text\n" + "".join(data.get("text/plain", [])).rstrip() + "\n```")
    return "\n\n".join(parts) + "\n"


def pages() -> dict[str, bytes]:
    """Path on the site -> content: everything in docs/, and every file that a page links to."""
    todo = {str(p) for p in Path("docs").rglob("*") if p.is_file()} | {"README.md", "CONTRIBUTING.md", NOTEBOOK}
    made: dict[str, bytes] = {}
    while todo:
        path = todo.pop()
        found: set[str] = set()
        if path.endswith((".md", ".ipynb")):
            text = Path(path).read_text(encoding="utf-8")
            content = moved(notebook(text) if path == NOTEBOOK else text, path, found).encode()
        elif place(path).endswith(".md"):
            source = Path(path).read_text(encoding="utf-8")
            content = f"# {path}\n\n````{'python' if path.endswith('.py') else 'text'}\n{source}````\n".encode()
        else:
            content = Path(path).read_bytes()
        made[place(path)] = content
        todo |= {f for f in found if place(f) not in made}
    return made


def main(argv: Sequence[str]) -> int:
    """Exit status: that of zensical, which fails on a broken link."""
    shutil.rmtree(OUT, ignore_errors=True)
    for name, content in pages().items():
        path = OUT / "pages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if "--pages-only" in argv:
        return 0
    status = subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], check=False).returncode
    if status == 0:
        print(f"open {OUT / 'site' / 'index.html'}, or serve it: python -m http.server -d {OUT / 'site'}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
