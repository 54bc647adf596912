"""What is written is read back exactly, over random specifications."""

from __future__ import annotations

import contextlib
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from knhk.errors import SpecificationError
from knhk.spec import (
    Allocation,
    CatchUp,
    Compensate,
    Condition,
    Creation,
    Deadline,
    DeadlineFrom,
    Escalation,
    External,
    Flow,
    Http,
    Initiator,
    Join,
    Label,
    Manual,
    Metric,
    MetricKind,
    Moment,
    Multiple,
    Net,
    PartialJoin,
    Policy,
    Privilege,
    Recipients,
    Remaining,
    Retry,
    Schedule,
    Specification,
    Split,
    Task,
    Termination,
    Trigger,
    TriggerMode,
    Unless,
    WorkletRule,
    dump_json,
    dump_yaml,
    from_document,
    parse_json,
    parse_yaml,
    to_document,
)
from knhk.spec.templates import HEADER_NAME, METHODS
from knhk.spec.durations import MAX_DURATION, format_duration, parse_duration

CHARACTERS = st.characters(exclude_categories=["Cs"])
TRICKY = (
    [
        "yes",
        "no",
        "on",
        "off",
        "Null",
        "~",
        "1.0",
        "010",
        "1e5",
        "0o17",
        "0x1F",
        "12:30",
        "2026-01-01",
        "<<",
        "=",
        "- a",
    ]
    + [
        "true",
        ".inf",
        "-.nan",
        "1_000",
        "a: b",
        "a #b",
        "&a",
        "*a",
        "!a",
        "%a",
        "@a",
        "`a",
        "{a",
        "'a'",
        "\u2028",
        "\x85x",
    ]
    + ["\ufeffa", "\U0001f600", "a\n b", " a", "a ", "", "\\", '"', "\t", "\r\n", "\x00", "\x7f", "\uffff", "y", "n"]
)
TEXTS = st.sampled_from(TRICKY) | st.text(CHARACTERS, max_size=20)


def identifiers(forbidden: str) -> st.SearchStrategy[str]:
    """Ids of elements: printable characters without the forbidden ones."""
    tricky = [each for each in TRICKY if each and each.isprintable() and not any(bad in each for bad in forbidden)]
    characters = st.characters(exclude_categories=["C", "Z"], exclude_characters=forbidden)
    text = st.text(characters, min_size=1, max_size=8).filter(lambda each: each not in ("start", "end"))
    return st.sampled_from(tricky) | text


NAMES = identifiers("")
CONDITION_IDS = identifiers(" /#")
TASK_IDS = identifiers(" /#>")
SPECIFICATION_IDS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,12}\Z")
INTEGERS = st.integers(1, 2**31 - 1)
DURATIONS = st.integers(0, MAX_DURATION) | st.integers(0, 400).map(lambda each: each * 21_600_000)
NAME_LISTS = st.lists(NAMES, max_size=3, unique=True).map(tuple)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value, or None."""
    return st.none() | strategy


MULTIPLE = st.builds(
    Multiple,
    count=optional(st.integers(0, 2**31 - 1) | TEXTS),
    for_each=optional(TEXTS),
    minimum=optional(st.integers(0, 9)),
    maximum=optional(INTEGERS),
    threshold=optional(INTEGERS),
    until=optional(TEXTS),
    creation=st.sampled_from(Creation),
    remaining=st.sampled_from(Remaining),
    detached=st.booleans(),
)
MANUAL = st.builds(
    Manual,
    roles=NAME_LISTS,
    participants=NAME_LISTS,
    participants_from=optional(TEXTS),
    capabilities=NAME_LISTS,
    positions=NAME_LISTS,
    offer=st.sampled_from(Initiator),
    allocate=optional(st.builds(Allocation, policy=st.sampled_from(Policy), seed=st.integers(0, 2**31 - 1))),
    start=st.sampled_from(Initiator),
    separate_from=NAME_LISTS,
    familiar_to=optional(NAMES),
    chained=st.booleans(),
    privileges=st.lists(st.sampled_from(Privilege), max_size=3, unique=True).map(tuple),
    escalate=st.lists(
        st.builds(
            Escalation,
            after=DURATIONS,
            unless=st.sampled_from(Unless),
            to=optional(st.builds(Recipients, roles=NAME_LISTS, participants=NAME_LISTS)),
            priority=optional(st.integers(-9, 9)),
            notify=optional(TEXTS),
        ),
        max_size=2,
    ).map(tuple),
)
TASKS = st.builds(
    Task,
    id=TASK_IDS,
    name=TEXTS,
    join=optional(st.sampled_from(Join) | st.builds(PartialJoin, required=INTEGERS, cancels=optional(NAME_LISTS))),
    split=optional(st.sampled_from(Split)),
    cancels=NAME_LISTS,
    reads=NAME_LISTS,
    subnet=optional(NAMES),
    multiple=optional(MULTIPLE),
    trigger=optional(st.builds(Trigger, event=NAMES, mode=st.sampled_from(TriggerMode), correlate=optional(TEXTS))),
    timer=optional(DURATIONS | st.builds(Moment, at=TEXTS)),
    handler=optional(NAMES),
    http=optional(
        st.builds(
            Http,
            url=TEXTS,
            method=st.sampled_from(METHODS),
            headers=optional(
                st.dictionaries(st.from_regex(HEADER_NAME, fullmatch=True).map(lambda n: n[:20]), TEXTS, max_size=2)
            ),
            body=optional(TEXTS),
            success=optional(TEXTS),
            result=optional(TEXTS),
            timeout=optional(DURATIONS),
        )
    ),
    manual=optional(MANUAL),
    external=optional(st.builds(External, topic=NAMES, timeout=optional(DURATIONS))),
    worklet=st.lists(st.builds(WorkletRule, worklet=SPECIFICATION_IDS, when=optional(TEXTS)), max_size=2).map(tuple),
    exlet=st.lists(
        st.builds(WorkletRule, worklet=SPECIFICATION_IDS, when=optional(TEXTS), on_error=NAME_LISTS), max_size=2
    ).map(tuple),
    retry=optional(
        st.builds(
            Retry,
            max_attempts=INTEGERS,
            initial=DURATIONS,
            coefficient=st.floats(1, 1_000),
            max=DURATIONS,
            jitter=st.floats(0, 1),
            deadline=optional(DURATIONS),
            non_retryable=NAME_LISTS,
        )
    ),
    timeout=optional(DURATIONS),
    heartbeat=optional(DURATIONS),
    concurrency=optional(INTEGERS),
    breaker=optional(NAMES),
    deadline=optional(st.builds(Deadline, after=DURATIONS, since=st.sampled_from(DeadlineFrom))),
    requires=optional(TEXTS),
    ensures=optional(TEXTS),
    compensate=optional(
        st.builds(
            Compensate,
            handler=NAMES,
            retry=optional(st.builds(Retry, max_attempts=INTEGERS)),
            timeout=optional(DURATIONS),
        )
    ),
    replayable=st.booleans(),
    input=optional(st.dictionaries(NAMES, TEXTS, max_size=2)),
    output=optional(st.dictionaries(NAMES, TEXTS, max_size=2)),
)
NETS = st.builds(
    Net,
    tasks=st.lists(TASKS, max_size=4).map(tuple),
    conditions=st.lists(st.builds(Condition, id=CONDITION_IDS, name=TEXTS), max_size=3).map(tuple),
    flows=st.lists(
        st.builds(
            Flow,
            source=NAMES,
            target=NAMES,
            when=optional(TEXTS),
            default=st.booleans(),
            weight=INTEGERS,
            on_error=NAME_LISTS,
        ),
        max_size=4,
    ).map(tuple),
    termination=st.sampled_from(Termination),
)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
METRIC_NAMES = st.from_regex(r"\A[a-z][a-z0-9_]{0,12}\Z")
METRICS = st.builds(
    Metric,
    name=METRIC_NAMES,
    kind=st.sampled_from(MetricKind),
    on=st.sampled_from(["case_created", "task_completed"]),
    help=TEXTS,
    task=optional(NAMES),
    value=optional(TEXTS),
    buckets=optional(
        st.lists(st.floats(-1e15, 1e15), min_size=1, max_size=3, unique=True).map(lambda each: tuple(sorted(each)))
    ),
    labels=optional(
        st.dictionaries(
            METRIC_NAMES, st.builds(Label, value=TEXTS, maximum=st.integers(1, 1_000)), min_size=1, max_size=2
        )
    ),
)
SPECIFICATIONS = st.builds(
    Specification,
    id=SPECIFICATION_IDS,
    version=st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._+-]{0,12}\Z")
    | st.sampled_from(["1", "1.0", "1.10", "0x1", "1e3", "on"]),
    name=TEXTS,
    root=NETS,
    subnets=st.dictionaries(CONDITION_IDS, NETS, max_size=2),
    data=optional(st.dictionaries(TEXTS, JSON_VALUES, max_size=3)),
    schedule=optional(
        st.builds(
            Schedule,
            cron=optional(NAMES),
            every=optional(DURATIONS),
            repeat=optional(st.sampled_from(["R/2026-01-31T08:00:00Z/P1M", "R3/2026-01-31T08:00:00/PT1H"])),
            zone=NAMES,
            data=optional(st.dictionaries(TEXTS, JSON_VALUES, max_size=3)),
            time=optional(NAMES),
            catch_up=st.sampled_from(CatchUp),
        )
    ),
    metrics=st.lists(METRICS, max_size=2).map(tuple),
)


@given(SPECIFICATIONS)
def test_document_round_trip_is_exact(specification: Specification) -> None:
    """Reading the document that a specification writes gives the specification back."""
    document = to_document(specification)

    assert from_document(document) == specification
    assert to_document(from_document(document)) == document


@given(SPECIFICATIONS)
def test_json_round_trip_is_exact(specification: Specification) -> None:
    """Reading the JSON text that a specification writes gives the specification back, compact or not, also as bytes."""
    assert parse_json(dump_json(specification)) == specification
    assert parse_json(dump_json(specification, indent=None).encode()) == specification


@given(SPECIFICATIONS)
def test_yaml_round_trip_is_exact(specification: Specification) -> None:
    """Reading the YAML text that a specification writes gives the specification back, also as bytes."""
    text = dump_yaml(specification)

    assert parse_yaml(text) == specification
    assert parse_yaml(text.encode()) == specification


def shuffled(value: Any, chooser: random.Random) -> Any:
    """The same tree with the members of its maps in another order."""
    if isinstance(value, dict):
        names = list(value)
        chooser.shuffle(names)
        return {name: shuffled(value[name], chooser) for name in names}
    return [shuffled(each, chooser) for each in value] if isinstance(value, list) else value


@given(SPECIFICATIONS, st.randoms(use_true_random=False))
def test_content_hash_does_not_depend_on_the_order_of_members(
    specification: Specification, chooser: random.Random
) -> None:
    """A specification read from a document with shuffled members has the same content hash."""
    other = from_document(shuffled(specification.to_dict(), chooser))

    assert other.content_hash == specification.content_hash


@settings(max_examples=150)
@given(DURATIONS)
def test_durations_round_trip(milliseconds: int) -> None:
    """A duration is read back from what was written, to the millisecond."""
    assert parse_duration(format_duration(milliseconds)) == milliseconds


SCRAPS = [*"{}[]:,-?&*!|>'\"%@`#~<=. \n\t\\abid01", "id: ", "\n  ", "*a", "&a ", "<<: ", "!!str ", "\n- "]


@given(st.text(CHARACTERS, max_size=20) | st.lists(st.sampled_from(SCRAPS)).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever text is given, the answer is a specification or a SpecificationError, and no other exception."""
    for read in (parse_yaml, parse_json):
        with contextlib.suppress(SpecificationError):
            assert read(text).id


@given(
    st.recursive(
        JSON_VALUES, lambda inner: st.dictionaries(st.sampled_from(["id", "tasks", "flows", "subnets"]), inner)
    )
)
def test_any_tree_is_read_or_refused(tree: Any) -> None:
    """Whatever tree is given, the answer is a specification or a list of problems, and no other exception."""
    with contextlib.suppress(SpecificationError):
        assert Specification.from_dict(tree).problems() == ()
