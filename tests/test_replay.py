"""Replay: fitness by hand, deviations by name, names in logs, and what reports say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from knhk.analysis import Deviation, DeviationKind, ReplayReport, replay
from knhk.errors import DataError
from knhk.formats import LoggedEvent, Trace
from knhk.spec import Specification

NOT_ENABLED, UNKNOWN_TASK = DeviationKind.NOT_ENABLED, DeviationKind.UNKNOWN_TASK
NOT_COMPLETED, LEFT_OVER = DeviationKind.NOT_COMPLETED, DeviationKind.LEFT_OVER


def spec(tasks: dict[str, dict[str, Any]], flows: list[str], **rest: Any) -> Specification:
    """A specification from tasks (manual ones unless they say otherwise) and flows such as "A B"."""
    return Specification.from_dict({"id": "s", **net(tasks, flows), **rest})


def net(tasks: dict[str, dict[str, Any]], flows: list[str], **rest: Any) -> dict[str, Any]:
    """A net, likewise."""
    pairs = [each.split() for each in flows]
    made = [dict(zip(("from", "to", "when"), each, strict=False)) for each in pairs]
    kinds = {"handler", "manual", "subnet", "timer", "routing"}
    laid = [
        {
            "id": name,
            **({} if kinds & set(task) else {"manual": {}}),
            **{k: v for k, v in task.items() if k != "routing"},
        }
        for name, task in tasks.items()
    ]
    return {"tasks": laid, "flows": made, **rest}


def trace(names: str, case: str = "1") -> Trace:
    """A trace from names; a ``+`` behind one says that it started."""
    events = [LoggedEvent(each.rstrip("+"), "start" if each.endswith("+") else "complete") for each in names.split()]
    return Trace(case, tuple(events))


def told(report: ReplayReport) -> list[tuple[str, DeviationKind]]:
    """The deviations of the worst trace, as task and kind."""
    return [(each.task, each.kind) for each in report.worst[0].deviations] if report.worst else []


ORDER = spec(
    {"register": {"split": "and"}, "check": {}, "pack": {}, "send": {"join": "and"}},
    ["start register", "register check", "register pack", "check send", "pack send", "send end"],
)


@pytest.mark.parametrize(
    ("names", "tokens", "deviations"),
    [
        ("register check pack send", (6, 6, 0, 0), []),
        ("register pack check send", (6, 6, 0, 0), []),
        # By hand: start 1, register 2, pack 1, send 1 produced; check's token stays and send lacks one.
        ("register pack send", (5, 5, 1, 1), [("send", NOT_ENABLED), ("check", LEFT_OVER)]),
        ("register check pack", (5, 4, 1, 2), [("send", LEFT_OVER), ("send", LEFT_OVER)]),
        ("register check pack send refund", (7, 7, 1, 1), [("refund", UNKNOWN_TASK)]),
        ("register check check pack send", (7, 7, 1, 1), [("check", NOT_ENABLED), ("send", LEFT_OVER)]),
        ("check register pack send", (6, 6, 1, 1), [("check", NOT_ENABLED), ("check", LEFT_OVER)]),
        ("register check pack send send", (7, 8, 2, 1), [("send", NOT_ENABLED)]),
        ("", (1, 1, 1, 1), [("register", LEFT_OVER)]),
    ],
)
def test_fitness_is_the_papers_formula(
    names: str, tokens: tuple[int, int, int, int], deviations: list[tuple[str, DeviationKind]]
) -> None:
    """Token counts are those of the paper, worked out by hand, and each deviation names its task."""
    report = replay(ORDER, [trace(names)], strict=True)

    produced, consumed, missing, remaining = tokens
    assert tokens == (report.produced, report.consumed, report.missing, report.remaining)
    assert (1 - missing / consumed) / 2 + (1 - remaining / produced) / 2 == report.fitness
    assert deviations == told(report)


def test_positions_and_conditions_are_told() -> None:
    """A deviation says which event it is, or where a token was left."""
    report = replay(ORDER, [trace("register pack send")])

    assert (
        Deviation("send", NOT_ENABLED, 3),
        Deviation("check", LEFT_OVER, 0, "register>check"),
    ) == replay(ORDER, [trace("register pack send")], strict=True).worst[0].deviations
    assert (("check",), 1.0) == (report.silent, report.fitness)


def test_a_report_adds_up() -> None:
    """Means, shares, variants, worst traces, deviations and skipped events are those of all traces."""
    traces = [trace("register check pack send", f"good {n}") for n in range(3)]
    traces += [trace("register pack send", f"bad {n}") for n in range(2)]
    traces.append(Trace("odd", (LoggedEvent("register", "schedule"), LoggedEvent("nonsense"))))

    report = replay(ORDER, traces, listed=2)

    assert (6, 19, 3, 3, 0) == (report.traces, report.events, report.fitting, report.variant_count, report.undecided)
    odd = (1 - 2 / 2) / 2 + (1 - 2 / 2) / 2
    assert pytest.approx((3 * 1 + 2 * 0.8 + odd) / 6) == report.fitness
    # Produced 3 * 6 + 2 * 5 + 2, consumed likewise; missing and remaining 2 * 1 + 2.
    assert (30, 30, 4, 4, 1 - 4 / 30) == (
        report.produced, report.consumed, report.missing, report.remaining, report.token_fitness,
    )  # fmt: skip
    assert [(3, 1.0, ("good 0", "good 1", "good 2")), (2, 0.8, ("bad 0", "bad 1"))] == [
        (each.count, each.fitness, each.cases) for each in report.variants
    ]
    assert ["odd", "bad 0"] == [each.case for each in report.worst]
    assert ("send", NOT_ENABLED, 2, 2, ("bad 0", "bad 1")) == tuple(
        getattr(report.deviations[0], name) for name in ("task", "kind", "count", "traces", "cases")
    )
    assert {"transition schedule": 1} == report.skipped
    assert report.to_dict() == json.loads(json.dumps(report.to_dict()), object_hook=_tuples)


def _tuples(tree: dict[str, Any]) -> dict[str, Any]:
    """What JSON makes lists of and a report keeps as tuples."""
    kept = ("cases", "events", "silent")
    return {name: tuple(value) if name in kept and isinstance(value, list) else value for name, value in tree.items()}


def test_an_empty_log_fits() -> None:
    """No trace, no deviation: fitness 1."""
    report = replay(ORDER, [])

    assert (1.0, 1.0, 0, ()) == (report.fitness, report.token_fitness, report.traces, report.worst)


SHIP = {"ship": net({"pick": {"name": "Pick goods"}, "send": {}}, ["start pick", "pick send", "send end"])}
SHIPPING = spec({"pay": {}, "out": {"subnet": "ship"}}, ["start pay", "pay out", "out end"], subnets=SHIP)
TWICE = spec(
    {"out": {"subnet": "ship"}, "back": {"subnet": "ship"}}, ["start out", "out back", "back end"], subnets=SHIP
)


@pytest.mark.parametrize("names", ["pay out/pick out/send", "pay pick send", "pay pick send out", "pay out+ pick send"])
def test_tasks_in_subnets_have_paths_and_ids(names: str) -> None:
    """An inner task is named by its path or its id; the composite task may be in the log or not."""
    assert [] == told(replay(SHIPPING, [trace(names)], strict=True))


def test_displayed_names_and_a_mapping_name_tasks() -> None:
    """A name in the log may be a displayed name, or anything that the mapping translates or leaves out."""
    events = tuple(map(LoggedEvent, ["Payment", "Pick goods", "noise", "send"]))

    report = replay(SHIPPING, [Trace("1", events)], names={"Payment": "pay", "noise": None}, strict=True)

    assert ([], {"left out by the mapping": 1}, 3) == (told(report), report.skipped, report.events)


@pytest.mark.parametrize(
    ("names", "deviations"),
    [
        ("pick send pick send", []),
        ("out/pick out/send back/pick back/send", []),
        ("back/pick back/send out/pick out/send", [("back/pick", NOT_ENABLED), ("out/pick", NOT_ENABLED)]),
    ],
)
def test_a_subnet_in_two_places(names: str, deviations: list[tuple[str, DeviationKind]]) -> None:
    """An id stands for its task wherever its net runs, a path for one place."""
    assert deviations == told(replay(TWICE, [trace(names)], strict=True))[:2]


def test_a_name_for_several_tasks_is_refused() -> None:
    """An id that two nets have asks for a path."""
    both = spec(
        {"a": {"subnet": "x"}, "b": {"subnet": "y"}},
        ["start a", "a b", "b end"],
        subnets={each: net({"t": {}}, ["start t", "t end"]) for each in "xy"},
    )

    with pytest.raises(DataError, match=r"'t' is the name of 2 tasks \(in x, y\): map it to a path"):
        replay(both, [trace("t t")])
    assert 1.0 == replay(both, [trace("a/t b/t")]).fitness


def test_a_mapping_to_no_task_is_refused() -> None:
    """What a mapping names has to be there."""
    with pytest.raises(DataError, match="the mapping of 'x' names 'out/none', which is no task of s"):
        replay(SHIPPING, [], names={"x": "out/none"})


@pytest.mark.parametrize(
    ("names", "deviations"),
    [
        ("pay send", [("out/send", NOT_ENABLED), ("out/pick", LEFT_OVER)]),
        ("pick send", [("out/pick", NOT_ENABLED), ("pay", LEFT_OVER)]),
        ("pay out", [("out", NOT_ENABLED), ("out/pick", LEFT_OVER)]),
        ("out", [("out", NOT_ENABLED), ("pay", LEFT_OVER)]),
        ("pay pick send out out+", [("out", NOT_ENABLED), ("out/pick", LEFT_OVER)]),
        ("pay out#2/pick", [("out/pick", NOT_ENABLED), ("out", LEFT_OVER)]),
    ],
)
def test_composite_tasks_are_forced(names: str, deviations: list[tuple[str, DeviationKind]]) -> None:
    """What has to happen around an inner task is forced with it."""
    report = replay(SHIPPING, [trace(names)], strict=True)

    assert deviations[0] in told(report)
    assert report.fitness < 1


def test_starts_count_where_the_log_has_them() -> None:
    """A start takes the token: whoever started keeps the others from starting, and has to complete."""
    choice = spec({"A": {}, "B": {}}, ["start A", "start B", "A end", "B end"])

    fits = replay(choice, [trace("A+ A"), trace("B+ B")])
    crossed = replay(choice, [trace("A+ B+ B"), trace("A+ A")])
    open_end = replay(choice, [trace("A+"), trace("A")])

    assert 1.0 == fits.fitness
    assert [("B", NOT_ENABLED), ("A", NOT_COMPLETED)] == told(crossed)
    assert [("A", NOT_COMPLETED)] == told(open_end)
    assert [("A", NOT_ENABLED)] == [(each.task, each.kind) for each in open_end.worst[1].deviations][:1]


def test_nothing_starts_unseen_where_the_log_tells_starts() -> None:
    """Instances, composite tasks and tasks beside a cancellation do not start silently where the log tells starts of them."""
    many = replay(MANY, [trace("A B+ B B B C"), trace("A B B B C", "late")])
    inner = replay(SHIPPING, [trace("pay out+ pick send"), trace("pay pick send", "late")])
    cancelling = replay(CANCEL, [trace("A B+ B J stop J"), trace("A B J stop J", "late")])

    for report, task in ((many, "B"), (inner, "out/pick"), (cancelling, "B")):
        assert (["late"], (task, NOT_ENABLED)) == ([each.case for each in report.worst], told(report)[0])


def test_a_second_start_of_a_busy_task_is_not_played() -> None:
    """A task has one activation at a time: another start deviates and changes nothing."""
    report = replay(ORDER, [trace("register+ register+ register check pack send")])

    assert [("register", NOT_ENABLED)] == told(report)
    assert (1, 1) == (report.missing, report.remaining)


MANY = spec({"A": {}, "B": {"multiple": {"count": 3}}, "C": {}}, ["start A", "A B", "B C", "C end"])


@pytest.mark.parametrize("names", ["A B B B C", "A B#2 B#1 B#3 C", "A B+ B#1 B#2 B#3 C", "A B#1+ B#2+ B B+ B B C"])
def test_instances_are_numbered_or_repeated(names: str) -> None:
    """The instances of a task are events of its name, with or without numbers; they start together."""
    assert [] == told(replay(MANY, [trace(names)]))


@pytest.mark.parametrize(
    ("names", "deviations"),
    [
        ("A B B C", [("C", NOT_ENABLED), ("B", NOT_COMPLETED)]),
        ("A B B B B C", [("B", NOT_ENABLED)]),
        ("A B#1 B#1 B#2 C", [("B", NOT_ENABLED)]),
    ],
)
def test_the_number_of_instances_matters(names: str, deviations: list[tuple[str, DeviationKind]]) -> None:
    """Too few and too many instances deviate."""
    assert deviations == told(replay(MANY, [trace(names)], strict=True))[: len(deviations)]


@pytest.mark.parametrize(
    ("multiple", "names", "fits"),
    [
        ({"for_each": "data.list"}, "A B B B B B C", True),
        ({"for_each": "data.list"}, "A C", True),
        ({"count": "data.n", "minimum": 2, "maximum": 3}, "A B C", False),
        ({"count": "data.n", "minimum": 2, "maximum": 3}, "A B#3 B#1 B#2 C", True),
        ({"count": "data.n", "minimum": 2, "maximum": 3}, "A B B B B C", False),
        ({"count": 1, "creation": "dynamic", "maximum": 2}, "A B B C", True),
        ({"count": 0}, "A C", True),
        ({"count": 3, "threshold": 2}, "A B B C", True),
        ({"count": 3, "threshold": 2}, "A B B B C", False),
        ({"count": 3, "threshold": 2, "remaining": "continue"}, "A B B B C", True),
        ({"count": 3, "until": "completed > 1"}, "A B C", True),
        ({"count": 2, "detached": True}, "A C", True),
        ({"count": 2, "detached": True}, "A B B C", True),
        ({"count": 2, "detached": True}, "A B B B C", False),
    ],
)
def test_instances_end_as_their_task_says(multiple: dict[str, Any], names: str, fits: bool) -> None:
    """Open numbers, bounds, thresholds, conditions and detachment are the case's (rule 6)."""
    specification = spec({"A": {}, "B": {"multiple": multiple}, "C": {}}, ["start A", "A B", "B C", "C end"])

    assert fits == (replay(specification, [trace(names)], strict=True).fitness == 1)


@pytest.mark.parametrize(
    ("names", "fits"),
    [
        ("A out/pick out/send B", True),
        ("A out#1/pick out#2/pick out#2/send out#1/send B", True),
        ("A pick pick pick send send send B", True),
        ("A out/pick B", False),
    ],
)
def test_composite_instances(names: str, fits: bool) -> None:
    """As many nets run as events need, where the number is open."""
    specification = spec(
        {"A": {}, "out": {"subnet": "ship", "multiple": {"for_each": "data.list"}}, "B": {}},
        ["start A", "A out", "out B", "B end"],
        subnets=SHIP,
    )

    assert fits == (replay(specification, [trace(names)], strict=True).fitness == 1)


OR = spec(
    {"A": {"split": "or"}, "B": {}, "C": {}, "J": {"join": "or"}},
    ["start A", "A B data.x", "A C data.y", "B J", "C J", "J end"],
)


@pytest.mark.parametrize("names", ["A B J", "A C J", "A B C J", "A C B J"])
def test_or_joins_wait_for_what_was_chosen(names: str) -> None:
    """Any choice of an OR-split fits, and the OR-join comes after what was chosen."""
    assert [] == told(replay(OR, [trace(names)], strict=True))


def test_an_early_or_join_deviates() -> None:
    """Both branches ran, so the join between them came too early."""
    report = replay(OR, [trace("A B J C")], strict=True)

    assert [("C", NOT_ENABLED), ("J", LEFT_OVER)] == told(report)
    assert report.fitness < 1


def test_an_or_join_that_waits_is_forced() -> None:
    """An OR-join that had to wait for a token lacks one, even though its own inputs are marked."""
    waiting = spec(
        {"A": {"split": "and"}, "B": {}, "C": {}, "J": {"join": "or"}, "K": {"join": "and"}},
        ["start A", "A B", "A C", "B J", "C J", "A K", "J K", "K end"],
    )

    report = replay(waiting, [trace("A B J C K")], strict=True)

    assert [("J", NOT_ENABLED), ("J", LEFT_OVER)] == told(report)


CANCEL = spec(
    {
        "A": {"split": "and"},
        "B": {},
        "stop": {"cancels": ["A>B", "B", "B>J"]},
        "J": {"join": "xor"},
    },
    ["start A", "A B", "A stop", "B J", "stop J", "J end"],
    termination="implicit",
)


@pytest.mark.parametrize(
    ("names", "fits"),
    [("A stop J", True), ("A B J stop J", True), ("A stop B J", False), ("A B stop J", True), ("A stop J B J", False)],
)
def test_cancelled_work_does_not_happen(names: str, fits: bool) -> None:
    """What a cancellation set removed can neither complete nor be asked for."""
    report = replay(CANCEL, [trace(names)], strict=True)

    assert fits == (report.fitness == 1)
    assert fits or ("B", NOT_ENABLED) in told(report)


def test_started_work_outlives_a_cancellation_of_its_condition() -> None:
    """A task that may have started before its condition was emptied may complete after it; who starts too late may not."""
    started = spec(
        {"A": {"split": "and"}, "B": {}, "stop": {"cancels": ["A>B"]}, "J": {"join": "and"}},
        ["start A", "A B", "A stop", "B J", "stop J", "J end"],
    )

    assert 1.0 == replay(started, [trace("A stop B J")], strict=True).fitness
    assert 1.0 == replay(started, [trace("A B+ stop B J")], strict=True).fitness
    assert [("B", NOT_ENABLED)] == told(replay(started, [trace("A stop B+ B J")], strict=True))


def test_a_choice_of_inputs_depends_on_when_a_task_started() -> None:
    """An XOR-join that starts early takes the input that is marked then, and leaves the other to who needs it."""
    early = spec(
        {"A": {"split": "and"}, "B": {}, "T": {"join": "xor"}, "U": {}, "J": {"join": "and"}},
        ["start A", "A q", "A B", "B p", "p T", "q T", "p U", "T J", "U J", "J end"],
        conditions=["p", "q"],
    )

    assert 1.0 == replay(early, [trace("A B T U J")], strict=True).fitness
    assert [("U", NOT_ENABLED)] == told(replay(early, [trace("A B T+ T U+ U J")], strict=True))[:1]


RACE = {
    "race": net({"a": {"split": "and"}, "b": {}, "c": {"subnet": "slow"}}, ["start a", "a b", "a c", "b end", "c end"]),
    "slow": net({"d": {}}, ["start d", "d end"]),
}
RACING = spec({"out": {"subnet": "race"}, "Z": {}}, ["start out", "out Z", "Z end"], subnets=RACE)


@pytest.mark.parametrize(
    ("names", "deviations", "remaining"),
    [
        ("a b Z", [], 0),
        ("a d Z", [], 0),
        ("a b out Z", [], 0),
        ("a b d out Z", [("out/c/d", NOT_ENABLED)], 1),
        # What the end of a net discards remains where the trace deviates: here d's token, or that in front of c.
        ("x a b Z", [("x", UNKNOWN_TASK)], 2),
    ],
)
def test_a_net_that_ended_is_over(names: str, deviations: list[tuple[str, DeviationKind]], remaining: int) -> None:
    """The first token in its output condition ends a net with all that runs in it (rule 8)."""
    report = replay(RACING, [trace(names)], strict=True)

    assert (deviations, remaining) == (told(report)[: len(deviations) or 1], report.remaining)


def test_silent_moves_bring_a_forced_event_nearer() -> None:
    """What silent moves could have put is not counted as missing."""
    joined = spec(
        {"A": {"split": "and"}, "B": {}, "r": {"routing": True}, "J": {"join": "and"}},
        ["start A", "A B", "A r", "B J", "r J", "J end"],
    )

    report = replay(joined, [trace("A J")], strict=True)

    assert (1, 1, [("J", NOT_ENABLED), ("B", LEFT_OVER)]) == (report.missing, report.remaining, told(report))


PARTIAL = spec(
    {"A": {"split": "and"}, "B": {}, "C": {}, "D": {}, "J": {"join": {"partial": 2}}, "K": {}},
    ["start A", "A B", "A C", "A D", "B J", "C J", "D J", "J K", "K end"],
)


@pytest.mark.parametrize(
    ("names", "deviations"),
    [
        ("A B C J D K", []),
        ("A D B J K", []),
        ("A B J K", [("J", NOT_ENABLED)]),
        ("A B C J J K", [("J", NOT_ENABLED)]),
    ],
)
def test_partial_joins(names: str, deviations: list[tuple[str, DeviationKind]]) -> None:
    """A partial join fires with two of three inputs, once a round."""
    assert deviations == told(replay(PARTIAL, [trace(names)], strict=True))[:1]


def test_reads_are_not_consumed_when_they_are_forced() -> None:
    """A task that reads an unmarked condition lacks that token, and nobody finds it afterwards."""
    reading = spec(
        {"A": {"split": "and"}, "B": {}, "R": {"reads": ["ok"]}, "J": {"join": "and"}},
        ["start A", "A B", "A R", "B ok", "ok J", "R J", "J end"],
        conditions=["ok"],
    )

    assert 1.0 == replay(reading, [trace("A B R J")], strict=True).fitness
    report = replay(reading, [trace("A R B J")], strict=True)
    assert ([("R", NOT_ENABLED)], 1, 0) == (told(report), report.missing, report.remaining)


def test_silent_choices_are_not_made_too_early() -> None:
    """Which branch silent routing took is known only from what follows, however late that is."""
    late = spec(
        {
            "A": {},
            "r1": {"routing": True},
            "r2": {"routing": True},
            "B1": {"name": "b"},
            "B2": {},
            "C": {},
            "D": {},
        },
        ["start A", "A x", "x r1", "x r2", "r1 B1", "r2 B2", "B1 C", "B2 D", "C end", "D end"],
        conditions=["x"],
    )
    log = [
        Trace("1", tuple(map(LoggedEvent, ["A", "C"]))),
        Trace("2", tuple(map(LoggedEvent, ["A", "D"]))),
        Trace("3", tuple(map(LoggedEvent, ["A", "b", "C"]))),
    ]

    report = replay(late, log, names={"b": "B1"})

    # B2 is never named and may be silent; B1 is named, so a trace without it lacks it.
    assert (("B2",), 2) == (report.silent, report.fitting)
    assert ["1"] == [each.case for each in report.worst]


def test_unfinished_cases_may_stop_anywhere() -> None:
    """With unfinished cases nothing is asked of the end, and the beginning still has to fit."""
    assert 1.0 == replay(ORDER, [trace("register"), trace("")], strict=True, unfinished_cases=True).fitness
    assert [("send", NOT_ENABLED)] == told(replay(ORDER, [trace("send")], strict=True, unfinished_cases=True))


def test_a_budget_that_is_met_is_told() -> None:
    """A trace that does not fit within a budget is counted as undecided; one that fits is not."""
    chain = [f"r{n}" for n in range(20)]
    flows = [f"{a} {b}" for a, b in zip(["A", *chain], [*chain, "B"], strict=True)]
    long = spec({"A": {}, "B": {}, **{each: {"routing": True} for each in chain}}, ["start A", *flows, "B end"])

    cut, whole = (replay(long, [trace("A B")], budget=budget) for budget in (5, 100))

    assert (1, 0, False) == (cut.undecided, cut.fitting, cut.worst[0].decided)
    assert (0, 1) == (whole.undecided, whole.fitting)


def test_an_or_split_with_many_branches_is_cut() -> None:
    """Of more than ten predicates not all choices are looked at: what does not fit is undecided then."""
    branches = [f"b{n}" for n in range(12)]
    wide = spec(
        {"A": {"split": "or"}, **{each: {} for each in branches}, "J": {"join": "or"}},
        ["start A", *(f"A {each} data.{each}" for each in branches), *(f"{each} J" for each in branches), "J end"],
    )

    report = replay(wide, [trace("A b3 b7 J"), trace(f"A {' '.join(branches)} J")], strict=True)

    assert (1, 1) == (report.fitting, report.undecided)


def test_nets_that_contain_themselves_end_the_search() -> None:
    """Recursion without end meets the budget, and what is within it is found."""
    loop = {"again": net({"t": {}, "deeper": {"subnet": "again"}}, ["start t", "start deeper", "t end", "deeper end"])}
    recursive = spec({"A": {"subnet": "again"}}, ["start A", "A end"], subnets=loop)

    report = replay(recursive, [trace("A/deeper/deeper/t"), trace("t", "2"), trace("t t", "3")])

    assert (3, 2, 1) == (report.traces, report.fitting, report.undecided)


def test_a_condition_that_leads_nowhere_is_named() -> None:
    """A token that no task could take is left over in front of none."""
    sink = spec({"A": {"split": "and"}, "B": {}}, ["start A", "A p", "A B", "B end"], conditions=["p"])

    report = replay(sink, [trace("A")], strict=True)

    assert {("", "p"), ("B", "A>B")} == {(each.task, each.condition) for each in report.worst[0].deviations}
    assert 1.0 == replay(sink, [trace("A B")], strict=True).fitness


def test_memory_is_bounded_by_forgetting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that has forgotten what it found finds the same again."""
    traces = [trace("register check pack send"), trace("register pack send"), trace("send"), trace("register check")]
    kept = replay(ORDER, traces)
    monkeypatch.setattr("knhk.analysis._replay_search._STEPS", 1)

    assert kept == replay(ORDER, traces)
