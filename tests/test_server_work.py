"""Work of people and messages to the outside, over REST."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from knhk.server.working import MOST_POLLS
from tests.served import Served, problem, served

OFFICE: dict[str, Any] = {
    "id": "office",
    "tasks": {"write": {"manual": {"roles": ["clerk"]}}, "sign": {"manual": True}},
    "flows": [{"from": "start", "to": "write"}, {"from": "write", "to": "sign"}, {"from": "sign", "to": "end"}],
}


@pytest.fixture
def service() -> Iterator[Served]:
    """A service with a workflow whose work is for clerks."""
    with served() as made:
        made.register(OFFICE)
        yield made


def test_participants_work_on_what_is_for_them(service: Served) -> None:
    """A participant sees and does what is offered to his roles or allocated to him, and nothing else."""
    case = service.case(spec_id="office")
    item = service.item(case)
    clerk, other = {"sub": "carl"}, {"sub": "otto"}

    assert [item] == [
        each["id"] for each in service.ask("GET", "/workitems", "participant", "clerk", **clerk).json["items"]
    ]
    assert [] == service.ask("GET", "/workitems", "participant", **other).json["items"]
    assert problem(service.ask("GET", f"/workitems/{item}", "participant", **other), "not-found")
    assert problem(service.ask("POST", f"/workitems/{item}/start", "participant", **other), "forbidden")
    assert problem(
        service.ask("POST", f"/workitems/{item}/allocate", "participant", "clerk", body={"to": "otto"}, **clerk),
        "forbidden",
    )
    assert (
        "carl"
        == service.ask("POST", f"/workitems/{item}/allocate", "participant", "clerk", body={}, **clerk).json["by"]
    )
    assert problem(service.ask("POST", f"/workitems/{item}/start", "participant", "clerk", sub="cora"), "forbidden")
    assert 200 == service.ask("POST", f"/workitems/{item}/start", "participant", **clerk).status_code
    assert 200 == service.ask("POST", f"/workitems/{item}/complete", "participant", body={}, **clerk).status_code
    following = service.item(case)
    assert 200 == service.ask("GET", f"/workitems/{following}", "participant", **other).status_code


def test_items_of_a_role_and_of_a_participant(service: Served) -> None:
    """Lists can be asked for by role, participant and state."""
    cases = [service.case(spec_id="office") for _ in range(3)]
    service.ask("POST", f"/workitems/{service.item(cases[0])}/allocate", body={"to": "carl"})

    def count(query: str) -> int:
        return len(service.ask("GET", "/workitems", query_string=query).json["items"])

    assert (2, 0) == (count("role=clerk"), count("role=boss"))
    assert (1, 0) == (count("participant=carl"), count("participant=otto"))
    assert (1, 2) == (count("state=allocated"), count("state=offered"))


def test_pages_of_what_is_for_a_participant(service: Served) -> None:
    """Pages of a participant hold what is his, however much of others' lies between."""
    cases = sorted(service.case(spec_id="office") for _ in range(6))
    for case in cases[::2]:
        service.ask("POST", f"/workitems/{service.item(case)}/allocate", body={"to": "otto"})
    found, query = [], "limit=2"
    while True:
        page = service.ask("GET", "/workitems", "participant", "clerk", sub="carl", query_string=query).json
        found += [each["case_id"] for each in page["items"]]
        if page["next"] is None:
            break
        query = f"limit=2&cursor={page['next']}"

    assert cases[1::2] == found


def test_delegate_and_skip(service: Served) -> None:
    """An allocated item is handed on, and an operator skips work."""
    case = service.case(spec_id="office")
    item = service.item(case)
    service.ask("POST", f"/workitems/{item}/allocate", body={"to": "carl"})

    handed = service.ask("POST", f"/workitems/{item}/delegate", "participant", sub="carl", body={"to": "cora"})
    assert problem(service.ask("POST", f"/workitems/{item}/skip", "participant", sub="cora"), "forbidden")
    skipped = service.ask("POST", f"/workitems/{item}/skip", "operator")

    assert "cora" == handed.json["by"]
    assert (200, item != service.item(case)) == (skipped.status_code, True)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://192.168.1.1/",
        "http://user@127.0.0.1/",
        "http://example.com@127.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://0/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "http://LOCALHOST:80/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "dict://127.0.0.1/",
        "unix:///var/run/docker.sock",
        "//127.0.0.1/",
        "nothing",
        "",
    ],
)
def test_webhook_to_the_inside(service: Served, url: str) -> None:
    """A URL that leads inside, or nowhere, is refused when it is named."""
    answer = service.ask("POST", "/webhooks", body={"url": url})

    assert problem(answer, "invalid")
    assert [] == service.ask("GET", "/webhooks").json["items"]


def test_webhooks(service: Served) -> None:
    """A subscription is made, with its secret shown this once, listed to its tenant alone, told of events, and ended."""
    made = service.ask(
        "POST", "/webhooks", "operator", body={"url": "https://93.184.216.34/hook", "events": ["case_started"]}
    )
    service.case(spec_id="office")

    assert 201 == made.status_code, made.text
    assert len(made.json["secret"]) >= 32
    listed = service.ask("GET", "/webhooks").json["items"]
    assert [made.json["id"]] == [each["id"] for each in listed]
    assert "secret" not in listed[0]
    assert ["case_started"] == [
        each.message["type"] for each in service.made.tenants.engine("default").webhooks.pending()
    ]
    assert [] == service.ask("GET", "/webhooks", tenant="acme").json["items"]
    assert problem(service.ask("DELETE", f"/webhooks/{made.json['id']}", tenant="acme"), "not-found")
    assert 204 == service.ask("DELETE", f"/webhooks/{made.json['id']}").status_code
    assert problem(service.ask("DELETE", f"/webhooks/{made.json['id']}"), "not-found")
    assert problem(
        service.ask("POST", "/webhooks", body={"url": "https://93.184.216.34/", "events": ["nothing"]}), "invalid"
    )


# --- workers elsewhere ----------------------------------------------------------------------------------------------------

LABELS: dict[str, Any] = {
    "id": "labels",
    "tasks": {"print": {"external": "labels"}},
    "flows": [{"from": "start", "to": "print"}, {"from": "print", "to": "end"}],
}


def claim(service: Served, **more: Any) -> list[dict[str, Any]]:
    """Claim work, as a worker."""
    answer = service.ask("POST", "/work/claim", "participant", body={"topics": ["labels"], **more}, sub="printer")
    assert 200 == answer.status_code, answer.text
    return list(answer.json["items"])


def test_worker_elsewhere(service: Served) -> None:
    """A worker claims work, keeps it, and completes it; a token that is not the claim's is refused and changes nothing."""
    service.register(LABELS)
    case = service.case(spec_id="labels")

    (work,) = claim(service, max=5, lease=60)
    assert (case, "printer", 1) == (work["case_id"], work["worker"], work["attempt"])
    assert [] == claim(service)
    kept = service.ask("POST", f"/work/{work['id']}/extend", "participant", body={"token": work["token"], "lease": 600})
    assert kept.json["deadline"] > work["deadline"]
    stale = service.ask(
        "POST", f"/work/{work['id']}/complete", "participant", body={"token": f"{work['token']}9", "data": {}}
    )
    assert problem(stale, "conflict")
    foreign = service.ask(
        "POST", f"/work/{work['id']}/complete", body={"token": work["token"], "data": {}}, tenant="acme"
    )
    assert problem(foreign, "conflict")
    done = service.ask(
        "POST", f"/work/{work['id']}/complete", "participant", body={"token": work["token"], "data": {"label": "L"}}
    )

    assert 204 == done.status_code
    ended = service.ask("GET", f"/cases/{case}").json
    assert ("completed", {"label": "L"}) == (ended["state"], ended["data"])


def test_work_that_failed_for_good(service: Served) -> None:
    """Work that failed for good is a dead letter of its tenant, until it is replayed or discarded."""
    service.register(LABELS)
    case = service.case(spec_id="labels")
    for ending, body in (("replay", None), ("discard", {"reason": "withdrawn"})):
        (work,) = claim(service)
        failed = service.ask(
            "POST",
            f"/work/{work['id']}/fail",
            "participant",
            body={"token": work["token"], "reason": "no paper", "retryable": False},
        )
        assert {"handled": False} == failed.json
        (letter,) = service.ask("GET", "/dead-letters", "viewer", query_string="topic=labels").json["items"]
        assert ("no paper", case) == (letter["reason"], letter["case_id"])
        assert [] == service.ask("GET", "/dead-letters", query_string="topic=other").json["items"]
        assert [] == service.ask("GET", "/dead-letters", tenant="acme").json["items"]
        assert problem(
            service.ask("POST", f"/dead-letters/{letter['id']}/{ending}", body=body, tenant="acme"), "not-found"
        )
        assert 204 == service.ask("POST", f"/dead-letters/{letter['id']}/{ending}", "operator", body=body).status_code
        assert [] == service.ask("GET", "/dead-letters").json["items"]
    assert [] == claim(service)


def test_pages_of_dead_letters(service: Served) -> None:
    """Dead letters come in pages."""
    service.register(LABELS)
    for _ in range(3):
        service.case(spec_id="labels")
    for work in claim(service, max=3):
        service.ask("POST", f"/work/{work['id']}/fail", body={"token": work["token"], "retryable": False})

    first = service.ask("GET", "/dead-letters", query_string="limit=2").json
    rest = service.ask("GET", "/dead-letters", query_string=f"limit=2&cursor={first['next']}").json

    assert (2, 1, None) == (len(first["items"]), len(rest["items"]), rest["next"])


def test_long_poll(service: Served) -> None:
    """A worker that waits hears of work that comes up, at once; where too many wait, and at the end, nobody waits."""
    service.register(LABELS)
    case = service.case(spec_id="labels", start=False)
    found: list[Any] = []
    waits = threading.Thread(target=lambda: found.extend(claim(service, wait=20)))
    begun = time.monotonic()
    waits.start()
    service.ask("POST", f"/cases/{case}/start")
    waits.join()

    assert [case] == [each["case_id"] for each in found]
    assert time.monotonic() - begun < 10
    with contextlib.ExitStack() as held:
        for _ in range(MOST_POLLS):
            held.enter_context(service.made.service.polls._places)
        assert [] == claim(service, wait=20)
    service.made.service.polls.end()
    assert [] == claim(service, wait=20)
    assert time.monotonic() - begun < 15


@pytest.mark.parametrize(
    "body",
    [
        {"topics": []},
        {"topics": "labels"},
        {"topics": [""]},
        {"topics": ["a"], "max": 0},
        {"topics": ["a"], "max": 10**9},
        {"topics": ["a"], "wait": 21},
        {"topics": ["a"], "wait": -1},
        {"topics": ["a"], "lease": 0},
    ],
)
def test_claim_that_is_not_right(service: Served, body: dict[str, Any]) -> None:
    """A claim has its bounds."""
    assert problem(service.ask("POST", "/work/claim", body=body), "invalid")
