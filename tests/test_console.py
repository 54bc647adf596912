"""The console: pages behind the API's gate, with rights, signs against forged forms, and nothing that a text in them could do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import falcon.testing
import pytest

from knhk.patterns import patterns
from knhk.server.console.forms import body_of, fields_of
from knhk.server.console.pages import ROUTES
from knhk.server.console.playback import play
from knhk.server.console.sessions import FORM_COOKIE, TOKEN_COOKIE
from knhk.server.problems import Problem
from knhk.server.rights import ROLES, may
from knhk.server.shapes import CompleteItem
from tests.served import ORDER, Served, served, stop_rates, token

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
SCHEMA = {
    "type": "object",
    "properties": {
        "amount": {"type": "integer", "title": "Amount", "description": "in euros"},
        "express": {"type": "boolean"},
        "country": {"enum": ["DE", "FR"]},
        "lines": {"type": "array"},
    },
    "required": ["amount"],
}
CHECKED: dict[str, Any] = {**ORDER, "id": "checked", "data": SCHEMA}
FAILING: dict[str, Any] = {
    "id": "failing",
    "tasks": [{"id": "break", "external": "topic"}],
    "flows": [{"from": "start", "to": "break"}, {"from": "break", "to": "end"}],
}


class Browser:
    """Somebody with a browser."""

    def __init__(self, service: Served, *roles: str, sub: str = "ann", bearer: str | None = None) -> None:
        self.service = service
        self.cookies = {TOKEN_COOKIE: token(sub, *roles) if bearer is None else bearer}

    def get(self, path: str, **more: Any) -> falcon.testing.Result:
        """Look at a page."""
        return self._kept(self.service.client.simulate_get(f"/console{path}", headers=self._headers(), **more))

    def post(self, path: str, fields: dict[str, str] | None = None, **more: Any) -> falcon.testing.Result:
        """Send a form as a page of ours would."""
        page = self.get("/login").text
        signed = {"form_token": re.findall(r'name="form_token" value="([0-9a-f]{64})"', page)[-1], **(fields or {})}
        return self.raw(path, urlencode(signed).encode(), **more)

    def raw(self, path: str, body: bytes, media: str = "application/x-www-form-urlencoded") -> falcon.testing.Result:
        """Send something."""
        headers = {**self._headers(), "Content-Type": media}
        return self._kept(self.service.client.simulate_post(f"/console{path}", body=body, headers=headers))

    def _headers(self) -> dict[str, str]:
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}

    def _kept(self, result: falcon.testing.Result) -> falcon.testing.Result:
        self.cookies.update({name: each.value for name, each in result.cookies.items()})
        return result


@pytest.fixture
def service() -> Iterator[Served]:
    """A service with two workflows and a case of each."""
    with served() as made:
        made.register()
        made.register(CHECKED)
        made.case()
        yield made


def address(path: str, service: Served) -> str:
    """A page about what is there."""
    case = service.ask("GET", "/cases").json["items"][0]["case_id"]
    names = {"case_id": case, "item_id": f"{case}:1", "letter_id": f"{case}:1", "spec_id": "order", "number": "4"}
    return re.sub(r"\{(\w+)\}", lambda match: names[match[1]], path)


@pytest.mark.parametrize("role", [None, *sorted(ROLES)])
@pytest.mark.parametrize(("path", "method"), [(path, each) for path in ROUTES for each in ROUTES[path]])
def test_matrix(service: Served, path: str, method: str, role: str | None) -> None:
    """A page or button is there for exactly those whose roles may ask for its operation; a refused one changes nothing."""
    browser = Browser(service, role or "nobody")
    where, before = address(path, service), service.state()

    result = browser.get(where) if method == "GET" else browser.post(where)

    if role is not None and may(frozenset({role}), ROUTES[path][method].name):
        assert result.status_code not in (401, 403, 500)
    else:
        assert 403 == result.status_code
        assert before == service.state()
    assert result.status_code == 303 or "</html>" in result.text
    assert "Traceback" not in result.text


@pytest.mark.parametrize("path", [path for path in ROUTES if "GET" in ROUTES[path]])
def test_without_a_token_one_is_asked_for_it(service: Served, path: str) -> None:
    """A page is for those who are known; who is not gets the login, and comes back to the page."""
    where = address(path, service)

    result = Browser(service, bearer="no.real.token").get(where)

    assert 401 == result.status_code
    assert f'name="later" value="/console{where}"' in result.text


@pytest.mark.parametrize(
    "path", ["", "/cases", "/login", "/nowhere", "/cases/no-such-case", "/static/console.css", "/static/console.js"]
)
def test_browsers_are_told_what_not_to_do(service: Served, path: str) -> None:
    """Every answer forbids scripts, styles and frames that are not ours."""
    headers = Browser(service).get(path).headers
    policy = headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "nosniff" == headers["x-content-type-options"]


def test_no_page_has_anything_inline(service: Served) -> None:
    """No page has a script, a handler or a style in it that the policy would have to allow, but the one of pictures."""
    for path in ROUTES:
        if "GET" in ROUTES[path]:
            text = Browser(service).get(address(path, service)).text
            assert not re.search(
                r"<script(?! src=\"/console/static/console\.js\" defer></script>)| on\w+=| style=", text
            )
            assert not re.search(r"(src|href|action)=\"(https?:)?//", text)


@pytest.mark.parametrize("protocol", ["http", "https"])
def test_login(service: Served, protocol: str) -> None:
    """A token that counts is kept out of the reach of scripts, under TLS for TLS alone, and opens the pages."""
    browser = Browser(service, bearer="")
    client = service.client
    page = client.simulate_get("/console/login", protocol=protocol)
    form = {
        "token": f" {token('ann')}\n",
        "later": "/console/patterns/4",
        "form_token": re.findall(r"[0-9a-f]{64}", page.text)[0],
    }

    result = client.simulate_post(
        "/console/login",
        protocol=protocol,
        body=urlencode(form),
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": f"{FORM_COOKIE}={page.cookies[FORM_COOKIE].value}",
        },
    )

    assert (303, "/console/patterns/4") == (result.status_code, result.headers["location"])
    for cookie in (result.cookies[TOKEN_COOKIE], page.cookies[FORM_COOKIE]):
        assert (True, "Strict", "/console") == (cookie.http_only, cookie.same_site, cookie.path)
        assert (protocol == "https") == bool(cookie.secure)
    browser.cookies[TOKEN_COOKIE] = result.cookies[TOKEN_COOKIE].value
    assert 200 == browser.get("/cases").status_code


@pytest.mark.parametrize(
    "later", ["https://evil.example/", "//evil.example", "/console/..\\evil", "/api/v1/cases", "/console//x?y"]
)
def test_login_leads_to_no_other_place(service: Served, later: str) -> None:
    """Where a login leads is a page of ours."""
    result = Browser(service, bearer="").post("/login", {"token": token("ann"), "later": later})

    assert "/console" == result.headers["location"]


def test_refused_login_is_on_record(service: Served) -> None:
    """A token that does not count is kept nowhere, and the attempt is on record."""
    result = Browser(service, bearer="").post("/login", {"token": "nonsense"})

    assert 401 == result.status_code
    assert TOKEN_COOKIE not in result.cookies
    assert service.made.audit is not None
    service.made.audit.seal()
    entries = service.ask("GET", "/audit", query_string="operation=console.login").json["items"]
    assert [401] == [each["outcome"] for each in entries]


def test_logout_forgets_the_token(service: Served) -> None:
    """After signing out the browser has no token; a forged sign-out does nothing."""
    browser = Browser(service)

    assert 403 == browser.raw("/logout", b"form_token=0").status_code
    assert 303 == browser.post("/logout").status_code
    assert "" == browser.cookies[TOKEN_COOKIE]


def test_the_first_page_is_one_that_may_be_seen(service: Served) -> None:
    """The start leads to the cases, participants to their work, and whoever may see nothing hears it."""
    assert "/console/cases" == Browser(service, "viewer").get("").headers["location"]
    assert "/console/worklist" == Browser(service, "participant").get("").headers["location"]
    assert 403 == Browser(service, "auditor").get("").status_code
    assert 401 == Browser(service, bearer="").get("").status_code


def test_the_cookie_is_not_for_the_api(service: Served) -> None:
    """The API reads its own header alone: no other site can let a browser speak to it."""
    result = service.client.simulate_get("/api/v1/cases", headers={"Cookie": f"{TOKEN_COOKIE}={token('ann')}"})

    assert 401 == result.status_code


@pytest.mark.parametrize("path", [path for path in ROUTES if "POST" in ROUTES[path]])
def test_forged_forms_do_nothing(service: Served, path: str) -> None:
    """A form without the sign of this session, or with another session's, is refused."""
    where, before = address(path, service), service.state()
    browser, other = Browser(service), Browser(service, sub="eve")
    sign = re.findall(r"[0-9a-f]{64}", other.get("/login").text)[0]
    browser.get("/login")

    for body in (b"", b"form_token=", f"form_token={sign}".encode(), "form_token=ä".encode("latin-1")):
        assert browser.raw(where, body).status_code in (400, 403)
    assert before == service.state()


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"{}", "application/json", 415),
        (b"a=1&a=2", "application/x-www-form-urlencoded", 400),
        (b"a", "application/x-www-form-urlencoded", 400),
        (b"a=%ff", "application/x-www-form-urlencoded", 400),
    ],
)
def test_what_is_no_form_is_refused(service: Served, body: bytes, media: str, status: int) -> None:
    """A body must be a form that says each thing once."""
    assert status == Browser(service).raw("/cases", body, media).status_code


def test_hostile_texts_are_texts() -> None:
    """Whatever a workflow, data, an event or an address says, a page shows it and does nothing."""
    spec = {**CHECKED, "name": HOSTILE, "data": {"properties": {HOSTILE: {"title": HOSTILE, "description": HOSTILE}}}}
    with served() as service:
        service.register(spec)
        made = service.ask("POST", "/cases", body={"spec_id": "checked", "data": {HOSTILE: HOSTILE}, "start": True})
        case = made.json["case_id"]
        browser = Browser(service, "operator", sub=HOSTILE)
        pages = [
            browser.get(path, **more)
            for path, more in (
                ("/workflows", {}),
                ("/workflows/checked", {}),
                ("/cases", {"params": {"spec_id": HOSTILE}}),
                (f"/cases/{case}", {}),
                (f"/worklist/{case}:1", {}),
                ("/worklist", {"params": {"role": HOSTILE}}),
                (f"/cases/{HOSTILE.replace('/', '')}", {}),
            )
        ]

    assert [200] * 6 + [404] == [each.status_code for each in pages]
    for page in pages:
        assert "<script>" not in page.text
        assert "<img" not in page.text


def test_a_case_from_its_workflow_to_its_end(service: Served) -> None:
    """A case is created, looked at, worked on with the form of its schema, and ends."""
    browser = Browser(service)
    form = browser.get("/workflows/checked").text
    assert all(
        f'name="field.{each}"' in form for each in ("integer.amount", "boolean.express", "string.country", "json.lines")
    )

    made = browser.post(
        "/cases",
        {"spec_id": "checked", "version": "1", "start": "on", "key": "k", "field.integer.amount": "12", "data": ""},
    )
    where = made.headers["location"].removeprefix("/console")
    case = where.rpartition("/")[2]
    item = browser.get(f"/worklist/{case}:1").text
    done = browser.post(
        f"/worklist/{case}:1/complete",
        {"field.boolean.express": "true", "field.json.lines": "[1, 2]", "data": '{"note": "x"}'},
    )
    page = browser.get(where).text

    assert 303 == made.status_code
    assert 'value="12"' in item
    assert (303, "/console/worklist") == (done.status_code, done.headers["location"])
    data = service.ask("GET", f"/cases/{case}").json["data"]
    assert {"amount": 12, "express": True, "lines": [1, 2], "note": "x"} == data
    assert "<svg" in page
    assert "task completed" in page
    assert 303 == browser.post(f"{where}/cancel").status_code
    assert "cancelled" == service.ask("GET", f"/cases/{case}").json["state"]


def test_the_same_form_twice_is_one_case(service: Served) -> None:
    """A form that is sent again creates no second case."""
    browser, form = Browser(service), {"spec_id": "order", "key": "once", "data": "{}"}

    first, second = (browser.post("/cases", form).headers["location"] for _ in range(2))

    assert first == second


def test_buttons_act_on_what_was_seen(service: Served) -> None:
    """A button of a page that is not true any more does nothing, and says so."""
    browser, where = Browser(service), address("/cases/{case_id}", service)

    for action in ("suspend", "resume"):
        assert (
            303 == browser.post(f"{where}/{action}", {"version_read": "1" if action == "suspend" else "2"}).status_code
        )
    result = browser.post(f"{where}/suspend", {"version_read": "1"})

    assert 412 == result.status_code
    assert "It has changed since you read it" in result.text


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/cases", {"spec_id": "order", "data": "[1]"}, 422),
        ("/cases", {"spec_id": "order", "data": "{"}, 400),
        ("/cases", {"spec_id": "nothing"}, 404),
        ("/cases", {"data": "{}"}, 422),
        ("/cases", {"spec_id": "checked", "field.integer.amount": "1.5"}, 422),
        ("/patterns/44/execute", {}, 404),
        ("/patterns/4/execute", {"variables": '{"amount": "many"}'}, 422),
        ("/cases/no-such-case/start", {}, 404),
    ],
)
def test_wrong_forms_are_refused_with_a_page(service: Served, path: str, fields: dict[str, str], status: int) -> None:
    """What is wrong is said on a page, and nothing is done."""
    before = service.state()

    result = Browser(service).post(path, fields)

    assert status == result.status_code
    assert "<h1>" in result.text
    assert before == service.state()


def test_nowhere_and_wrong_methods_are_pages(service: Served) -> None:
    """What is not there is a page that says so."""
    browser = Browser(service)

    assert (404, 405, 404) == (
        browser.get("/nowhere").status_code,
        browser.get(address("/cases/{case_id}/cancel", service)).status_code,
        browser.get("/cases/-").status_code,
    )
    assert 422 == browser.get("/cases", params={"strange": "1"}).status_code


def test_pages_of_cases(service: Served) -> None:
    """Cases come a page at a time, filtered; an empty filter filters nothing."""
    case = service.case()
    browser = Browser(service)

    first = browser.get("/cases", params={"limit": "1", "spec_id": "order", "state": ""}).text
    following = re.findall(r'href="(\?[^"]+)"', first)[0].replace("&amp;", "&")
    second = browser.get("/cases", query_string=following[1:]).text

    assert case not in first
    assert case in second
    assert case not in browser.get("/cases", params={"state": "completed"}).text


def test_limits_are_those_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has asked too much over the API has asked too much here, too."""
    stop_rates(monkeypatch)
    with served(rate_limit=2.0) as service:
        browser = Browser(service)
        statuses = [service.ask("GET", "/cases").status_code, *(browser.get("/cases").status_code for _ in range(3))]

    assert [200, 200, 429, 429] == statuses


def test_changes_are_on_record_once(service: Served) -> None:
    """A button is on record as the operation that it is, with its case, once."""
    where = address("/cases/{case_id}", service)
    Browser(service, sub="zoe").post(f"{where}/suspend")

    assert service.made.audit is not None
    service.made.audit.seal()
    entries = service.ask("GET", "/audit", query_string="operation=case.suspend").json["items"]
    assert [("zoe", where.rpartition("/")[2], 303)] == [
        (each["subject"], each["resource"], each["outcome"]) for each in entries
    ]


def test_participants_have_their_worklist(service: Served) -> None:
    """Somebody who works sees the work, takes and completes it, and no page of cases."""
    browser, item = Browser(service, "participant", sub="bob"), address("/worklist/{item_id}", service)

    assert "check" in browser.get("/worklist").text
    assert 303 == browser.post(f"{item}/allocate").status_code
    assert "With bob." in browser.get(item).text
    assert "/console/cases/" not in browser.get(item).text
    assert 303 == browser.post(f"{item}/complete", {"data": "{}"}).status_code


@pytest.mark.parametrize("number", list(patterns))
def test_patterns_are_played(number: int) -> None:
    """Each pattern's run is the catalogue's, and each of its steps has its picture."""
    run, steps = play(number, {})
    expected = patterns[number].execute()

    assert (expected.outcome, expected.trace) == (run.outcome, run.trace)
    assert all(each.picture.startswith("<svg") for each in steps)
    assert "case_created" == steps[0].kind


def test_a_pattern_on_its_page(service: Served) -> None:
    """A run is shown with its steps, its outcome and its trace."""
    page = Browser(service).post("/patterns/4/execute", {"variables": '{"amount": 7}'}).text

    assert page.count('<figure class="step">') > 4
    assert "completed" in page


def test_without_authentication_there_is_nothing_to_sign_in_to() -> None:
    """Where everybody may do everything, the pages are open; forged forms are refused all the same."""
    with served(auth_enabled=False) as service:
        browser = Browser(service, bearer="")
        assert "Sign out" not in browser.get("/cases").text
        assert 403 == browser.raw("/patterns/1/execute", b"form_token=x").status_code
        assert 200 == browser.post("/patterns/1/execute").status_code


def test_fields_of_a_schema() -> None:
    """A property has the field of its type, and JSON where a field could not hold what is there."""
    fields = fields_of(SCHEMA, {"amount": 3, "country": "FR", "lines": ["ä"]})
    odd = fields_of({"properties": {"a": {"type": "string"}, "b": True, "c": {"enum": [1, 2]}}}, {"a": 5})

    assert ["integer", "boolean", "string", "json"] == [each.type for each in fields]
    assert ["3", "", "FR", '["ä"]'] == [each.value for each in fields]
    assert [True, False, False, False] == [each.required for each in fields]
    assert [("json", "5"), ("json", ""), ("json", "")] == [(each.type, each.value) for each in odd]
    assert ("1", "2") == odd[2].choices
    assert [] == fields_of(None, {})


def test_fields_lie_over_the_json() -> None:
    """What a field says goes before the text area, and what is empty says nothing."""
    fields = {"data": '{"a": 1, "b": 2}', "field.integer.a": "7", "field.string.c": "", "field.string.d": "7"}

    assert {"data": {"a": 7, "b": 2, "d": "7"}} == body_of(fields, CompleteItem)
    with pytest.raises(Problem):
        body_of({"data": "3"}, CompleteItem)


def test_dead_letters_are_replayed_and_discarded(service: Served) -> None:
    """Work that has failed for good is shown with its cause, and replayed or given up by a button."""
    service.register(FAILING)
    service.case(spec_id="failing")
    browser, seen = Browser(service), []
    for command, fields in (("replay", {}), ("discard", {"reason": "of no use"})):
        claim = service.ask("POST", "/work/claim", body={"topics": ["topic"]}).json["items"][0]
        failed = {"token": claim["token"], "reason": HOSTILE, "error": "Broken", "retryable": False}
        service.ask("POST", f"/work/{claim['id']}/fail", body=failed)
        seen.append(browser.get("/dead-letters").text)
        where = re.findall(rf'action="/console(/dead-letters/[^"]+/{command})"', seen[-1])[0]
        assert (303, "/console/dead-letters") == (
            (done := browser.post(where, fields)).status_code,
            done.headers["location"],
        )

    assert all("Broken" in each and "<script>" not in each for each in seen)
    assert "Nothing has failed for good." in browser.get("/dead-letters").text


def test_without_the_drawing_library_pages_say_so(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nets cannot be drawn, a page says why, and shows everything else."""
    monkeypatch.setitem(sys.modules, "pygraphviz", None)

    case = Browser(service).get(address("/cases/{case_id}", service))
    run = Browser(service).post("/patterns/1/execute")

    assert (200, 200) == (case.status_code, run.status_code)
    assert "The net is not drawn" in case.text
    assert "knhk[draw]" in case.text
    assert "completed" in run.text
