"""Requests: methods, addresses, queries, headers and bodies that are not as they should be, and those that are."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import falcon.testing
import pytest

from knhk.server.operations import OPERATIONS
from knhk.server.rest import MOST_BYTES
from tests.served import ORDER, Served, problem, served, token


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    """A service with a workflow and a running case, for tests that change nothing."""
    with served() as made:
        made.register()
        made.case()
        yield made


@pytest.fixture
def service() -> Iterator[Served]:
    """A service of the test's own, with a workflow."""
    with served() as made:
        made.register()
        yield made


# --- methods --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "post", "Get", "PROPFIND"])
def test_method_that_is_not_there(shared: Served, method: str) -> None:
    """A method that an address does not have is refused with those that it has, and nothing happens."""
    before = shared.state()

    environ = falcon.testing.create_environ("/api/v1/cases", headers={"Authorization": f"Bearer {token()}"})
    heard = falcon.testing.StartResponseMock()
    body = b"".join(shared.made.wsgi({**environ, "REQUEST_METHOD": method}, heard))
    answer = falcon.testing.Result([body], heard.status, heard.headers)

    assert answer.status_code in (400, 405)
    assert answer.json["type"] in ("urn:knhk:problem:method-not-allowed", "urn:knhk:problem:malformed")
    assert before == shared.state()
    if method in ("PUT", "PATCH", "DELETE"):
        assert "GET, HEAD, POST" == answer.headers["allow"]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-HTTP-Method-Override": "DELETE"},
        {"X-HTTP-Method": "DELETE"},
        {"X-Method-Override": "DELETE"},
        {"X-Original-URL": "/api/v1/audit"},
        {"X-Rewrite-URL": "/api/v1/audit"},
    ],
)
def test_method_and_address_are_those_of_the_request(shared: Served, headers: dict[str, str]) -> None:
    """No header says another method or address than the request."""
    before = shared.state()

    answer = shared.ask("GET", "/workflows/order", headers=headers, query_string="_method=DELETE")
    plain = shared.ask("GET", "/workflows/order", headers=headers)

    assert problem(answer, "invalid")
    assert "order" == plain.json["spec_id"]
    assert before == shared.state()


def test_head_is_get_without_a_body(shared: Served) -> None:
    """HEAD answers as GET does, with no body."""
    answer = shared.ask("HEAD", "/cases")

    assert (200, b"") == (answer.status_code, answer.content)


# --- addresses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/api//v1/audit",
        "/api/v1//audit",
        "/api/v1/./audit",
        "/api/v1/x/../audit",
        "/api/v1/%2e%2e/audit",
        "/health/../api/v1/audit",
        "/health/%2e%2e/api/v1/audit",
        "/api/v1/%61udit;x",
        "/api/v1/audit;x=1",
        "/api/v1/audit/",
        "/api/v1/audit%00",
        "/api/v1/..;/audit",
        "/api/v1\\audit",
        "/API/v1/audit",
        "/api/v1/AUDIT",
        "/api/v2/audit",
        "/.env",
        "/swagger/../../etc/passwd",
        "/api/v1",
        "/",
    ],
)
def test_address_that_is_another(shared: Served, path: str) -> None:
    """Nothing that is written in another way than its address leads to it, not even for those without a token."""
    bare = shared.client.simulate_get(path)
    known = shared.client.simulate_get(path, headers={"Authorization": f"Bearer {token()}"})

    assert bare.status_code in (401, 404)
    assert problem(known, "not-found")


def test_escaped_letters_are_the_letters(shared: Served) -> None:
    """An address with escaped letters is that address, and asks for the same rights."""
    assert problem(shared.client.simulate_get("/api/v1/%61udit"), "unauthenticated")
    assert problem(shared.ask("GET", "/%61udit", "viewer"), "forbidden")
    assert problem(shared.ask("GET", "/audit%2fverify", "viewer"), "forbidden")
    assert problem(shared.client.simulate_get("//api/v1/audit"), "unauthenticated")


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "%2e%2e%2fetc%2fpasswd",
        "x'%20OR%20'1'='1",
        "*",
        "%00",
        "a%00b",
        "%ff%fe",
        "%EF%BF%BD",
        "%0d%0aX-Evil:%20yes",
        "${7*7}",
        "{{7*7}}",
        "~acme~order",
        "-order",
        "a" * 129,
        "a" * 6000,
        "",
        "%0D%0AFLUSHALL",
    ],
)
@pytest.mark.parametrize("place", ["/cases/{}", "/cases/{}/history", "/workflows/{}", "/workitems/{}"])
def test_id_that_is_none(shared: Served, place: str, name: str) -> None:
    """What is no id names nothing, and gets into no header."""
    answer = shared.ask("GET", place.format(name))

    assert problem(answer, "not-found")
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("number", ["0", "44", "99", "-1", "1e1", "01", "１", "one", "100"])
def test_pattern_that_is_none(shared: Served, number: str) -> None:
    """Patterns are numbered 1 to 43."""
    assert problem(shared.ask("GET", f"/patterns/{number}"), "not-found")


# --- queries --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1",
        "limit=0",
        "limit=1e9",
        "limit=1001",
        "limit=abc",
        "limit=",
        "limit=１",
        "limit=1&limit=2",
        "state=running&state=created",
        "tenant=acme",
        "state=%0d%0aX:1",
        "state=%00",
        "spec_id=" + "a" * 257,
        "&".join(f"p{number}=1" for number in range(3000)),
    ],
)
def test_query_that_is_not_right(shared: Served, query: str) -> None:
    """A query says nothing that is not foreseen, and everything once; what is wrong is named."""
    answer = shared.ask("GET", "/cases", query_string=query)

    assert problem(answer, "invalid")
    assert answer.json["problems"][0]["place"].startswith("query.")


def test_an_instance_that_ends_begins_nothing_long(service: Served) -> None:
    """When an instance takes no connection any more, what may take long is refused for now and nothing has happened; all else is done."""
    case = service.case(start=False)
    before = service.state()
    service.made.service.leave()

    answer = service.ask("POST", f"/cases/{case}/execute")

    assert problem(answer, "draining")
    assert "1" == answer.headers["retry-after"]
    assert before == service.state()
    assert 200 == service.ask("POST", f"/cases/{case}/start").status_code


def test_pages(service: Served) -> None:
    """A list comes in pages; following `next` gives everything once, in order."""
    made = sorted(service.case() for _ in range(5))
    for path, name in (("/cases", "case_id"), ("/workitems", "case_id")):
        found, query = [], "limit=2"
        while True:
            page = service.ask("GET", path, query_string=query).json
            assert len(page["items"]) <= 2
            found += [each[name] for each in page["items"]]
            if page["next"] is None:
                break
            query = f"limit=2&cursor={page['next']}"
        assert made == found


@pytest.mark.parametrize("path", ["/workflows", "/cases/{case}/history"])
def test_pages_by_place(service: Served, path: str) -> None:
    """Workflows and history come in pages too."""
    case = service.case()
    service.register({**ORDER, "version": "2"})
    path = path.format(case=case)
    whole = service.ask("GET", path).json["items"]

    first = service.ask("GET", path, query_string="limit=1").json
    rest = service.ask("GET", path, query_string=f"cursor={first['next']}").json

    assert whole == first["items"] + rest["items"]
    assert len(whole) >= 2


@pytest.mark.parametrize("path", ["/cases", "/workflows", "/workitems", "/audit"])
def test_cursor_that_is_none(shared: Served, path: str) -> None:
    """A cursor that no page gave leads to some page, and to no error of the service."""
    assert 200 == shared.ask("GET", path, query_string="cursor=zz'--").status_code


# --- bodies ---------------------------------------------------------------------------------------------------------------

CASE = b'{"spec_id":"order","data":%s}'


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "malformed"),
        (b"[" * 100_000, "malformed"),
        (CASE % (b'{"a":' * 65 + b"1" + b"}" * 65), "malformed"),
        (CASE % b'{"a":NaN}', "malformed"),
        (CASE % b'{"a":Infinity}', "malformed"),
        (CASE % b'{"a":-Infinity}', "malformed"),
        (CASE % b'{"a":1,"a":2}', "malformed"),
        (CASE % rb'{"a":"\ud800"}', "malformed"),
        (CASE % b'{"a":"\xff"}', "malformed"),
        (CASE % b'{"a":1', "malformed"),
        (b"\xef\xbb\xbf" + CASE % b"{}", "malformed"),
        (CASE.decode().replace("%s", "{}").encode("utf-16"), "malformed"),
        (b"{'spec_id':'order'}", "malformed"),
        (b'{"spec_id":"order",}', "malformed"),
        (b"\x80\x04K\x01.", "malformed"),
        (CASE % b'{"a":1e400}', "*"),
        (CASE % b'{"a":' + b"9" * 5000 + b"}}", "*"),
        (CASE % b"[]", "invalid"),
        (CASE % b"null", "invalid"),
        (b"[]", "invalid"),
        (b'"order"', "invalid"),
        (b'{"spec_id":7}', "invalid"),
        (b'{"spec_id":""}', "invalid"),
        (b"{}", "invalid"),
        (b"", "invalid"),
        (b'{"spec_id":"order","start":"yes"}', "invalid"),
        (b'{"spec_id":"order","version":1}', "invalid"),
        (b'{"spec_id":"' + b"a" * 129 + b'"}', "invalid"),
        (b'{"spec_id":"nothing"}', "not-found"),
        (b'{"spec_id":"~acme~order"}', "not-found"),
    ],
)
def test_body_that_is_not_right(shared: Served, raw: bytes, kind: str) -> None:
    """A body that is no strict JSON, or not what the operation takes, is refused, makes nothing, and harms no list."""
    before = shared.state()

    answer = shared.ask("POST", "/cases", raw=raw)

    assert problem(answer, kind) if kind != "*" else answer.status_code in (400, 422)
    assert before == shared.state()
    assert 200 == shared.ask("GET", "/cases").status_code


@pytest.mark.parametrize(
    "member",
    ["id", "case_id", "state", "tenant", "owner", "created_at", "history", "version_", "__class__", "marking", "Start"],
)
def test_member_that_is_not_foreseen(shared: Served, member: str) -> None:
    """Nobody gives a case a member that is not his to give."""
    before = shared.state()

    answer = shared.ask("POST", "/cases", body={"spec_id": "order", member: "completed"})

    assert problem(answer, "invalid")
    assert member in answer.text
    assert before == shared.state()


@pytest.mark.parametrize(
    "media",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/x-pickle",
        "application/jsonp",
        "",
        "*/*",
    ],
)
def test_content_that_is_not_read(shared: Served, media: str) -> None:
    """A body of another type than JSON is refused, and so is one without a type."""
    assert problem(shared.ask("POST", "/cases", raw=CASE % b"{}", headers={"Content-Type": media}), "unsupported-media")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, gzip"])
def test_compressed_body(shared: Served, coding: str) -> None:
    """A compressed body is refused and never unpacked."""
    bomb = gzip.compress(bytes(10_000_000))

    answer = shared.ask("POST", "/cases", raw=bomb, headers={"Content-Encoding": coding})

    assert problem(answer, "unsupported-media")


def test_body_that_is_too_large(shared: Served) -> None:
    """A body that says that it is too large is refused unread, and so is one that is."""
    said = shared.ask("POST", "/cases", raw=b"{}", headers={"Content-Length": str(10 * 2**30)})
    sent = shared.ask("POST", "/cases", raw=b" " * (MOST_BYTES + 1))

    assert problem(said, "too-large")
    assert problem(sent, "too-large")


def test_largest_body(service: Served) -> None:
    """Data of a case have their limit too, which is told as it is."""
    answer = service.ask("POST", "/cases", body={"spec_id": "order", "data": {"a": "x" * 4_000_000}})

    assert answer.status_code in (201, 422)


def test_body_where_none_is_taken(service: Served) -> None:
    """A command without a body refuses one, but for an empty object."""
    case = service.case(start=False)

    refused = service.ask("POST", f"/cases/{case}/start", body={"by": "me"})
    taken = service.ask("POST", f"/cases/{case}/start", body={})

    assert problem(refused, "invalid")
    assert "running" == taken.json["state"]


def test_every_wrong_thing_is_named(shared: Served) -> None:
    """A workflow that is ill-formed is refused with every problem and its place."""
    answer = shared.ask(
        "POST", "/workflows", body={"spec": {"id": "x", "tasks": [{"idd": "a"}, {"id": "b", "splitt": "xor"}]}}
    )

    assert problem(answer, "invalid")
    assert len(answer.json["problems"]) >= 2
    assert all(each["place"] for each in answer.json["problems"])


def test_workflow_that_needs_what_is_not_installed(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow that needs an optional dependency which is missing here is refused, and the answer says how to install it."""
    monkeypatch.setitem(sys.modules, "jsonschema_rs", None)

    answer = service.ask("POST", "/workflows", body={"spec": {**ORDER, "id": "x", "data": {"type": "object"}}})

    assert problem(answer, "invalid")
    assert "pip install 'knhk[schema]'" in answer.json["detail"]


def test_workflow_as_yaml(service: Served) -> None:
    """A workflow may come as YAML; what YAML allows beyond JSON's tree is refused."""
    text = b"id: mail\ntasks: {write: {manual: true}}\nflows: [{from: start, to: write}, {from: write, to: end}]\n"
    kept = {"Content-Type": "application/yaml"}

    assert 201 == service.ask("POST", "/workflows", raw=text, headers=kept).status_code
    for hostile in (b"!!python/object/apply:os.system ['true']", b"a: &a [*a]", b"a: [", b"- 1\n- 2", b"\xff"):
        assert service.ask("POST", "/workflows", raw=hostile, headers=kept).status_code in (400, 422)


def test_xml_is_not_read(shared: Served) -> None:
    """XML is not read here, so no entity of it is ever expanded."""
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>'

    for media in ("application/xml", "text/xml"):
        answer = shared.ask("POST", "/workflows", raw=bomb, headers={"Content-Type": media})
        assert problem(answer, "unsupported-media")


# --- what is right --------------------------------------------------------------------------------------------------------


def test_life_of_a_case(service: Served) -> None:
    """A case is created, started, worked on, and looked at on the way."""
    created = service.ask("POST", "/cases", "operator", body={"spec_id": "order", "data": {"input": "value"}})
    case = created.json["case_id"]
    assert (f"/api/v1/cases/{case}", "created") == (created.headers["location"], created.json["state"])

    started = service.ask("POST", f"/cases/{case}/execute", "operator")
    assert (["check"], {"input": "value"}) == (started.json["enabled"], started.json["data"])
    item = service.item(case)
    assert "check" == service.ask("GET", f"/workitems/{item}", "participant").json["path"]
    for command, body, state in (
        ("allocate", {}, "allocated"),
        ("offer", None, "offered"),
        ("allocate", {"to": "ann"}, "allocated"),
        ("start", None, "started"),
        ("suspend", None, "suspended"),
        ("resume", None, "started"),
        ("complete", {"data": {"approved": True}}, "completed"),
    ):
        answer = service.ask("POST", f"/workitems/{item}/{command}", body=body)
        assert (200, state) == (answer.status_code, answer.json.get("state")), command
    held = service.ask("POST", f"/cases/{case}/suspend", "operator")
    assert "suspended" == held.json["state"]
    assert problem(service.ask("POST", f"/cases/{case}/start", "operator"), "conflict")
    assert "running" == service.ask("POST", f"/cases/{case}/resume", "operator").json["state"]
    service.ask("POST", f"/workitems/{service.item(case)}/complete", "participant", body={})
    ended = service.ask("GET", f"/cases/{case}", "viewer")
    assert ("completed", {"input": "value", "approved": True}) == (ended.json["state"], ended.json["data"])
    kinds = [each["kind"] for each in service.ask("GET", f"/cases/{case}/history", "viewer").json["items"]]
    assert ("case_created", "case_completed") == (kinds[0], kinds[-1])


def test_failed_work(service: Served) -> None:
    """Work that failed says why, and stays open."""
    item = service.item(service.case())
    service.ask("POST", f"/workitems/{item}/start", "participant")

    failed = service.ask("POST", f"/workitems/{item}/fail", "participant", body={"reason": "no paper"})

    assert "failed" == failed.json["state"]


def test_workflows(service: Served) -> None:
    """The same content is registered once, other content under the same version never; a version may be asked for, and removed."""
    again = service.ask("POST", "/workflows", body={"spec": ORDER})
    other = service.ask(
        "POST",
        "/workflows",
        body={
            "spec": {
                **ORDER,
                "name": "Other",
                "tasks": {"a": {}},
                "flows": [{"from": "start", "to": "a"}, {"from": "a", "to": "end"}],
            }
        },
    )
    second = service.ask("POST", "/workflows", body={"spec": {**ORDER, "version": "2"}})

    assert (200, "sound") == (again.status_code, again.json["soundness"]["verdict"])
    assert problem(other, "conflict")
    assert (201, "2") == (second.status_code, second.json["version"])
    assert "2" == service.ask("GET", "/workflows/order").json["version"]
    assert "1" == service.ask("GET", "/workflows/order", query_string="version=1").json["version"]
    assert problem(service.ask("GET", "/workflows/order", query_string="version=3"), "not-found")
    assert ["1", "2"] == [each["version"] for each in service.ask("GET", "/workflows").json["items"]]


def test_removed_workflow(service: Served) -> None:
    """A workflow with open cases stays; without, it is gone for new cases, and the same content brings it back."""
    case = service.case()
    assert problem(service.ask("DELETE", "/workflows/order"), "conflict")
    service.ask("POST", f"/cases/{case}/cancel")

    removed = service.ask("DELETE", "/workflows/order", "designer")

    assert (204, b"") == (removed.status_code, removed.content)
    assert problem(service.ask("GET", "/workflows/order"), "not-found")
    assert problem(service.ask("DELETE", "/workflows/order"), "not-found")
    assert problem(service.ask("POST", "/cases", body={"spec_id": "order"}), "not-found")
    assert [] == service.ask("GET", "/workflows").json["items"]
    assert "cancelled" == service.ask("GET", f"/cases/{case}").json["state"]
    assert 201 == service.ask("POST", "/workflows", body={"spec": ORDER}).status_code
    assert 201 == service.ask("POST", "/cases", body={"spec_id": "order"}).status_code


def test_verdict_without_registration(service: Served) -> None:
    """A workflow is judged without being registered, with what is wrong with it."""
    fork: dict[str, Any] = {
        "id": "fork",
        "tasks": {"a": {"split": "and"}, "b": {}, "c": {"join": "xor"}},
        "flows": [
            {"from": "start", "to": "a"},
            {"from": "a", "to": "b"},
            {"from": "a", "to": "c"},
            {"from": "b", "to": "c"},
            {"from": "c", "to": "end"},
        ],
    }

    answer = service.ask("POST", "/workflows/verify", "operator", body={"spec": fork})

    assert "unsound" == answer.json["verdict"]
    assert answer.json["problems"]
    assert problem(service.ask("GET", "/workflows/fork"), "not-found")


def test_event(service: Served) -> None:
    """An event is delivered to the tasks that wait for it."""
    waits = {
        "id": "waits",
        "tasks": {"a": {"trigger": "paid"}},
        "flows": [{"from": "start", "to": "a"}, {"from": "a", "to": "end"}],
    }
    service.register(waits)
    case = service.case(spec_id="waits")

    answer = service.ask("POST", f"/cases/{case}/events", body={"name": "paid", "data": {"amount": 3}})

    assert "completed" == answer.json["case"]["state"]
    assert {"amount": 3} == answer.json["case"]["data"]


@pytest.mark.parametrize("number", range(1, 44))
def test_pattern(shared: Served, number: int) -> None:
    """Every pattern of the catalogue can be looked at and run."""
    shown = shared.ask("GET", f"/patterns/{number}").json

    run = shared.ask("POST", f"/patterns/{number}/execute", "operator", body={"variables": {"test": "value"}})

    assert (200, number, shown["name"]) == (run.status_code, run.json["number"], run.json["name"])
    assert run.json["outcome"]


def test_catalogue(shared: Served) -> None:
    """The catalogue has 43 patterns."""
    assert list(range(1, 44)) == [each["number"] for each in shared.ask("GET", "/patterns").json["items"]]


# --- conditions -----------------------------------------------------------------------------------------------------------


def test_if_match(service: Served) -> None:
    """A command that names the version it was decided on is done at that version and refused, without effect, at any other."""
    created = service.ask("POST", "/cases", body={"spec_id": "order"})
    case, first = created.json["case_id"], created.headers["etag"]

    done = service.ask("POST", f"/cases/{case}/start", headers={"If-Match": first})
    late = service.ask("POST", f"/cases/{case}/cancel", headers={"If-Match": first})

    assert 200 == done.status_code
    assert done.headers["etag"] != first
    assert problem(late, "precondition-failed")
    assert done.headers["etag"] == service.ask("GET", f"/cases/{case}").headers["etag"]
    assert 200 == service.ask("POST", f"/cases/{case}/suspend", headers={"If-Match": "*"}).status_code


@pytest.mark.parametrize("written", ["1", '"x"', 'W/"1"', '"1","2"', '"' + "9" * 40 + '"'])
def test_if_match_that_is_none(service: Served, written: str) -> None:
    """What names no version matches none."""
    case = service.case()

    answer = service.ask("POST", f"/cases/{case}/cancel", headers={"If-Match": written})

    assert problem(answer, "precondition-failed")
    assert "running" == service.ask("GET", f"/cases/{case}").json["state"]


def test_if_match_on_an_item(service: Served) -> None:
    """A work item is read with the version of its case, and conditions are on that."""
    case = service.case()
    item = service.item(case)
    tag = service.ask("GET", f"/workitems/{item}").headers["etag"]

    done = service.ask("POST", f"/workitems/{item}/start", headers={"If-Match": tag})
    late = service.ask("POST", f"/workitems/{item}/complete", body={}, headers={"If-Match": tag})

    assert 200 == done.status_code
    assert problem(late, "precondition-failed")
    assert (
        200
        == service.ask(
            "POST", f"/workitems/{item}/complete", body={}, headers={"If-Match": done.headers["etag"]}
        ).status_code
    )


def test_idempotency_key(service: Served) -> None:
    """The same request with the same key is the same case, another request with it is refused; another caller's key is another."""
    key = {"Idempotency-Key": "k-1"}
    first = service.ask("POST", "/cases", body={"spec_id": "order", "data": {"a": 1}}, headers=key)

    again = service.ask("POST", "/cases", body={"spec_id": "order", "data": {"a": 1}}, headers=key)
    other = service.ask("POST", "/cases", body={"spec_id": "order", "data": {"a": 2}}, headers=key)
    another = service.ask("POST", "/cases", body={"spec_id": "order", "data": {"a": 1}}, headers=key, sub="bob")
    foreign = {"tenant": "acme"}
    service.register(**foreign)
    elsewhere = service.ask("POST", "/cases", body={"spec_id": "order", "data": {"a": 1}}, headers=key, **foreign)

    assert first.json["case_id"] == again.json["case_id"]
    assert problem(other, "invalid")
    assert 3 == len({first.json["case_id"], another.json["case_id"], elsewhere.json["case_id"]})


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 201, "\xe9"])
def test_idempotency_key_that_is_none(shared: Served, key: str) -> None:
    """A key has 1 to 200 visible characters."""
    answer = shared.ask("POST", "/cases", body={"spec_id": "order"}, headers={"Idempotency-Key": key})

    assert problem(answer, "invalid")


def test_race_for_a_key(service: Served) -> None:
    """Twenty at once with one key make one case, and all hear of it."""
    ready = threading.Barrier(20)
    answers: list[Any] = []

    def ask(number: int) -> None:
        for round_ in range(10):
            ready.wait()
            answers.append(
                (
                    round_,
                    service.ask(
                        "POST",
                        "/cases",
                        body={"spec_id": "order", "start": True},
                        headers={"Idempotency-Key": f"r-{round_}"},
                    ),
                )
            )

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert {201} == {answer.status_code for _, answer in answers}
    assert 10 == len({(round_, answer.json["case_id"]) for round_, answer in answers})
    assert 10 == len(service.ask("GET", "/cases").json["items"])


def test_race_to_start(service: Served) -> None:
    """Of twenty who start a case at once one does; the others hear that it has started."""
    case = service.case(start=False)
    ready = threading.Barrier(20)
    statuses: list[int] = []

    def ask() -> None:
        ready.wait()
        statuses.append(service.ask("POST", f"/cases/{case}/start").status_code)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert [200] + [409] * 19 == sorted(statuses)
    kinds = [each["kind"] for each in service.ask("GET", f"/cases/{case}/history").json["items"]]
    assert 1 == kinds.count("case_started")


# --- answers --------------------------------------------------------------------------------------------------------------


def test_headers_of_every_answer(shared: Served) -> None:
    """No answer is kept or guessed at, none names the server, none lets a foreign page read it."""
    for path in ("/health", "/cases", "/nothing", "/openapi.json", "/metrics"):
        answer = shared.ask("GET", path, headers={"Origin": "https://attacker.example"})
        assert ("nosniff", "no-store") == (answer.headers["x-content-type-options"], answer.headers["cache-control"])
        assert {"access-control-allow-origin", "server"}.isdisjoint(answer.headers)


def test_a_bug_says_nothing(shared: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody foresaw is answered without a word of what it was; the log has it."""
    monkeypatch.setattr(shared.made.service, "case_list", lambda *_, **__: 1 / 0)

    answer = shared.ask("GET", "/cases")

    assert problem(answer, "internal")
    assert {"type", "title", "status"} == set(answer.json)
    assert "ZeroDivisionError" in caplog.text
    assert 'knhk_requests_total{operation="case.list",status="500"}' in shared.client.simulate_get("/metrics").text


def test_operations_have_summaries() -> None:
    """Every operation says what it does."""
    assert all(each.summary and not each.summary.endswith(".") for each in OPERATIONS)
