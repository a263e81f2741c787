"""understudy doctor: what is installed here, what it runs on, and which commands will work.

It asks, and promises nothing that it did not ask: a device is tried with one small sum, an engine is only looked up.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from understudy.cli import options
from understudy.cli.commands import COMMANDS
from understudy.runs.files import dumps
from understudy.runs.provenance import device_name
from understudy.terminal import console

CORE = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "matplotlib", "jinja2", "rich")
ENGINES = {
    "httpx2": ("httpx2", "experts and rollouts by a server", "server"),
    "peft": ("peft", "train --lora-rank", "lora"),
    "vllm": ("vllm", "rollouts by vLLM on this machine", ""),
    "ray": ("ray", "compare --launcher ray", "ray"),
    "math-verify": ("math_verify", "math tasks", "math"),
    "datasets": ("datasets", "tasks from the Hugging Face hub", "hub"),
    "tensorboard": ("tensorboard", "train --tracker tensorboard", "tensorboard"),
    "wandb": ("wandb", "train --tracker wandb", "wandb"),
    "trackio": ("trackio", "train --tracker trackio", "trackio"),
}
"""Package -> the module to look for, what it is for, and the extra that installs it (vLLM lives best in an
environment of its own)."""

WHY_NOT_MPS = (
    "not chosen by --device auto: it has no float64, in which samples are drawn (that part then runs on the CPU), and "
    "nothing here has been measured on it; --device mps asks for it"
)


@dataclass(frozen=True)
class DoctorConfig:
    json: bool = False
    """Print JSON for programs."""


def doctor_command(args: Sequence[str]) -> int:
    """understudy doctor"""
    config = options.parse(
        DoctorConfig,
        args,
        "understudy doctor",
        "Versions, devices, engines found, and which commands will work here. Exit status 0 whatever it finds.",
        epilog="example\n  understudy doctor --json",
    )
    found = examine(tuple(COMMANDS))
    if config.json:
        sys.stdout.write(dumps(found, readable=True).decode())
    else:
        for line in told(found):
            console.print(line, markup=False, soft_wrap=True)
    return 0


def examine(commands: Sequence[str] = (), where: Path | None = None) -> dict[str, Any]:
    """Everything the command says, as JSON values. `where`: whose disk is asked about, default the current folder."""
    packages = {name: _version(name) for name in CORE}
    engines = {
        name: {"version": (_version(name) or "found") if _there(module) else None, "for": use, "extra": extra}
        for name, (module, use, extra) in ENGINES.items()
    }
    devices = _devices()
    return {
        "understudy": _version("understudy"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "engines": engines,
        "devices": devices,
        "machine": _machine(where or Path.cwd()),
        "commands": _commands(commands, packages, engines, devices),
    }


def _devices() -> dict[str, dict[str, Any]]:
    """cpu, cuda:N, mps: whether each works (one small sum on it), and what it is called."""
    out: dict[str, dict[str, Any]] = {}
    try:
        import torch
    except Exception as error:  # a broken install fails in any way
        return {"cpu": {"works": False, "note": f"torch cannot be imported: {_line(error)}"}}
    names = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), "mps"]
    for name in names:
        try:
            works = float(torch.ones(2, device=name).sum().item()) == 2.0
            out[name] = {"works": works, "name": device_name(name)}
            if name.startswith("cuda"):
                free, total = torch.cuda.mem_get_info(name)
                out[name] |= {"free_gib": _gib(free), "memory_gib": _gib(total)}
                out[name]["bfloat16"] = torch.cuda.is_bf16_supported()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            out[name] = {"works": False, "note": _line(error)}
    if not torch.backends.mps.is_built():
        out["mps"]["note"] = "this torch is built without it (macOS only)"
    if out["mps"]["works"]:
        out["mps"]["note"] = WHY_NOT_MPS
    if not torch.cuda.is_available():
        built = torch.version.cuda
        note = f"torch is built for CUDA {built}, but no GPU answers" if built else "this torch is built without CUDA"
        out["cuda"] = {"works": False, "note": note}
    best = "cuda" if out.get("cuda:0", {}).get("works") else "cpu"
    out["auto"] = {"works": out["cuda:0" if best == "cuda" else "cpu"]["works"], "name": best}
    return out


def _machine(where: Path) -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch = sys.modules.get("torch")
    out: dict[str, Any] = {
        "cpu": device_name("cpu").removeprefix("cpu: "),
        "cores": cores,
        "threads": torch.get_num_threads() if torch is not None else None,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "memory_gib": None,
        "free_memory_gib": None,
    }
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        out["memory_gib"] = _gib(int(lines["MemTotal"].split()[0]) * 1024)
        out["free_memory_gib"] = _gib(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            out["memory_gib"] = _gib(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    disk = shutil.disk_usage(where)
    out |= {"free_disk_gib": _gib(disk.free), "writable": os.access(where, os.W_OK)}
    return out


def _commands(
    names: Sequence[str],
    packages: dict[str, str | None],
    engines: dict[str, dict[str, Any]],
    devices: dict[str, dict[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Command -> whether it will work here, and why not."""
    lacking = [name for name, version in packages.items() if version is None]
    broken = devices["cpu"].get("note", "") if not devices["cpu"]["works"] else ""
    core = f"missing: {', '.join(lacking)}" if lacking else broken
    out: dict[str, dict[str, Any]] = {}

    def add(command: str, why_not: str, note: str = "") -> None:
        out[command] = {"works": not why_not, "note": why_not or note}

    for name in names:
        add(name, "" if name == "doctor" else core)
    add("torchrun ... train", core or _no_processes())
    gpus = sum(d["works"] for n, d in devices.items() if n.startswith("cuda:"))
    add("train --device cuda", core or ("" if gpus else str(devices.get("cuda", {}).get("note", "no GPU"))))
    add("train --dtype bfloat16 or mixed", core, "" if gpus else "slow without a GPU: about 100 times")
    for name, engine in engines.items():
        how = f"pip install 'understudy[{engine['extra']}]'" if engine["extra"] else "install it by its own guide"
        missing = "" if engine["version"] else f"needs {name}: {how}"
        add(str(engine["for"]), core or missing)
    return out


def _no_processes() -> str:
    try:
        import torch
        import torch.distributed as dist
    except Exception as error:
        return _line(error)
    if not dist.is_available():
        return "this torch is built without torch.distributed"
    major, minor = (int(x) for x in torch.__version__.split(".")[:2])
    return "" if (major, minor) >= (2, 9) else f"needs torch 2.9 or newer, not {torch.__version__}"


def told(found: dict[str, Any]) -> list[str]:
    """The findings on one screen."""
    machine = found["machine"]
    lines = [f"understudy {found['understudy']}, python {found['python']}, {found['platform']}", "", "packages"]
    lines += [f"  {name:14} {version or 'missing'}" for name, version in found["packages"].items()]
    lines += ["", "engines"]
    for name, engine in found["engines"].items():
        lines.append(f"  {name:14} {engine['version'] or '-':10} {engine['for']}")
    lines += ["", "devices"]
    for name, device in found["devices"].items():
        facts = [str(device.get("name", "")), str(device.get("note", ""))]
        if "memory_gib" in device:
            facts.insert(1, f"{device['free_gib']} of {device['memory_gib']} GiB free")
        lines.append(f"  {_mark(device['works'])} {name:12} {'; '.join(f for f in facts if f)}")
    memory = f"{machine['free_memory_gib']} of {machine['memory_gib']} GiB memory free"
    disk = f"{machine['free_disk_gib']} GiB disk free here" + ("" if machine["writable"] else ", NOT writable")
    lines += ["", "machine", f"  {machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads a process"]
    lines += [f"  {memory}; {disk}", "", "commands"]
    for name, command in found["commands"].items():
        lines.append(f"  {_mark(command['works'])} {name:34} {command['note']}".rstrip())
    return lines


def _mark(works: bool) -> str:
    return "yes" if works else "no "


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def _gib(size: int) -> float:
    return round(size / 2**30, 1)
