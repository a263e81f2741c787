"""The one error that a user's mistake raises."""

from __future__ import annotations


class UserError(Exception):
    """A mistake that the user can fix: which field, its value, and what to do, on one line.

    The command line prints `str(error)` and exits with status 2; nothing has been lost when it is raised.
    """

    def __init__(self, field: str, value: object, hint: str) -> None:
        self.field, self.value, self.hint = field, value, hint
        shown = str(value)
        if len(shown) > 300:
            shown = shown[:297] + "..."
        line = f"{field}: {shown}: {hint}" if shown else f"{field}: {hint}"
        super().__init__(" ".join(line.split()))
