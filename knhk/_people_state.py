"""What a case knows of its people: a part of `knhk._case_state.CaseState`, changed by its records alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from knhk._net_instance import NetInstance
from knhk.workitem import ItemEntry, ItemState, Post


class PeopleState:
    """
    Who did what, and what is known of work of people beyond its state.

    Attributes:
        posts: by item.
        did: by task id, where it matters: who has started such work in this case, each with his last item, the last one last.
        chains: participants who take up at once what comes up for them in this case.
        last_by: who completed the last work of people; "" for nobody.
    """

    __slots__ = ("chains", "did", "last_by", "posts")

    def __init__(self) -> None:
        self.posts: dict[int, Post] = {}
        self.did: dict[str, dict[str, int]] = {}
        self.chains: dict[str, None] = {}
        self.last_by = ""

    def post(self, number: int) -> Post:
        """Return what is known of an item, to be changed."""
        found = self.posts.get(number)
        if found is None:
            found = self.posts[number] = Post()
        return found

    def remember(self, task: str, by: str, number: int) -> None:
        """Somebody has his hands on an item of a task."""
        did = self.did.setdefault(task, {})
        did.pop(by, None)
        did[by] = number

    def others(self, tasks: frozenset[str], number: int) -> dict[str, str]:
        """Return who did other items of these tasks, each with the task."""
        return {by: task for task in sorted(tasks) for by, item in self.did.get(task, {}).items() if item != number}

    def dump(self) -> dict[str, Any]:
        """Return it as a member of the case's snapshot; none where there is nothing, as before there was any."""
        if not (self.posts or self.did or self.chains or self.last_by):
            return {}
        posts = [
            [number, p.audience, p.filtered, p.step, p.due, p.priority, p.draft] for number, p in self.posts.items()
        ]
        did = [[task, list(map(list, by.items()))] for task, by in self.did.items()]
        return {"people": [posts, did, list(self.chains), self.last_by]}

    def load(self, tree: dict[str, Any]) -> None:
        """Become what `dump` put into a snapshot."""
        posts, did, chains, self.last_by = tree.get("people", ((), (), (), ""))
        self.posts = {
            number: Post(None if audience is None else tuple(audience), *rest) for number, audience, *rest in posts
        }
        self.did = {task: dict(by) for task, by in did}
        self.chains = dict.fromkeys(chains)


class PeopleRecords:
    """The part of `knhk._case_state.CaseState` that applies the records on work of people."""

    __slots__ = ()

    data: dict[str, Any]
    items: dict[int, ItemEntry]
    moved: dict[int, None]
    people: PeopleState
    touched: dict[int, None]

    def _note(self, item: ItemEntry) -> None:
        """Let the worklist be told of an item."""
        self.moved[item.number] = None

    def pass_through(
        self, net: NetInstance, item: ItemEntry, by: str, output: dict[str, Any] | None, chosen: Sequence[int]
    ) -> None:
        """Become what BEGUN and FINISHED say of bare work (`NetPlan.at_once`) that is completed as it is offered."""
        net.marking.fire(item.task, chosen)
        self.touched[net.number] = None
        del net.offers[item.task], self.items[item.number]
        self.moved[item.number] = None
        self.people.last_by = by or self.people.last_by
        if output:
            self.data.update(output)

    def _routed(self, number: int, state: str, audience: Sequence[str] | None, filtered: bool) -> None:
        item, post = self.items[number], self.people.post(number)
        item.state, item.by = ItemState(state), ""
        post.audience, post.filtered = None if audience is None else tuple(audience), filtered
        self._note(item)

    def _saved(self, number: int, draft: dict[str, Any] | None) -> None:
        self.people.post(self.items[number].number).draft = draft
        self.moved[number] = None

    def _escalation_set(self, number: int, step: int, due: int | None) -> None:
        post = self.people.post(self.items[number].number)
        post.step, post.due = step, due

    def _escalated(
        self, number: int, step: int, audience: Sequence[str] | None, priority: int | None, due: int | None
    ) -> None:
        if audience is not None:
            self._routed(number, ItemState.OFFERED.value, audience, False)
        self._escalation_set(number, step + 1, due)
        if priority is not None:
            self.people.posts[number].priority = priority
        self.moved[number] = None

    def _chained(self, by: str, chained: bool) -> None:
        if chained:
            self.people.chains[by] = None
        else:
            del self.people.chains[by]

    def _skipped(self, number: int, by: str) -> None:
        item = self.items[number]
        item.by = by
        self._note(item)
