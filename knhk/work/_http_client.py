"""One request over one connection, to an address that was looked at; the only file that knows the HTTP library (urllib3)."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Self

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from knhk.errors import OutboundFailed
from knhk.work.outbound import Outbound, Response, Target

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

_PIECE: Final = 65_536
_TIMED_OUT: Final = "there was no whole answer within {:g} s"


def exchange(
    outbound: Outbound, target: Target, method: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
) -> Response:
    """Send a request to the first of its checked addresses that can be reached, and read the answer; see `Outbound.request`."""
    end = time.monotonic() + timeout
    try:
        addresses = outbound.addresses(target)
    except OSError as error:
        raise OutboundFailed(f"{target.host} cannot be found: {error}") from error
    failure: Exception | None = None
    for address in addresses:
        left = end - time.monotonic()
        if left <= 0:
            break
        connection = _connection(outbound, target, address, min(outbound.connect_timeout, left))
        with _Deadline(connection, left) as deadline:
            try:
                connection.connect()
            except (OSError, HTTPError) as error:
                failure = error
                connection.close()
                continue
            # The deadline comes first.
            connection.timeout = left + 1
            try:
                answer = _ask(connection, target, method, headers, body, limit=outbound.max_response)
                if deadline.passed:
                    # A connection that was ended looks like an answer that ended.
                    raise TimeoutError
                return answer  # noqa: TRY300 - it is the good end of what may fail
            except (OSError, HTTPError, http.client.HTTPException, ValueError) as error:
                message = _TIMED_OUT.format(timeout) if deadline.passed else str(error) or type(error).__name__
                raise OutboundFailed(f"{method} {target.url}: {message}") from error
            finally:
                connection.close()
    message = f"{failure}" if failure is not None else _TIMED_OUT.format(timeout)
    raise OutboundFailed(f"{method} {target.url}: no connection: {message}") from failure


def _ask(
    connection: HTTPConnection,
    target: Target,
    method: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    limit: int,
) -> Response:
    connection.request(
        method,
        target.path,
        body=body,
        # Nothing is unpacked here, so what arrives is what was counted.
        headers={"Accept-Encoding": "identity", **headers, "Connection": "close"},
        preload_content=False,
        decode_content=False,
    )
    response = connection.getresponse()
    try:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding != "identity":
            raise ValueError(f"the answer is encoded as {encoding!r}, although none was asked for")
        return Response(status=response.status, headers=_headers(response), body=_read(response, limit))
    finally:
        response.close()


def _headers(response: BaseHTTPResponse) -> dict[str, str]:
    return {name.lower(): ", ".join(response.headers.getlist(name)) for name in response.headers}


def _read(response: BaseHTTPResponse, limit: int) -> bytes:
    body = bytearray()
    while piece := response.read(min(_PIECE, limit + 1 - len(body)), decode_content=False):
        body += piece
        if len(body) > limit:
            raise ValueError(f"the answer is longer than {limit:,} bytes")
    return bytes(body)


def _connection(outbound: Outbound, target: Target, address: str, timeout: float) -> _Plain | _Secure:
    if target.scheme == "http":
        return _Plain(address, target.port, timeout=timeout)
    return _Secure(
        address,
        target.port,
        timeout=timeout,
        server_hostname=target.host,
        ssl_context=outbound.tls(),
    )


class _Interrupted:
    """A connection that another thread can end, also in the middle of a handshake, when its socket has changed hands."""

    twin: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        made: socket.socket = super()._new_conn()  # type: ignore[misc]
        self.twin = made.dup()
        return made

    def interrupt(self) -> None:
        """End the connection: whoever waits for it is told so."""
        if self.twin is not None:
            try:
                self.twin.shutdown(socket.SHUT_RDWR)
            except OSError:
                # The other end was faster.
                return


class _Plain(_Interrupted, HTTPConnection):
    """Over TCP."""


class _Secure(_Interrupted, HTTPSConnection):
    """Over TLS."""


class _Deadline:
    """
    Ends a connection when its time is up: timeouts of a socket count from byte to byte, and bytes may drip.

    Attributes:
        passed: whether the time was up.
    """

    def __init__(self, connection: _Plain | _Secure, seconds: float) -> None:
        self.passed = False
        self._connection = connection
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()
        if self._connection.twin is not None:
            self._connection.twin.close()

    def _end(self) -> None:
        self.passed = True
        self._connection.interrupt()
