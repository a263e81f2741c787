"""Mistakes that were found late, or with a traceback: each is one line now, and nothing has been written."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from mistakes import Output, contents
from tiny import STUDENT

from understudy.cli import main as main_module
from understudy.cli.commands import COMMANDS

COMPARE = ["compare", "--experts", "s=solver", "--out", "out", "--no-diagnose", "--student", STUDENT]
RUN = ["calibrate", "run", "--out", "out"]
AUTO = ["auto", "--student", STUDENT, "--expert", "solver", "--budget", "updates=20", "--out", "out"]
EVAL = ["eval", "--model", "solver"]
TRAIN = ["train", "--student", STUDENT, "--out", "out"]
PAIR = ["--task", "pair:main=countdown,other=classify,share=0.5", "--expert-of", "task"]
SELF = [*TRAIN, "--method", "opd", "--expert"]
MISTAKES: dict[str, tuple[Sequence[str], str, str]] = {
    "calibrate run, budget in words": ([*RUN, "--budget", "x"], "budget", "a share such"),
    "calibrate run, no budget": (["calibrate", "run", "--budget", "0", "--out", "out"], "budget", "above 0"),
    "calibrate run, unknown launcher": ([*RUN, "--launcher", "slurm"], "launcher", "one of"),
    "calibrate run, no workers": (["calibrate", "run", "--workers", "0", "--out", "out"], "workers", "at least 1"),
    "compare, no such student": ([*COMPARE[:-1], "nowhere"], "student", "no such folder"),
    "compare, a hub id that is none": ([*COMPARE[:-1], "no\x1b[31m\u202e/x"], "student", "not a hub id"),
    "compare, a model of the hub that is not here": ([*COMPARE[:-1], "nobody/nothing"], "student", "cannot be loaded"),
    "compare, a scratch model of no kind": ([*COMPARE[:-1], "scratch:widht=3"], "student.widht", "unknown"),
    "compare, no such expert": ([*COMPARE, "--experts", "e=./nowhere"], "expert", "no such folder"),
    "compare, unknown task": ([*COMPARE, "--task", "countup"], "task", "unknown"),
    "compare, bad option of a task": ([*COMPARE, "--task", "countdown:n_numbers=1"], "task.n_numbers", "must lie"),
    "compare, no such data": ([*COMPARE, "--task", "data:path=nowhere.jsonl"], "task.path", "no such file"),
    "compare, unknown launcher": ([*COMPARE, "--launcher", "slurm"], "launcher", "unknown; one of local, ray"),
    "compare, no workers": ([*COMPARE, "--workers", "0"], "workers", "at least 1"),
    "compare, a method twice": ([*COMPARE, "--methods", "sft", "sft"], "routes", "is there twice"),
    "compare, a field twice": ([*COMPARE, "--set", "updates=3", "updates=4"], "set", "twice"),
    "compare, a seed of no run": ([*COMPARE, "--methods", "sft:seed=3"], "route", "share seed"),
    "compare, an unwritable folder": ([*COMPARE, "--out", "/proc/x"], "out", "."),
    "compare, a file as its folder": ([*COMPARE, "--out", "/dev/null"], "out", "is a file"),
    "calibrate run, an unwritable folder": (["calibrate", "run", "--out", "/proc/x"], "out", "."),
    "demo, an unwritable folder": (["demo", "--quick", "--out", "/proc/x"], "out", "."),
    "demo, no workers": (["demo", "--quick", "--workers", "0", "--out", "out"], "workers", "at least 1"),
    "auto, a mixture that no phase has": ([*AUTO, "--set", "expert_share=0.5"], "set", "has no effect in any phase"),
    "auto, two parts that no phase has": (
        [*AUTO, "--imitate-only", "--set", "expert_coef=2"], "set", "only weight=expert_reward",
    ),
    "auto, an unknown tracker": ([*AUTO, "--set", "tracker=x"], "tracker", "unknown; one of"),
    "eval of no prompts": ([*EVAL, "--prompts", "0"], "prompts", "at least 1"),
    "eval of too many": ([*EVAL, "--prompts", "100000", "--samples", "10000"], "prompts", "no memory holds"),
    "eval, a device for a program": ([*EVAL, "--device", "cpu"], "device", "has no effect on solver"),
    "eval, a type for a program": ([*EVAL, "--dtype", "bfloat16"], "dtype", "has no effect on solver"),
    "eval, remote code of a program": ([*EVAL, "--trust-remote-code"], "trust_remote_code", "has no effect"),
    "eval of no samples": ([*EVAL, "--samples", "0"], "samples", "at least 1"),
    "eval, a negative length": ([*EVAL, "--max-new-tokens", "-1"], "max_new_tokens", "at least 0"),
    "self, unknown option": ([*SELF, "self:contxt=gold"], "expert.contxt", "unknown; one of context, frozen, style"),
    "self, a column that no row has": ([*SELF, "self:context=hint"], "expert.context", "no such column"),
    "self, live and sampled ahead": ([*SELF, "self:frozen=false", "--method", "sft"], "expert.frozen", "old"),
    "self, live on another device": (
        [*SELF, "self:frozen=false", "--expert-device", "cpu"], "expert_device", "the expert is the student",
    ),
    "extrapolation of nothing": ([*TRAIN, "--method", "grpo", "--signal", "extrapolated"], "signal", "nothing in this"),
    "extrapolation below the base": (
        [*TRAIN, "--method", "exopd", "--extrapolation", "-1"], "extrapolation", "at least 0",
    ),
    "rewards of a drawn label": (
        [*SELF, "solver", "--weight", "expert_reward", "--target", "expert_token"], "target", "was not rewarded",
    ),
    "both parts off": (
        [*TRAIN, "--method", "opd_reward", "--expert", "solver", "--expert-coef", "0", "--advantage-coef", "0"],
        "advantage_coef", "nothing to learn",
    ),
    "experts, one without a name": ([*SELF, "a=solver", "good"], "expert", "word 2 of 2 has no name"),
    "experts, one name twice": ([*SELF, "a=solver", "a=good"], "expert", "the name of two experts"),
    "experts, a name alone": ([*SELF, "a=solver"], "expert", "leave the name out"),
    "experts, several": ([*SELF, "a=solver", "b=good"], "expert", "2 experts .a, b.: --expert-of FIELD"),
    "experts, a field alone": ([*SELF, "solver", "--expert-of", "task"], "expert_of", "there is one expert"),
    "experts, a field that no row has": (
        [*SELF, "a=solver", "b=good", "--expert-of", "kind"], "expert_of", "has no such field; it has task, nums",
    ),
    "experts, a value that names none": (
        [*SELF, "a=solver", "b=good", "--expert-of", "task"], "expert_of", "task=countdown: of prompt .* none of the",
    ),
    "experts, one of no row": (
        [*SELF, "countdown=solver", "b=good", "--expert-of", "task"], "expert", "b: is the expert of no prompt",
    ),
    "experts, one that is not there": (
        [*SELF, "countdown=solver", "classify=./nowhere", *PAIR], "expert", "nowhere: is not a model: no such folder",
    ),
    "experts, one that cannot score": (
        [*SELF, "countdown=solver", "classify=labeller:smoothing=0", *PAIR],
        "expert", "classify=labeller:smoothing=0: cannot score",
    ),
    "experts, the program of another task": (
        [*SELF, "countdown=solver", "classify=solver", *PAIR], "expert", "unknown; one of labeller",
    ),
    "experts, a student among them that is too late": (
        [*SELF, "countdown=solver", "classify=self:frozen=false", *PAIR, "--method", "sft"], "expert.frozen", "old",
    ),
    "experts of a comparison, one that is not there": (
        [*COMPARE, "--experts", "e=a=solver b=./nowhere", "--set", "expert_of=task"], "expert", "no such folder",
    ),
    "auto, several, with a wrong recipe": (
        ["auto", "--student", STUDENT, "--budget", "1e9", "--expert", "a=solver", "b=good", "--set", "lr=-1"],
        "lr", "expert a: must be at least 0",
    ),
    "auto, several, one name twice": (
        ["auto", "--student", STUDENT, "--budget", "1e9", "--expert", "a=solver", "a=good"],
        "expert", "the name of two experts",
    ),
    "diagnose, several by a field that no row has": (
        ["diagnose", "--student", STUDENT, "--expert", "a=solver", "b=good", "--expert-of", "kind"],
        "expert_of", "no such field",
    ),
    "auto, several by a value that names none": (
        ["auto", "--student", STUDENT, "--budget", "1e9", "--expert", "a=solver", "b=good", "--expert-of", "task"],
        "expert_of", "none of the experts a, b",
    ),
    "prompts, several without a field": (
        ["prompts", "--student", "scratch", "--expert", "a=solver", "b=good"], "expert_of", "they need it",
    ),
    "prompts, none": (["prompts", "-n", "0"], "n", "at least 1"),
}  # fmt: skip


@pytest.mark.wrong_input("found before anything is written")
@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words, field, hint = MISTAKES[name]
    Output(list(words), capsys).is_mistake(field, hint)
    assert contents(tmp_path) == {}


OF_THE_MACHINE: dict[str, tuple[Exception, str, str]] = {
    "memory": (MemoryError(), "memory", "lower --micro-tokens"),
    "memory of torch": (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), "memory",
                        "not enough"),
    "certificate": (ssl.SSLCertVerificationError("self-signed"), "network", "SSL_CERT_FILE"),
    "full disk": (OSError(errno.ENOSPC, "", "page.html"), "file", "page.html: the disk is full"),
    "read-only": (OSError(errno.EROFS, "", "page.html"), "file", "read-only"),
    "a folder of others": (PermissionError(errno.EACCES, "", "a\x1b"), "file", "permission denied"),
}  # fmt: skip


@pytest.mark.fault("machine")
@pytest.mark.parametrize("name", OF_THE_MACHINE)
def test_what_the_machine_refuses_is_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, field, words = OF_THE_MACHINE[name]

    def broken(args: Sequence[str]) -> int:
        raise error

    monkeypatch.setattr(main_module, "find", lambda commands, name: broken)
    Output(["report"], capsys).is_mistake(field, words)


def test_an_error_of_the_program_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: Sequence[str]) -> int:
        raise ValueError("a bug")

    monkeypatch.setattr(main_module, "find", lambda commands, name: broken)
    for name in COMMANDS:
        with pytest.raises(ValueError, match="a bug"):
            main_module.main([name])
