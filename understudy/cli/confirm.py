"""What a file of options, perhaps a stranger's, may not decide: it is repeated on the command line.

Code that comes with a model, keys that are sent to a host, a push to the hub, and folders elsewhere that are written.
(Code that a task names: rewards.py.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.cli import rewards
from understudy.errors import UserError
from understudy.servers.urls import KEY_VARIABLES, is_loopback, names_server, pieces
from understudy.specs import experts_in

_MODELS = ("expert", "sampler", "student", "base")
_FOLDERS = ("out", "score_cache")


def confirmed(given: Mapping[str, Any], start: Mapping[str, Any], file: str | Path) -> None:
    """UserError unless the command line names what only it may. given: its fields; start: those of `file`."""
    left = {name: value for name, value in start.items() if name not in given and value}
    if left.get("trust_remote_code") is True:
        hint = "is switched on by the configuration, and code of the model would be run: confirm with"
        raise UserError("trust_remote_code", "yes", f"{hint} --trust-remote-code, or --no-trust-remote-code")
    if name := left.get("push_to_hub"):
        raise UserError("push_to_hub", name, f"is named by the configuration: confirm with --push-to-hub {name}")
    for field, spec in _servers(left):
        _server(field, spec)
    _sent_away(left, Path(file))
    for field in _FOLDERS:
        if field in left and not _is_near(str(left[field]), Path(file)):
            flag = field.replace("_", "-")
            hint = f"is named by the configuration and lies elsewhere: confirm with --{flag} {left[field]}"
            raise UserError(field, left[field], hint)


def of_source(given: Mapping[str, Any], start: Mapping[str, Any], samples: bool) -> None:
    """The same for a folder of which a command reads the configuration. given: what its command line names; samples:
    whether its expert is called."""
    task = str(start.get("task", ""))
    if not given.get("task"):
        rewards.refuse_code(task, "source")
        if reward := rewards.rewards_in(task).get("reward"):
            raise UserError("reward", reward, f"is named by the source, and would be run: confirm with --task {task}")
    if start.get("trust_remote_code") is True and not given.get("trust_remote_code"):
        hint = "is switched on by the source, and code of the model would be run: confirm with --trust-remote-code"
        raise UserError("trust_remote_code", "yes", hint)
    for field, spec in _servers({"expert": start.get("expert")}) if samples and not given.get("expert") else ():
        _server(field, spec)


def _servers(fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(field, spec) of each server that they name."""
    named = [(f, spec) for f in _MODELS for spec in experts_in(str(fields.get(f) or ""), f).values()]
    return [(field, spec) for field, spec in named if names_server(spec)]


def _sent_away(left: Mapping[str, Any], file: Path) -> None:
    """UserError: a task with a file that lies elsewhere, and a server on another machine, which would get its text."""
    urls = (pieces(spec, field)["url"] for field, spec in _servers(left))
    url = next((url for url in urls if not is_loopback(url)), "")
    for word in re.split("[:,;=]", str(left.get("task", ""))) if url else ():
        name = os.path.expanduser(word.strip().removeprefix("@"))
        if (os.path.isabs(name) or ".." in Path(name).parts) and not _is_near(name, file):
            hint = f"lies elsewhere, and the configuration would send its text to {url}: confirm with --task"
            raise UserError("task", name, hint)


def _server(field: str, spec: str) -> None:
    options = pieces(spec, field)
    confirm = f"confirm with --{field} SPEC"
    if name := options.get("key_env"):
        hint = f"the configuration would send it to {options['url']}: {confirm}"
        raise UserError(f"{field}.key_env", name, hint)
    if folder := options.get("weights"):
        raise UserError(f"{field}.weights", folder, f"is a folder that the configuration would replace: {confirm}")
    if not is_loopback(options["url"]) and any(os.environ.get(name, "").strip() for name in KEY_VARIABLES):
        hint = f"is named by the configuration, and would get the key of the environment: {confirm}"
        raise UserError(field, options["url"], hint)


def _is_near(path: str, file: Path) -> bool:
    """Whether it lies in the current folder, or is the folder of the configuration or in it. Links are followed."""
    place = Path(path).resolve()
    home = (file if file.is_dir() else file.parent).resolve()
    return any(place.is_relative_to(folder) for folder in (Path.cwd().resolve(), home))
