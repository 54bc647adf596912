"""Where one request ends and the next begins: stricter than the server (waitress) by itself.

What can be read in two ways is refused (RFC 9112, sections 5.2 and 6.1), so that no proxy in front reads it in the other.
A request has a time within which it must have arrived, however busily its sender drips.
"""

from __future__ import annotations

import json
import re
import time
from http import HTTPStatus
from typing import Any, Final

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import Error

from knhk.server.problems import Problem

ARRIVES_WITHIN: Final = 60.0
"""Seconds that a request, header and body, may take to arrive."""

_FOLDED: Final = re.compile(rb"\n[ \t]")
_FIRST: Final = re.compile(rb"[!-~]+ [!-~]+ HTTP/1\.[01]")
_HOST: Final = re.compile(rb"^host:", re.IGNORECASE | re.MULTILINE)
_TRANSFER: Final = re.compile(rb"^transfer-encoding:", re.IGNORECASE | re.MULTILINE)
_TABBED: Final = re.compile(rb"^transfer-encoding:[^\n]*\t", re.IGNORECASE | re.MULTILINE)
_LENGTH: Final = re.compile(rb"^content-length:", re.IGNORECASE | re.MULTILINE)
_KINDS: Final = {413: "too-large"}


class Refusal(Error):
    """A request that is refused before anybody looks at what it asks for, told as every other refusal."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason

    def to_response(  # type: ignore[override] # the stubs say text, the server writes bytes
        self, ident: Any = None
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        """Return status, headers and body of the answer."""
        del ident
        body = {**Problem(kind=_KINDS.get(self.code, "malformed")).document(), "status": self.code}
        headers = [
            ("Content-Type", "application/problem+json"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ]
        return f"{self.code} {self.reason}", headers, json.dumps(body).encode()


class Parser(HTTPRequestParser):
    """Reads one request."""

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self._begun = time.monotonic()

    def received(self, data: bytes) -> int:
        """Take what has arrived; returns how many bytes of it are this request's."""
        late = time.monotonic() - self._begun > ARRIVES_WITHIN
        if late and not self.completed:  # type: ignore[has-type] # where it is not installed
            if not self.headers_finished:
                self.parse_header(b"GET / HTTP/1.0\r\n")
            self.error = Refusal(HTTPStatus.REQUEST_TIMEOUT, "Request Timeout")
            self.completed = True
            return len(data)
        taken: int = super().received(data)
        if self.error is not None and not isinstance(self.error, Refusal):
            self.error = Refusal(self.error.code, self.error.reason)
        return taken

    def parse_header(self, header_plus: bytes) -> None:
        """Read the first line and the headers; raises ParsingError."""
        if _FOLDED.search(header_plus):
            raise ParsingError("a header goes over several lines")
        first = header_plus.partition(b"\r\n")[0]
        if not _FIRST.fullmatch(first):
            raise ParsingError("the first line is not that of a request in HTTP/1.0 or 1.1")
        hosts = len(_HOST.findall(header_plus))
        if hosts > 1 or (not hosts and first.endswith(b"1")):
            raise ParsingError("a request names one host")
        if _TRANSFER.search(header_plus):
            if _TABBED.search(header_plus):
                raise ParsingError("the transfer encoding is written in a way that not everybody reads alike")
            if _LENGTH.search(header_plus):
                raise ParsingError("the body has a length and a transfer encoding")
            if first.endswith(b"0"):
                raise ParsingError("this version of HTTP has no transfer encodings")
        super().parse_header(header_plus)
