"""The specifications that a simulation draws its cases from: each a different reason for a case to wait, or to move by itself."""

from __future__ import annotations

import functools
from typing import Final

import attrs

from knhk.spec import Retry, Specification, build

_RETRY: Final = Retry(max_attempts=3, initial=1_000, max=4_000)


@functools.cache
def specifications() -> tuple[Specification, ...]:
    """Return them all."""
    return _line(), _fork(), _choice(), _many(), _optional(), _outside(), _undo()


def _line() -> Specification:
    """A handler, a person, two handlers."""
    net = build("line")
    tasks = (
        net.task("A", handler="work", retry=_RETRY),
        net.task("M", manual=True),
        net.task("B", handler="work", retry=_RETRY),
        net.task("C", handler="work", retry=_RETRY),
    )
    net.sequence(net.start, *tasks, net.end)
    return net.specification()


def _fork() -> Specification:
    """Handlers and a timer beside a person."""
    net = build("fork")
    split, join = net.task("split", split="and"), net.task("join", join="and")
    net.start.to(split)
    net.sequence(split, net.task("A", handler="work", retry=_RETRY), net.task("T", timer="5s"), join)
    net.sequence(split, net.task("M", manual=True), join)
    net.sequence(split, net.task("B", handler="work", retry=_RETRY), join)
    net.sequence(join, net.task("C", handler="work", retry=_RETRY), net.end)
    return net.specification()


def _choice() -> Specification:
    """A person or a timer, whoever is first (pattern 16), then a handler."""
    net = build("choice")
    waiting, last = net.condition("waiting"), net.task("A", join="xor", handler="work", retry=_RETRY)
    net.start.to(net.task("first")).to(waiting)
    net.sequence(waiting, net.task("M", manual=True), last)
    net.sequence(waiting, net.task("T", timer="8s"), last)
    last.to(net.end)
    return net.specification()


def _many() -> Specification:
    """Three instances by handlers, of which two are waited for (pattern 34), then a person."""
    net = build("many")
    many = net.task("A", handler="work", retry=_RETRY, multiple={"count": 3, "threshold": 2})
    net.sequence(net.start, many, net.task("M", manual=True), net.end)
    return net.specification()


def _optional() -> Specification:
    """An OR-join behind a handler, a person and a timer (pattern 7)."""
    net = build("optional")
    split, join = net.task("split", split="or"), net.task("join", join="or", handler="work", retry=_RETRY)
    net.start.to(split)
    for task, when in (
        (net.task("A", handler="work", retry=_RETRY), "data.choice != 1"),
        (net.task("M", manual=True), "data.choice != 2"),
        (net.task("T", timer="3s"), None),
    ):
        split.to(task, default=True) if when is None else split.to(task, when=when)
        task.to(join)
    join.to(net.end)
    return net.specification()


def _outside() -> Specification:
    """External work, claimed under a lease, then a handler."""
    net = build("outside")
    claimed = net.task("X", external="outside", retry=attrs.evolve(_RETRY, max_attempts=1_000))
    net.sequence(net.start, claimed, net.task("A", handler="work", retry=_RETRY), net.end)
    return net.specification()


def _undo() -> Specification:
    """Handlers whose work is undone when the case is cancelled, and a person."""
    net = build("undo")
    tasks = (
        net.task("A", handler="work", retry=_RETRY, compensate="undo"),
        net.task("B", handler="work", retry=_RETRY, compensate="undo"),
        net.task("M", manual=True),
    )
    net.sequence(net.start, *tasks, net.end)
    return net.specification()
