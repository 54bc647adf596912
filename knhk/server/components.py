"""Components that have no thread of their own to ask: timers, messages and breakers, as `/health/components` tells of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from knhk.engine import Engine
from knhk.server.census import LATE, Census
from knhk.work.breaker import BreakerState

_SHOWN: Final = 5


def components(census: Census, engines: Callable[[], Iterable[Engine]]) -> dict[str, Callable[[], Mapping[str, Any]]]:
    """
    Return what tells of each component: its status, the age of what is said in seconds, and a detail.

    Such a component is ``up`` or ``degraded``: what it lacks makes some work wait, and no instance unready.

    Args:
        census: has counted what waits.
        engines: those whose breakers are looked at.
    """
    return {
        "timers": lambda: _timers(census),
        "outbox": lambda: _outbox(census),
        "breakers": lambda: _breakers(engines()),
    }


def _timers(census: Census) -> dict[str, Any]:
    late = 0 if census.last is None else census.last.late
    detail = (
        f"{late} cases wait for a timer that was due {LATE // 1000} seconds before they were counted" if late else ""
    )
    return _part(census, good=not late, detail=detail)


def _outbox(census: Census) -> dict[str, Any]:
    last = census.last
    if last is None:
        return _part(census, good=True, detail="")
    detail = f"{last.outbox} messages wait, {last.dead_messages} did not arrive"
    return _part(census, good=not last.dead_messages, detail=detail)


def _part(census: Census, *, good: bool, detail: str) -> dict[str, Any]:
    if census.failure is not None:
        good, detail = False, f"what waits cannot be counted: {type(census.failure).__name__}"
    elif census.last is None:
        detail = "not counted yet"
    age = None if census.age is None else round(census.age, 3)
    return {"status": "up" if good else "degraded", "age": age, "detail": detail}


def _breakers(engines: Iterable[Engine]) -> dict[str, Any]:
    seen = [(name, each.state) for engine in engines for name, each in engine.breakers.items()]
    stopped = sorted({name for name, state in seen if state != BreakerState.CLOSED.value})
    named = ", ".join(stopped[:_SHOWN]) + (f" and {len(stopped) - _SHOWN} more" if len(stopped) > _SHOWN else "")
    detail = f"not closed: {named}" if stopped else f"{len({name for name, _ in seen})} breakers, all closed"
    return {"status": "degraded" if stopped else "up", "age": 0.0, "detail": detail}
