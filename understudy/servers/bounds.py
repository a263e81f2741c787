"""What an answer may cost: one time limit for the whole request, and a size limit, also of what is compressed.

A client library's own limits hold for each read of the connection, so a server that sends a byte at a time, in the
status line, the headers, between endless informational answers or in a compressed body that yields nothing, is never
cut off. Here every read, write and handshake of a request ends at its deadline.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

OVERHEAD = 4096  # bytes that compression may add to what it cannot compress


class OutOfTime(Exception):
    """The request's time is used up."""


class TooLarge(Exception):
    """The answer has more bytes than it may have."""


class Deadline(threading.local):
    """When the request of this thread must have ended."""

    at = float("inf")

    def start(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds

    def left(self, timeout: float | None = None) -> float | None:
        """Seconds that remain, at most `timeout`; OutOfTime when there are none. None: no limit."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise OutOfTime
        least = min(left, float("inf") if timeout is None else timeout)
        return None if least == float("inf") else least

    @contextlib.contextmanager
    def cut(self, stream: Any) -> Iterator[None]:
        """In the block, which may make many system calls, the connection is shut down at the deadline."""
        left, connection = self.left(), stream.get_extra_info("socket")
        if left is None or connection is None:
            yield
            return
        timer = threading.Timer(left, _shut, (connection,))
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception:
            self.left()  # OutOfTime, where this is why
            raise
        finally:
            timer.cancel()


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class _Stream:
    """A connection of the client library; each call ends at the deadline."""

    def __init__(self, inner: Any, deadline: Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data: bytes = self._inner.read(max_bytes, self._deadline.left(timeout))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with self._deadline.cut(self._inner):
            self._inner.write(buffer, self._deadline.left(timeout))

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        with self._deadline.cut(self._inner):
            inner = self._inner.start_tls(ssl_context, server_hostname, self._deadline.left(timeout))
        return _Stream(inner, self._deadline)

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend:
    """Makes the connections of a pool."""

    def __init__(self, inner: Any, deadline: Deadline) -> None:
        self._inner, self._deadline = inner, deadline

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> _Stream:
        return _Stream(self._inner.connect_tcp(host, port, self._deadline.left(timeout), **options), self._deadline)

    def connect_unix_socket(self, path: str, timeout: float | None = None, **options: Any) -> _Stream:
        return _Stream(self._inner.connect_unix_socket(path, self._deadline.left(timeout), **options), self._deadline)

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def bound(client: Any, deadline: Deadline) -> None:
    """Make every request of an httpx client end at `deadline`. Neither httpx nor its parts offer this as an option."""
    for transport in (client._transport, *filter(None, client._mounts.values())):
        pool = transport._pool
        pool._network_backend = _Backend(pool._network_backend, deadline)


def whole(pieces: Iterable[bytes], encoding: str, most: int) -> bytes:
    """The content of an answer, at most `most` bytes of it, sent and expanded. TooLarge; ValueError: not readable.

    encoding: its Content-Encoding, of which gzip and deflate are read.
    """
    named = [name.strip().lower() for name in encoding.split(",") if name.strip().lower() not in ("", "identity")]
    if len(named) > 1 or not set(named) <= {"gzip", "x-gzip", "deflate"}:
        raise ValueError("compressed in a way that was not asked for")
    expand = zlib.decompressobj(zlib.MAX_WBITS | 32) if named else None
    out, sent = bytearray(), 0
    for piece in pieces:
        sent += len(piece)
        try:
            out += piece if expand is None else expand.decompress(piece, most + 1 - len(out))
        except zlib.error:
            raise ValueError("not compressed as it says") from None
        if max(sent - OVERHEAD, len(out)) > most:
            raise TooLarge
    return bytes(out)
