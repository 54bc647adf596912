"""Specifications written in Python."""

from __future__ import annotations

from datetime import timedelta

import pytest

from knhk.errors import SpecificationError
from knhk.spec import (
    Condition,
    Creation,
    External,
    Flow,
    Join,
    Manual,
    Multiple,
    PartialJoin,
    Retry,
    Specification,
    Split,
    Task,
    Termination,
    Trigger,
    TriggerMode,
    build,
)


def test_the_order_example() -> None:
    """The example of the format's description, built in Python, is what its text says."""
    net = build("order", version="1", name="Order to cash", data={"type": "object", "required": ["amount"]})
    retry = {"max_attempts": 5, "initial": timedelta(milliseconds=100), "coefficient": 2, "max": "30s"}
    check = net.task("check", handler="check_credit", split="xor", retry=retry)  # type: ignore[arg-type]
    approve = net.task("approve", manual="approver")
    expire = net.task("expire", timer=timedelta(days=3))
    pack = net.task("pack", join="xor", split="and")
    label = net.task("label", external={"topic": "labels", "timeout": "10m"})
    shipping = net.subnet("shipping")
    shipping.sequence("start", shipping.task("pick", manual=True), "end")
    ship = net.task("ship", subnet=shipping)
    close = net.task("close", join="and")
    notify = net.task(
        "notify",
        handler="notify",
        multiple={"for_each": "data.recipients", "minimum": 1, "maximum": 50, "threshold": 2},
    )
    waiting = net.condition("waiting")

    net.start.to(check)
    check.to(waiting, when="data.amount > 1000")
    check.to(pack, default=True)
    waiting.to(approve).to(pack)
    net.sequence(waiting, expire, net.end)
    pack.to(label).to(close)
    pack.to(ship).to(close)
    close.to(notify).to("end")
    specification = net.specification()

    assert specification == Specification.from_dict(net.to_dict())
    assert specification.root.tasks[0] == Task(
        id="check", handler="check_credit", split=Split.XOR, retry=Retry(max_attempts=5)
    )
    assert specification.root.tasks[2].timer == 259_200_000
    assert specification.root.tasks[4].external == External(topic="labels", timeout=600_000)
    assert specification.root.tasks[5].subnet == "shipping"
    assert specification.root.flows[1] == Flow(source="check", target="waiting", when="data.amount > 1000")
    assert specification.root.flows[2] == Flow(source="check", target="pack", default=True)
    assert len(specification.root.flows) == 13
    assert specification.subnets["shipping"].tasks == (Task(id="pick", manual=Manual()),)


def test_every_keyword_takes_text_or_the_model() -> None:
    """What a keyword takes as text or map, it also takes as an object of the model."""

    def built(*, as_model: bool) -> Specification:
        net = build("s", termination=Termination.IMPLICIT if as_model else "implicit")
        c = net.condition("c", name="C")
        a = net.task("a", name="A", split=Split.AND if as_model else "and", cancels=[c], reads=["c"])
        net.flow("start", a).flow(a, c).flow(a, "b", weight=2)
        net.task(
            "b",
            join=PartialJoin(required=1, cancels=("a",)) if as_model else {"partial": 1, "cancels": [a]},
            trigger=Trigger(event="e", mode=TriggerMode.TRANSIENT) if as_model else {"event": "e", "mode": "transient"},
            manual=Manual(roles=("x", "y")) if as_model else ["x", "y"],
            multiple=Multiple(count=1, creation=Creation.DYNAMIC) if as_model else {"count": 1, "creation": "dynamic"},
        )
        d = net.task(
            "d",
            join=Join.XOR if as_model else "xor",
            external=External(topic="t", timeout=1_500)
            if as_model
            else {"topic": "t", "timeout": timedelta(seconds=1.5)},
            retry=Retry(max=60_000) if as_model else {"max": "1m"},
        )
        e = net.task("e", trigger="paid", external=None, handler="h", replayable=True, timer=None)
        net.sequence(c, d, e)
        return net.specification()

    specification = built(as_model=False)

    assert specification == built(as_model=True)
    assert specification.root.conditions == (Condition(id="c", name="C"),)
    assert specification.root.tasks[0].cancels == ("c",)
    assert specification.root.tasks[1].join == PartialJoin(required=1, cancels=("a",))
    assert specification.root.tasks[3].trigger == Trigger(event="paid")


def test_a_subnet_is_asked_for_by_name() -> None:
    """Asking twice gives the same subnet, and a subnet may stand in itself."""
    net = build("s")
    again = net.subnet("again")
    a = again.task("a", split="xor")
    again.start.to(a).to(again.end, default=True)
    a.to(again.task("deeper", subnet=again), when="data.n > 0").to(again.task("b", manual=True)).to("end")
    net.sequence("start", net.task("first", subnet="again"), "end")

    assert net.subnet("again") is again
    assert net.specification().subnets["again"].tasks[1].subnet == "again"


def test_problems_are_listed_with_the_places_of_a_text() -> None:
    """Nothing is checked before the end, and then everything is."""
    net = build("two words")
    a = net.task("a", timer="soon", cancels="abc")
    net.task("a", handler="")
    net.task("b", manual=True, handler="h")
    net.flow("start", a).sequence(a, "nowhere", "end")

    with pytest.raises(SpecificationError) as caught:
        net.specification()

    assert [each.place for each in caught.value.problems] == [
        "id",
        "tasks.a.cancels",
        "tasks.a.timer",
        "tasks.a.handler",
        "tasks.a",
        "tasks.b",
        "tasks.b",
        "tasks.b",
        "flows[1].to",
        "flows[2].from",
    ]


def test_a_duration_finer_than_a_millisecond_is_refused() -> None:
    """A timedelta that the format cannot hold is an error where it is given."""
    with pytest.raises(ValueError, match="not a whole number of milliseconds"):
        build("s").task("a", timer=timedelta(microseconds=1))


def test_a_builder_is_used_on_without_effect_on_what_it_made() -> None:
    """A specification does not change when its builder goes on."""
    net = build("s")
    net.sequence("start", net.task("a", manual=True), "end")
    specification = net.specification()
    net.condition("more")

    assert specification.root.conditions == ()
    assert repr(net.task("b")) == "Element(id='b')"
