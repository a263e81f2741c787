"""Which way should this student be trained? Asked before anybody pays for it (docs/diagnose.md).

The package is a function too: `understudy.diagnose(student, expert, task) -> Diagnosis`. A function of that name in
`understudy` would be replaced by the package as soon as anything imports a module of it.
"""

from __future__ import annotations

import sys
import types
from typing import Any


class _Callable(types.ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from understudy.diagnosis.pipeline import diagnose

        return diagnose(*args, **options)


sys.modules[__name__].__class__ = _Callable
