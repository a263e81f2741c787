"""JSON over HTTP to a model server: connection pool, limits, retries; keys are never shown.

Retried, with exponential back-off and jitter: no connection, a dropped one, time-outs, 408, 409, 425, 429 and 5xx
(Retry-After is honoured), and bodies that are not whole JSON. After an answer that is whole but wrong (BadAnswer) there
are only a few more attempts. Everything else is a UserError of one line.
"""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from understudy.errors import UserError
from understudy.servers.bounds import Deadline, OutOfTime, TooLarge, bound, whole
from understudy.servers.urls import KEY_VARIABLES, is_loopback, is_openai

T = TypeVar("T")
J = TypeVar("J")
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
BAD_ANSWERS = 3  # give up after this many invalid answers
LARGEST = 1 << 30  # bytes of an answer at most
USUAL = 16 << 20  # bytes of an answer, beside what was asked for
SECRET = 12  # characters; a shorter key is a placeholder (EMPTY, none), which may be a word of the answer
LONGEST_WAIT = 60.0  # seconds between two attempts at most, also with Retry-After


class BadAnswer(Exception):
    """The server answered, whole and with status 200, but not as the API says."""


class Unreachable(UserError):
    """The server could not be reached, or every attempt failed."""


class _Again(Exception):
    """A fault that may be temporary. `after`: seconds to wait, as the server requests."""

    def __init__(self, words: str, after: float = 0.0) -> None:
        super().__init__(words)
        self.after = after


class Client:
    """One server. Safe to use from many threads; at most `concurrency` requests are under way in `each`."""

    def __init__(
        self,
        url: str,
        field: str = "expert",
        timeout: float = 120.0,
        tries: int = 6,
        concurrency: int = 8,
        key_env: str = "",
        first_wait: float = 0.5,
    ) -> None:
        """url: as urls.check_url gives it. timeout: seconds a request may take in all. tries: of each request."""
        self.url, self.field, self.timeout, self.tries = url, field, timeout, max(1, tries)
        self.concurrency, self.first_wait = max(1, concurrency), first_wait
        self.requests = self.retries = 0  # counters, not exact under threads
        self._key = find_key(key_env, field, url)
        self._stop = threading.Event()
        self._jitter = random.Random()  # independent of the run's random state, which a resume repeats
        httpx = library(field, url)
        headers = {"Accept-Encoding": "gzip"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._httpx, self._deadline = httpx, Deadline()
        try:
            self._client = httpx.Client(
                headers=headers,
                timeout=httpx.Timeout(timeout, connect=min(10.0, timeout)),
                limits=httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
                follow_redirects=False,  # a key is sent only to the host that the user named
                trust_env=not is_loopback(url),
                verify=not (is_loopback(url) and url.startswith("http:")),  # no certificates to load: no TLS
            )
        except (ValueError, OSError, ImportError, httpx.InvalidURL) as error:
            # the words are not shown: a proxy's address may hold a password
            hint = (
                f"the proxy (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) or the certificates (SSL_CERT_FILE, SSL_CERT_DIR) "
                f"that the environment names cannot be used ({type(error).__name__}): correct or unset them"
            )
            raise UserError(field, url, hint) from None
        bound(self._client, self._deadline)

    @property
    def root(self) -> str:
        """The server's address without the API's /v1: where vLLM keeps its own endpoints."""
        return self.url.removesuffix("/v1")

    def get(self, path: str, check: Callable[[Any], T]) -> T:
        return self._ask("GET", path, None, check)

    def post(self, path: str, body: dict[str, Any], check: Callable[[Any], T], room: int = 0) -> T:
        """`check` turns the JSON answer into a result, or raises BadAnswer. room: bytes above USUAL."""
        return self._ask("POST", path, body, check, room=room)

    def post_bare(self, address: str, body: dict[str, Any] | None) -> None:
        """A POST to a whole address on this server, whose answer may be empty."""
        self._ask("POST", address, body, lambda answer: None, empty=True)

    def each(self, jobs: Iterable[J], run: Callable[[J], T], done: Callable[[J, T], None]) -> None:
        """`run` every job, at most `concurrency` at a time; `done` in this thread, in order of arrival.

        When one fails for good, no new one is started, those in progress are handed to `done` if they succeed (nothing
        that was paid for is lost), and then its error is raised.
        """
        self._stop.clear()
        queue, failed = iter(jobs), None
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="server")
        waiting: dict[Future[T], J] = {}
        try:
            while True:
                while failed is None and len(waiting) < self.concurrency:
                    job = next(queue, _END)
                    if job is _END:
                        break
                    waiting[pool.submit(run, job)] = job
                if not waiting:
                    break
                ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    job = waiting.pop(future)
                    error = future.exception()
                    if error is None:
                        done(job, future.result())
                    elif failed is None:
                        failed = error
                        self._stop.set()  # stops the waiting for another attempt
        except BaseException:
            self._stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
        self._stop.clear()
        if failed is not None:
            raise failed

    def close(self) -> None:
        self._client.close()

    # -- one request ----------------------------------------------------------------------------------------------

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None, check: Callable[[Any], T], empty: bool = False,
        room: int = 0,
    ) -> T:  # fmt: skip
        bad = 0
        for attempt in range(self.tries):
            last = attempt + 1 == self.tries
            try:
                return check(self._once(method, path, body, empty, min(LARGEST, USUAL + room)))
            except BadAnswer as error:
                bad += 1
                if bad == min(BAD_ANSWERS, self.tries) or last:
                    raise self._mistake(f"answers what was not asked for: {error}") from None
                after, words = 0.0, str(error)
            except _Again as error:
                after, words = error.after, str(error)
            if last or self._stop.is_set():
                break
            self.retries += 1
            self._stop.wait(self.pause(attempt, after))
        hint = (
            f"{words} ({attempt + 1} tries): see that it runs and is not overloaded; nothing is lost, the same command "
            "goes on from the last checkpoint"
        )
        raise Unreachable(self.field, self.url, hint)

    def pause(self, attempt: int, after: float) -> float:
        """Seconds: exponential, with jitter (many clients must not retry at the same time), at least Retry-After."""
        backoff = min(LONGEST_WAIT, self.first_wait * 2**attempt)
        return max(backoff * self._jitter.uniform(0.5, 1.0), min(after, LONGEST_WAIT))

    def _once(self, method: str, path: str, body: dict[str, Any] | None, empty: bool, most: int) -> Any:
        """The JSON of one answer of at most `most` bytes; _Again or UserError."""
        self.requests += 1
        self._deadline.start(self.timeout)
        address = path if path.startswith("http") else self.url + path
        try:
            with self._client.stream(method, address, json=body) as response:
                status, headers = response.status_code, response.headers
                data = whole(response.iter_raw(), headers.get("content-encoding", ""), most)
        except (OutOfTime, self._httpx.TimeoutException) as error:
            raise _Again(f"took more than {self.timeout:g} s ({type(error).__name__})") from None
        except TooLarge:
            words = f"sent more than {most >> 20} MiB, more than an answer to this can need"
            raise self._mistake(f"{words}: see what runs there; fewer rows per request (rows=1) ask for less") from None
        except self._httpx.TransportError as error:
            raise _Again(f"cannot be reached ({type(error).__name__}: {self.clean(str(error))})") from None
        except ValueError as error:  # of `whole`
            raise _Again(f"sent an answer that cannot be read ({self.clean(str(error))[:80]})") from None
        except (self._httpx.HTTPError, self._httpx.InvalidURL, OSError) as error:
            raise _Again(f"failed ({type(error).__name__})") from None
        if len(self._key) >= SECRET:  # a server may send it back, in any field: it is never shown or written
            data = data.replace(self._key.encode(), b"[key]")
        if status in AGAIN or status >= 500:
            raise _Again(f"answered {status}", _retry_after(headers))
        if status in (401, 403):
            hint = f"it wants a key: set {KEY_VARIABLES[0]} in the environment, or name another with key_env"
            hint = "the key was refused" if self._key else hint
            raise self._mistake(f"answered {status}: {hint}")
        if status >= 300:
            raise Rejected(self.field, self.url, f"answered {status}: {self._reason(data)}", status)
        if empty and not data.strip():
            return None
        try:
            return json.loads(data, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            raise _Again(f"sent {len(data)} bytes that are not whole JSON") from None

    def _reason(self, data: bytes) -> str:
        """The server's error message: text from outside, so shortened, cleaned and without the key."""
        words = data[:10_000].decode("utf-8", "replace")
        try:
            answer = json.loads(data)
            if isinstance(answer, dict):
                inner = answer.get("error", answer)
                if isinstance(inner, dict):
                    inner = inner.get("message") or inner.get("detail") or inner
                words = inner if isinstance(inner, str) else json.dumps(inner)
        except (ValueError, RecursionError):
            pass
        return self.clean(words[:10_000])[:400] or "no reason given"

    def clean(self, text: str) -> str:
        """`text` on one line, without the key."""
        if self._key:
            text = text.replace(self._key, "[key]")
        return "".join(c if c.isprintable() else " " for c in text)

    def _mistake(self, words: str) -> UserError:
        return UserError(self.field, self.url, words)


class Rejected(UserError):
    """The server rejected the request (4xx). `status`: the code."""

    def __init__(self, field: str, value: object, hint: str, status: int) -> None:
        super().__init__(field, value, hint)
        self.status = status


_END: Any = object()


def find_key(key_env: str, field: str, url: str) -> str:
    """The key from the environment, or "". UserError: `key_env` is named but not set.

    OPENAI_API_KEY is sent to openai.com only, unless it is named.
    """
    if key_env:
        key = os.environ.get(key_env, "").strip(" \t")
        if not key:
            raise UserError(f"{field}.key_env", key_env, "is not set in the environment: export it first")
        return check_key(key, key_env, f"{field}.key_env")
    general, openai = (os.environ.get(name, "").strip(" \t") for name in KEY_VARIABLES)
    if general:
        return check_key(general, KEY_VARIABLES[0], f"{field}.key_env")
    return check_key(openai, KEY_VARIABLES[1], f"{field}.key_env") if openai and is_openai(url) else ""


def check_key(key: str, variable: str, field: str) -> str:
    """`key` without line breaks at its end. UserError, which does not repeat it: no HTTP header can hold it."""
    key = key.strip()
    wrong = "a space or line break" if re.search(r"\s", key) else "a character that is not printable ASCII"
    if not re.fullmatch(r"[\x21-\x7e]{1,8192}", key):
        if not key:
            wrong = "nothing but line breaks"
        elif len(key) > 8192:
            wrong = f"{len(key)} characters"
        raise UserError(field, variable, f"holds {wrong}, so it is no key: export it again (it is not shown here)")
    return key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. BadAnswer: it has a name twice, of which Python would silently keep the last."""
    out = dict(pairs)
    if len(out) != len(pairs):
        raise BadAnswer("an object of the answer has the same name twice")
    return out


def library(field: str, url: str) -> Any:
    """httpx, under either of its names (huggingface_hub depends on one of the two)."""
    try:
        import httpx2

        return httpx2
    except ImportError:
        pass
    try:
        import httpx

        return httpx
    except ImportError:
        raise UserError(field, url, "servers need an HTTP library: pip install 'understudy[server]'") from None


def _retry_after(headers: Any) -> float:
    """Seconds, from a number or a date; 0 when there is none."""
    value = str(headers.get("retry-after", "")).strip()
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
