"""The error that a user's mistake raises, and what ends interrupted work."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from pathlib import Path


def shown(text: str) -> str:
    """`text` as a terminal can show it: control and direction characters and halves of surrogate pairs as escapes."""

    def one(c: str) -> str:
        harmless = c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        return c if harmless else c.encode("unicode_escape").decode()

    return text if text.isascii() and text.isprintable() else "".join(map(one, text))


_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """`text` without the values of this environment's keys, which a service may repeat in its own message."""
    for name, value in os.environ.items():
        if len(value := value.strip()) >= 12 and value in text and _SECRET.search(name):
            text = text.replace(value, f"[{name}]")
    return text


class UserError(Exception):
    """A mistake that the user can fix: which field, its value, and what to do, on one line.

    The command line prints `str(error)` and exits with status 2; nothing has been lost when it is raised.
    """

    def __init__(self, field: str, value: object, hint: str) -> None:
        self.field, self.value, self.hint = field, value, without_secrets(hint)
        try:
            text = str(value)
        except (ValueError, RecursionError):
            text = f"a {type(value).__name__} that is too long to show"
        text = without_secrets(text)
        if len(text) > 300:
            text = text[:297] + "..."
        line = f"{field}: {text}: {self.hint}" if text else f"{field}: {self.hint}"
        super().__init__(shown(" ".join(line.split())))

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str, str]]:
        return type(self), (self.field, str(self.value), self.hint)  # it crosses from one process to another


MEBIBYTE = 1 << 20


def check_file(path: Path | str, field: str, most: int = 256 * MEBIBYTE) -> None:
    """UserError: `path` is a pipe, a device or a folder, which is not read, or has more than `most` bytes.

    One that is missing or may not be looked at passes: reading it says so.
    """
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(facts.st_mode):
        raise UserError(field, path, "is not a file (pipes, devices and folders are not read)")
    if facts.st_size > most:
        raise UserError(field, path, f"has more than {most // MEBIBYTE:,} MiB, which no such file needs")


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
