"""Pushing a trained model to the Hugging Face hub. Off unless it is asked for; private unless said otherwise.

The token comes from the environment variable HF_TOKEN alone and is never written or printed. What is pushed is final/
of a run: weights, configuration, tokenizer, model card.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.errors import UserError
from understudy.runs.read import is_done, is_run, read_status

TOKEN = "HF_TOKEN"
INSTALL = "pip install 'huggingface_hub>=0.30'"
PLACEHOLDER = b"PATH_OR_HUB_ID"
"""What the model card says in place of a name that was not known when it was written."""
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def check_push(name: str, env: Mapping[str, str] = os.environ) -> None:
    """UserError: what would make a push to `name` fail, as far as that can be seen without the network."""
    if not _NAME.fullmatch(name) or ".." in name or "--" in name or name.endswith((".git", ".", "-")):
        raise UserError("push_to_hub", name, "must be OWNER/NAME of a model on the hub, such as me/my-model")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError("push_to_hub", name, f"needs huggingface_hub, which is not installed: {INSTALL}")
    if not env.get(TOKEN, "").strip():
        raise UserError("push_to_hub", name, f"needs a token that may write, in the environment variable {TOKEN}")
    if not re.fullmatch(r"[\x21-\x7e]+", env[TOKEN].strip()):
        hint = f"{TOKEN} holds a space, a line break or a character that is not ASCII, so it is no token (not shown)"
        raise UserError("push_to_hub", name, hint)
    if env.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise UserError("push_to_hub", name, "HF_HUB_OFFLINE is set: unset it, or leave the push out")


def prepare_push(name: str, public: bool = False, env: Mapping[str, str] = os.environ) -> None:
    """Create the repository, empty, if it is not there: this shows now whether the token may write.

    UserError: it may not, the hub cannot be reached, or `name` exists and is public while `public` is false.
    """
    check_push(name, env)
    try:
        api, token = _api(env)
        api.create_repo(name, private=not public, exist_ok=True, repo_type="model", token=token)
        private = api.repo_info(name, repo_type="model", token=token).private
    except Exception as error:
        raise UserError("push_to_hub", name, f"the hub refuses: {_reason(error, env)}") from error
    if not private and not public:
        hint = "exists and is public, and a model is pushed in private: `understudy push RUN OWNER/NAME --public`"
        raise UserError("push_to_hub", name, hint)


def push(run: Path | str, name: str, public: bool = False, env: Mapping[str, str] = os.environ) -> str:
    """Push final/ of the finished run, route or auto directory `run`, in one commit; the address of the commit.

    UserError: the run is not finished, or the hub refuses. The run stays as it is.
    """
    run = Path(run)
    if not is_run(run):
        raise UserError("run", run, f"{'is no run directory' if run.exists() else 'does not exist'}")
    if not is_done(run):
        raise UserError("run", run, f"is not finished ({read_status(run).get('state')}): only final/ is pushed")
    prepare_push(name, public, env)
    folder = run / "final"
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    try:
        from huggingface_hub import CommitOperationAdd  # an optional package

        operations = [
            CommitOperationAdd(path_in_repo=p.relative_to(folder).as_posix(), path_or_fileobj=_content(p, name))
            for p in files
        ]
        api, token = _api(env)
        message = "Model trained by Understudy"
        info = api.create_commit(name, operations, commit_message=message, repo_type="model", token=token)
        return str(getattr(info, "commit_url", info))
    except Exception as error:
        again = f"the run is complete in {run}; `understudy push {run} {name}` tries again"
        raise UserError(
            "push_to_hub", name, f"the model could not be pushed ({_reason(error, env)}); {again}"
        ) from error


def _content(path: Path, name: str) -> Any:
    """What is uploaded for a file: its path, or for the card its text with the model's name on the hub."""
    return path.read_bytes().replace(PLACEHOLDER, name.encode()) if path.name == "README.md" else str(path)


def _api(env: Mapping[str, str]) -> tuple[Any, str]:
    from huggingface_hub import HfApi  # an optional package

    return HfApi(endpoint=env.get("HF_ENDPOINT") or None), env[TOKEN].strip()


def _reason(error: Exception, env: Mapping[str, str]) -> str:
    """One short line without the token."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).replace(env.get(TOKEN, "").strip() or "\0", "***")
    return text if len(text) <= 240 else text[:237] + "..."
