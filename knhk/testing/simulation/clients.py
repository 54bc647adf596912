"""The clients of a simulation: they ask any instance for anything, and remember what they were answered."""

from __future__ import annotations

import enum
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import attrs

from knhk._pipeline import Outcome
from knhk.engine import Engine
from knhk.errors import KnhkError, StoreUnavailable
from knhk.testing.simulation.instance import Instance
from knhk.testing.simulation.link import Crash
from knhk.testing.simulation.world import World
from knhk.work.claims import Claim

TOPIC: Final = "outside"


class Answer(enum.Enum):
    """What a client knows of its request."""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@attrs.define
class Wish:
    """
    A case that a client wants.

    Args:
        key: the idempotency key of the request.
        spec_id, data: what is asked for.
        start: whether it is to be started too.
        case_ids: every id that was answered.
        cancelled: whether its cancellation was asked for.
    """

    key: str
    spec_id: str
    data: dict[str, Any]
    start: bool
    case_ids: set[str] = attrs.field(factory=set)
    cancelled: bool = False


class Clients:
    """
    Everybody who asks for something from outside.

    Args:
        world: where they live.
        wishes: the cases that they want.

    Attributes:
        answers: by the token that came with a request, what was answered.
    """

    def __init__(self, world: World, wishes: list[Wish]) -> None:
        self.wishes = wishes
        self.answers: dict[str, Answer] = {}
        self._world = world
        self._claims: list[Claim] = []

    def act(self, at: Instance) -> None:
        """Ask an instance for something."""
        acts = (self._create, self._start, self._complete, self._complete, self._claim, self._complete_claim)
        many = (self._create_many, self._complete_many)
        self._world.random.choice((*acts, *many, self._cancel, self._hold))(at)

    def insist(self, at: Instance) -> None:
        """Ask an instance for everything that it takes until all cases are over."""
        for wish in self.wishes:
            if not wish.case_ids:
                self._create_one(at, wish)
            for case_id in wish.case_ids:
                self._ask(at, "resume", partial(_go_on, case_id=case_id))
        while self._complete(at) is Answer.DONE:
            pass
        self._claim(at)
        while self._claims and self._complete_claim(at):
            pass
        self._ask(at, "replay", lambda engine: engine.dead_letters.replay_all())

    # --- requests -----------------------------------------------------------------------------------------------------

    def _create(self, at: Instance) -> None:
        """Ask for a case; now and then for one that is there already, as somebody does who never heard the answer."""
        self._create_one(at, self._world.random.choice(self.wishes))

    def _create_one(self, at: Instance, wish: Wish) -> None:
        def create(engine: Engine) -> None:
            case = engine.create_case(wish.spec_id, wish.data, idempotency_key=wish.key, start=wish.start)
            wish.case_ids.add(case.id)

        self._ask(at, f"create {wish.key}", create)

    def _create_many(self, at: Instance) -> None:
        """Ask for several cases by a pipeline, one of them perhaps twice."""
        wishes = [self._world.random.choice(self.wishes) for _ in range(4)]

        def create(engine: Engine) -> None:
            commands = [
                partial(engine.create_case, each.spec_id, each.data, idempotency_key=each.key, start=each.start)
                for each in wishes
            ]
            for wish, outcome in zip(wishes, engine.pipeline(commands), strict=True):
                if _answer(outcome.error) is Answer.DONE:
                    wish.case_ids.add(outcome.result().id)

        self._ask(at, "create-many", create)

    def _start(self, at: Instance) -> None:
        case_id = self._some_case()
        if case_id is not None:
            self._ask(at, f"start {case_id}", lambda engine: engine.case(case_id).start())

    def _hold(self, at: Instance) -> None:
        """Suspend a case, or resume it."""
        case_id = self._some_case()
        if case_id is None:
            return
        if self._world.random.random() < 0.3:
            self._ask(at, f"suspend {case_id}", lambda engine: engine.case(case_id).suspend())
        else:
            self._ask(at, f"resume {case_id}", lambda engine: engine.case(case_id).resume())

    def _cancel(self, at: Instance) -> None:
        wish = self._world.random.choice(self.wishes)
        if wish.spec_id != "undo" or not wish.case_ids or self._world.random.random() < 0.5:
            return
        wish.cancelled = True
        case_id = min(wish.case_ids)
        self._ask(at, f"cancel {case_id}", lambda engine: engine.case(case_id).cancel())

    def _complete(self, at: Instance) -> Answer | None:
        """Complete the work of a person; now and then at the version that was read, and now and then twice."""
        rows = self._open_items(at)
        if not rows:
            return None
        case_id, number = self._world.random.choice(rows)
        token = self._world.token()
        careful = self._world.random.random() < 0.3

        def complete(engine: Engine) -> None:
            case = engine.case(case_id)
            item = case.work_item(number)
            with case.expecting(case.version if careful else None):
                item.complete({f"done_{number}": token})

        answer = self.answers[token] = self._ask(at, f"complete {case_id}:{number} {token}", complete)
        return answer

    def _complete_many(self, at: Instance) -> None:
        """Complete all work of people by a pipeline, a piece of it perhaps twice."""
        rows = self._open_items(at)
        if not rows:
            return
        chosen = self._world.random.sample([*rows, rows[0]], len(rows) + 1)
        tokens = [self._world.token() for _ in chosen]
        outcomes: list[Outcome[None]] = []

        def complete(engine: Engine) -> None:
            # Looked at beforehand: a command that looks would have all that waits stored first.
            items = [engine.case(case_id).work_item(number) for case_id, number in chosen]
            outputs = [{f"done_{each.number}": token} for each, token in zip(items, tokens, strict=True)]
            commands = [partial(each.complete, output) for each, output in zip(items, outputs, strict=True)]
            outcomes.extend(engine.pipeline(commands, together=4))

        answer = self._ask(at, f"complete-many {chosen} {tokens}", complete)
        answers = [_answer(each.error) for each in outcomes] or [answer] * len(tokens)
        self.answers.update(zip(tokens, answers, strict=True))

    def _claim(self, at: Instance) -> None:
        def claim(engine: Engine) -> None:
            self._claims += engine.claim(TOPIC, worker="worker", max=2, lease="5s")

        self._ask(at, "claim", claim)

    def _complete_claim(self, at: Instance) -> bool:
        """Complete claimed work, or say that it failed, or never say anything again; returns whether there was any."""
        if not self._claims:
            return False
        random = self._world.random
        claim = self._claims.pop(random.randrange(len(self._claims)))
        fate = 1.0 if self._world.calm else random.random()
        if fate < 0.1:
            self._world.count("worker died", claim.id)
        elif fate < 0.2:
            self._ask(
                at, f"fail-claim {claim.id}", lambda engine: engine.external.fail(claim.id, claim.token, "no answer")
            )
        else:
            token = self._world.token()
            output = {f"done_{claim.number}": token}
            self.answers[token] = self._ask(
                at,
                f"complete-claim {claim.id} {token}",
                lambda engine: engine.external.complete(claim.id, claim.token, output),
            )
        return True

    # --- inside -------------------------------------------------------------------------------------------------------

    def _some_case(self) -> str | None:
        case_ids = sorted(case_id for wish in self.wishes for case_id in wish.case_ids)
        return self._world.random.choice(case_ids) if case_ids else None

    def _open_items(self, at: Instance) -> list[tuple[str, int]]:
        """Ask an instance what people can do; nothing where it does not answer."""
        rows: list[tuple[str, int]] = []

        def look(engine: Engine) -> None:
            rows.extend(
                (row.case_id, row.number) for row in engine.work_items() if not row.topic and row.state != "failed"
            )

        return rows if self._ask(at, "list", look) is Answer.DONE else []

    def _ask(self, at: Instance, what: str, request: Callable[[Engine], object]) -> Answer:
        """Send a request to an instance, which may die over it."""
        self._world.count(f"asked to {what.partition(' ')[0]}", at.name, what)
        try:
            request(at.engine)
        except (StoreUnavailable, Crash) as error:
            self._world.count("no answer", at.name, type(error).__name__)
            return Answer.UNKNOWN
        except KnhkError as error:
            self._world.note("refused", at.name, type(error).__name__)
            return Answer.REFUSED
        self._world.count(f"did {what.partition(' ')[0]}")
        return Answer.DONE


def _answer(error: Exception | None) -> Answer:
    """Return what a client knows of a command that has this error."""
    if error is None:
        return Answer.DONE
    if isinstance(error, StoreUnavailable):
        return Answer.UNKNOWN
    if isinstance(error, KnhkError):
        return Answer.REFUSED
    raise error


def _go_on(engine: Engine, case_id: str) -> None:
    case = engine.case(case_id)
    if case.state == "created":
        case.start()
    elif case.state == "suspended":
        case.resume()
