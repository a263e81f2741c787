"""The parsers of other people's text, each with the texts that are tried on it.

A target is right if every input gives a result or a UserError in a bounded time; any other exception is a finding.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from understudy.errors import UserError
from understudy.servers.http import BadAnswer

FEW = 12


@dataclass(frozen=True)
class Target:
    texts: st.SearchStrategy[Any]
    read: Callable[[Any], None]


def pieces(words: str, other: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[str]:
    """Texts of these words (separated by `~`), of any others, and of one of them many times."""
    known = st.sampled_from(words.split("~"))
    some = st.lists(known | (other or st.text(max_size=6)), max_size=FEW).map("".join)
    return some | st.tuples(known, st.integers(1, 3000)).map(lambda pair: pair[0] * pair[1])


def json_of(names: str, values: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
    """JSON values whose objects have these names."""
    numbers = st.integers(-(2**70), 2**70) | st.floats() | st.integers(-2, 20)
    leaves = st.none() | st.booleans() | numbers | st.text(max_size=8) | (st.nothing() if values is None else values)
    keys = st.sampled_from(names.split()) | st.text(max_size=3)
    return st.recursive(leaves, lambda x: st.lists(x, max_size=4) | st.dictionaries(keys, x, max_size=6), max_leaves=20)


# ---------------------------------------------------------------- answers

_ANSWERS = (
    r"\boxed{~}~{~\frac{1}{2}~\frac~\text{~$~$$~\[~\]~\,~{,}~^{~^\circ~18~-7~–3~1,234~1 234~5/6~.5~0~000~%~\%~ ~"
    "\n~\n\n~.~,~: ~ = ~answer~Answer:~The answer is ~**Answer**~### Answer\n~#### ~<answer>~</answer>~<think>~"
    "</think>~[THINK]~I hope it is correct.~ million~ dozen~ dollars~ cm~ or ~ and ~ because ~(A)~B~C.~option ~x~pi~"
    "**~*~(~)~not ~Let me know~答案是~²~½~\u202f~\ud800~\x00~9999999999"
)


def _answers(text: str) -> None:
    from understudy.tasks.text import answers, numbers
    from understudy.tasks.text.verifiers import Exact, Letter, Number

    left = answers.cut(answers.thought_out(text, "think", text.startswith("o")), ("\n\n\n",))
    assert left in text
    for extract in answers.EXTRACTS:
        answer = answers.final_answer(left, extract)
        assert answer is None or answer.strip()
        value, choice = numbers.number(answer or ""), answers.letter(answer or "")
        assert Number().right([("18", answer or "")]) == [value == 18]
        assert Letter().right([("A", answer or "")]) == [choice == "A"]
        Exact().right([("x", answer or "")])
    assert answers.same_text(text, text)
    assert numbers.number(text) is None or len(text) <= numbers.LONGEST


# ---------------------------------------------------------------- rows

_FIELDS = (
    "prompt messages role content answer completion completions question choices problem solution verifier system "
    "instruction input output history conversations from value chosen rejected reward_model ground_truth generations "
    "label weight reasoning_content tool_calls text data rows"
)
_CELLS = st.sampled_from(
    [
        "user",
        "assistant",
        "system",
        "human",
        "gpt",
        "A",
        "18",
        "number",
        "none",
        "letter",
        "math",
        "exact",
        "#### 5",
        r"\boxed{5}",
        '[{"role": "user", "content": "Q"}]',
        "[{'role': 'user'}]",
        "[",
        "{",
        "\ud800",
        " ",
        "tool",
    ]
)
_ROW = json_of(_FIELDS, _CELLS)
_GOOD = st.fixed_dictionaries(
    {"prompt": st.text(min_size=1, max_size=4), "answer": _CELLS | st.integers() | st.floats()}
)
_LINES = st.lists(_GOOD | st.dictionaries(st.sampled_from(_FIELDS.split()), _ROW, max_size=5) | _ROW, max_size=9)


def _as_csv(rows: list[Any]) -> bytes:
    out = io.StringIO()
    names = sorted({str(k) for row in rows if isinstance(row, dict) for k in row})
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        if isinstance(row, dict):
            writer.writerow(
                [json.dumps(row.get(n)) if isinstance(row.get(n), (list, dict)) else row.get(n) for n in names]
            )
    return out.getvalue().encode("utf-8", "surrogatepass")


def _as_lines(rows: list[Any]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


_FILES = st.one_of(
    st.tuples(st.just("a.jsonl"), _LINES.map(_as_lines)),
    st.tuples(st.just("a.json"), _LINES.map(json.dumps).map(str.encode) | _ROW.map(json.dumps).map(str.encode)),
    st.tuples(st.just("a.csv"), _LINES.map(_as_csv)),
    st.tuples(st.just("a.jsonl.gz"), _LINES.map(_as_lines).map(gzip.compress)),
    st.tuples(
        st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.tsv", "a.jsonl.gz", "a.csv.gz", "a.parquet", "a.arrow"]),
        st.binary(max_size=60) | pieces('{"~"~}~[~]~,~:~\n~\r~\ufeff~prompt~answer~NaN~1e999~\\u0000~\t~\x00').map(
            lambda text: text.encode("utf-8", "surrogatepass")
        ),
    ),
)  # fmt: skip


def _rows(file: tuple[str, bytes]) -> None:
    from understudy.tasks.text import TextTask
    from understudy.tasks.text.config import TextConfig

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file[0]
        path.write_bytes(file[1])
        for bad in ("error", "drop"):
            with contextlib.suppress(UserError):
                task = TextTask("data", TextConfig(path=str(path), bad=bad, missing="drop"))
                assert task.about()
                task.digest()
                for split in task.splits:
                    (prompt,) = task.prompts(split, 1, 0)
                    task.traces(prompt)
                    if prompt.data["verifier"] != "math":
                        task.verify(prompt, "18", True)


# ---------------------------------------------------------------- answers of servers

_SERVER = (
    "choices index model message content reasoning_content reasoning finish_reason text thinking logprobs tokens "
    "token_logprobs token_ids prompt_token_ids prompt_logprobs usage prompt_tokens logprob decoded_token data id "
    "max_model_len 1 2 3"
)
_SAID = st.sampled_from(["m", "stop", "length", "token_id:3", "1", -0.5, 0, 1, 3, [1, 2], [3]])
_ENTRY = st.dictionaries(
    st.sampled_from(["1", "2", "3", "-1"]), st.fixed_dictionaries({"logprob": st.floats() | _SAID})
)
_CHOICE = st.fixed_dictionaries(
    {"index": st.just(0) | _SAID, "finish_reason": st.sampled_from(["stop", "length", None])},
    optional={
        "token_ids": st.lists(st.integers(-1, 4), max_size=3), "prompt_token_ids": st.just([1, 2]) | _SAID,
        "logprobs": st.fixed_dictionaries(
            {"token_logprobs": st.lists(st.floats(max_value=0), max_size=3)},
            optional={"tokens": st.lists(_SAID, max_size=3)},
        ),
        "prompt_logprobs": st.lists(st.none() | _ENTRY, max_size=4), "message": json_of(_SERVER, _SAID),
        "text": st.text(max_size=3),
    },
)  # fmt: skip
_SERVED = json_of(_SERVER, _SAID) | st.fixed_dictionaries(
    {"choices": st.lists(_CHOICE, min_size=1, max_size=2), "model": st.just("m")},
    optional={"usage": json_of(_SERVER, _SAID), "data": json_of(_SERVER, _SAID)},
)


class _Client:
    """A server that gives one answer to everything."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def post(self, path: str, body: Any, check: Callable[[Any], Any], room: int = 0) -> Any:
        return check(self.answer)

    def get(self, path: str, check: Callable[[Any], Any]) -> Any:
        return check(self.answer)


def _servers(answer: Any) -> None:
    from understudy.experts.server.chat import read_chat
    from understudy.servers.completions import Completions, choose_model, list_models
    from understudy.servers.responses import Tokens, read_samples, read_scores

    answer = json.loads(json.dumps(answer))  # what can arrive
    client: Any = _Client(answer)
    api = Completions(client, "m", (3,), 4)
    for read in (
        lambda: read_scores(answer, [Tokens((1,), (2, 3))], 0, "m", 4),
        lambda: read_scores(answer, [Tokens((1,), (2,))], 2, "m", 4),
        lambda: read_samples(answer, [1, 2], 1, 3, (3,), 4, "m"),
        lambda: read_chat(answer).written("think"),
        lambda: choose_model(list_models(client), "", "expert", "http://h/v1"),
        lambda: api.text_to_ids("x"),
        lambda: api.ids_to_pieces([1, 2, 3]),
    ):
        with contextlib.suppress(BadAnswer, UserError):
            read()


# ---------------------------------------------------------------- specs

_SPECS = pieces(
    "data~gsm8k~scratch~server~vllm~countdown~:~,~=~;~+~||~path=~width=~url=~http://~https://u:p@h/v1~h:1/v1~?key=~#~"
    "limit=~shots=~true~none~1e999~-1~99999999999999999999~nan~inf~0x10~１~ ~\n~\x00~\ud800~sft~opd~gkd~:40%~:150~"
    "lr=2e-4~rename=a:b~thinking=~stop=~@x~a=~ b=~[::1]~%~'~\"~é"
)


def _specs(text: str) -> None:
    from understudy.policy.names import refuse
    from understudy.routes.route import normal, parse, slug
    from understudy.servers.config import ServerConfig, parse_server, parse_vllm
    from understudy.servers.urls import is_loopback, is_openai, names_server
    from understudy.specs import build, check, experts_in, parse_spec
    from understudy.tasks.countdown.config import CountdownConfig
    from understudy.tasks.text.config import TextConfig
    from understudy.tasks.text.formats import renaming

    def built(cls: type) -> None:
        config = build(cls, parse_spec(text, "task").args, "task")
        with contextlib.suppress(UserError):
            check(config, "task")

    for read in (
        lambda: built(TextConfig), lambda: built(CountdownConfig), lambda: built(ServerConfig), lambda: renaming(text),
        lambda: parse_server(text, "expert"), lambda: parse_vllm(text, "sampler"), lambda: names_server(text),
        lambda: is_loopback(text), lambda: is_openai(text), lambda: parse(text), lambda: slug(text),
        lambda: normal(text), lambda: refuse(text, "student"), lambda: experts_in(text),
    ):  # fmt: skip
        with contextlib.suppress(UserError):
            read()


# ---------------------------------------------------------------- Countdown

_COUNTDOWN = pieces(
    "<answer>~</answer>~(~)~+~-~*~/~ / ~3~5~7~15~0~00~99999999999~=~==~ ok~ no~\n~ ~**~//~x~×~÷~.5~1_0~½~٣~<think>~"
    "</think>~3+5+7=15~ ok\n~\x00~\ud800~__import__('os')"
)


def _countdown(text: str) -> None:
    from understudy.tasks.countdown.config import CountdownConfig
    from understudy.tasks.countdown.expressions import read, read_chain
    from understudy.tasks.countdown.formats import verify_answer, verify_search
    from understudy.tasks.countdown.problems import read_rows

    read(text)
    read_chain(text)
    for digits in (0, 2):
        verify_search(text, (3, 5, 7), 15, "+-*/", 4, digits, bool(digits))
    verify_answer(text, (3, 5, 7), 15, "+-*/")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(UserError):
            read_rows(CountdownConfig(data=str(path), format="answer"))


_COUNTDOWN_ROWS = json_of("nums target", st.sampled_from([[3, 5], [3, 5, 7], 15, 8, 10**9, [3] * 40])).map(json.dumps)

# ---------------------------------------------------------------- logs

_LOGS = (
    "step loss reward rewards/mean grad_norm learning_rate lr kl entropy completions/mean_length log_history epoch "
    "kind train eval accuracy ledger actor/entropy critic/rewards/mean prompt_length/mean objective/kl tokens length"
)
_LOG_FILES = st.tuples(
    st.sampled_from(["log.jsonl", "trainer_state.json", "log.txt", "metrics.jsonl", "log.csv"]),
    st.lists(st.dictionaries(st.sampled_from(_LOGS.split()), json_of(_LOGS), max_size=8), max_size=8).map(
        lambda rows: "\n".join(map(json.dumps, rows))
    )
    | json_of(_LOGS).map(json.dumps)
    | pieces(
        "{'loss': ~1.0~, 'step'~}~step:1 - ~loss:~nan~inf~\n~{~}~[~]~:~,~ - ~1e999~\x00~\ud800~"
        + "~".join(_LOGS.split())
    ),
)  # fmt: skip


def _logs(file: tuple[str, str]) -> None:
    from understudy.watch.watch import lines, watch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file[0]
        path.write_bytes(file[1].encode("utf-8", "surrogatepass"))
        for place in (path, Path(folder)):
            with contextlib.suppress(UserError):
                for verdict in watch(place):
                    assert all(isinstance(line, str) for line in lines(verdict))


TARGETS = {
    "answers": Target(pieces(_ANSWERS), _answers),
    "rows": Target(_FILES, _rows),
    "servers": Target(_SERVED, _servers),
    "specs": Target(_SPECS, _specs),
    "countdown": Target(_COUNTDOWN | _COUNTDOWN_ROWS, _countdown),
    "logs": Target(_LOG_FILES, _logs),
}
