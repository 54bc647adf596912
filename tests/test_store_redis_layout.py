"""The layout of the store on Redis: what an older one has becomes this one, and its lists find what a plain store finds."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import RedisServer

from knhk.errors import StoreError
from knhk.ports import Commit, Document, ItemRow, Store
from knhk.stores import _redis_scripts as scripts
from knhk.stores._redis_layout import MOVE
from knhk.stores._ordered import number_key
from knhk.stores._redis_words import add_step
from knhk.stores.memory import MemoryStore
from knhk.stores.redis import RedisStore
from knhk.testing.store_conformance import CLAIM, ORDER, item, step

LAYOUT_2 = Path(__file__).parent / "data" / "stores" / "redis_layout_2.json"
"""What the last version with layout 2 has made of `live`: each key, its kind and its content, bytes as Latin-1."""

NAMESPACES = itertools.count()
CASES = ("", "a", "a\0b", "aside")


def live(store: Store) -> None:
    """Let a few cases live in an empty store."""
    store.put_specification(ORDER)
    store.put_specification(CLAIM)
    rows = (
        item("a"),
        attrs.evolve(item("a", 2, state="started", by="ann"), details={"why": "é"}),
        attrs.evolve(item("a", 2**62), topic="mail"),
        attrs.evolve(item("a", 300), audience=("clerk", "boss")),
    )
    store.commit([step("a", items=rows, key=("key", "digest"), due=5)])
    store.commit([attrs.evolve(step("a", 1, closed=[1]), snapshot=b"snapshot")])
    store.commit([step("", items=[item("", 7)], runnable=True), step("a\0b", spec=CLAIM, items=[item("a\0b", 0)])])
    store.commit([step("aside", items=[item("aside"), item("aside", 2, by="ann")], due=3)])
    store.quarantine("aside", "damaged")
    store.commit([step("over", items=[item("over")]), step("over", 1, closed=[1], state="completed")])
    store.write([Document(collection="box", key="k", value="v", due=9)])


def seen(store: Store) -> list[object]:
    """Everything that a store tells."""
    names = ("a", "", "a\0b", "aside", "over")
    filters = ({}, {"state": "offered"}, {"by": "ann"}, {"by": ""}, {"topics": ["mail"]}, {"audience": ["boss"]})
    return [
        *(store.whole(each) for each in names),
        *(store.load(each) for each in names if each != "aside"),
        *map(store.history, names),
        *(store.items(**each) for each in filters),  # type: ignore[arg-type]
        *(store.items(case_id=each) for each in names),
        *(store.cases(**each) for each in ({}, {"state": "running"}, {"spec_id": "order", "state": "running"})),
        [
            store.due(100),
            store.runnable(),
            store.idempotency_keys(),
            store.specifications(),
            store.specification("order"),
        ],
        [store.collections(), store.documents("box"), store.documents("box", due=10)],
    ]


def restore(redis: RedisStore, *, layout: int) -> None:
    """Give a store's empty namespace what an older layout had."""
    link = redis._link
    for name, (kind, *content) in json.loads(LAYOUT_2.read_text()).items():
        key, words = f"{link.root}{name}".encode(), [each.encode("latin-1") for each in content]
        if kind == "string":
            link.tell("SET", key, *words)
        elif kind == "zset":
            link.tell("ZADD", key, *itertools.chain.from_iterable((0, each) for each in words))
        else:
            link.tell({"hash": "HSET", "list": "RPUSH"}[kind], key, *words)
    if layout == 1:
        link.tell("EVAL", LAYOUT_1, 1, link.root)


LAYOUT_1 = """
for _, member in ipairs(redis.call('ZRANGE', KEYS[1] .. 'i:s:offered', 0, -1)) do
  local value = redis.call('HGET', KEYS[1] .. 'items', member)
  local size = struct.unpack('>I4', value)
  local names = cmsgpack.unpack(string.sub(value, 5, 4 + size))
  table.insert(names, 2, 'i:b:')
  names = cmsgpack.pack(names)
  redis.call('HSET', KEYS[1] .. 'items', member, struct.pack('>I4', #names) .. names .. string.sub(value, 5 + size))
  redis.call('ZADD', KEYS[1] .. 'i:b:', 0, member)
end
redis.call('SET', KEYS[1] .. 'format', 1)
"""


@pytest.fixture
def url(redis: str) -> str:
    """A namespace of the shared server."""
    return f"{redis}?namespace=layout{os.getpid()}-{next(NAMESPACES)}"


@pytest.fixture
def store(url: str) -> Iterator[RedisStore]:
    """A store in it, with nothing."""
    made = RedisStore(url)
    yield made
    made.close()


def lists(store: RedisStore) -> dict[str, dict[str, int]]:
    """The lists of items: of each, how many of its items a case has, for the cases that are in it."""
    link, found = store._link, {}
    for key in link.tell("KEYS", f"{link.root}l:*"):
        name = key.decode().removeprefix(f"{link.root}l:")
        members = [each.decode() for each in link.tell("ZRANGE", key, 0, -1)]
        found[name] = {each: int(link.tell("HGET", f"{link.root}h:{each}", f"#{name}")) for each in members}
    return found


def lists_of(store: Store, cases: Iterable[str]) -> dict[str, dict[str, int]]:
    """What those have to be."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for whole in map(store.whole, cases):
        for row in () if whole.header.quarantined else whole.items:
            words = [("i", ""), ("i:s:", row.state), *(("i:a:", each) for each in set(row.audience))]
            words += [(kind, word) for kind, word in (("i:b:", row.by), ("i:t:", row.topic)) if word]
            for kind, word in words:
                found[kind + word][row.case_id] += 1
    return dict(found)


def remaining(store: RedisStore) -> set[str]:
    """The kinds of keys that there are."""
    names = (each.decode().removeprefix(store._link.root) for each in store._link.tell("KEYS", f"{store._link.root}*"))
    return {name.partition(":")[0] for name in names}


@pytest.mark.parametrize("layout", [1, 2])
def test_older_layout(store: RedisStore, url: str, *, layout: int) -> None:
    """What an older layout has is found by this one, nothing of it remains, and its cases go on."""
    restore(store, layout=layout)
    plain = MemoryStore()
    live(plain)
    upgraded = RedisStore(url)

    assert seen(plain) == seen(upgraded)
    steps = [step("a", 2, items=[item("a", 2)], closed=[2**62, 300]), step("a\0b", 1, spec=CLAIM, closed=[0])]
    for each in steps:
        plain.commit([each])
        upgraded.commit([each])
    assert seen(plain) == seen(upgraded)
    # Those of layout 1 have a list of nobody until they change.
    assert lists_of(plain, CASES) == {name: each for name, each in lists(upgraded).items() if name != "i:b:"}
    assert not remaining(upgraded) & {"c", "items", "i", "specifications", "moving"}
    assert b"%d" % scripts.FORMAT == upgraded._link.tell("GET", f"{store._link.root}format")
    upgraded.close()


def test_move_that_is_killed(own_redis: RedisServer) -> None:
    """A move that ends anywhere, the server with it, is gone on with by who opens the store next."""
    store = RedisStore(own_redis.url)
    restore(store, layout=2)
    plain = MemoryStore()
    live(plain)
    for more in (1, 1, 1):
        assert more == store._link.run(MOVE, 1)
        own_redis.stop(signal.SIGKILL)
        own_redis.start()
    assert 2 == len(store._link.tell("KEYS", f"{store._link.root}c:*"))
    first = RedisStore(own_redis.url)

    assert seen(plain) == seen(first)
    assert 0 == store._link.run(MOVE, 1)
    first.close()
    store.close()


MANY = """
local value = redis.call('HGET', KEYS[1] .. 'items', 'a\\0\\1' .. ARGV[1])
for number = 1000, 3999 do
  local member = 'a\\0\\1' .. struct.pack('>I4I4', 2 ^ 31, number)
  redis.call('HSET', KEYS[1] .. 'items', member, value)
  redis.call('ZADD', KEYS[1] .. 'i', 0, member)
  redis.call('ZADD', KEYS[1] .. 'i:s:offered', 0, member)
  redis.call('ZADD', KEYS[1] .. 'i:t:mail', 0, member)
end
"""


def test_move_of_a_case_with_thousands_of_items(store: RedisStore, url: str) -> None:
    """A case is moved whole, however many items it has."""
    restore(store, layout=2)
    store._link.tell("EVAL", MANY, 1, store._link.root, number_key(2**62))
    upgraded = RedisStore(url)

    found = [each.number for each in upgraded.items(topics=["mail"], limit=9999)]
    assert [*range(1000, 4000), 2**62] == found
    assert {"a": 3001} == lists(upgraded)["i:t:mail"]
    assert not remaining(upgraded) & {"items", "i"}
    upgraded.close()


OLD: scripts.Script = scripts.Script(LAYOUT_2.with_suffix(".lua").read_text())
"""The script with which the last version with layout 2 commits."""


def tell_old(store: RedisStore, number: int, commit: Commit) -> object:
    """Commit as an instance of an older version does that is connected still."""
    words: list[bytes] = []
    add_step(words, commit)
    return store._link.tell_script(OLD, "old", number, 1, len(words), *words)


def test_older_version_that_is_still_connected(store: RedisStore, url: str) -> None:
    """What an older version writes to a case that is not moved is moved with it; anything else it is refused and changes nothing."""
    restore(store, layout=2)
    store._link.run(MOVE, 1)
    before = store._link.tell("LRANGE", f"{store._link.root}j:", 0, -1)
    told = [
        tell_old(store, 1, step("", 1)),
        tell_old(store, 2, step("b")),
        tell_old(store, 3, step("a", 2, closed=[2])),
    ]

    assert [*[[[b"specification", b"order", b"1"]]] * 2, 0] == told
    upgraded = RedisStore(url)
    assert before == list(upgraded.history(""))
    assert ["a", "a\0b", "aside", "over"] == [each.case_id for each in upgraded.cases()]
    assert [300, 2**62] == [each.number for each in upgraded.items(case_id="a")]
    assert 3 == upgraded.header("a").version
    upgraded.close()


def test_older_version_that_writes_behind_our_back(store: RedisStore, url: str) -> None:
    """Where an older version begins to write to an empty namespace that is open, this one refuses to write beside it."""
    restore(store, layout=2)
    with pytest.raises(StoreError, match="older version"):
        store.put_specification(attrs.evolve(ORDER, version="2"))
    upgraded = RedisStore(url)
    store.put_specification(attrs.evolve(ORDER, version="2"))

    assert "2" == upgraded.specification("order").version
    upgraded.close()


# --- lists ------------------------------------------------------------------------------------------------------------

NUMBERS = st.sampled_from((0, 1, 2, 300, 2**53 + 1, 2**53, 2**62))
WORDS = st.sampled_from(("x", "y", "z"))


def rows(case_id: str) -> st.SearchStrategy[ItemRow]:
    """Rows of a case."""
    return st.builds(
        ItemRow,
        case_id=st.just(case_id),
        number=NUMBERS,
        path=st.just("p"),
        state=st.sampled_from(("offered", "started")),
        by=st.sampled_from(("", "ann", "bob")),
        topic=st.sampled_from(("", "x", "y")),
        audience=st.lists(WORDS, max_size=2).map(tuple),
    )


def changes(case_id: str) -> st.SearchStrategy[tuple[str, list[ItemRow], list[int], str]]:
    """What a step does to a case's items, and the state that it leaves."""
    return st.tuples(
        st.just(case_id),
        st.lists(rows(case_id), max_size=4),
        st.lists(NUMBERS, max_size=3),
        st.sampled_from(("running", "running", "suspended", "aside")),
    )


LIVES = st.lists(st.lists(st.sampled_from(CASES).flatmap(changes), min_size=1, max_size=2), min_size=1, max_size=12)
QUESTIONS = st.fixed_dictionaries(
    {},
    optional={
        "case_id": st.sampled_from(CASES),
        "state": st.sampled_from(("offered", "started", "gone")),
        "by": st.sampled_from(("", "ann", "eve")),
        "topics": st.lists(st.sampled_from(("x", "y", "")), max_size=2),
        "audience": st.lists(WORDS, max_size=2),
        "limit": st.integers(-1, 3),
        "after": st.tuples(st.sampled_from(CASES), NUMBERS),
    },
)


@pytest.mark.parametrize(
    "numbers", [(300, 1, 65536, 2), (2**62, 2**53 + 1, 3, 2**62 + 1, 2**53, -1, -(2**63), 2**63 - 1)]
)
def test_items_of_one_case_in_pages(store: RedisStore, numbers: tuple[int, ...]) -> None:
    """The items of a case come by ascending number, however far apart and near they are, and however many at once."""
    store.put_specification(ORDER)
    store.commit([step("a", items=[item("a", each) for each in numbers])])
    for limit in range(1, len(numbers) + 1):
        found: list[int] = []
        while page := store.items(after=("a", found[-1]) if found else ("", 0), limit=limit):
            found += [each.number for each in page]

        assert sorted(numbers) == found


@settings(max_examples=40)
@given(lives=LIVES, questions=st.lists(QUESTIONS, min_size=20, max_size=20))
def test_lists_find_what_a_plain_store_finds(
    redis: str, lives: list[list[tuple[str, list[ItemRow], list[int], str]]], questions: list[dict[str, object]]
) -> None:
    """Whatever steps have done to items, every question for them has the answer of the store in memory."""
    stores: list[Store] = [MemoryStore(), RedisStore(f"{redis}?namespace=lists{os.getpid()}-{next(NAMESPACES)}")]
    versions: dict[str, int] = {}
    for each in stores:
        each.put_specification(ORDER)
    for life in lives:
        commits = []
        for case_id, items, closed, state in life:
            expected = versions.get(case_id, 0)
            if expected < 0:
                continue
            versions[case_id] = expected + 1
            commits.append(step(case_id, expected, items=items, closed=closed, state=state.replace("aside", "running")))
        for each in stores:
            each.commit(commits)
        for case_id, _, _, state in life:
            if state == "aside" and versions[case_id] > 0:
                versions[case_id] = -1
                for each in stores:
                    each.quarantine(case_id, "damaged")

    plain, redis_store = stores
    for question in questions:
        assert plain.items(**question) == redis_store.items(**question)  # type: ignore[arg-type]
    for case_id in versions:
        assert plain.whole(case_id) == redis_store.whole(case_id)
    assert isinstance(redis_store, RedisStore)
    assert lists_of(plain, versions) == lists(redis_store)
    redis_store.close()
