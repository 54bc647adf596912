"""Messages of webhooks that did not arrive are dead letters too: listed, looked into, sent again, forgotten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from receiver import Answer, Receiver
from tests.dying import messages_die
from tests.served import served

from knhk import AsyncEngine, Engine, Outbound, UnknownWorkItem, build
from knhk.cli.app import knhk
from knhk.ports import Document
from knhk.server.audit import ENTRIES
from knhk.spec import Retry
from knhk.stores.memory import MemoryStore
from knhk.testing.clock import ManualClock


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that refuses everything until it is told otherwise."""
    with Receiver(lambda got: Answer(500)) as running:
        yield running


def filled(receiver: Receiver, target: str = "memory:", messages: int = 1) -> Engine:
    """An engine with a piece of dead work, and messages that a receiver did not take."""
    engine = Engine(target, clock=ManualClock(1_000), outbound=Outbound(allow=[f"127.0.0.1:{receiver.port}"]))
    net = build("letters")
    net.sequence(net.start, net.task("print", external="labels"), net.end)
    engine.register(net.specification())
    engine.webhooks.subscribe(receiver.url(), events=["case_created"], retry=Retry(max_attempts=1))
    for _ in range(messages):
        engine.create_case("letters", {"n": 1}).run()
    (claim,) = engine.claim("labels", worker="w")
    claim.fail("no paper", error="Dry", retryable=False)
    assert 0 == engine.deliver()
    return engine


def test_a_message_is_listed_behind_the_work_and_looked_into(receiver: Receiver) -> None:
    """It says whose it is, what it failed of and when, and in full what it says."""
    with filled(receiver) as engine:
        work, message = engine.dead_letters.list()
        (hook,) = engine.webhooks.list()

        assert ("work", "", "Dry") == (work.kind, work.webhook, work.error)
        assert ("message", hook.id, work.case_id, "letters", "", 1) == (
            message.kind,
            message.webhook,
            message.case_id,
            message.spec_id,
            message.path,
            message.attempts,
        )
        assert ("ResponseRefused", "answered with status 500", 1_000, None) == (
            message.error,
            message.reason,
            message.at,
            message.data,
        )
        whole = engine.dead_letters.get(message.id).data
        assert whole is not None
        assert ("case_created", {"n": 1}) == (whole["type"], whole["details"]["data"])


def test_lists_are_narrowed_and_go_by_pages(receiver: Receiver) -> None:
    """Every filter leaves the kind that it is about, and a page goes on from work into messages."""
    with filled(receiver, messages=3) as engine:
        letters = engine.dead_letters
        work, *messages = letters.list()
        hook = messages[0].webhook

        assert [3, 1, 3, 0] == [
            len(letters.list(kind="message")),
            len(letters.list(kind="work")),
            len(letters.list(webhook=hook)),
            len(letters.list(webhook="another")),
        ]
        assert [1, 0, 3, 4, 0] == [
            len(letters.list(topic="labels")),
            len(letters.list(handler="h")),
            len(letters.list(error="ResponseRefused")),
            len(letters.list(spec_id="letters")),
            len(letters.list(spec_id="other")),
        ]
        assert [messages[0]] == letters.list(after=work.id, limit=1)
        assert messages[1:] == letters.list(after=messages[0].id)


def test_a_message_is_sent_again_under_its_id(receiver: Receiver) -> None:
    """A replay of everything replays work and messages; what arrives then is no dead letter any more."""
    with filled(receiver) as engine:
        receiver.answer = lambda got: Answer()

        assert 2 == engine.dead_letters.replay_all(by="ann")

        assert ([], 1) == (engine.dead_letters.list(), engine.deliver())
        assert 1 == len({got.headers["knhk-message-id"] for got in receiver.got})


def test_a_message_is_forgotten(receiver: Receiver) -> None:
    """Discarded once, it is not there a second time; who discards and why has to be said."""
    with filled(receiver) as engine:
        (message,) = engine.dead_letters.list(kind="message")
        with pytest.raises(ValueError, match="say who"):
            engine.dead_letters.discard(message.id, by="", reason="")

        engine.dead_letters.discard(message.id, by="ann", reason="they left")

        for act in (
            lambda: engine.dead_letters.get(message.id),
            lambda: engine.dead_letters.replay(message.id),
            lambda: engine.dead_letters.discard(message.id, by="ann", reason="again"),
        ):
            with pytest.raises(UnknownWorkItem, match="there is no dead letter"):
                act()


def test_asyncio_has_them_too(receiver: Receiver) -> None:
    """The asynchronous engine lists, shows and discards messages."""

    async def all_of_it() -> tuple[int, Any, int]:
        async with AsyncEngine(engine.store) as again:
            (message,) = await again.dead_letters.list(kind="message")
            whole = await again.dead_letters.get(message.id)
            await again.dead_letters.discard(message.id, by="ann", reason="they left")
            return message.attempts, whole.data, len(await again.dead_letters.list(kind="message"))

    with filled(receiver) as engine:
        attempts, data, left = asyncio.run(all_of_it())

        assert (1, "case_created", 0) == (attempts, data["type"], left)


def test_the_command_line_has_them_too(receiver: Receiver, tmp_path: Path) -> None:
    """`knhk dead-letters` lists, shows, replays and discards messages by the id that the list shows."""
    db = str(tmp_path / "cases.db")
    filled(receiver, db, messages=2).close()

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(knhk, ["dead-letters", *arguments, "--db", db])
        assert 0 == done.exit_code, done.output
        return done.stdout

    listed = [json.loads(line) for line in call("list", "--json", "--kind", "message").splitlines()]
    first, second = (each["id"] for each in listed)

    assert "answered with status 500" in call("show", first)
    assert "replayed 1" in call("replay", first)
    assert [second] == [
        json.loads(each)["id"] for each in call("list", "--json", "--webhook", listed[0]["webhook"]).splitlines()
    ]
    assert f"discarded {second}\n" == call("discard", second, "--by", "ann", "--reason", "they left")
    assert "" == call("list", "--json", "--kind", "message")


def test_the_service_has_them_too() -> None:
    """Over REST a message is listed, replayed and discarded, and the entry of the record goes with the change."""
    carried: list[int] = []

    class Watching(MemoryStore):
        def write(
            self, documents: Sequence[Document], removed: Sequence[Document] = (), held: Sequence[Document] = ()
        ) -> None:
            super().write(documents, removed, held)
            if removed and any(each.collection == ENTRIES for each in documents):
                carried.append(len(removed))

    with served(store=Watching()) as service:
        service.register()
        made = service.ask(
            "POST", "/webhooks", body={"url": "https://93.184.216.34/hook", "events": ["case_created"]}
        ).json
        cases = [service.case() for _ in range(2)]
        messages_die(service.made.tenants.engine("default"))
        listed = service.ask("GET", "/dead-letters", "viewer", query_string=f"webhook={made['id']}").json["items"]
        first, second = (each["id"] for each in listed)

        assert [("message", case, "gone") for case in sorted(cases)] == [
            (each["kind"], each["case_id"], each["reason"]) for each in listed
        ]
        whole = service.ask("GET", f"/dead-letters/{first}", "viewer").json
        assert (listed[0], "case_created") == ({name: whole[name] for name in listed[0]}, whole["data"]["type"])
        assert 404 == service.ask("GET", f"/dead-letters/{first}", tenant="acme").status_code
        assert 404 == service.ask("POST", f"/dead-letters/{first}/replay", tenant="acme").status_code
        assert 204 == service.ask("POST", f"/dead-letters/{first}/replay", "operator").status_code
        assert [second] == [each["id"] for each in service.ask("GET", "/dead-letters").json["items"]]
        assert 204 == service.ask("POST", f"/dead-letters/{second}/discard", body={"reason": "old"}).status_code
        assert 404 == service.ask("POST", f"/dead-letters/{second}/discard", body={"reason": "old"}).status_code
        assert [1, 1] == carried
