"""Soundness: each kind of problem with its blame and shortest run, budgets, data, subnets, and where the verdict is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_soundness_brute import REFERENCE

import knhk.analysis
from knhk import Engine, Specification
from knhk._kernel import Net
from knhk._lower import lower
from knhk._orjoin import OrJoinAnalysis
from knhk.analysis import Budget, ProblemKind, SoundnessProblem, Verdict, verify
from knhk.analysis import soundness as module
from knhk.analysis._packing import pack
from knhk.analysis._relation import relation_of
from knhk.analysis._search import Meter, compiled_explorers, search
from knhk.analysis._space import DONE
from knhk.cli.app import knhk as command
from knhk.errors import DataError, SpecificationError
from knhk.patterns import patterns

ORDER = Path(__file__).parent.parent / "examples" / "order_to_cash" / "order.json"


def tree(flows: str, conditions: str = "", *, work: Any = None, **tasks: Any) -> dict[str, Any]:
    """
    A net of manual tasks from flows such as ``start-A A-p p-B*2 B-end``.

    An XOR- or OR-split takes the outputs that the data's ``go`` names, as conditions.
    """
    arcs = [each.partition("*")[0].split("-") + [each.partition("*")[2]] for each in flows.split()]
    places = {"start", "end", *conditions.split()}
    names = list(dict.fromkeys(each for arc in arcs for each in arc[:2] if each not in places))
    written = []
    for source, target, weight in arcs:
        flow: dict[str, Any] = {"from": source, "to": target}
        goal = target if target in places else f"{source}>{target}"
        split = tasks.get(source, {}).get("split")
        if split in ("xor", "or"):
            flow["when"] = f'"{goal}" in data.go'
        if weight:
            flow["weight"] = int(weight)
        written.append(flow)
    manual = {"manual": {}} if work is None else work
    return {
        "tasks": [{"id": name, **manual, **tasks.get(name, {})} for name in names],
        "conditions": conditions.split(),
        "flows": written,
    }


def made(flows: str, conditions: str = "", **options: Any) -> Specification:
    """A specification of one net."""
    termination = {"termination": options.pop("termination")} if "termination" in options else {}
    return Specification.from_dict({"id": "made", **tree(flows, conditions, **options), **termination})


def told(verdict: Verdict) -> list[tuple[str, str, list[str]]]:
    """Kind, blame and run of each problem."""
    return [(each.kind.value, each.element, list(map(str, each.trace))) for each in verdict.problems]


XOR, AND, OR = {"split": "xor"}, {"join": "and"}, {"join": "or"}
DEADLOCK = made("start-A A-B A-C B-D C-D D-end", A=XOR, D=AND)
IMPROPER = made("start-A A-B A-C B-D C-D D-end", A={"split": "and"}, D={"join": "xor"})
RACE = made("start-A A-B A-C B-end C-end", A={"split": "and"})
UNBOUNDED = made("start-A A-p p-B B-p B-q q-C p-C C-end", "p q", B={"split": "and"}, C=AND)
LIVELOCK = made("start-A A-p A-end p-B B-q q-C C-p", "p q", A=XOR)
DEAD = made("start-A A-B A-p B-end p-C q-C C-D D-q D-end", "p q", A=XOR, C=AND, D=XOR)
READ = made("start-A A-p p-B B-end A-end q-C C-end A-q", "p q", A=XOR, B={"reads": ["q"]})
ABORTED = made("start-A A-B A-C B-end C-D D-end", A={"split": "and"}, C={"cancels": ["B"]}, D={})
MUTUAL = made(
    "start-A A-p A-q p-B r-B q-C s-C B-x x-S S-s S-y C-z z-R R-r R-w y-E w-E E-end",
    "p q r s x y z w",
    A={"split": "and"}, B=OR, C=OR, S={"split": "and"}, R={"split": "and"}, E=AND,
)  # fmt: skip


@pytest.mark.parametrize(
    ("specification", "expected"),
    [
        (DEADLOCK, [("option-to-complete", "D", ["A -> A>B", "B -> B>D"]), ("dead-task", "D", [])]),
        (IMPROPER, [("improper-completion", "A>C", ["A -> A>B, A>C", "B -> B>D", "start D", "complete D -> end"])]),
        (RACE, [("improper-completion", "A>C", ["A -> A>B, A>C", "B -> end"])]),
        (LIVELOCK, [("option-to-complete", "p", ["A -> p"])]),
        (UNBOUNDED, [("unbounded", "q", ["A -> p", "B -> p, q"])]),
        (DEAD, [("option-to-complete", "C", ["A -> p"]), ("dead-task", "C", []), ("dead-task", "D", [])]),
        (READ, [("option-to-complete", "B", ["A -> p"]), ("dead-task", "B", [])]),
        (
            ABORTED,
            [("improper-completion", "A>C", ["A -> A>B, A>C", "start B", "complete B -> end"])],
        ),
        (
            MUTUAL,
            [
                ("option-to-complete", "B", ["A -> p, q"]),
                *(("dead-task", name, []) for name in ("B", "C", "S", "R", "E")),
            ],
        ),
    ],
    ids=["deadlock", "improper", "race", "livelock", "unbounded", "dead", "read", "aborted", "mutual"],
)
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "reference"])
def test_each_problem_has_its_blame_and_shortest_run(
    specification: Specification, expected: list[Any], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kind, the element to look at and the shortest run, from both explorers."""
    if not compiled:
        monkeypatch.setattr(module, "compiled_explorers", lambda: REFERENCE)
        module._remembered.cache_clear()

    found = told(verify(specification))
    module._remembered.cache_clear()

    assert found == expected


def test_an_unbounded_net_is_found_by_its_loop() -> None:
    """The condition that grows is named, with the run to where it has grown, and there is no bound."""
    verdict = verify(made("start-A A-p p-B B-p B-q q-C C-end", "p q", B={"split": "and"}))
    problem = next(each for each in verdict.problems if each.kind is ProblemKind.UNBOUNDED)

    assert problem.element == "q"
    assert "each round of B adds to it" in problem.message
    assert [str(each) for each in problem.trace] == ["A -> p", "B -> p, q"]
    assert verdict.bound is None


@pytest.mark.parametrize(
    ("specification", "bound"),
    [
        # Each round empties what it puts.
        (made("start-A A-p p-B B-p B-q q-C p-C C-end", "p q", B={"split": "and", "cancels": ["q"]}, C=AND), 1),
        # Two rounds at the most.
        (made("start-A A-p*2 p-B B-q q-C*2 C-end", "p q"), 2),
    ],
    ids=["emptied", "weights"],
)
def test_what_does_not_grow_for_ever_is_bounded(specification: Specification, bound: int) -> None:
    """More tokens than there were is no unboundedness."""
    verdict = verify(specification)

    assert (verdict.verdict, verdict.bound) == ("sound", bound)


def test_the_bound_is_the_most_tokens() -> None:
    """Three tokens on one condition make the bound three."""
    assert verify(made("start-A A-p*3 p-B B-q q-C*3 C-end", "p q")).bound == 3


def test_structure_alone_tells_of_nested_blocks() -> None:
    """Sequences, parallel and exclusive blocks and loops reduce to nothing: no state is looked at."""
    specification = made(
        "start-A A-B A-C B-D C-D D-p p-E E-p E-F E-G F-H G-H H-end",
        "p", A={"split": "and"}, D=AND, E=XOR, H={"join": "xor"},
    )  # fmt: skip
    verdict = verify(specification)

    assert (verdict.verdict, verdict.structural, verdict.states, verdict.bound) == ("sound", True, 0, 1)


def test_implicit_termination_leaves_nothing() -> None:
    """With implicit termination the end is when nothing is left to do, so no completion is improper."""
    assert verify(made("start-A A-B A-C B-end C-end", A={"split": "and"}, termination="implicit")).verdict == "sound"


def test_a_budget_of_states_leaves_it_undecided() -> None:
    """When the states are more than the budget, nothing is claimed, and the reason says so."""
    names = "BCDEFGHI"
    flows = " ".join(f"A-{n} {n}-J" for n in names)
    wide = made(f"start-A {flows} J-end", A={"split": "and"}, J=OR)
    verdict = verify(wide, budget=Budget(states=20))

    assert (verdict.verdict, verdict.problems, verdict.states, verdict.bound) == ("undecided", (), 20, None)
    assert verdict.reasons == ("the root net: the budget of 20 states is spent",)
    assert verify(wide).verdict == "sound"


def test_a_budget_of_time_leaves_it_undecided() -> None:
    """When the time is up, nothing is claimed, and the reason says so."""
    verdict = verify(RACE, budget=Budget(seconds=1e-9))

    assert verdict.verdict == "undecided"
    assert verdict.reasons == ("the root net: the budget of 1e-09 seconds is spent",)


def test_what_was_found_before_the_budget_was_spent_stands() -> None:
    """A problem in the states that were looked at makes it unsound, whatever the rest is."""
    verdict = verify(made("start-A A-B A-C A-D B-end C-end D-E E-end", A={"split": "and"}), budget=Budget(states=4))

    assert verdict.verdict == "unsound"
    assert verdict.problems[0].kind is ProblemKind.IMPROPER_COMPLETION
    assert verdict.reasons == ("the root net: the budget of 4 states is spent",)
    assert not any(each.kind is ProblemKind.DEAD_TASK for each in verdict.problems)


@pytest.mark.parametrize("arguments", [{"states": 0}, {"seconds": 0}, {"seconds": -1.0}])
def test_a_budget_of_nothing_is_refused(arguments: dict[str, Any]) -> None:
    """A budget has at least one state and some time."""
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Budget(**arguments)


def test_an_undecided_or_join_leaves_it_undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the OR-join's own search meets its budget, the verdict is no guess."""
    plan = lower(made("start-A A-p A-q p-B B-r q-C C-s r-D s-D D-end", "p q r s", A={"split": "or"}, D=OR)).nets[0]
    rules = relation_of(plan)
    for compiled in (compiled_explorers(), REFERENCE):
        net = Net(plan.tables)
        monkeypatch.setattr(type(net.analysis), "decide", lambda *_: 2)
        explored = search(rules, net, Meter(Budget()), compiled=compiled)
        verdict = module.read_off("", rules, explored)

        assert (verdict.verdict, verdict.problems) == ("undecided", ())
        assert verdict.reasons == ("the OR-join of 'D' cannot be decided in some state within its budget",)


@pytest.mark.parametrize("compiled", [compiled_explorers(), REFERENCE])
def test_the_time_ends_between_two_or_joins(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many OR-joins one stretch of the search asks for, none is decided after the time."""
    plan = lower(made("start-A A-p A-q p-B B-r q-C C-s r-D s-D D-end", "p q r s", A={"split": "or"}, D=OR)).nets[0]
    net, budget = Net(plan.tables), Budget()
    decided: list[tuple[int, ...]] = []
    decide = type(net.analysis).decide

    class Short(Meter):
        """Its time is up with the first decision."""

        def expired(self) -> bool:
            return bool(decided)

    def counted(analysis: OrJoinAnalysis, join: int, tokens: Sequence[int], *rest: Any) -> int:
        decided.append(tuple(tokens))
        return decide(analysis, join, tokens, *rest)

    monkeypatch.setattr(type(net.analysis), "decide", counted)
    explored = search(relation_of(plan), net, Short(budget), compiled=compiled)

    assert (1, False) == (len(set(decided)), explored.complete)
    assert (f"the budget of {budget.seconds:g} seconds is spent",) == explored.reasons


def test_an_or_split_that_is_too_wide_is_undecided() -> None:
    """Its parts are not enumerated, and the reason names the task."""
    flows = " ".join(f"A-{n} {n}-J" for n in "BCDEFGHIKLMNO")
    verdict = verify(made(f"start-A {flows} J-end", A={"split": "or"}, J=OR))

    assert verdict.verdict == "undecided"
    assert "the OR-split of 'A' has more than 12 outputs" in verdict.reasons[0]


# --- data -------------------------------------------------------------------------------------------------------------


def test_data_decides_predicates() -> None:
    """What deadlocks on some data is sound on other data, and then a task may be dead."""
    assert told(verify(DEADLOCK, data={"go": "A>B"}))[0] == ("option-to-complete", "D", ["A -> A>B", "B -> B>D"])

    both = made("start-A A-B A-C B-D C-D D-end", A={"split": "or"}, D=AND)
    assert verify(both).verdict == "unsound"
    assert verify(both, data={"go": ["A>B", "A>C"]}).verdict == "sound"


def test_a_predicate_without_its_data_stays_free() -> None:
    """What the case has yet to produce can be anything."""
    assert told(verify(DEADLOCK, data={"other": 1})) == told(verify(DEADLOCK))


def test_a_split_that_can_take_nothing_is_stuck() -> None:
    """If no predicate holds and there is no default, the completion is refused: the task to blame is the split's."""
    verdict = verify(made("start-A A-B A-C B-end C-end", A=XOR), data={"go": []})

    assert verdict.problems[0].element == "A"
    assert verdict.problems[0].running == ("A",)
    assert "no predicate of its split holds" in verdict.problems[0].message


def test_the_default_is_taken_where_nothing_holds() -> None:
    """With data the default is the only way if all predicates are false, and a free one if some are unknown."""
    document = tree("start-A A-B A-C B-end C-end", A=XOR)
    document["flows"][2] = {"from": "A", "to": "C", "default": True}
    specification = Specification.from_dict({"id": "made", **document})

    assert told(verify(specification, data={"go": []})) == [("dead-task", "B", [])]
    assert told(verify(specification, data={"go": ["A>B"]})) == [("dead-task", "C", [])]
    assert verify(specification, data={}).verdict == "sound"


def test_data_that_is_no_json_is_refused() -> None:
    """The data is what a case could have."""
    with pytest.raises(DataError, match="not JSON"):
        verify(DEADLOCK, data={"x": object()})


def test_a_split_without_default_is_worth_a_warning() -> None:
    """It is named with its place, and is no problem."""
    verdict = verify(made("start-A A-B A-C B-end C-end", A=XOR))

    assert verdict.verdict == "sound"
    assert [(each.place) for each in verdict.warnings] == ["tasks.A.split"]


# --- urgency, subnets, instances ---------------------------------------------------------------------------------------


def test_what_starts_by_itself_comes_first() -> None:
    """A manual task that competes with a routing task for one condition can never start."""
    document = tree("start-A A-p p-B p-C B-end C-end", "p", B={"manual": None})
    del document["tasks"][1]["manual"]

    assert told(verify(Specification.from_dict({"id": "made", **document}))) == [("dead-task", "C", [])]


def test_each_net_is_looked_at_by_itself() -> None:
    """A problem inside a subnet names the subnet; the composite task around it is one activation."""
    inner = tree("start-A A-B A-C B-D C-D D-end", A=XOR, D=AND)
    outer = tree("start-S S-end", work={"subnet": "inner"})
    verdict = verify(Specification.from_dict({"id": "made", **outer, "subnets": {"inner": inner}}))

    assert [(each.net, each.verdict) for each in verdict.nets] == [("", "sound"), ("inner", "unsound")]
    assert (verdict.problems[0].net, verdict.problems[0].element) == ("inner", "D")


def test_a_task_whose_input_is_emptied_by_another_is_seen_running() -> None:
    """Only while it runs does the cancellation miss it: it starts and completes at two moments."""
    specification = made(
        "start-A A-p A-q p-T T-r r-Y Y-end q-X X-end", "p q r",
        A={"split": "and"}, X={"cancels": ["p", "r", "Y"]}, Y={"cancels": ["q", "X"]},
    )  # fmt: skip
    expected = ["A -> p, q", "start T", "start X", "complete X -> end"]

    assert told(verify(specification)) == [("improper-completion", "T", expected)]


def test_an_empty_net_is_sound() -> None:
    """It ends when it starts."""
    assert verify(Specification.from_dict({"id": "empty"})).verdict == "sound"


def test_what_drains_is_not_left_over() -> None:
    """Instances that run on when control has passed do not make a completion improper."""
    multiple = {"count": 3, "threshold": 1, "remaining": "continue"}

    assert verify(made("start-A A-end", A={"multiple": multiple})).verdict == "sound"


# --- the package ------------------------------------------------------------------------------------------------------


def test_the_public_names_are_sorted_and_resolve() -> None:
    """Every public name is listed once, in order, and exists; another is refused as Python refuses it."""
    names = knhk.analysis.__all__

    assert sorted(names) == list(names)
    assert all(getattr(knhk.analysis, name) is not None for name in names)
    assert not hasattr(knhk.analysis, "nonsense")


# --- where it is given ------------------------------------------------------------------------------------------------


def test_an_ill_formed_specification_has_no_verdict() -> None:
    """What is not well-formed is refused with its problems."""
    with pytest.raises(SpecificationError, match="no flow leads into it"):
        verify(Specification(id="x", root=knhk.spec.Net(tasks=(knhk.spec.Task(id="A"),))))


def test_the_specification_verifies_itself() -> None:
    """`Specification.verify` is `knhk.analysis.verify`."""
    assert DEADLOCK.verify() == verify(DEADLOCK)


def test_the_same_question_is_answered_from_memory() -> None:
    """The verdict on the same content is the same object, however it is written; other data is another question."""
    again = Specification.from_json(DEADLOCK.to_json())

    assert verify(again) is verify(DEADLOCK)
    assert verify(again, data={"go": "A>B"}) is not verify(DEADLOCK)


def test_an_undecided_verdict_is_not_kept() -> None:
    """What the budget left open is looked at again."""
    first = verify(RACE, budget=Budget(states=1))

    assert first.verdict == "undecided"
    assert verify(RACE, budget=Budget(states=1)) is not first


@pytest.mark.parametrize(("specification", "expected"), [(DEADLOCK, "unsound"), (made("start-A A-end"), "sound")])
def test_registration_carries_the_verdict(specification: Specification, expected: str) -> None:
    """Registering says whether it is sound, and never refuses what is not."""
    with Engine("memory:") as engine:
        registration = engine.register(specification)

    assert registration.soundness.verdict == expected
    assert set(registration.soundness.to_dict()) >= {"verdict", "problems"}


def test_the_canonical_nets_and_the_example_are_as_pinned() -> None:
    """All are sound but pattern 19 and 43, which end explicitly while a branch waits; together they take under a second."""
    specifications = [patterns[number].specification for number in range(1, 44)]
    module._remembered.cache_clear()
    verdicts = [verify(each) for each in (*specifications, Specification.load(ORDER))]

    unsound = {number: told(each) for number, each in enumerate(verdicts, 1) if each.verdict != "sound"}
    assert {number: [kind for kind, _, _ in each] for number, each in unsound.items()} == {
        19: ["improper-completion"],
        43: ["improper-completion"],
    }
    assert sum(each.seconds for each in verdicts) < 1


def test_a_problem_is_json() -> None:
    """The tree of a verdict is what JSON can carry, and has the whole run."""
    document = json.loads(json.dumps(verify(DEADLOCK).to_dict()))

    assert document["problems"][0] == {
        "kind": "option-to-complete",
        "net": "",
        "element": "D",
        "message": "after 'B -> B>D' nothing can happen any more: 'D' waits for 'C>D', which nothing marks any more",
        "trace": [
            {"task": "A", "action": "fire", "marks": ["A>B"]},
            {"task": "B", "action": "fire", "marks": ["B>D"]},
        ],
        "marking": {"B>D": 1},
        "running": [],
    }


# --- replay -----------------------------------------------------------------------------------------------------------


def replayed(specification: Specification, problem: SoundnessProblem) -> tuple[knhk.RunningCase, dict[str, int]]:
    """Play a run on a real case; return it with its marking before the last step."""
    engine = Engine("memory:")
    engine.register(specification)
    case = engine.create_case(specification.id).run()
    before: dict[str, int] = {}
    for step in problem.trace:
        before = case.marking.get("", {})
        if step.action == "start":
            next(each for each in case.work_items() if each.path == step.task).start()
        else:
            case.complete_task(step.task, {"go": list(step.marks)})
    return case, before


@pytest.mark.parametrize(
    "specification", [DEADLOCK, LIVELOCK, UNBOUNDED, DEAD, READ, MUTUAL], ids=lambda each: each.content_hash[:6]
)
def test_a_run_to_a_lost_state_can_be_played(specification: Specification) -> None:
    """The engine comes to the very state, token by token."""
    for problem in verify(specification).problems:
        if problem.kind in (ProblemKind.OPTION_TO_COMPLETE, ProblemKind.UNBOUNDED):
            case, _ = replayed(specification, problem)

            assert case.marking[""] == problem.marking
            assert case.state in ("running", "deadlocked")


def test_the_deadlock_is_one() -> None:
    """After the run the case is deadlocked where the message says."""
    case, _ = replayed(DEADLOCK, verify(DEADLOCK).problems[0])

    assert (case.state, case.marking[""]) == ("deadlocked", {"B>D": 1})


@pytest.mark.parametrize("specification", [IMPROPER, RACE, ABORTED], ids=lambda each: each.content_hash[:6])
def test_a_run_to_an_improper_end_can_be_played(specification: Specification) -> None:
    """The engine completes the case, and what the problem says was there is discarded."""
    problem = next(each for each in verify(specification).problems if each.kind is ProblemKind.IMPROPER_COMPLETION)
    case, before = replayed(specification, problem)
    left = {name: count for name, count in problem.marking.items() if name != "end"}

    assert case.state == "completed"
    assert left.items() <= before.items()


# --- the explorers ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(compiled_explorers() is None, reason="the compiled explorer is not built")
def test_many_words_and_bytes_agree() -> None:
    """A net of more than 64 bits is searched on several words, and on bytes, to the same states."""
    flows = " ".join(f"A-B{n} B{n}-C{n} C{n}-D" for n in range(6)) + " " + " ".join(f"L{n}-L{n + 1}" for n in range(60))
    plan = lower(made(f"start-A {flows} D-L0 L60-end", A={"split": "and"}, D=AND)).nets[0]
    rules = relation_of(plan)
    net, packing = Net(plan.tables), pack(rules)
    assert packing is not None
    assert packing.bits > 64
    explorers = [compiled_explorers().Explorer(rules, net.analysis.decide, each) for each in (packing, None)]

    assert [each.run(10**6) for each in explorers] == [DONE, DONE]
    words, bytes_ = explorers
    assert (words.count, words.edges) == (bytes_.count, bytes_.edges) == (3**6 + 63, words.edges)
    assert all(words.state(number) == bytes_.state(number) for number in range(words.count))
    assert all(words.predecessor(number) == bytes_.predecessor(number) for number in range(words.count))
    for explorer in explorers:
        with pytest.raises(IndexError, match="there is no state"):
            explorer.state(words.count)
        with pytest.raises(IndexError, match="there is no state"):
            explorer.predecessor(-1)


@pytest.mark.parametrize("compiled", [compiled_explorers(), REFERENCE], ids=["compiled", "reference"])
def test_a_long_way_back_is_searched_backwards(compiled: Any) -> None:
    """States from which the end is reached only by the way back to the first are not taken for lost."""
    flows = (
        " ".join(f"p{n}-T{n} T{n}-p{n + 1}" for n in range(20))
        + " "
        + " ".join(f"p{n + 1}-U{n} U{n}-p{n}" for n in range(20))
    )
    names = " ".join(f"p{n}" for n in range(21))
    plan = lower(made(f"start-A A-p0 {flows} p0-Z Z-end", names)).nets[0]
    rules = relation_of(plan)
    verdict = module.read_off("", rules, search(rules, Net(plan.tables), Meter(Budget()), compiled=compiled))

    assert (verdict.verdict, verdict.states) == ("sound", 23)


@pytest.mark.parametrize("compiled", [compiled_explorers(), REFERENCE], ids=["compiled", "reference"])
def test_more_tokens_than_a_byte_can_count_are_not_followed(compiled: Any) -> None:
    """A weight beyond 255 leaves the net undecided, with the reason."""
    plan = lower(made("start-A A-p*300 p-B*300 B-end", "p")).nets[0]
    rules = relation_of(plan)
    verdict = module.read_off("", rules, search(rules, Net(plan.tables), Meter(Budget()), compiled=compiled))

    assert (verdict.verdict, verdict.problems) == ("undecided", ())
    assert verdict.reasons == ("a condition can hold more than 255 tokens; such states are not looked at",)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with one file for each answer."""
    monkeypatch.chdir(tmp_path)
    for name, specification in {"deadlock": DEADLOCK, "race": RACE, "line": made("start-A A-end")}.items():
        (tmp_path / f"{name}.json").write_text(specification.to_json())
    return tmp_path


def call(*arguments: str, code: int) -> str:
    """Call ``knhk verify`` and hold it to its exit code."""
    result = CliRunner().invoke(command, ["verify", *arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def test_the_command_shows_the_run(files: Path) -> None:
    """Kind, blame, message, the numbered run and the marking that it ends in."""
    text = call("deadlock.json", code=1)

    assert text.startswith("deadlock.json: well-formed, unsound, 2 problems\n")
    assert "  option-to-complete: D: after 'B -> B>D' nothing can happen any more: 'D' waits" in text
    assert '     2  B -> B>D\n    =>  {"B>D": 1}\n' in text
    assert "  warning: tasks.A.split: " in text


def test_the_command_decides_on_data(files: Path) -> None:
    """With data the predicates are decided."""
    assert "dead-task: C" in call("deadlock.json", "--data", '{"go": ["A>B"]}', code=1)


def test_the_command_says_undecided(files: Path) -> None:
    """A budget that is too small gives exit code 7 and the reason; an unsound file beside it gives 1."""
    assert "not decided: the root net: the budget of 1 states is spent" in call("race.json", "--states", "1", code=7)
    assert "undecided" in call("race.json", "--seconds", "1e-9", code=7)
    assert call("race.json", "deadlock.json", "--states", "1", code=7).count("undecided") == 2
    call("race.json", "line.json", code=1)


def test_the_command_gives_json(files: Path) -> None:
    """The document has the verdict's tree."""
    document = json.loads(call("line.json", "--json", code=0))

    assert (document["soundness"]["verdict"], document["soundness"]["structural"]) == ("sound", True)
