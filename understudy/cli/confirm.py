"""What a file of options, perhaps a stranger's, may not decide: it is repeated on the command line.

Code that comes with a model, keys that are sent to a host, a push to the hub, and folders elsewhere that are written.
(Code that a task names: rewards.py.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    for field in _MODELS:
        for spec in experts_in(str(left.get(field, "")), field).values():
            if names_server(spec):
                _server(field, spec)
    for field in _FOLDERS:
        if field in left and not _is_near(str(left[field]), Path(file)):
            flag = field.replace("_", "-")
            hint = f"is named by the configuration and lies elsewhere: confirm with --{flag} {left[field]}"
            raise UserError(field, left[field], hint)


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
