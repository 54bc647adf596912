"""Work of people and messages to the outside, over REST."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

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
