"""Understudy: should a student model imitate its expert offline or online? Diagnose, train, compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from understudy.diagnosis.pipeline import diagnose as diagnose


def __getattr__(name: str) -> Any:
    if name == "diagnose":  # on demand: it needs torch. The package is a function too (diagnose/__init__.py)
        import importlib

        return importlib.import_module("understudy.diagnose")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
