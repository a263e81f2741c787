"""Servers that send what no client expects: every request ends within its time, in one line, with little memory.

A server here is a function that gets the open connection after the request was read, so it can send any bytes.
"""

from __future__ import annotations

import copy
import gzip
import json
import math
import os
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny import config

from understudy.cli.main import main
from understudy.config import to_dict
from understudy.errors import UserError
from understudy.experts.server.chat import read_chat
from understudy.runs.hub import check_push
from understudy.runs.trackers import Trackers
from understudy.servers.bounds import TooLarge, whole
from understudy.servers.completions import Completions, list_models
from understudy.servers.http import BadAnswer, Client, Unreachable, find_key
from understudy.servers.responses import Tokens, read_samples, read_scores

LIMIT = 0.2
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def sized(data: bytes, more: bytes = b"") -> bytes:
    return HEAD + more + b"Content-Length: %d\r\n\r\n" % len(data) + data


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that lets `answer` send, for each connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(1 << 16)
                answer(connection)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        listener.close()


def drip(start: bytes, piece: bytes, pause: float = 0.05) -> Callable[[socket.socket], None]:
    """Sends `start`, then `piece` again and again."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            connection.sendall(piece)
            time.sleep(pause)

    return answer


ENDLESS = {
    "status line": drip(b"H", b""),
    "reason": drip(b"HTTP/1.1 200 O", b"O"),
    "headers": drip(HEAD, b"X-A: 1\r\n"),
    "one header": drip(HEAD + b"X-A: ", b"a"),
    "informational answers": drip(b"", b"HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n"),
    "informational answers without a pause": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50, 0.001),
    "body": drip(HEAD + b"Content-Length: 100000\r\n\r\n", b" "),
    "chunks": drip(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "compressed body that yields nothing": drip(
        HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\na\r\n" + gzip.compress(b"")[:10] + b"\r\n",
        b"5\r\n\x00\x00\x00\xff\xff\r\n",
    ),
    "silence": lambda connection: time.sleep(20),
}


@pytest.mark.fault("servers that never end")
@pytest.mark.parametrize("name", ENDLESS)
def test_a_request_ends_in_its_time(name: str) -> None:
    """Catches a limit that starts again at each byte."""
    with serving(ENDLESS[name]) as url:
        began = time.monotonic()
        with pytest.raises(Unreachable, match=rf"took more than {LIMIT:g} s|cannot be reached"):
            Client(url, timeout=LIMIT, tries=1).get("/models", lambda answer: answer)
        assert time.monotonic() - began < LIMIT + 2


def test_a_server_that_does_not_read() -> None:
    """Catches a request whose sending has no end."""
    with serving(lambda connection: time.sleep(20)) as url:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="took more than"):
            Client(url, timeout=LIMIT, tries=1).post("/x", {"prompt": "a" * (32 << 20)}, lambda answer: answer)
        assert time.monotonic() - began < LIMIT + 4


def bomb(size: int) -> bytes:
    """`size` MiB of spaces, as gzip."""
    make = zlib.compressobj(9, wbits=31)
    return b"".join([make.compress(b" " * (1 << 20)) for _ in range(size)]) + make.flush()


TOO_LARGE = {
    "gzip": (bomb(64), b"Content-Encoding: gzip\r\n"),
    "not compressed": (b" " * (17 << 20), b""),
    "an error": (bomb(64), b"Content-Encoding: x-gzip\r\n"),
}


@pytest.mark.fault("servers' bombs")
@pytest.mark.parametrize("name", TOO_LARGE)
def test_an_answer_has_a_limit(name: str) -> None:
    """Catches a small answer that expands to all memory; it is not asked for again."""
    data, header = TOO_LARGE[name]
    sent = sized(data, header)
    sent = sent.replace(b"200 OK", b"500 Oh") if name == "an error" else sent
    with serving(lambda connection: connection.sendall(sent)) as url:
        client = Client(url, timeout=30, tries=3)
        with pytest.raises(UserError, match="sent more than 16 MiB, more than an answer to this can need") as error:
            client.get("/models", lambda answer: answer)
    assert "\n" not in str(error.value)
    assert client.requests == 1


def test_expanding_stops_at_the_limit() -> None:
    """Catches a whole piece that is expanded before its size is looked at."""
    data = bomb(40)
    with pytest.raises(TooLarge):
        whole([data], "gzip", 1 << 20)
    assert whole([gzip.compress(b"abc")], "gzip", 3) == b"abc"
    assert whole([zlib.compress(b"abc")], " Deflate", 3) == b"abc"
    assert whole([b"a", b"bc"], "identity", 3) == b"abc"
    with pytest.raises(TooLarge):
        whole([b"abcd"], "", 3)
    for name in ("br", "zstd", "gzip, gzip", "gzip, br"):
        with pytest.raises(ValueError, match="not asked for"):
            whole([b""], name, 3)


def test_a_compressed_answer_is_read() -> None:
    data = gzip.compress(b'{"data": [{"id": "tiny"}]}')
    with serving(lambda c: c.sendall(sized(data, b"Content-Encoding: gzip\r\n"))) as url:
        assert list_models(Client(url, tries=1))[0]["id"] == "tiny"


def text(status: int, more: bytes = b"", body: bytes = b"{}") -> bytes:
    return sized(body, more).replace(b"200 OK", b"%d X" % status)


ODD = {
    "nothing at all": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "another version": b"HTTP/9.9 200 OK\r\n\r\n",
    "half a status": b"HTTP/1.1 20\r\n\r\n",
    "no content": text(204, body=b""),
    "switching protocols": b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    "a redirect to nowhere": text(302, b"Location: http://[::1/\r\n"),
    "a redirect in another alphabet": text(302, b"Location: http://\xff\xfe\xc3\x28/\r\n"),
    "a redirect to a key thief": text(307, b"Location: http://evil.example/\r\n"),
    "Retry-After of a year": text(503, b"Retry-After: Fri, 31 Dec 99999 23:59:59 GMT\r\n"),
    "Retry-After that is no number": text(429, b"Retry-After: nan\r\n"),
    "Retry-After with no end": text(429, b"Retry-After: -inf\r\n"),
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a negative length": HEAD + b"Content-Length: -2\r\n\r\n{}",
    "a wrong compression": sized(b"{}", b"Content-Encoding: gzip\r\n"),
    "another compression": sized(b"{}", b"Content-Encoding: br\r\n"),
    "a bad chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    "an odd cookie": text(500, b"Set-Cookie: a\x00b=\xff; expires=never\r\n"),
    "a long header": HEAD + b"X: " + b"a" * 200_000,
    "an odd charset": sized(b"\xff\xfe{\x00", b"Content-Type: text/\xff; charset=none\r\n"),
    "a deep list": sized(b"[" * 100_000),
    "a long number": sized(b'{"data": ' + b"9" * 5000 + b"}"),
    "a name twice": sized(b'{"data": [], "data": []}'),
    "no object": sized(b"[1]"),
    "null": sized(b"null"),
    "models without ids": sized(b'{"data": [{"id": 5}]}'),
    "a context of words": sized(b'{"data": [{"id": "a", "max_model_len": "many"}]}'),
    "an endless context": sized(b'{"data": [{"id": "a", "max_model_len": Infinity}]}'),
    "a context that is a list": sized(b'{"data": [{"id": "a", "max_model_len": [1]}]}'),
    "a deep reason": text(400, body=b'{"error": ' + b"[" * 900 + b"]" * 900 + b"}"),
    "a reason with control characters": text(400, body=json.dumps({"error": "a\x1b[31m\r\nb\u202e"}).encode()),
}


@pytest.mark.fault("servers' odd answers")
@pytest.mark.parametrize("name", ODD)
def test_an_odd_answer_is_one_line(name: str) -> None:
    """Catches tracebacks of the parsers below."""
    with serving(lambda connection: connection.sendall(ODD[name])) as url:
        client = Client(url, timeout=5, tries=2, first_wait=0.001)
        client.pause = lambda attempt, after: 0.0 if math.isfinite(after) else 9.0  # type: ignore[method-assign]
        with pytest.raises(UserError) as error:
            list_models(client)
    assert re.match(r"expert: http://127.0.0.1:\d+/v1: \w", str(error.value))
    assert str(error.value).isprintable()


def score_answer(row: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "prompt_logprobs": [None, row]}]}


TOP = {"1": {"logprob": -1.0}, "2": {"logprob": -2.0}}


@pytest.mark.fault("servers' odd answers")
@pytest.mark.parametrize(
    "row",
    [
        {**TOP, "01": {"logprob": -1.0}}, {**TOP, "\u0661": {"logprob": -1.0}},
        {**TOP, "9" * 5000: {"logprob": -1.0}},
        {**TOP, "x": {"logprob": -1.0}}, {**TOP, "-1": {"logprob": -1.0}}, {**TOP, "99": {"logprob": -1.0}},
        {"1": {"logprob": 1e-1}, "2": {}}, {"1": {"logprob": True}, "2": {"logprob": -1}}, {"2": {"logprob": -1.0}},
        None, {"1": {"logprob": -(10**400)}, "2": {"logprob": -1.0}},
    ],
)  # fmt: skip
def test_scores_that_are_refused(row: Any) -> None:
    """Catches one id written in two ways, which would count twice in the top k."""
    sent = [Tokens((5,), (1,))]
    assert read_scores(score_answer(TOP), sent, 2, "m", 10)[0].top_ids == ((1, 2),)
    with pytest.raises(BadAnswer):
        read_scores(score_answer(row), sent, 2, "m", 10)


@pytest.mark.fault("servers' odd answers")
@pytest.mark.parametrize("names", [["token_id:" + "9" * 5000], ["token_id:\u0661"], ["token_id:01"], [1], [None]])
def test_sampled_tokens_that_are_refused(names: list[Any]) -> None:
    choice = {"index": 0, "finish_reason": "length", "logprobs": {"tokens": names, "token_logprobs": [-1.0]}}
    with pytest.raises(BadAnswer):
        read_samples({"model": "m", "choices": [choice]}, [1], 1, 1, [2], 10, "m")


@pytest.mark.fault("servers' odd answers")
@pytest.mark.parametrize("piece", [5, ["a"], {"a": 1}, True])
def test_pieces_of_tokens_that_are_not_text(piece: Any) -> None:
    rows = [None, {"7": {"decoded_token": piece, "logprob": -1.0}}]
    body = json.dumps({"model": "m", "choices": [{"index": 0, "prompt_logprobs": rows}]}).encode()
    with serving(lambda connection: connection.sendall(sized(body))) as url:
        api = Completions(Client(url, tries=1), "m", [2], 10)
        with pytest.raises(UserError, match="decoded_token is not text"):
            api.ids_to_pieces([5, 7])


def test_pieces_keep_their_places() -> None:
    """Catches a row that is not there, after which every token is compared with its neighbour."""
    rows = [None, None, {"8": {"decoded_token": "b", "logprob": -1.0}}]
    body = json.dumps({"model": "m", "choices": [{"index": 0, "prompt_logprobs": rows}]}).encode()
    with serving(lambda connection: connection.sendall(sized(body))) as url:
        assert Completions(Client(url, tries=1), "m", [2], 10).ids_to_pieces([5, 7, 8]) == [None, "b"]


def test_text_with_half_a_character() -> None:
    """Catches a traceback of the tokenizer."""
    answer = {"choices": [{"message": {"content": "a\ud800"}, "finish_reason": "stop"}]}
    with pytest.raises(BadAnswer, match="surrogate"):
        read_chat(answer)


# -- keys -----------------------------------------------------------------------------------------------------------

KEY = "sk-Very-Secret-0123456789"
MALFORMED = {
    "line break": (f"{KEY}\nX: y", "a space or line break"),
    "carriage return": (f"{KEY}\r\nHost: evil", "a space or line break"),
    "space": (f"{KEY} {KEY}", "a space or line break"),
    "tab": (f"{KEY}\t{KEY}", "a space or line break"),
    "not ASCII": (f"{KEY}\u00e9", "not printable ASCII"),
    "no break space": (f"{KEY}\u00a0{KEY}", "a space or line break"),
    "escape": (f"{KEY}\x1b[0m", "not printable ASCII"),
    "not UTF-8": (os.fsdecode(KEY.encode() + b"\xff"), "not printable ASCII"),
    "quotes of another keyboard": (f"\u201c{KEY}\u201d", "not printable ASCII"),
    "endless": (KEY * 1000, "25000 characters"),
    "only line breaks": ("\n\n", "nothing but line breaks"),
}


@pytest.mark.wrong_input("keys")
@pytest.mark.parametrize("variable", ["UNDERSTUDY_API_KEY", "MY_KEY"])
@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_key(
    name: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Refused before anything is sent or written, and not repeated: no HTTP header can hold it."""
    value, words = MALFORMED[name]
    monkeypatch.setenv(variable, value)
    out, line = tmp_path / "run", ["train"]
    expert = "server:url=http://127.0.0.1:9/v1" + (",key_env=MY_KEY" if variable == "MY_KEY" else "")
    for field, given in to_dict(config("sft", out, expert=expert)).items():
        if isinstance(given, bool):
            line.append(f"--{'' if given else 'no-'}{field.replace('_', '-')}")
        elif given is not None:
            line += [f"--{field.replace('_', '-')}", str(given)]
    assert main(line) == 2
    shown = capfd.readouterr()
    (error,) = [line for line in shown.err.splitlines() if "has no effect here" not in line]
    assert error.startswith(f"error: expert.key_env: {variable}: ")
    assert words in error
    assert KEY not in shown.out + shown.err
    assert not out.exists()


def test_keys_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    assert find_key("MY_KEY", "expert", "http://127.0.0.1:9/v1") == KEY, "as `cat` gives it"
    monkeypatch.setenv("MY_KEY", " ")
    with pytest.raises(UserError, match="is not set"):
        find_key("MY_KEY", "expert", "http://127.0.0.1:9/v1")


def test_a_malformed_token_of_the_hub() -> None:
    with pytest.raises(UserError, match="is no token") as error:
        check_push("me/model", {"HF_TOKEN": f"{KEY}\n{KEY}"})
    assert KEY not in str(error.value)


def test_a_key_that_the_server_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a key that reaches the provenance or an error as the name of a model."""
    monkeypatch.setenv("UNDERSTUDY_API_KEY", KEY)
    body = json.dumps({"data": [{"id": f"model-{KEY}"}]}).encode()
    with serving(lambda connection: connection.sendall(sized(body))) as url:
        assert list_models(Client(url, tries=1))[0]["id"] == "model-[key]"


@pytest.mark.wrong_input("proxies and certificates")
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", f"nonsense://user:{KEY}@h:1"), ("ALL_PROXY", f"socks4://user:{KEY}@h:1"),
        ("HTTPS_PROXY", f"http://user:{KEY}@h:port"), ("SSL_CERT_FILE", "/nowhere/ca.pem"),
    ],
)  # fmt: skip
def test_a_proxy_or_certificates_that_cannot_be_used(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match="that the environment names cannot be used") as error:
        Client("https://mine.example/v1", tries=1)
    assert KEY not in str(error.value)


@pytest.mark.fault("keys in other people's errors")
@pytest.mark.parametrize("variable", ["WANDB_API_KEY", "HF_TOKEN", "MY_SECRET", "DB_PASSWORD"])
def test_a_key_that_a_library_repeats(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a key in a line, a hint, a note or an error that crosses processes."""
    monkeypatch.setenv(variable, f" {KEY}\n")
    monkeypatch.setenv("PLAIN_TEXT", "cannot be reached")

    class Fails:
        def log(self, step: int, values: Any) -> None:
            raise ValueError(f"401 for {KEY}")

        close = table = log

    notes: list[str] = []
    Trackers({"mine": Fails()}, notes.append).on_record({"step": 1})  # type: ignore[dict-item]
    error = UserError("tracker", f"x{KEY}", f"cannot be reached: bad key {KEY}")
    for text in (*notes, str(error), error.hint, str(copy.copy(error))):
        assert KEY not in text
        assert f"[{variable}]" in text
    assert "cannot be reached" in str(error)
