"""docs/diagnose.md: the table of measures, from the diagnosis's glossary."""

from __future__ import annotations

from tools.markdown import replaced, table
from understudy.diagnosis.glossary import MEANINGS


def page(text: str) -> str:
    rows = [(f"`{name}`", label, meaning) for name, (label, meaning) in MEANINGS.items()]
    return replaced(text, "measures", table(("in diagnosis.json", "on the screen", "what it says"), rows))
