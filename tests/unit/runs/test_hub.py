"""Pushing to the hub, by its own client against a local stand-in: private, one commit, no token shown, nothing lost."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tiny import config

from understudy.cli.main import main
from understudy.errors import UserError
from understudy.runs.hub import check_push, push

SECRET = "hf_notasecret123"


class Hub(ThreadingHTTPServer):
    """The calls of a push. private: of a repository that is there already. fails: the call that is refused."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Calls)
        self.calls: list[str] = []
        self.tokens: set[str | None] = set()
        self.private: bool | None = None
        self.fails = ""
        self.files: dict[str, bytes] = {}
        self.commits = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Calls(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self.answer("info", {"id": "me/model", "private": self.server.private, "tags": [], "downloads": 0, "likes": 0})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            if self.server.private is None and self.server.fails != "create":
                said = json.loads(body)  # the client's versions differ in how they say it
                self.server.private = said.get("private", said.get("visibility") == "private")
            self.answer("create", {"url": f"{self.server.url}/me/model"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.answer("preupload", {"files": files})
        elif "/commit/" in self.path:
            if self.server.fails != "commit":
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                self.server.commits += 1
            self.answer("commit", {"commitUrl": f"{self.server.url}/me/model/commit/abc", "commitOid": "abc"})
        else:
            self.answer(self.path, {})

    def answer(self, call: str, value: dict[str, Any]) -> None:
        self.server.calls.append(call)
        self.server.tokens.add(self.headers.get("Authorization"))
        absent = call == "info" and self.server.private is None
        refused = self.server.fails == call or absent
        text = json.dumps({"error": f"no rights, {SECRET}"} if refused else value).encode()
        self.send_response(404 if absent else 403 if refused else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run by its files."""
    path = tmp_path / "run"
    (path / "final" / "adapter").mkdir(parents=True)
    for name in ("config.json", "provenance.json", "final.json"):
        (path / name).write_text("{}")
    (path / "status.json").write_text('{"state": "done"}')
    (path / "final" / "model.safetensors").write_bytes(b"\0weights\xff")
    (path / "final" / "README.md").write_text('model = from_pretrained("PATH_OR_HUB_ID")')
    (path / "final" / "adapter" / "adapter_config.json").write_text("{}")
    return path


def test_a_run_is_pushed_in_private_in_one_commit(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["push", str(run), "me/model"]) == 0
    assert capsys.readouterr().out == f"pushed: {hub.url}/me/model/commit/abc\n"
    assert hub.private is True
    assert hub.commits == 1
    assert hub.files == {
        "README.md": b'model = from_pretrained("me/model")', "model.safetensors": b"\0weights\xff",
        "adapter/adapter_config.json": b"{}",
    }  # fmt: skip
    assert hub.tokens == {f"Bearer {SECRET}"}
    assert "PATH_OR_HUB_ID" in (run / "final" / "README.md").read_text(), "the run stays as it is"


def test_public_has_to_be_said(hub: Hub, run: Path):
    hub.private = False  # it exists, and everyone sees it
    with pytest.raises(UserError, match="exists and is public"):
        push(run, "me/model")
    assert hub.commits == 0
    push(run, "me/model", public=True)
    assert hub.commits == 1


@pytest.mark.parametrize("call", ["create", "info", "preupload", "commit"])
def test_a_refusal_is_one_line_without_the_token(hub: Hub, run: Path, call: str, capsys: pytest.CaptureFixture[str]):
    hub.fails = call
    assert main(["push", str(run), "me/model"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "403" in error
    assert SECRET not in error


@pytest.mark.parametrize(
    ("name", "env", "hint"),
    [
        ("model", {"HF_TOKEN": "x"}, "must be OWNER/NAME"),
        ("me/../model", {"HF_TOKEN": "x"}, "must be OWNER/NAME"),
        ("me/a b", {"HF_TOKEN": "x"}, "must be OWNER/NAME"),
        ("https://huggingface.co/me/model", {"HF_TOKEN": "x"}, "must be OWNER/NAME"),
        ("me/model", {}, "environment variable HF_TOKEN"),
        ("me/model", {"HF_TOKEN": " "}, "environment variable HF_TOKEN"),
        ("me/model", {"HF_TOKEN": "x", "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
)
def test_what_cannot_work_is_refused_without_the_network(name: str, env: dict[str, str], hint: str):
    with pytest.raises(UserError, match=hint):
        check_push(name, env)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        check_push("me/model", {"HF_TOKEN": "x"})


def test_what_is_no_finished_run_is_refused(hub: Hub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (run / "status.json").write_text('{"state": "stopped"}')
    for words, hint in (
        ([str(run), "me/model"], "is not finished (stopped)"),
        ([str(tmp_path / "no"), "me/model"], "does not exist"),
        ([str(tmp_path), "me/model"], "is no run directory"),
        ([str(run)], "give a run directory and OWNER/NAME"),
    ):
        assert main(["push", *words]) == 2
        assert hint in capsys.readouterr().err
    assert not hub.calls


# ---------------------------------------------------------------- at the end of a training


def words(path: Path) -> list[str]:
    c = config("sft", path)
    return ["train", "--method", "sft", "--student", c.student, "--expert", c.expert, "--task", c.task, "--updates",
            "1", "--prompts-per-update", "2", "--final-prompts", "2", "--final-samples", "1", "--eval-every", "0",
            "--max-new-tokens", "4", "--out", str(path), "--push-to-hub", "me/model"]  # fmt: skip


def test_train_pushes_at_the_end_and_a_failure_loses_nothing(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    hub.fails = "commit"
    assert main(words(tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert (
        f"the run is complete in {tmp_path / 'run'}; `understudy push {tmp_path / 'run'} me/model` tries again" in error
    )
    assert (tmp_path / "run" / "final" / "model.safetensors").is_file()
    assert hub.calls[:2] == ["create", "info"], "what the hub refuses is found before the training"
    hub.fails = ""
    assert main(words(tmp_path / "run")) == 0  # the run is done: only the push is left
    assert {"model.safetensors", "README.md", "config.json"} <= set(hub.files)
    stored = "".join(p.read_text(errors="replace") for p in (tmp_path / "run").rglob("*") if p.is_file())
    assert SECRET not in stored


def test_train_refuses_before_anything_is_written(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    hub.fails = "create"
    assert main(words(tmp_path / "run")) == 2
    assert "the hub refuses" in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    out = ["--out", str(tmp_path / "run"), "--push-to-hub", "me/model"]
    auto = ["auto", "--student", "scratch", "--expert", "solver", "--budget", "updates=9", *out]
    for line in (words(tmp_path / "run"), auto):
        assert main(line) == 2
        assert "HF_TOKEN" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert "push_to_hub" not in sys.modules
