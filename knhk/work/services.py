"""Work that a service does: requests whose parts come from a case's data, and answers that become a result.

What a value can do to a request is bounded by where it stands:

* In a URL it is encoded whole (RFC 3986: all but letters, digits and ``-._~``), so it stays one piece of the path or of the
  query; it cannot be empty in the path, nor make a segment ``.`` or ``..``. The host is never a value.
* In a header it holds no control characters, so it stays one line.
* In a body it is a JSON value, written by a JSON writer.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn
from urllib.parse import quote, unquote

from knhk.errors import DataError, ParseError, ResponseRefused
from knhk.expr import Dialect, Expression, compile_expression
from knhk.ports import Clock
from knhk.spec import Http
from knhk.spec.templates import WITHOUT_BODY, Hole, holes
from knhk.work.answers import retry_after
from knhk.work.handlers import Work
from knhk.work.outbound import Response
from knhk.work.spans import Requests

_ASKS: Final = ("data", "item", "index")
_ANSWERS: Final = (*_ASKS, "status", "headers", "body")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_CHARSET: Final = re.compile(r"charset\s*=\s*\"?([A-Za-z0-9._-]+)", re.IGNORECASE)
_LATER: Final = frozenset({408, 425, 429})
"""The statuses below 500 after which the same request may succeed later."""

_LONGEST_SHOWN: Final = 200


class Services:
    """
    Makes the functions that do the work of tasks with ``http``.

    Args:
        outbound: makes the requests.
        clock: for answers that name a time.
        dialect: the language of expressions.
    """

    def __init__(self, outbound: Requests, clock: Clock, *, dialect: Dialect) -> None:
        self._outbound = outbound
        self._clock = clock
        self._dialect: Dialect = dialect
        self._functions: dict[Http, Callable[[Work], Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, http: Http) -> Callable[[Work], Any]:
        """Return the function that makes this request; the same one each time."""
        with self._lock:
            function = self._functions.get(http)
            if function is None:
                function = self._functions[http] = _Service(http, self._outbound, self._clock, self._dialect)
            return function


class _Service:
    """One request, compiled."""

    def __init__(self, http: Http, outbound: Requests, clock: Clock, dialect: Dialect) -> None:
        def compiled(text: str | None, variables: Sequence[str]) -> Expression | None:
            return None if text is None else compile_expression(text, variables=variables, dialect=dialect)

        def faults(text: str) -> Sequence[str]:
            try:
                compile_expression(text, variables=_ASKS, dialect=dialect)
            except ParseError as error:
                return [each.message for each in error.problems]
            return ()

        def template(text: str) -> tuple[str | Expression, ...]:
            return tuple(
                compile_expression(each.text, variables=_ASKS, dialect=dialect) if isinstance(each, Hole) else each
                for each in holes(text, faults)
            )

        self._http = http
        self._outbound = outbound
        self._clock = clock
        self._url = template(http.url)
        self._headers = {name: template(text) for name, text in (http.headers or {}).items()}
        self._body = compiled(http.body, _ASKS)
        self._success = compiled(http.success, _ANSWERS)
        self._result = compiled(http.result, _ANSWERS)

    def __call__(self, work: Work) -> Any:
        """
        Make the request.

        Raises:
            DataError: a value does not fit where it stands, or an expression fails.
            OutboundRefused, OutboundFailed: as `Outbound.request`.
            ResponseRefused: the answer is no success.
        """
        given = {"data": work.data, "item": work.item, "index": work.index}
        where = work.task
        http = self._http
        url = _fill_url(self._url, given, where)
        headers = {name: _fill_header(name, parts, given, where) for name, parts in self._headers.items()}
        if http.method not in WITHOUT_BODY:
            headers["Idempotency-Key"] = work.idempotency_key
        body = None
        if self._body is not None:
            body, headers = _write_body(self._body.evaluate(given, where), headers, where)
        timeout = None if http.timeout is None else http.timeout / 1000
        response = self._outbound.request(http.method, url, headers=headers, body=body, timeout=timeout)
        return self._judge(response, given, where)

    def _judge(self, response: Response, given: Mapping[str, Any], where: str) -> Any:
        answer = {**given, "status": response.status, "headers": dict(response.headers), "body": _read_body(response)}
        good = 200 <= response.status < 300 if self._success is None else self._success.test(answer, where)
        if not good:
            raise ResponseRefused(
                f"{self._http.method} {self._http.url} was answered with status {response.status}{_shown(response)}",
                status=response.status,
                retry_after=retry_after(response.headers, self._clock.now()),
                retryable=response.status in _LATER or not 400 <= response.status < 500,
            )
        if self._result is None:
            return {}
        result = self._result.evaluate(answer, where)
        if not isinstance(result, dict):
            raise DataError("is no map", expression=self._result.text, element=where, value=result)
        return result


def _fill_url(parts: Sequence[str | Expression], given: Mapping[str, Any], where: str) -> str:
    url = ""
    for part in parts:
        if isinstance(part, str):
            url += part
            continue
        text = _text(part, given, where)
        if not text and "?" not in url:
            _misfit(part, where, "is empty in the path of the URL", text)
        url += quote(text, safe="")
    segments = url.partition("?")[0].split("/")[3:]
    if any(unquote(each) in (".", "..") for each in segments):
        raise DataError("the path of the URL has a segment . or ..", element=where, value=url)
    return url


def _fill_header(name: str, parts: Sequence[str | Expression], given: Mapping[str, Any], where: str) -> str:
    value = "".join(part if isinstance(part, str) else _text(part, given, where) for part in parts).strip(" ")
    if _CONTROL.search(value) or not value.isascii():
        raise DataError(f"the header {name} holds what no header may hold: visible ASCII alone", element=where)
    return value


def _text(expression: Expression, given: Mapping[str, Any], where: str) -> str:
    value = expression.evaluate(given, where)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if any("\ud800" <= each <= "\udfff" for each in value):
            _misfit(expression, where, "holds half of a surrogate pair", value)
        return value
    if isinstance(value, int | float):
        return json.dumps(value)
    return _misfit(expression, where, "is neither text, number nor bool", value)


def _misfit(expression: Expression, where: str, why: str, value: object) -> NoReturn:
    raise DataError(why, expression=expression.text, element=where, value=value)


def _write_body(value: object, headers: Mapping[str, str], where: str) -> tuple[bytes, dict[str, str]]:
    """Write JSON, or where ``Content-Type`` says something else, text as it is."""
    named = next((text for name, text in headers.items() if name.lower() == "content-type"), None)
    if named is not None and not _is_json(named):
        if not isinstance(value, str):
            raise DataError(f"a body of {named} must be text", element=where, value=value)
        return value.encode("utf-8", "strict"), dict(headers)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"the body is no JSON: {error}", element=where, value=value) from error
    return text, dict(headers) if named is not None else {**headers, "Content-Type": "application/json"}


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _read_body(response: Response) -> Any:
    """Return JSON as the value that it is, other text as text, and nothing as null."""
    if not response.body:
        return None
    content_type = response.headers.get("content-type", "")
    charset = _CHARSET.search(content_type)
    try:
        if _is_json(content_type):
            return json.loads(response.body, parse_constant=_no_constant)
        return response.body.decode("utf-8" if charset is None else charset[1])
    except (ValueError, LookupError, RecursionError) as error:
        raise ResponseRefused(
            f"the answer of status {response.status} cannot be read as {content_type or 'text'}: {error}",
            status=response.status,
            retryable=response.status >= 500,
        ) from error


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _shown(response: Response) -> str:
    text = response.body[:_LONGEST_SHOWN].decode("utf-8", "replace")
    text = " ".join(_CONTROL.sub(" ", text).split())
    return f": {text}" if text else ""
