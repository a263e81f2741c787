"""Faults of a server: no result is lost, no wrong answer is accepted, and no key is printed.

Each fault of the stub occurs in three ways: once (a retry succeeds, or the answer is refused), always (one line,
exit 2), and during a training run (which resumes to the same weights).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from stub_server import FAULTS, Stub
from tiny import config

from understudy.cli.main import main
from understudy.config import to_dict
from understudy.errors import UserError
from understudy.experts.server.chat import ChatExpert
from understudy.experts.server.expert import ServerExpert
from understudy.policy import Policy, load_policy
from understudy.runs.read import read_metrics, read_provenance, read_status
from understudy.servers.config import parse_server
from understudy.servers.http import Client, Unreachable, find_key
from understudy.tasks import load_task
from understudy.types import Prompt

KEY = "sk-Very-Secret-0123456789"
SCORING = [f for f in FAULTS if f not in ("no logprobs", "no token_ids", "early stop")]
SAMPLING = [f for f in FAULTS if f not in ("no prompt_logprobs", "usage", "other tokens", "long", "no token_ids")]
PASSING = {"500", "503", "429", "drop", "truncated", "not json"}


@pytest.fixture(scope="module")
def policy(models: dict[str, Path]) -> Policy:
    return load_policy(str(models["llama"]), "expert", device="cpu")


@pytest.fixture
def stub(policy: Policy) -> Iterator[Stub]:
    with Stub(policy).running() as server:
        yield server


def spec(stub: Stub, options: str = "", timeout: float = 30) -> str:
    return f"server:url={stub.url},wait=0.005,timeout={timeout}{options}"


def patience(fault: str) -> float:
    """Time limit in seconds: short for faults of slowness, else longer than a busy machine needs."""
    return 0.4 if fault in ("slow", "drip") else 30


def prompts(policy: Policy, n: int = 3) -> list[Prompt]:
    return policy.encode(load_task("countdown").prompts("train", n, 0))


@pytest.mark.fault("servers that fail")
@pytest.mark.parametrize("fault", SCORING)
def test_one_bad_answer_to_a_scoring(fault: str, stub: Stub, policy: Policy) -> None:
    """Catches a wrong answer that is accepted, and a temporary fault without a retry."""
    e = ServerExpert(parse_server(spec(stub, timeout=patience(fault)), "expert"), policy)
    rollouts = e.sample(prompts(policy), 2, 0, 8)
    want = policy.score(rollouts)
    stub.faults = [fault, fault]
    stub.when = lambda body: "prompt_logprobs" in body
    for a, b in zip(e.score(rollouts), want):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    assert not stub.faults
    assert e.client.retries >= 2


@pytest.mark.fault("servers that fail")
@pytest.mark.parametrize("fault", SCORING)
def test_bad_answers_to_every_scoring(fault: str, stub: Stub, policy: Policy) -> None:
    """Catches endless retries, a traceback, and a score computed from a wrong answer."""
    e = ServerExpert(parse_server(spec(stub, ",tries=3"), "expert"), policy)
    rollouts = e.sample(prompts(policy), 1, 0, 8)
    stub.always = fault
    e.client.timeout = min(patience(fault), 0.2 if fault in ("slow", "drip") else 30)
    before = stub.seen["/v1/completions"]
    with pytest.raises(UserError) as error:
        e.score(rollouts)
    assert isinstance(error.value, Unreachable) == (fault in PASSING | {"slow", "drip"})
    assert str(error.value).startswith(f"expert: {stub.url}: ")
    assert "\n" not in str(error.value)
    assert stub.seen["/v1/completions"] - before == 3


@pytest.mark.fault("servers that fail")
@pytest.mark.parametrize("fault", SAMPLING)
def test_one_bad_answer_to_a_sampling(fault: str, stub: Stub, policy: Policy) -> None:
    """Catches samples whose ids, log-probs or ends are not what was drawn: a retry gives the same draws."""
    e = ServerExpert(parse_server(spec(stub, ",concurrency=1", patience(fault)), "expert"), policy)
    want = e.sample(prompts(policy), 2, 0, 8)
    stub.faults = [fault]
    assert e.sample(prompts(policy), 2, 0, 8) == want
    assert not stub.faults


def test_ids_come_by_name_where_there_is_no_list(stub: Stub, policy: Policy) -> None:
    """Older servers have only "token_id:N"; a server with neither is refused."""
    e = ServerExpert(parse_server(spec(stub), "expert"), policy)
    stub.always = "no token_ids"
    with pytest.raises(UserError, match="token_ids is missing"):
        e.sample(prompts(policy), 1, 0, 8)


def test_too_many_requests_is_waited_for(stub: Stub, policy: Policy) -> None:
    """Catches a Retry-After that is ignored, and one of a week that is obeyed."""
    client = Client(stub.url, first_wait=0.001)
    stub.faults = ["429:0.3", "503"]
    began = time.monotonic()
    client.get("/models", lambda answer: answer)
    assert time.monotonic() - began >= 0.3
    assert client.pause(0, 1e9) == 60.0
    assert all(client.pause(4, 0) <= 0.016 for _ in range(20))
    assert len({client.pause(4, 0) for _ in range(20)}) > 1, "no jitter"


def test_a_slow_server_is_left(stub: Stub) -> None:
    """Catches a time-out that restarts at each piece of the answer."""
    for fault in ("slow", "drip"):
        stub.always = fault
        client = Client(stub.url, timeout=0.3, tries=1)
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"took more than 0.3 s"):
            client.post(
                "/completions",
                {"model": "tiny", "prompt": [[5, 6]], "max_tokens": 400, "return_token_ids": True},
                lambda answer: answer,
            )
        assert time.monotonic() - began < 5.0, "the whole answer was waited for"


def test_no_more_requests_at_a_time_than_allowed(stub: Stub, policy: Policy) -> None:
    e = ServerExpert(parse_server(spec(stub, ",concurrency=2,rows=1"), "expert"), policy)
    rollouts = e.sample(prompts(policy, 8), 2, 0, 4)
    stub.most = 0
    e.score(rollouts)
    assert stub.most <= 2


def test_what_arrived_is_kept(stub: Stub, policy: Policy, tmp_path: Path) -> None:
    """Catches a batch that is lost because one of its requests failed after all retries."""
    e = ServerExpert(parse_server(spec(stub, ",rows=1,tries=2,concurrency=2"), "expert"), policy)
    rollouts = e.sample(prompts(policy, 6), 1, 0, 6)
    poison = list(rollouts[4].prompt.ids + rollouts[4].ids)
    stub.when = lambda body: body.get("prompt") == [poison]
    stub.always = "500"
    kept: dict[int, Any] = {}
    with pytest.raises(Unreachable):
        e.entries(rollouts, 0, kept.__setitem__)
    assert 4 not in kept
    assert len(kept) >= 3
    for i, entry in kept.items():
        torch.testing.assert_close(entry["logp"], policy.score([rollouts[i]])[0], atol=1e-4, rtol=0)


def test_an_answer_of_4xx_is_not_repeated(stub: Stub) -> None:
    client = Client(stub.url, timeout=2)
    with pytest.raises(UserError, match=r"answered 404: The model `x` does not exist"):
        client.post("/completions", {"model": "x", "prompt": [[1]]}, lambda answer: answer)
    assert stub.seen["/v1/completions"] == 1


# -- in a training run ----------------------------------------------------------------------------------------------


def arguments(out: Path, method: str, **changes: Any) -> list[str]:
    words = ["train"]
    for name, value in to_dict(config(method, out, **changes)).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", str(value)]
    return words


LONGER: dict[str, Any] = {"updates": 4, "save_every": 1, "task": "countdown"}


@pytest.mark.parametrize("method", ["sft", "opd"])
def test_faults_change_nothing(method: str, stub: Stub, models: dict[str, Path], tmp_path: Path) -> None:
    """A run whose server fails every second time, is down for a while and comes back ends with the weights of a run
    without faults."""
    student = str(models["llama"])
    more = {"student": student, "expert": spec(stub, ",tries=4,concurrency=1"), **LONGER}
    assert main(arguments(tmp_path / "whole", method, **more)) == 0
    want = (tmp_path / "whole" / "final" / "model.safetensors").read_bytes()
    order = ["500", "", "drop", "", "truncated", "", "NaN", "", "short", "", "wrong model", "", "429:0.01", ""]
    stub.faults = ["", "", *order * 20]
    out = tmp_path / "run"
    assert main(arguments(out, method, **more)) == 0
    assert (out / "final" / "model.safetensors").read_bytes() == want
    assert [line["loss"] for line in read_metrics(out, "train")] == [
        line["loss"] for line in read_metrics(tmp_path / "whole", "train")
    ]


def test_a_server_that_goes_away(
    stub: Stub, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a lost checkpoint, a traceback, and a resumed run that ends with other weights."""
    more = {"student": str(models["llama"]), "expert": spec(stub, ",tries=2"), **LONGER}
    assert main(arguments(tmp_path / "whole", "opd", **more)) == 0
    requests = stub.seen["/v1/completions"]
    out = tmp_path / "run"
    stub.when = lambda body: stub.seen["/v1/completions"] > 2 * requests - 2  # only the last scorings
    stub.always = "drop"
    capsys.readouterr()
    assert main(arguments(out, "opd", **more)) == 2
    err = capsys.readouterr().err
    assert re.search(r"^error: expert: http://127.0.0.1:\d+/v1: cannot be reached .*same command goes on", err, re.M)
    assert read_status(out)["state"] == "stopped"
    stub.always = ""
    assert main(arguments(out, "opd", **more)) == 0
    want, got = (d / "final" / "model.safetensors" for d in (tmp_path / "whole", out))
    assert got.read_bytes() == want.read_bytes()


def test_a_server_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expert = "server:url=http://127.0.0.1:9/v1,tries=2,wait=0.001"
    assert main(arguments(tmp_path / "run", "opd", expert=expert)) == 2
    assert "cannot be reached" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


MISTAKES = [
    ("opd_full", "", r"expert: .*cannot distribution.*--top-k 16 --top-k-of expert"),
    ("dagger", "", r"expert: .*cannot distribution"),
    ("opd", ",api=chat", r"expert: .*cannot score.*use sft or seq_kd"),
    ("sft", ",api=soap", r"expert.api: soap: unknown; one of completions, chat"),
    ("sft", ",concurrency=0", r"expert.concurrency: 0: must be at least 1"),
    ("sft", ",model=large", r"expert.model: large: .*it serves tiny"),
    ("sft", ",modell=large", r"expert.modell: large: unknown; one of url, model"),
    ("sft", ",key_env=NO_SUCH_VARIABLE", r"expert.key_env: NO_SUCH_VARIABLE: is not set"),
]


@pytest.mark.parametrize(("method", "options", "words"), MISTAKES)
def test_mistakes_with_servers(
    method: str,
    options: str,
    words: str,
    stub: Stub,
    models: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, exit 2, nothing written; a server's top-k is never taken for a distribution."""
    out = tmp_path / "run"
    more = {"student": str(models["llama"]), "expert": spec(stub, options)}
    assert main(arguments(out, method, **more)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "has no effect here" not in line]
    assert len(lines) == 1
    assert re.search(f"^error: {words}", lines[0]), lines[0]
    assert not out.exists()


# -- keys -----------------------------------------------------------------------------------------------------------


def everything(folder: Path) -> str:
    files = [p for p in folder.rglob("*") if p.is_file()]
    return " ".join([p.read_bytes().decode("latin-1") + str(p) for p in files])


@pytest.mark.parametrize("fault", ["", "500", "401"])
def test_a_key_is_never_printed(
    fault: str,
    policy: Policy,
    models: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Search the run directory, the cache, the output and the log at every level, also when the server repeats the key
    in its error messages."""
    caplog.set_level(0)
    monkeypatch.setenv("UNDERSTUDY_API_KEY", KEY if fault != "401" else KEY + "x")
    with Stub(policy, key=KEY).running() as stub:
        stub.faults = ["", fault] if fault == "500" else []
        out, cache = tmp_path / "run", tmp_path / "cache"
        more = {"student": str(models["llama"]), "expert": spec(stub)}
        status = main(arguments(out, "opd", score_cache=str(cache), eval_expert=True, **more))
        assert status == (2 if fault == "401" else 0)
        stub.faults, stub.always = [], "500"
        assert main(arguments(tmp_path / "other", "opd", seed=1, **more)) == 2
        printed = capfd.readouterr()
        assert KEY not in printed.out + printed.err + caplog.text
        assert KEY not in everything(tmp_path)
        if fault == "401":
            assert "the key was refused" in printed.err


@pytest.mark.parametrize(
    "expert",
    [
        f"http://user:{KEY}@127.0.0.1:9/v1",
        f"https://{KEY}@host/v1",
        f"http://127.0.0.1:9/v1?api_key={KEY}",
        f"http://127.0.0.1:9/v1#{KEY}",
        f"server:url=http://127.0.0.1:9/v1,api_key={KEY}",
        f"server:url=http://127.0.0.1:9/v1,key={KEY}",
        f"server:url=http://127.0.0.1:9/v1,token={KEY}",
        f"server:url=http://127.0.0.1:9/v1,key_env={KEY}",
        f"server:url=http://user:{KEY}@h/v1",
        f"server:url=http://127.0.0.1:9/v1,{KEY}",
        f"http://127.0.0.1:99999999/{KEY} /v1",
    ],
)
@pytest.mark.parametrize("field", ["expert", "sampler"])
def test_a_key_in_the_wrong_place(expert: str, field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a password that is printed or written to config.json."""
    out = tmp_path / "run"
    assert main(arguments(out, "opd", **{field: expert})) == 2
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err
    assert printed.err.startswith(f"error: {field}")
    assert not out.exists()


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "--model"], ["train", "--method", "grpo", "--student"],
        ["score", "--run", "x", "--out", "y", "--expert"],
        ["score", "--rollouts", "x", "--out", "y", "--student", "scratch", "--expert"],
        ["compare", "--student", "scratch", "--experts"],
    ],
)  # fmt: skip
def test_a_password_in_any_command(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    label = "x=" if command[0] == "compare" else ""
    assert main([*command, f"{label}http://user:{KEY}@127.0.0.1:9/v1"]) == 2
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err + everything(tmp_path)


def test_a_key_goes_to_its_service_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a key of one service that is sent to another."""
    monkeypatch.delenv("UNDERSTUDY_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert find_key("", "expert", "http://127.0.0.1:8000/v1") == ""
    assert find_key("", "expert", "https://api.openai.com.evil.example/v1") == ""
    assert find_key("", "expert", "http://api.openai.com/v1") == "", "not in the clear"
    assert find_key("", "expert", "https://api.openai.com/v1") == KEY
    assert find_key("OPENAI_API_KEY", "expert", "https://mine.example/v1") == KEY
    monkeypatch.setenv("UNDERSTUDY_API_KEY", "other")
    assert find_key("", "expert", "http://127.0.0.1:8000/v1") == "other"


# -- black boxes ----------------------------------------------------------------------------------------------------


def test_a_black_box_gives_samples(stub: Stub, policy: Policy, models: dict[str, Path], tmp_path: Path) -> None:
    """Catches text that is taken for the expert's tokens, an end that was not reached, and invented log-probs."""
    e = ChatExpert(parse_server(spec(stub, ",api=chat"), "expert"), policy)
    rollouts = e.sample(prompts(policy), 2, 0, 12)
    for r in rollouts:
        assert len(r.ids) <= 12
        assert (r.ids[-1] in policy.end_ids) == r.ended
        assert not set(r.ids[:-1]) & set(policy.end_ids)
        assert all(math.isnan(x) for x in r.behavior_logp)
    stub.new_words = True
    assert [r.ids for r in e.sample(prompts(policy), 2, 0, 12)] == [r.ids for r in rollouts]
    stub.new_words = False
    out = tmp_path / "run"
    expert = spec(stub, ",api=chat")
    stub.faults = ["500", "", "truncated", "", "not json"]
    assert main(arguments(out, "seq_kd", student=str(models["llama"]), expert=expert)) == 0
    record = read_provenance(out)["expert"]
    assert record["capabilities"] == ["sample"]
    assert record["provenance"]["kind"] == "black box"
    assert "written again by the student's tokenizer" in record["provenance"]["tokens"]


def test_a_black_box_that_is_cut_off(stub: Stub, policy: Policy) -> None:
    """Text with more student tokens than the limit is cut, and then it has not ended."""
    e = ChatExpert(parse_server(spec(stub, ",api=chat"), "expert"), policy)
    (prompt,) = prompts(policy, 1)
    r = e.encoded(prompt, 0, "1+2=3 and so on", True, 4)
    assert (len(r.ids), r.ended) == (4, False)
    assert not set(r.ids) & set(policy.end_ids)
    end = policy.tokenizer.eos_token
    r = e.encoded(prompt, 0, f"1{end}2", True, 40)
    assert [i in policy.end_ids for i in r.ids].count(True) == 1, "an end token in the text is not the student's end"


def test_a_black_box_that_thinks_or_says_nothing(
    stub: Stub, policy: Policy, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thought that is given apart is kept; nothing is learned from an answer without text."""
    silent = [False]

    def chat(body: dict[str, Any]) -> tuple[int, Any]:
        message, reason = {"content": "7", "reasoning_content": "hm"}, "stop"
        if silent[0] or body["seed"] % 2:
            message, reason = {"content": None}, "length"
        return 200, {"choices": [{"message": message, "finish_reason": reason}]}

    monkeypatch.setattr(stub, "chat", chat)
    e = ChatExpert(parse_server(spec(stub, ",api=chat"), "expert"), policy)
    rollouts = e.sample(prompts(policy), 4, 0, 60)
    assert {r.text for r in rollouts} == {"", "<think>\nhm\n</think>\n\n7"}
    assert all(r.blank == (not r.text) for r in rollouts)
    options = ["--max-new-tokens", "40", "--samples-per-prompt", "4"]
    out, expert = tmp_path / "run", spec(stub, ",api=chat")
    assert main([*arguments(out, "seq_kd", student=str(models["llama"]), expert=expert), *options]) == 0
    tokens = len(rollouts[[r.blank for r in rollouts].index(False)].ids)
    assert all(line["tokens"] % tokens == 0 for line in read_metrics(out, "train")), "a blank completion was learned"
    silent[0] = True
    with pytest.raises(UserError, match=r"gives no text in 60 tokens \(hidden thoughts\?\): raise --max-new-tokens"):
        e.sample(prompts(policy), 1, 0, 60)
