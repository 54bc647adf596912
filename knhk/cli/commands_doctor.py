"""``knhk doctor``: what a served instance lacks, part by part, in the order in which one would look."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

import attrs
import click

from knhk.cli.commands_serve import configured
from knhk.cli.diagnosis import slow_series, token_fault
from knhk.cli.failures import NO
from knhk.cli.options import json_option
from knhk.cli.output import clean, say_json, say_table
from knhk.cli.remote import TOKEN

_PATIENCE = 5.0
_ROUNDS = 3
_FAR = 0.25


@attrs.frozen(kw_only=True)
class _Check:
    """
    Something that was looked at.

    Args:
        name: what.
        good: whether it is as it should be; None: it could not be looked at.
        detail: what was found, or what to do.
    """

    name: str
    good: bool | None
    detail: str


@click.command()
@click.argument("url", required=False)
@click.option("--token", "bearer", metavar="TOKEN", help="Try this token; else the variable WORKFLOW_TOKEN.")
@json_option
def doctor(*, url: str | None, bearer: str | None, as_json: bool) -> None:
    """
    Say what a served instance lacks.

    URL is where it is served; the configuration says so where it is left out.
    The exit code is 1 where anything is not as it should be.
    """
    settings = configured().settings
    host = "127.0.0.1" if settings.api_host == "0.0.0.0" else settings.api_host  # noqa: S104 - not bound here
    scheme = "https" if settings.tls_cert else "http"
    address = (url or f"{scheme}://{host}:{settings.api_port}").rstrip("/")
    checks = _look(address, bearer or os.environ.get(TOKEN))
    if as_json:
        say_json([attrs.asdict(each) for each in checks])
    else:
        words = {True: "ok", False: "wrong", None: "not looked at"}
        rows = [(each.name, words[each.good], clean(each.detail)) for each in checks]
        say_table(("part", "is", "remark"), rows, whole=("part",))
    if any(each.good is False for each in checks):
        raise click.exceptions.Exit(NO)


def _look(address: str, bearer: str | None) -> list[_Check]:
    status, body = _ask(f"{address}/health/live")
    alive = (status, body) == (200, {"alive": True})
    checks = [_Check(name="alive", good=alive, detail=address if alive else f"{address} does not answer: {body}")]
    if not alive:
        return checks
    return [*checks, *_readiness(address), *_latencies(address), _token(address, bearer)]


def _readiness(address: str) -> list[_Check]:
    """Whether it is ready, and how each component is."""
    status, body = _ask(f"{address}/health/ready")
    checks = [_Check(name="ready", good=status == 200, detail="" if status == 200 else str(_of(body, "reason")))]
    _, body = _ask(f"{address}/health/components")
    parts = _of(body, "components")
    for name, part in sorted(parts.items()) if isinstance(parts, dict) else ():
        good = part["status"] not in ("down", "degraded")
        checks.append(_Check(name=name, good=good, detail=part["detail"] or part["status"]))
    return checks


def _latencies(address: str) -> list[_Check]:
    """Where time goes: on the way, in the store, in patterns."""
    took = min(_seconds(f"{address}/health/live") for _ in range(_ROUNDS))
    checks = [_Check(name="network latency", good=took <= _FAR, detail=f"{took * 1000:.1f} ms there and back")]
    status, text = _ask(f"{address}/metrics", raw=True)
    for name, histogram in (("store latency", "knhk_store_seconds"), ("pattern latency", "knhk_pattern_seconds")):
        if status != 200:
            checks.append(_Check(name=name, good=None, detail=f"/metrics was answered {status}"))
            continue
        measured, slow = slow_series(text, histogram)
        found = ", ".join(f"{label}: {seconds:g} s" for label, seconds in sorted(slow.items()))
        detail = f"one of twenty takes longer than {found}" if slow else f"{measured} measured since the start"
        checks.append(_Check(name=name, good=not slow, detail=detail))
    return checks


def _token(address: str, bearer: str | None) -> _Check:
    """Whether a token counts, and where it does not, what is to be seen of why."""
    if bearer is None:
        return _Check(name="token", good=None, detail=f"give one: --token, or the variable {TOKEN}")
    status, body = _ask(f"{address}/api/v1/workflows", bearer)
    fault = token_fault(bearer, time.time())
    said = {
        200: "counts, and may read",
        403: f"counts; its roles may not read workflows{fault and f': {fault}'}",
        401: f"does not count: {fault or 'it is not signed, or not meant, for this service, whose log says why'}",
        429: "counts; too many requests",
    }.get(status, f"was answered {status}: {body}")
    return _Check(name="token", good=status in (200, 403, 429), detail=said)


def _seconds(url: str) -> float:
    begun = time.perf_counter()
    _ask(url)
    return time.perf_counter() - begun


def _of(body: Any, name: str) -> Any:
    return body.get(name) if isinstance(body, dict) else body


def _ask(url: str, bearer: str | None = None, *, raw: bool = False) -> tuple[int, Any]:
    """Return status and body of an answer, as text where it is wanted `raw`; 0 and why where there is none."""
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_PATIENCE) as answer:  # noqa: S310 - the user's own URL
            body = answer.read()
            return answer.status, body.decode("utf-8", "replace") if raw else json.loads(body)
    except urllib.error.HTTPError as error:
        return error.code, _read(error)
    except (OSError, ValueError) as error:
        return 0, str(error)


def _read(error: urllib.error.HTTPError) -> Any:
    with error:
        text = error.read()
    try:
        return json.loads(text)
    except ValueError:
        return text.decode("utf-8", "replace")[:200]
