"""One contract for both protocols: the same story, told over REST and over gRPC, has the same answers, problems and record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from tests.rpc import Called, called, plain, refusal
from tests.served import ORDER, Served, served, token

WAITS = {
    "id": "waits",
    "tasks": {"a": {"trigger": "paid"}},
    "flows": [{"from": "start", "to": "a"}, {"from": "a", "to": "end"}],
}
PRINTS = {
    "id": "prints",
    "tasks": [{"id": "print", "external": {"topic": "labels"}, "retry": {"max_attempts": 2, "jitter": "none"}}],
    "flows": [{"from": "start", "to": "print"}, {"from": "print", "to": "end"}],
}
DATA = {"n": 1, "x": 1.0, "big": 2**53 + 1, "text": 'ü\n"', "list": [None, True, {}], "deep": {"a": {"b": []}}}
REST = {
    "RegisterWorkflow": ("POST", "/workflows"),
    "GetWorkflow": ("GET", "/workflows/{spec_id}"),
    "ListWorkflows": ("GET", "/workflows"),
    "CreateCase": ("POST", "/cases"),
    "GetCase": ("GET", "/cases/{case_id}"),
    "ListCases": ("GET", "/cases"),
    "GetCaseHistory": ("GET", "/cases/{case_id}/history"),
    "StartCase": ("POST", "/cases/{case_id}/start"),
    "ExecuteCase": ("POST", "/cases/{case_id}/execute"),
    "CancelCase": ("POST", "/cases/{case_id}/cancel"),
    "SuspendCase": ("POST", "/cases/{case_id}/suspend"),
    "ResumeCase": ("POST", "/cases/{case_id}/resume"),
    "SendEvent": ("POST", "/cases/{case_id}/events"),
    "ListWorkItems": ("GET", "/workitems"),
    "StartWorkItem": ("POST", "/workitems/{item_id}/start"),
    "CompleteWorkItem": ("POST", "/workitems/{item_id}/complete"),
    "ClaimWork": ("POST", "/work/claim"),
    "CompleteWork": ("POST", "/work/{work_id}/complete"),
    "FailWork": ("POST", "/work/{work_id}/fail"),
    "ExtendWork": ("POST", "/work/{work_id}/extend"),
    "ReleaseWork": ("POST", "/work/{work_id}/release"),
    "VerifyWorkflow": ("POST", "/workflows/verify"),
    "RemoveWorkflow": ("DELETE", "/workflows/{spec_id}"),
    "GetWorkItem": ("GET", "/workitems/{item_id}"),
    "OfferWorkItem": ("POST", "/workitems/{item_id}/offer"),
    "AllocateWorkItem": ("POST", "/workitems/{item_id}/allocate"),
    "DelegateWorkItem": ("POST", "/workitems/{item_id}/delegate"),
    "FailWorkItem": ("POST", "/workitems/{item_id}/fail"),
    "SuspendWorkItem": ("POST", "/workitems/{item_id}/suspend"),
    "ResumeWorkItem": ("POST", "/workitems/{item_id}/resume"),
    "SkipWorkItem": ("POST", "/workitems/{item_id}/skip"),
    "ListDeadLetters": ("GET", "/dead-letters"),
    "GetDeadLetter": ("GET", "/dead-letters/{letter_id}"),
    "ReplayDeadLetter": ("POST", "/dead-letters/{letter_id}/replay"),
    "DiscardDeadLetter": ("POST", "/dead-letters/{letter_id}/discard"),
    "ExecutePattern": ("POST", "/patterns/{number}/execute"),
}
"""As the design has them; written down here once more, so that the service's own table is tested too."""


class Face:
    """One protocol; what differs from run to run in its answers has the names of its order."""

    def __init__(self, service: Served) -> None:
        self.made = service.made
        self.told: list[Any] = []
        self._names: dict[str, str] = {}

    def ask(self, method: str, *roles: str, key: str = "", **said: Any) -> Any:
        """Ask; returns the answer, or the kind of the problem."""
        answer = self._ask(method, roles or ("admin",), key, said)
        self.told.append((method, sorted(said), self.named(answer)))
        return answer["type"].rpartition(":")[2] if "type" in answer else answer

    def _ask(self, method: str, roles: tuple[str, ...], key: str, said: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def named(self, value: Any) -> Any:
        """A value, with a name for each id and time."""
        if isinstance(value, dict):
            # What is left of a lease depends on how fast we are.
            timeless = {**value, **({"lease": "<seconds>"} if value.get("lease", 0) > 0 else {})}
            return {name: self.named(each) for name, each in timeless.items() if each is not None}
        if isinstance(value, list):
            return [self.named(each) for each in value]
        if isinstance(value, str):
            text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>", value)
            return re.sub(r"\b[0-9a-f]{24,32}\b", lambda match: self._name(match[0]), text)
        return value

    def _name(self, written: str) -> str:
        return self._names.setdefault(written, f"<{len(self._names) + 1}>")

    def record(self) -> list[tuple[Any, ...]]:
        """What the record says of the calls, in their order."""
        self.made.audit.seal()
        entries = [link["entry"] for _, _, link in self.made.audit.record.links()]
        said = ("tenant", "subject", "operation", "resource", "outcome")
        return [tuple(self.named(each[name]) for name in said) for each in entries]


class RestFace(Face):
    """Over HTTP."""

    def __init__(self, service: Served) -> None:
        super().__init__(service)
        self._service = service

    def _ask(self, method: str, roles: tuple[str, ...], key: str, said: dict[str, Any]) -> dict[str, Any]:
        verb, path = REST[method]
        rest = dict(said)
        address = re.sub(r"{(\w+)}", lambda match: str(rest.pop(match[1])), path)
        version, tenant, bearer = rest.pop("if_version", None), rest.pop("tenant", "default"), rest.pop("bearer", None)
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        if key:
            headers["Idempotency-Key"] = key
        who = {"tenant": tenant, "bearer": bearer, "headers": headers}
        if verb != "POST":
            answer = self._service.ask(verb, address, *roles, params=rest, **who)
        else:
            raw = json.dumps(rest).encode() if rest else None
            for name in {"data", "variables", "spec"} & rest.keys():
                if isinstance(rest[name], str):
                    raw = b'{"%b": %b}' % (name.encode(), rest[name].encode())
            answer = self._service.ask(verb, address, *roles, raw=raw, **who)
        body = answer.json if answer.text else {}
        return _problem(body) if answer.status_code >= 400 else body


class RpcFace(Face):
    """Over gRPC."""

    def __init__(self, service: Called) -> None:
        super().__init__(service.service)
        self._service = service

    def _ask(self, method: str, roles: tuple[str, ...], key: str, said: dict[str, Any]) -> dict[str, Any]:
        rest = dict(said)
        metadata = self._service.metadata(*roles, tenant=rest.pop("tenant", "default"))
        if "bearer" in rest:
            metadata = [("authorization", f"Bearer {rest.pop('bearer')}")]
        if key:
            metadata.append(("idempotency-key", key))
        try:
            return plain(self._service.call(method, metadata=metadata, **rest))
        except grpc.RpcError as error:
            told = refusal(error).problem
            assert told is not None, error
            findings = [{"place": each.place, "message": each.message} for each in told.problems]
            more = json.loads(told.more) if told.more else {}
            body = {"type": told.type, "title": told.title, "status": told.status, "detail": told.detail}
            return _problem({**body, "problems": findings, **more})


def _problem(body: dict[str, Any]) -> dict[str, Any]:
    """A problem without what is empty; where a text cannot be read depends on where it begins."""
    kept = {name: each for name, each in body.items() if each}
    if body["type"].endswith(":malformed"):
        kept.pop("problems", None)
    return kept


@contextmanager
def face(kind: str) -> Iterator[Face]:
    """A service that is asked over this protocol."""
    if kind == "rest":
        with served() as service:
            yield RestFace(service)
    else:
        with called() as service:
            yield RpcFace(service)


def workflows(ask: Any) -> None:
    """Workflows are registered once, listed by pages and looked at; what is ill-formed is refused with everything that is wrong."""
    for spec in (ORDER, ORDER, WAITS, PRINTS):
        assert "sound" == ask("RegisterWorkflow", "designer", spec=spec)["soundness"]["verdict"]
    assert "conflict" == ask("RegisterWorkflow", spec={**ORDER, "name": "Other"})
    assert "invalid" == ask("RegisterWorkflow", spec={**ORDER, "flows": [], "colour": "red"})
    page = ask("ListWorkflows", "viewer", limit=2)
    assert [2, 1] == [len(page["items"]), len(ask("ListWorkflows", limit=2, cursor=page["next"])["items"])]
    assert "order" == ask("GetWorkflow", spec_id="order", version="1")["spec"]["id"]
    assert ["not-found"] * 3 == [
        ask("GetWorkflow", spec_id="nothing"),
        ask("GetWorkflow", spec_id="-order"),
        ask("GetWorkflow", spec_id="order", version="9"),
    ]


def life(ask: Any) -> None:
    """A case is created, worked on to its end, and its history tells so; what cannot be is refused and changes nothing."""
    case = ask("CreateCase", "operator", spec_id="order", data=DATA)["case_id"]
    assert DATA == ask("GetCase", case_id=case)["data"]
    assert "running" == ask("StartCase", case_id=case, if_version=1)["state"]
    assert "conflict" == ask("StartCase", case_id=case)
    assert "precondition-failed" == ask("CancelCase", case_id=case, if_version=1)
    assert "suspended" == ask("SuspendCase", case_id=case)["state"]
    assert "running" == ask("ResumeCase", case_id=case)["state"]
    (item,) = ask("ListWorkItems", case_id=case, state="offered")["items"]
    assert "started" == ask("StartWorkItem", "participant", item_id=item["id"])["state"]
    assert "precondition-failed" == ask("CompleteWorkItem", item_id=item["id"], data={}, if_version=1)
    assert "completed" == ask("CompleteWorkItem", item_id=item["id"], data={"checked": True})["state"]
    assert "not-found" == ask("CompleteWorkItem", item_id=item["id"])
    (item,) = ask("ListWorkItems", case_id=case, limit=1)["items"]
    ask("CompleteWorkItem", item_id=item["id"])
    ended = ask("GetCase", case_id=case)
    assert ("completed", {**DATA, "checked": True}) == (ended["state"], ended["data"])
    assert ["not-found", "conflict"] == [ask("ExecuteCase", case_id=each) for each in ("nothing", case)]
    events, after = [], {}
    while True:
        page = ask("GetCaseHistory", case_id=case, limit=3, **after)
        events += page["items"]
        if page.get("next") is None:
            break
        after = {"cursor": page["next"]}
    assert list(range(1, len(events) + 1)) == [each["sequence"] for each in events]
    assert ("case_created", "case_completed") == (events[0]["kind"], events[-1]["kind"])


def keys_and_lists(ask: Any) -> None:
    """The same request with the same key is the same case; lists have filters and pages."""
    first = ask("CreateCase", spec_id="order", data={"n": 1}, start=True, key="one")
    assert first["case_id"] == ask("CreateCase", spec_id="order", data={"n": 1}, start=True, key="one")["case_id"]
    assert "invalid" == ask("CreateCase", spec_id="order", data={"n": 2}, start=True, key="one")
    assert "invalid" == ask("CreateCase", spec_id="order", key="k" * 201)
    assert "cancelled" == ask("CancelCase", case_id=first["case_id"])["state"]
    second = ask("CreateCase", spec_id="order", start=True, key="two")["case_id"]
    assert [second] == [each["case_id"] for each in ask("ListCases", spec_id="order", state="running")["items"]]
    page = ask("ListCases", limit=2)
    assert [2, 1] == [len(page["items"]), len(ask("ListCases", limit=2, cursor=page["next"])["items"])]
    assert ["invalid"] * 3 == [ask("ListCases", limit=each) for each in (-1, 0, 1001)]


def events(ask: Any) -> None:
    """An event is delivered to whoever waits for it."""
    case = ask("CreateCase", spec_id="waits", start=True)["case_id"]
    assert "invalid" == ask("SendEvent", case_id=case, name="n" * 129)
    delivered = ask("SendEvent", case_id=case, name="paid", data={"amount": 3})
    assert ("completed", {"amount": 3}) == (delivered["case"]["state"], delivered["case"]["data"])
    assert "conflict" == ask("SendEvent", case_id=case, name="paid")


def work(ask: Any) -> None:
    """Work is claimed, kept, given back, tried again and completed, by whoever has its token."""
    ask("CreateCase", spec_id="prints", start=True)
    assert [] == ask("ClaimWork", topics=["nothing"])["items"]
    assert "invalid" == ask("ClaimWork", topics=["labels"], wait=21.0)
    (claim,) = ask("ClaimWork", "participant", topics=["labels"], worker="w", lease=60.0)["items"]
    assert ask("ExtendWork", work_id=claim["id"], token=claim["token"], lease=90.0)["deadline"] > claim["deadline"]
    assert "conflict" == ask("CompleteWork", work_id=claim["id"], token="another")
    assert {} == ask("ReleaseWork", work_id=claim["id"], token=claim["token"])
    (claim,) = ask("ClaimWork", topics=["labels"], max=5)["items"]
    assert {"handled": False} == ask("FailWork", work_id=claim["id"], token=claim["token"], reason="r", retryable=False)
    ask("CreateCase", spec_id="prints", start=True)
    (claim,) = ask("ClaimWork", topics=["labels"])["items"]
    assert {} == ask("CompleteWork", work_id=claim["id"], token=claim["token"], data={"printed": 1})
    assert "conflict" == ask("CompleteWork", work_id=claim["id"], token=claim["token"])


def office(ask: Any) -> None:
    """Work items have their whole life, for those whom they are for."""
    case = ask("CreateCase", spec_id="order", start=True, data={"n": 1})["case_id"]
    (item,) = ask("ListWorkItems", case_id=case)["items"]
    about = {"item_id": item["id"]}
    assert {"n": 1} == ask("GetWorkItem", "viewer", **about)["data"]
    steps = (
        ("AllocateWorkItem", {}, "allocated"),
        ("OfferWorkItem", {}, "offered"),
        ("AllocateWorkItem", {"to": "otto"}, "allocated"),
        ("DelegateWorkItem", {"to": "ann"}, "allocated"),
        ("StartWorkItem", {}, "started"),
        ("SuspendWorkItem", {}, "suspended"),
        ("ResumeWorkItem", {}, "started"),
        ("FailWorkItem", {"reason": "ill"}, "failed"),
    )
    assert [each for *_, each in steps] == [ask(name, **about, **said)["state"] for name, said, _ in steps]
    assert "forbidden" == ask("SkipWorkItem", "participant", **about)
    assert "invalid" == ask("DelegateWorkItem", to="o" * 129, **about)
    assert "precondition-failed" == ask("AllocateWorkItem", if_version=1, **about)
    assert ["not-found"] * 2 == [ask("GetWorkItem", item_id=each) for each in (f"{case}:99", "nothing")]
    assert "conflict" == ask("RemoveWorkflow", spec_id="order")
    other = ask("CreateCase", spec_id="order", start=True)["case_id"]
    (item,) = ask("ListWorkItems", case_id=other)["items"]
    assert "completed" == ask("SkipWorkItem", item_id=item["id"])["state"]


def letters(ask: Any) -> None:
    """Work that has failed for good is listed, tried anew, and given up; a workflow is judged, and removed when nobody needs it."""
    case = ask("CreateCase", spec_id="prints", start=True)["case_id"]
    for last in ("ReplayDeadLetter", "DiscardDeadLetter"):
        (claim,) = ask("ClaimWork", topics=["labels"])["items"]
        ask("FailWork", work_id=claim["id"], token=claim["token"], reason="r", error="E", retryable=False)
        found = ask("ListDeadLetters", "viewer", topic="labels", error="E", limit=10)["items"]
        (letter,) = [each for each in found if each["case_id"] == case]
        whole = ask("GetDeadLetter", "viewer", letter_id=letter["id"])
        assert letter == {name: whole[name] for name in letter}
        assert ({}, None) == (whole["data"], whole["item"])
        said = {"reason": "no more"} if last == "DiscardDeadLetter" else {}
        assert {} == ask(last, letter_id=letter["id"], **said)
    assert [] == ask("ListDeadLetters", error="E")["items"]
    assert "invalid" == ask("DiscardDeadLetter", letter_id=letter["id"], reason="r" * 2_001)
    assert ["not-found"] * 2 == [ask(each, letter_id="nothing") for each in ("GetDeadLetter", "ReplayDeadLetter")]
    fork = {**ORDER, "id": "fork", "version": "2"}
    assert "sound" == ask("VerifyWorkflow", spec=fork)["verdict"]
    assert "not-found" == ask("GetWorkflow", spec_id="fork")
    ask("RegisterWorkflow", spec=fork)
    assert {} == ask("RemoveWorkflow", "designer", spec_id="fork", version="2")
    assert "not-found" == ask("GetWorkflow", spec_id="fork")


def patterns(ask: Any) -> None:
    """Patterns are run, and there are 43."""
    assert "completed" == ask("ExecutePattern", number=1, variables={"test": "value"})["outcome"]
    assert ["not-found"] * 2 == [ask("ExecutePattern", number=each) for each in (44, 0)]


def strangers(ask: Any) -> None:
    """Who does not say who he is, has no right, or is of another tenant is refused, and texts that are not right are too."""
    case = ask("CreateCase", spec_id="order")["case_id"]
    assert "unauthenticated" == ask("GetCase", case_id=case, bearer=token()[:-3])
    assert "forbidden" == ask("CancelCase", "viewer", case_id=case)
    assert "forbidden" == ask("CreateCase", "viewer", spec_id="nothing", data="{ no JSON")
    assert "not-found" == ask("GetCase", case_id=case, tenant="acme")
    assert "not-found" == ask("CreateCase", spec_id="order", tenant="acme")
    texts = ("{", "NaN", '{"a":1,"a":2}', '{"a":"\\ud800"}', "[" * 100_000, '{"a":1e400}')
    assert ["malformed"] * len(texts) == [ask("ExecutePattern", number=1, variables=each) for each in texts]
    assert ["invalid"] * 2 == [ask("ExecutePattern", number=1, variables=each) for each in ("[]", "null")]


STORY = (workflows, life, keys_and_lists, events, work, office, letters, patterns, strangers)


@pytest.fixture(scope="module")
def told() -> dict[str, tuple[list[Any], list[Any]]]:
    """What each protocol answered in the story, and what was recorded."""
    found = {}
    for kind in ("rest", "grpc"):
        with face(kind) as asked:
            for chapter in STORY:
                chapter(asked.ask)
            found[kind] = (asked.told, asked.record())
    return found


def test_one_contract(told: dict[str, tuple[list[Any], list[Any]]]) -> None:
    """Answers and problems are equal, call by call."""
    for rest, rpc in zip(told["rest"][0], told["grpc"][0], strict=True):
        assert rest == rpc


def test_one_record(told: dict[str, tuple[list[Any], list[Any]]]) -> None:
    """Every call, refused ones too, is in the record once, and it says the same, but that a stranger's message is not read."""
    rest, rpc = told["rest"][1], told["grpc"][1]

    assert len(told["grpc"][0]) == len(rpc)
    assert sorted((*who, "" if outcome == 401 else about, outcome) for *who, about, outcome in rest) == sorted(rpc)


def test_every_method_is_in_the_story(told: dict[str, tuple[list[Any], list[Any]]]) -> None:
    """No unary method is left out."""
    assert set(REST) == {method for method, *_ in told["grpc"][0]}
