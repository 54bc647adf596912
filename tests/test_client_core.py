"""One call with its attempts, without sockets and on a clock that is told the time."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from knhk import errors
from knhk.client.core import Answer, Core, Lost, Request, Send, Settings, Wait
from knhk.client.pacing import Budget

ONE = "http://one"
TWO = "http://two"
READ = Request(method="GET", path="/cases", safe=True)
COMMAND = Request(method="POST", path="/cases/a/start")
OK = Answer(200, {}, b"{}")
UNSENT = Lost(ConnectionRefusedError("refused"), sent=False)
CUT = Lost(ConnectionResetError("reset"), sent=True)
FAILED = Answer(502, {}, b"?")


def problem(kind: str, status: int) -> Answer:
    """What the service refuses something with."""
    return Answer(status, {}, f'{{"type": "urn:knhk:problem:{kind}"}}'.encode())


class Line:
    """A core with its clock, whose calls are answered by a function; what was sent and waited for is kept."""

    def __init__(self, *urls: str, chance: Callable[[], float] = lambda: 0.5, **settings: Any) -> None:
        self.now = 0.0
        self.core = Core(urls or (ONE,), Settings(seconds=lambda: self.now, chance=chance, **settings))
        self.sent: list[str] = []
        self.looks: list[float] = []
        self.waits: list[float] = []

    def call(self, request: Request, answer: Callable[[Send], Answer | Lost]) -> Any:
        """Make a call; its waits pass at once, and a look at readiness finds it unless the answer is `silent`."""
        steps = self.core.call(request)
        said: Answer | Lost | None = None
        try:
            while True:
                step = steps.send(said)
                if isinstance(step, Wait):
                    self.waits.append(step.seconds)
                    self.now += step.seconds
                    said = None
                elif step.url.endswith("/health/ready"):
                    self.looks.append(self.now)
                    said = answer(step)
                else:
                    self.sent.append(step.url)
                    said = answer(step)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize(
    ("request_", "answer", "sent"),
    [
        (READ, CUT, 4),
        (READ, UNSENT, 4),
        (READ, FAILED, 4),
        (READ, problem("store-unavailable", 503), 4),
        (READ, problem("storage-full", 507), 1),
        (READ, problem("not-found", 404), 1),
        (COMMAND, CUT, 1),
        (COMMAND, FAILED, 1),
        (COMMAND, problem("store-unavailable", 503), 1),
        (COMMAND, UNSENT, 4),
        (COMMAND, problem("draining", 503), 4),
        (COMMAND, problem("rate-limited", 429), 4),
        (attrs.evolve(COMMAND, key="k", safe=True), CUT, 4),
    ],
)
def test_attempts_are_those_of_the_policy(request_: Request, answer: Answer | Lost, sent: int) -> None:
    """What may be done already is sent once unless that is safe; what was not done is sent again; no wait follows the last."""
    line = Line()

    with pytest.raises(errors.KnhkError):
        line.call(request_, lambda _: answer)

    assert (sent, sent - 1) == (len(line.sent), len(line.waits))


def test_waits_are_spread_over_their_whole_range() -> None:
    """The waits before the n-th attempt are evenly spread from 0 to 0.1 s * 2^(n-1): Kolmogorov and Smirnov agree at 1 %."""
    chance = random.Random(7).random
    parts: list[float] = []
    for _ in range(300):
        line = Line(chance=chance)
        with pytest.raises(errors.OutboundFailed):
            line.call(READ, lambda _: CUT)
        parts += [wait / (0.1 * 2**number) for number, wait in enumerate(line.waits)]
    parts.sort()

    distance = max(
        max(abs(part - number / len(parts)), abs(part - (number + 1) / len(parts))) for number, part in enumerate(parts)
    )
    assert 900 == len(parts)
    assert distance < 1.63 / len(parts) ** 0.5


def test_repetition_adds_a_tenth() -> None:
    """Where everything fails, calls are repeated until the reserve is spent, and then one in ten."""
    line = Line(attempts=2)
    # Not one after the other but each when the breaker lets calls through again.
    for _ in range(200):
        line.now += 60
        with pytest.raises(errors.OutboundFailed):
            line.call(READ, lambda _: CUT)

    assert 200 + 10 + 19 <= len(line.sent) <= 200 + 10 + 20
    budget = Budget(reserve=2.0)
    assert [True, True, False] == [budget.retry() for _ in range(3)]


def test_another_endpoint_is_no_repetition() -> None:
    """To go to another endpoint where one has done nothing is not held against the reserve, and waits for nothing."""
    line = Line(ONE, TWO, check_every=1e9)

    def answer(step: Send) -> Answer | Lost:
        return UNSENT if step.url.startswith(ONE) and "/health" not in step.url else OK

    for _ in range(50):
        line.core.endpoints[ONE].ready = True
        line.now += 60
        line.call(COMMAND, answer)

    assert [] == line.waits
    assert 50 == sum(each.startswith(TWO) for each in line.sent)


def test_an_endpoint_that_says_nothing_is_asked_more_seldom() -> None:
    """Looks at an endpoint that takes its time to say nothing come at twice the distance each time, up to five seconds."""
    line = Line(ONE, TWO)

    def answer(step: Send) -> Answer | Lost:
        silent = step.url == f"{ONE}/health/ready"
        if silent:
            line.now += step.timeout
        return CUT if silent else OK

    line.core.endpoints[TWO].look_at = 1e9
    for _ in range(400):
        line.now += 0.1
        line.call(READ, answer)
    gaps = [later - earlier for earlier, later in itertools.pairwise(line.looks)]

    assert all(each.startswith(TWO) for each in line.sent)
    assert [1.1, 2.1, 4.1, 5.1] == [pytest.approx(each, abs=0.11) for each in gaps[:4]]


def test_a_call_that_is_given_up_leaves_nothing_behind() -> None:
    """Whoever is cancelled while a call is under way takes no place, and says nothing of the endpoint."""
    line = Line()
    steps = line.core.call(READ)
    next(steps)
    (endpoint,) = line.core.endpoints.values()
    assert 1 == endpoint.under_way

    steps.close()

    assert (0, (0, 0)) == (endpoint.under_way, endpoint.breaker.calls)


def test_no_attempt_is_no_call() -> None:
    """Without attempts, or without time, nothing is sent."""
    for line in (Line(attempts=0), Line(timeout=0.0)):
        with pytest.raises(errors.OutboundFailed, match="no attempt|no time"):
            line.call(READ, lambda _: OK)
        assert [] == line.sent


def test_many_clients_do_not_come_back_together() -> None:
    """After half a minute without a service 100 clients send at most twice as much as before in any second, and less meanwhile."""
    chance = random.Random(3)
    clients = [Line(chance=chance.random) for _ in range(100)]
    sent: Counter[int] = Counter()

    def lives(line: Line, begins: float) -> Iterator[float]:
        """A client that calls once a second; yields when it goes on."""
        for turn in itertools.count():
            line.now = begins + turn
            yield line.now
            steps = line.core.call(READ)
            said: Answer | Lost | None = None
            try:
                while True:
                    step = steps.send(said)
                    if isinstance(step, Wait):
                        line.now += step.seconds
                        yield line.now
                        said = None
                    else:
                        sent[int(line.now)] += 1
                        said = UNSENT if 20 <= line.now < 50 else OK
            except (StopIteration, errors.OutboundFailed):
                continue

    lifes = [lives(line, chance.random()) for line in clients]
    agenda = [(next(life), number) for number, life in enumerate(lifes)]
    heapq.heapify(agenda)
    while agenda[0][0] < 70:
        _, number = heapq.heappop(agenda)
        heapq.heappush(agenda, (next(lifes[number]), number))

    steady = max(sent[second] for second in range(5, 20))
    assert max(sent[second] for second in range(50, 70)) <= 2 * steady
    assert max(sent[second] for second in range(30, 50)) <= 1.1 * steady
