"""The one error that a user's mistake raises."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: which field, its value, and the mend, on one line.

    The command line prints `str(error)` and exits with status 2; nothing has been lost when it is raised.
    """

    def __init__(self, field: str, value: object, mend: str) -> None:
        self.field, self.value, self.mend = field, value, mend
        shown = str(value)
        if len(shown) > 300:
            shown = shown[:297] + "..."
        line = f"{field}: {shown}: {mend}" if shown else f"{field}: {mend}"
        super().__init__(" ".join(line.split()))
