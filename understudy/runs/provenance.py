"""Where a run came from: source, versions, machine. Loads no torch."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from understudy import distributed

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


def provenance(command: Sequence[str] | None = None, device: str = "cpu") -> dict[str, Any]:
    """What a reader needs to repeat a run: source, versions, machine, command, start time.

    `command` is sys.argv by default; the program is named without its folder.
    """
    args = [str(arg) for arg in (sys.argv if command is None else command)]
    torch = sys.modules.get("torch")
    return {
        "git": git_state(Path(__file__).parents[1]),
        # through sys.modules: `import understudy` here would be a circle
        "versions": {"understudy": sys.modules["understudy"].__version__, "python": platform.python_version()}
        | {name: package_version(name) for name in PACKAGES},
        "device": device_name(device),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads() if torch is not None else None,
        "processes": distributed.size(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(args[0]).name, *args[1:]] if args else [],
    }


def git_state(package: Path) -> dict[str, Any] | None:
    """{"commit", "dirty"} of the source tree the package is imported from; None when it is an installed copy.

    A copy installed in a virtual environment inside another repository is not tracked there, so it counts as installed.
    """

    def git(*args: str) -> str:
        env = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
        return subprocess.run(
            ["git", "-C", str(package), *args], env=env, check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
        untracked = git("ls-files", "--others", "--exclude-standard", ".")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": bool(changed or untracked)}


def device_name(device: str) -> str:
    """The model of the processor or accelerator, for example "cpu: AMD EPYC 7B13"."""
    torch = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None and torch.cuda.is_available():
        return f"{device}: {torch.cuda.get_device_name(device)}"
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{device}: {name}" if device == "cpu" else device


def package_version(package: str) -> str | None:
    """The installed version; None when the package is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
