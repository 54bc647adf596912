"""The service in this process, for tests: made of a configuration, asked without a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import falcon.testing
import pytest

from knhk.ports import Store
from knhk.server import windows
from knhk.server.configuration import Configuration
from knhk.server.identity import make_token
from knhk.server.serving import Application, make

SECRET = "a secret of these tests, 32 bytes and more"
ORDER: dict[str, Any] = {
    "id": "order",
    "name": "Order",
    "tasks": [{"id": "check", "manual": True}, {"id": "ship", "manual": True}],
    "flows": [
        {"from": "start", "to": "check"},
        {"from": "check", "to": "ship"},
        {"from": "ship", "to": "end"},
    ],
}


def token(sub: str = "ann", *roles: str, tenant: str = "default", **more: Any) -> str:
    """A token that counts."""
    return make_token(SECRET.encode(), subject=sub, roles=list(roles) or ["admin"], tenant=tenant, **more)


class Served:
    """A service, and how it is asked."""

    def __init__(self, made: Application) -> None:
        self.made = made
        self.client = falcon.testing.TestClient(made.wsgi)

    def ask(
        self,
        method: str,
        path: str,
        *roles: str,
        body: Any = None,
        sub: str = "ann",
        tenant: str = "default",
        headers: Mapping[str, str] | None = None,
        bearer: str | None = None,
        raw: bytes | None = None,
        **more: Any,
    ) -> falcon.testing.Result:
        """Ask as somebody with these roles (none: an admin); what is under ``/api/v1`` is named without it."""
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {bearer or token(sub, *roles, tenant=tenant)}", **(headers or {})}
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        address = path if path.startswith(("/health", "/metrics", "/openapi", "/swagger", "/api")) else f"/api/v1{path}"
        return self.client.simulate_request(method, address, body=content, headers=sent, **more)

    def register(self, spec: Mapping[str, Any] = ORDER, **who: Any) -> None:
        """Register a workflow."""
        assert 201 == self.ask("POST", "/workflows", body={"spec": spec}, **who).status_code

    def case(self, *, start: bool = True, spec_id: str = "order", **who: Any) -> str:
        """Create a case, and start it."""
        made = self.ask("POST", "/cases", body={"spec_id": spec_id, "data": {}, "start": start}, **who)
        assert 201 == made.status_code, made.json
        return str(made.json["case_id"])

    def item(self, case_id: str, **who: Any) -> str:
        """The id of the first open item of a case."""
        return str(self.ask("GET", "/workitems", query_string=f"case_id={case_id}", **who).json["items"][0]["id"])

    def state(self) -> Any:
        """Everything that a caller could have changed: workflows, cases with their histories, work items."""
        kept = self.made.store
        cases = list(kept.cases(limit=1000))
        return (
            list(kept.specifications()),
            [(each, kept.history(each.case_id)) for each in cases],
            list(kept.items(limit=1000)),
        )


@contextmanager
def served(*, store: Store | None = None, **settings: Any) -> Iterator[Served]:
    """Make a service on a store of its own, in memory unless it is told otherwise, and end it afterwards."""
    given = {"state_path": "memory:", "jwt_secret": SECRET, "rate_limit": 1_000_000.0, "instance_id": "one", **settings}
    made = make(Configuration(**given), store=store)
    try:
        yield Served(made)
    finally:
        made.close()


def problem(result: falcon.testing.Result, kind: str) -> bool:
    """Whether an answer is this problem, told as RFC 9457 has it and without a word of the inside."""
    body = result.json
    return (
        body["type"] == f"urn:knhk:problem:{kind}"
        and body["status"] == result.status_code
        and bool(body["title"])
        and result.headers["content-type"] == "application/problem+json"
        and "Traceback" not in result.text
    )


class StoppedTime:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def time(self) -> float:
        """Seconds since the epoch."""
        return self.at


def stop_rates(monkeypatch: pytest.MonkeyPatch) -> StoppedTime:
    """Stop the clock by which requests are counted, so that it does not matter how fast they come."""
    clock = StoppedTime()
    monkeypatch.setattr(windows, "time", clock)
    return clock
