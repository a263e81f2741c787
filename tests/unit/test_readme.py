"""The README's Python does what it says, with smaller budgets."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
SMALL = (
    'workers=1, set=("updates=2", "eval_every=0", "final_prompts=4", "final_samples=1", "prompts_per_update=4", '
    '"look_prompts=4", "select_prompts=4")'
)


def test_the_python_of_the_readme_ends_with_a_page(tmp_path, monkeypatch, capsys):
    """Catches a renamed class, field or default that the README still shows."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) < 10
    small = code.replace("updates=1200", "updates=2, eval_every=0, final_prompts=4, prompts_per_update=4")
    small = small.replace("workers=1", SMALL)
    assert small.count("updates=2") == 2, "the budgets of the README changed: reduce them here too"
    monkeypatch.chdir(tmp_path)
    exec(compile(small, "README.md", "exec"), {"__name__": "readme"})  # noqa: S102
    page = tmp_path / "runs" / "compare" / "report.html"
    assert page.is_file()
    assert str(page.relative_to(tmp_path)) in capsys.readouterr().out
