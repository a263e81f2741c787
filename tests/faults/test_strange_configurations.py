"""A configuration from a stranger decides nothing that runs code, sends keys, or writes elsewhere, unless confirmed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from understudy.cli import options
from understudy.cli.confirm import confirmed
from understudy.cli.main import main
from understudy.cli.train import TrainOptions, load
from understudy.errors import UserError

SERVER = "server:url=https://evil.example/v1"
STRANGE: dict[str, tuple[dict[str, Any], str, str]] = {
    "remote code": ({"trust_remote_code": True}, "trust_remote_code", "confirm with --trust-remote-code"),
    "any variable as a key": ({"expert": f"{SERVER},key_env=AWS_SECRET"}, "expert.key_env", "would send it to https://ev"),
    "a key of the sampler": ({"sampler": f"{SERVER},key_env=AWS_SECRET"}, "sampler.key_env", "confirm with --sampler"),
    "the usual key": ({"expert": "https://evil.example/v1"}, "expert", "would get the key of the environment"),
    "a key for one of several": (
        {"expert": f"a=solver b={SERVER},key_env=AWS_SECRET", "expert_of": "x"}, "expert.key_env", "would send it to",
    ),
    "my file to one of several": (
        {"task": "data:path=/etc/hostname", "expert": f"a=solver b={SERVER}"}, "task", "would send its text to",
    ),
    "code in a pair": ({"task": "pair:main=countdown,other=/tmp/evil.py;task"}, "task", "confirm with --task"),
    "an environment in a pair": ({"task": "pair:main=env;environment=x"}, "task", "confirm with --task"),
    "a reward in a pair": ({"task": "pair:main=countdown;reward=evil.py:f"}, "task", "confirm with --task"),
    "my file to a server": (
        {"task": "data:path=rows.jsonl,system=@/etc/hostname", "expert": SERVER}, "task", "would send its text to",
    ),
    "my rows to a sampler": (
        {"task": "gsm8k:path=../../mine.jsonl", "sampler": SERVER}, "task", "lies elsewhere",
    ),
    "a folder to replace": ({"sampler": "server:url=http://[::1]/v1,weights=/home/me"}, "sampler.weights", "replace"),
    "a push": ({"push_to_hub": "evil/model"}, "push_to_hub", "confirm with --push-to-hub evil/model"),
    "an absolute folder": ({"out": "/etc/run"}, "out", "confirm with --out /etc/run"),
    "a folder above": ({"out": "../../run"}, "out", "lies elsewhere"),
    "a cache elsewhere": ({"score_cache": "/etc/cache"}, "score_cache", "confirm with --score-cache"),
}  # fmt: skip
BASE = {"method": "sft", "student": "scratch", "expert": "solver"}


@pytest.mark.wrong_input("configurations of strangers")
@pytest.mark.parametrize("name", STRANGE)
def test_refused_until_it_is_confirmed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fields, field, words = STRANGE[name]
    (tmp_path / "work").mkdir()
    (tmp_path / "downloads").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    if field != "task":
        monkeypatch.setenv("UNDERSTUDY_API_KEY", "sk-mine-0123456789")
    file = tmp_path / "downloads" / "c.json"
    file.write_text(json.dumps(BASE | fields))
    assert main(["train", "--config", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {field}: ")
    assert words in line
    assert not list((tmp_path / "work").iterdir())
    confirmed(fields, BASE | fields, file)


FROM_A_RUN: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "a task": ({"task": "evil.py:task"}, [], "task"),
    "a task in a pair": ({"task": "pair:main=countdown,other=evil.py;task"}, [], "task"),
    "an environment": ({"task": "env:evil"}, [], "task"),
    "a reward": ({"task": "countdown:reward=evil.py:f"}, [], "reward"),
    "remote code": ({"trust_remote_code": True}, [], "trust_remote_code"),
    "a server with the key": ({"expert": SERVER}, ["--sample-expert"], "expert"),
    "a variable as the key": ({"expert": f"{SERVER},key_env=AWS_SECRET"}, ["--sample-expert"], "expert.key_env"),
}


@pytest.mark.wrong_input("configurations of strangers")
@pytest.mark.parametrize(
    ("name", "command"),
    [(n, "export") for n in FROM_A_RUN]
    + [(n, "score") for n, (fields, _, _) in FROM_A_RUN.items() if "task" in fields],
)
def test_a_folder_of_a_stranger(
    name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What other commands than train read from a run's config.json; catches code that runs when it is exported."""
    fields, more, field = FROM_A_RUN[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_API_KEY", "sk-mine-0123456789")
    (tmp_path / "run").mkdir()
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('went-off').touch()\n")
    (tmp_path / "run" / "config.json").write_text(json.dumps(BASE | {"out": "run"} | fields))
    (tmp_path / "run" / "status.json").write_text('{"state": "done"}')
    words = {"export": ["--to", "trl", *more], "score": ["--expert", "solver"]}[command]
    source = ["run"] if command == "export" else ["--run", "run"]
    assert main([command, *source, *words, "--out", "out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {field}: ")
    assert "confirm with" in line
    assert sorted(os.listdir(tmp_path)) == ["evil.py", "run"]


def test_what_needs_no_confirmation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume from the run's own config.json, folders here, servers on this machine, servers without a key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNDERSTUDY_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run = tmp_path / "elsewhere" / "run"
    run.mkdir(parents=True)
    for fields in ({"out": str(run)}, {"out": "runs/a"}, {"expert": "https://mine.example/v1"}, {"out": ""}):
        confirmed({}, BASE | fields, run / "config.json")
    monkeypatch.setenv("UNDERSTUDY_API_KEY", "sk-mine-0123456789")
    confirmed({}, BASE | {"expert": "http://127.0.0.1:8000/v1"}, run)


def test_a_link_leads_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "runs").symlink_to("/etc")
    monkeypatch.chdir(work)
    with pytest.raises(UserError, match="lies elsewhere"):
        confirmed({}, BASE | {"out": "runs/a"}, work / "c.json")


def test_configurations_that_are_no_files(tmp_path: Path) -> None:
    """Catches a pipe that is waited for, a device without an end, and a file that fills the memory."""
    os.mkfifo(tmp_path / "pipe.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(1 << 40)
    for path in (tmp_path / "pipe.json", Path("/dev/zero")):
        with pytest.raises(UserError, match="is not a file"):
            load(path)
    with pytest.raises(UserError, match="has more than 1 MiB"):
        load(tmp_path / "large.json")


def test_the_command_line_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "c.json"
    file.write_text(json.dumps(BASE | {"trust_remote_code": True, "out": "/etc/run"}))
    words = ["--config", str(file), "--no-trust-remote-code", "--out", "/etc/other"]
    got = options.parse(TrainOptions, words, "x", "", read=load)
    assert (got.trust_remote_code, got.out) == (False, "/etc/other")
