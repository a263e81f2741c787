"""Provides a stub of vLLM's completions API on a real socket, with failures on request.

It computes its answers with a Policy, so that they can be compared with the same model in this process. They have the
fields and the order of a recorded answer of vLLM 0.32 (tests/unit/servers/data/vllm_completion.json).
As with vLLM, options that a request leaves out come from a generation config; this one has unusual values.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy.policy import Policy
from understudy.policy.sampling import inverse_cdf, transform
from understudy.runs.checkpoint import load_tensors
from understudy.types import Prompt, Rollout

Fault = str
"""One of FAULTS, or "name:number"."""
FAULTS = (
    "slow", "drip", "500", "503", "429", "drop", "truncated", "not json", "few choices", "short", "long",
    "NaN", "-inf", "null", "huge", "no prompt_logprobs", "no logprobs", "no token_ids", "wrong model", "other tokens",
    "usage", "early stop",
)  # fmt: skip


class Stub:
    """`with Stub(policy).running() as stub: ... stub.url`. `faults`: one per request, in order; then none."""

    def __init__(self, policy: Policy, name: str = "tiny", context: int = 512, key: str = "") -> None:
        self.policy, self.name, self.context, self.key = policy, name, context, key
        self.end_ids = set(policy.end_ids)
        self.tokenizer = policy.tokenizer
        self.faults: list[Fault] = []
        self.always: Fault = ""
        self.when: Callable[[dict[str, Any]], bool] = lambda body: True  # which requests a fault may hit
        self.defaults = {"temperature": 0.1, "top_p": 0.5, "top_k": 2, "repetition_penalty": 3.0}
        self.noise = 0.0  # nats, added to every score, drawn anew each time
        self.stale = False  # reload_weights answers 200 and does nothing
        self.dev_mode = True
        self.new_words = False  # a chat API that requires max_completion_tokens
        self.bodies: list[tuple[str, Any]] = []
        self.seen: Counter[str] = Counter()
        self.under_way = self.most = 0
        self.down = False
        self._lock, self._compute = threading.Lock(), threading.Lock()
        self._rng = np.random.default_rng(0)
        self.url = ""

    @contextmanager
    def running(self) -> Iterator[Stub]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def next_fault(self, body: dict[str, Any]) -> Fault:
        with self._lock:
            if not self.when(body):
                return ""
            return self.faults.pop(0) if self.faults else self.always

    # -- answers --------------------------------------------------------------------------------------------------

    def models(self) -> dict[str, Any]:
        entry = {"id": self.name, "object": "model", "created": 1, "owned_by": "vllm", "root": "stub",
                 "parent": None, "max_model_len": self.context, "permission": []}  # fmt: skip
        return {"object": "list", "data": [entry]}

    def completion(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body.get("model") != self.name:
            return 404, _error(f"The model `{body.get('model')}` does not exist.", "NotFoundError", 404)
        prompt = body["prompt"]
        if isinstance(prompt, str):
            prompt = [self.tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        for ids in prompt:
            for i in ids:
                if i >= self.policy.vocabulary:
                    return 400, _error(f"Token id {i} is out of vocabulary", "BadRequestError", 400)
            if len(ids) + body.get("max_tokens", 16) > self.context:
                return 400, _error(
                    f"This model's maximum context length is {self.context} tokens.", "BadRequestError", 400
                )
        if (body.get("prompt_logprobs") or 0) > 20:
            return 400, _error(
                "Requested prompt logprobs of 21, which is greater than max allowed: 20", "BadRequestError", 400
            )
        choices: list[dict[str, Any]] = []
        for ids in prompt:
            given = self._given(ids, body["prompt_logprobs"]) if body.get("prompt_logprobs") is not None else None
            for sample in range(body.get("n", 1)):
                choices.append(self._choice(len(choices), ids, given, body, sample))
        counted = sum(len(ids) for ids in prompt)
        generated = sum(len(c["token_ids"]) for c in choices)
        for c in choices:
            if not body.get("return_token_ids"):
                c["token_ids"] = c["prompt_token_ids"] = None
        usage = {"prompt_tokens": counted, "total_tokens": counted + generated, "completion_tokens": generated,
                 "prompt_tokens_details": None}  # fmt: skip
        return 200, {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": self.name, "choices": choices,
                     "service_tier": None, "system_fingerprint": None, "usage": usage}  # fmt: skip

    def _given(self, ids: list[int], k: int) -> list[Any]:
        """prompt_logprobs: for each token but the first, the log-prob of the token itself and the top k."""
        rows: list[Any] = [None]
        if len(ids) < 2:
            return rows
        first = Prompt("p", "", ids=tuple(ids[:1]))
        rollout = Rollout(first, 0, tuple(ids[1:]), (0.0,) * (len(ids) - 1), False, "", "x")
        with self._compute:
            table = self.policy.distribution([rollout])[0]
        if self.noise:
            table = table - torch.as_tensor(self._rng.random(table.shape) * self.noise, dtype=torch.float32)
        for i, row in zip(ids[1:], table):
            order = row.argsort(descending=True)
            ranks = {int(t): r + 1 for r, t in enumerate(order.tolist())}
            named = [i, *[t for t in order[:k].tolist() if t != i]]
            rows.append({str(t): {"logprob": max(float(row[t]), -9999.0), "rank": ranks[t],
                                  "decoded_token": self.tokenizer.decode([t])} for t in named})  # fmt: skip
        return rows

    def _choice(self, index: int, prompt: list[int], given: Any, body: dict[str, Any], sample: int) -> dict[str, Any]:
        option = lambda name, neutral: body.get(name, self.defaults.get(name, neutral))  # noqa: E731
        seed = body.get("seed")
        rng = np.random.default_rng(None if seed is None else seed + sample)
        stops = set(body.get("stop_token_ids") or ()) | (set() if body.get("ignore_eos") else self.end_ids)
        ids, logps = [], []
        reason = "length"
        with self._compute:
            steps = self.policy.start([Prompt("p", "", ids=tuple(prompt))])
            for _ in range(body.get("max_tokens", 16)):
                logp = steps.next_logits().log_softmax(-1)
                temperature = option("temperature", 1.0)
                drawn_from = transform(logp, temperature or 1.0, option("top_p", 1.0))
                if option("top_k", 0):
                    drawn_from = drawn_from.masked_fill(
                        drawn_from < drawn_from.topk(option("top_k", 0)).values[:, -1:], -torch.inf
                    )
                token = logp.argmax(-1) if temperature == 0 else inverse_cdf(drawn_from, rng.random(1))
                ids.append(int(token))
                logps.append(float(logp[0, token]))
                if ids[-1] in stops:
                    reason = "stop"
                    break
                steps.advance(token)
        names = [f"token_id:{i}" if body.get("return_tokens_as_token_ids") else self.tokenizer.decode([i]) for i in ids]
        drawn_logprobs = None
        if body.get("logprobs") is not None:
            drawn_logprobs = {"text_offset": [0] * len(ids), "token_logprobs": logps, "tokens": names,
                    "top_logprobs": [{n: x} for n, x in zip(names, logps)]}  # fmt: skip
        text = self.tokenizer.decode([i for i in ids if i not in stops], skip_special_tokens=True)
        return {"index": index, "text": text, "logprobs": drawn_logprobs, "finish_reason": reason, "stop_reason": None,
                "token_ids": ids, "prompt_logprobs": given, "prompt_token_ids": prompt}  # fmt: skip

    def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body.get("model") != self.name:
            return 404, _error("The model does not exist.", "NotFoundError", 404)
        if self.new_words and "max_tokens" in body:
            words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return 400, _error(words, "invalid_request_error", 400)
        room = body.get("max_completion_tokens") or body["max_tokens"]
        ids = self.tokenizer(body["messages"][-1]["content"], add_special_tokens=True)["input_ids"]
        inner = {"prompt": [ids], "model": self.name, "max_tokens": room, "seed": body.get("seed"),
                 "temperature": body.get("temperature", 0.1), "top_p": body.get("top_p", 0.5), "top_k": 0}  # fmt: skip
        c = self._choice(0, ids, None, inner, 0)
        message = {"role": "assistant", "content": c["text"] or "1", "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": c["finish_reason"]}
        return 200, {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": self.name,
            "choices": [choice],
        }

    def reload(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        path = body.get("kwargs", {}).get("weights_path")
        if body.get("method") != "reload_weights" or not path:
            return 500, _error("Call to collective_rpc method failed", "InternalServerError", 500)
        if not self.stale:
            state: dict[str, torch.Tensor] = {}
            for file in sorted(Path(path).glob("*.safetensors")):
                state |= load_tensors(file)
            with self._compute:
                loaded = self.policy.model.load_state_dict(state, strict=False)
            assert not loaded.unexpected_keys
            assert set(loaded.missing_keys) <= {"lm_head.weight"}
        return 200, {"results": [None]}


def _error(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def spoil(fault: Fault, answer: dict[str, Any]) -> dict[str, Any]:
    """Changes a correct answer in one way."""
    choices = answer.get("choices", [])
    for c in choices[:1]:
        logprobs, given = c.get("logprobs"), c.get("prompt_logprobs")
        number = {"NaN": float("nan"), "-inf": -9999.0, "null": None, "huge": 0.7}.get(fault, "")
        if number != "":
            if given and len(given) > 1:
                next(iter(given[-1].values()))["logprob"] = number
            if logprobs:
                logprobs["token_logprobs"][-1] = number
        elif fault == "short":
            if given:
                given.pop()
            if logprobs:
                logprobs["token_logprobs"].pop()
        elif fault == "long":
            if given:
                given.append(given[-1])
            if logprobs:
                logprobs["token_logprobs"].append(-1.0)
        elif fault == "no prompt_logprobs":
            c["prompt_logprobs"] = None
        elif fault == "no logprobs":
            c["logprobs"] = None
        elif fault == "no token_ids":
            c["token_ids"] = None
            if logprobs:
                logprobs["tokens"] = ["?" for _ in logprobs["tokens"]]
        elif fault == "other tokens":
            c["prompt_token_ids"] = [i + 1 for i in c["prompt_token_ids"] or []] or None
        elif fault == "early stop" and logprobs:
            c["token_ids"] = c["token_ids"][:1]
            logprobs["token_logprobs"], logprobs["tokens"] = logprobs["token_logprobs"][:1], logprobs["tokens"][:1]
            c["finish_reason"] = "stop"
    if fault == "few choices":
        choices.pop()
    elif fault == "wrong model":
        answer["model"] = "another"
    elif fault == "usage":
        answer["usage"]["prompt_tokens"] -= 1
    return answer


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.answer(
                lambda body: (200, stub.models()) if self.path == "/v1/models" else (404, {"detail": "Not Found"})
            )

        def do_POST(self) -> None:
            routes: dict[str, Callable[[Any], tuple[int, Any]]] = {
                "/v1/completions": stub.completion,
                "/v1/chat/completions": stub.chat,
            }
            if stub.dev_mode:
                routes |= {"/collective_rpc": stub.reload, "/reset_prefix_cache": lambda body: (200, {"success": True})}
            self.answer(routes.get(self.path, lambda body: (404, {"detail": "Not Found"})))

        def answer(self, make: Callable[[Any], tuple[int, Any]]) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(data) if data else {}
            with stub._lock:
                stub.seen[self.path] += 1
                stub.bodies.append((self.path, body))
            self.reply(make, body)

        def make(self, make: Callable[[Any], tuple[int, Any]], body: dict[str, Any]) -> tuple[int, Any]:
            """The answer; counted as under way until it is computed (the client may ask again before all is sent)."""
            with stub._lock:
                stub.under_way += 1
                stub.most = max(stub.most, stub.under_way)
            try:
                return make(body)
            finally:
                with stub._lock:
                    stub.under_way -= 1

        def reply(self, make: Callable[[Any], tuple[int, Any]], body: dict[str, Any]) -> None:
            fault = "drop" if stub.down else stub.next_fault(body)
            if fault == "drop":
                self.close_connection = True
                self.connection.close()
                return
            if stub.key and self.headers.get("Authorization") != f"Bearer {stub.key}":
                self.send(401, {"error": f"Unauthorized: {self.headers.get('Authorization')}"})
            elif fault.partition(":")[0] in ("500", "503", "429"):
                name, _, after = fault.partition(":")
                echo = f"busy, {self.headers.get('Authorization')}"
                self.send(int(name), {"error": {"message": echo}}, {"Retry-After": after} if after else {})
            elif fault == "slow":
                time.sleep(1.2)
                self.send(200, {})
            else:
                status, answer = self.make(make, body)
                text = json.dumps(spoil(fault, answer) if status == 200 else answer).encode()
                if fault == "truncated":
                    self.send_raw(200, text[: len(text) // 2])
                elif fault == "not json":
                    self.send_raw(200, b"<html>Bad gateway</html>")
                elif fault == "drip":
                    self.drip(text)
                else:
                    self.send_raw(status, text)

        def drip(self, text: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            try:
                for i in range(0, len(text), 8):
                    self.wfile.write(text[i : i + 8])
                    self.wfile.flush()
                    time.sleep(0.1)
            except OSError:
                self.close_connection = True

        def send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
            self.send_raw(status, json.dumps(answer).encode(), headers)

        def send_raw(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True

    return Handler
