"""Tenants: each sees only his own, in a store that keeps the contract for each of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from knhk.ports import Document, Store
from knhk.server.tenants import TenantStore
from knhk.stores import MemoryStore, SqliteStore
from knhk.testing.store_conformance import CLAIM, ORDER, StoreConformance, step
from tests.served import Served, problem, served


def crowded(store: Store) -> Store:
    """A store in which neighbours of all sorts have the same things."""
    for tenant in ("default", "acme", "acme-2", "zz"):
        view = TenantStore(store, tenant)
        for each in (ORDER, CLAIM):
            view.put_specification(each)
        view.commit(
            [
                step(name, state="running", due=1, runnable=True, key=(f"key-{name}", "digest"))
                for name in ("a", "m", "z")
            ]
        )
        view.write([Document(collection="letters", key="a", value="theirs", due=1)])
    return store


class _Closing(TenantStore):
    """A view that closes the store with itself, as the contract's tests expect of theirs."""

    def close(self) -> None:
        self._store.close()


class TestTenantOfAMemoryStore(StoreConformance):
    """The contract, for one tenant among others."""

    def make_store(self, directory: Path) -> Store:
        return _Closing(crowded(MemoryStore()), "beta")


class TestTenantOfAFile(StoreConformance):
    """The contract, for one tenant among others, in one file."""

    def make_store(self, directory: Path) -> Store:
        self.file = directory / "cases.db"
        return _Closing(crowded(SqliteStore(self.file)), "acme-1")

    def reopen(self, store: Store) -> Store:
        store.close()
        return _Closing(SqliteStore(self.file), "acme-1")


class TestDefaultTenant(StoreConformance):
    """The contract, for the tenant whose keys are bare, among others; his ids sort before the mark of the others."""

    test_ids_ascend_by_code_point = None  # type: ignore[assignment]

    def make_store(self, directory: Path) -> Store:
        store = MemoryStore()
        for tenant in ("acme", "zz"):
            view = TenantStore(store, tenant)
            view.put_specification(ORDER)
            view.commit([step("a", due=1, runnable=True, key=("key", "digest"))])
        return _Closing(store, "default")


@pytest.fixture
def service() -> Iterator[Served]:
    """A service with a workflow and a running case of each of two tenants."""
    with served() as made:
        for tenant in ("acme", "beta"):
            made.register(tenant=tenant)
        yield made


def test_foreign_things_are_not_there(service: Served) -> None:
    """Every address with another tenant's case or item answers as for one that never was, whatever the query and headers say."""
    case = service.case(tenant="acme")
    item = service.item(case, tenant="acme")
    before = service.state()
    commands = ("start", "execute", "cancel", "suspend", "resume")
    calls = [
        ("GET", "/cases/{}", None),
        ("GET", "/cases/{}/history", None),
        *(("POST", f"/cases/{{}}/{name}", None) for name in commands),
        ("POST", "/cases/{}/events", {"name": "paid"}),
    ]
    calls += [("GET", "/workitems/{}", None)]
    calls += [
        ("POST", f"/workitems/{{}}/{name}", body)
        for name, body in (
            ("offer", None),
            ("allocate", {"to": "me"}),
            ("start", None),
            ("complete", {}),
            ("fail", {}),
            ("suspend", None),
            ("resume", None),
        )
    ]
    for (method, path, body), headers in itertools.product(calls, ({}, {"X-Tenant": "acme", "Tenant": "acme"})):
        name, unknown = (case, "0" * len(case)) if "cases" in path else (item, f"{'0' * len(case)}:1")
        theirs = service.ask(method, path.format(name), body=body, tenant="beta", headers=headers)
        nobodys = service.ask(method, path.format(unknown), body=body, tenant="beta", headers=headers)
        assert problem(theirs, "not-found")
        assert theirs.text.replace(name, "X").replace(case, "X") == nobodys.text.replace(unknown, "X").replace(
            "0" * len(case), "X"
        )
    assert before == service.state()


def test_lists_are_ones_own(service: Served) -> None:
    """Lists show what is one's own, on every page."""
    mine = {tenant: {service.case(tenant=tenant) for _ in range(5)} for tenant in ("acme", "beta")}

    for tenant, cases in mine.items():
        for query in (
            "limit=1000",
            "limit=1000&state=running",
            "limit=1000&spec_id=order",
            f"limit=2&cursor={min(cases)}",
        ):
            found = {
                each["case_id"]
                for each in service.ask("GET", "/cases", tenant=tenant, query_string=query).json["items"]
            }
            assert found
            assert found <= cases
        assert cases == {each["case_id"] for each in service.ask("GET", "/workitems", tenant=tenant).json["items"]}
    assert [] == service.ask("GET", "/cases").json["items"]
    assert [] == service.ask("GET", "/workflows").json["items"]
    assert [] == service.ask("GET", "/workitems").json["items"]


def test_workflows_are_ones_own(service: Served) -> None:
    """Nobody creates cases of another tenant's workflow, and removing one's own leaves the other's."""
    service.register(
        {**{"id": "secret"}, "tasks": {"a": {}}, "flows": [{"from": "start", "to": "a"}, {"from": "a", "to": "end"}]},
        tenant="acme",
    )

    assert problem(service.ask("POST", "/cases", body={"spec_id": "secret"}, tenant="beta"), "not-found")
    assert problem(service.ask("GET", "/workflows/secret", tenant="beta"), "not-found")
    assert 204 == service.ask("DELETE", "/workflows/order", tenant="beta").status_code
    assert 200 == service.ask("GET", "/workflows/order", tenant="acme").status_code


def test_record_is_ones_own(service: Served) -> None:
    """An auditor reads what his tenant's callers did."""
    service.case(tenant="acme")
    assert service.made.audit is not None
    service.made.audit.seal()

    seen = service.ask("GET", "/audit", "auditor", tenant="beta").json["items"]

    assert {"workflow.register"} == {each["operation"] for each in seen}


def test_tenants_are_known_after_a_restart(tmp_path: Path) -> None:
    """Whoever has called is known to the next process."""
    with served(state_path=str(tmp_path)) as service:
        service.register(tenant="acme")
    with served(state_path=str(tmp_path)) as service:
        assert ["default", "acme"] == service.made.tenants.known()
