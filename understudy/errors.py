"""The error that a user's mistake raises, and what ends interrupted work."""

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

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str]]:
        return type(self), (self.field, str(self.value), self.hint)  # it crosses from one process to another


class Interrupted(KeyboardInterrupt, SystemExit):
    """Ctrl-C or SIGTERM: what can be saved is saved; str() says how to resume.

    No Exception, so that `except Exception` does not go on after it: it ends the program, with status 128 + signal
    (130 or 143), unless a caller handles it by name, or as the KeyboardInterrupt that it is.
    """

    code: int

    def __init__(self, message: str = "", number: int = 2) -> None:
        super().__init__(message)
        self.number, self.code = number, 128 + number

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
