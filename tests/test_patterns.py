"""The catalogue: its 43 entries, what a run of each gives, and the property that makes each the pattern that it is."""

from __future__ import annotations

import subprocess
import sys
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest

from knhk import Engine, patterns
from knhk.errors import CommandError, DataError, LimitExceeded
from knhk.limits import Limits
from knhk.patterns import Catalogue, Pattern, Run
from knhk.patterns import patterns as catalogue
from knhk.patterns._scene import StoryClock
from knhk.running import RunningCase
from knhk.stores import MemoryStore

BASIC = "Basic control flow"
BRANCHING = "Advanced branching and synchronization"
INSTANCES = "Multiple instances"
STATE = "State-based"
CANCELLING = "Cancellation and force completion"
ITERATION = "Iteration"
TERMINATION = "Termination"
TRIGGER = "Trigger"

TABLE = [
    (1, "Sequence", BASIC),
    (2, "Parallel Split", BASIC),
    (3, "Synchronization", BASIC),
    (4, "Exclusive Choice", BASIC),
    (5, "Simple Merge", BASIC),
    (6, "Multi-Choice", BRANCHING),
    (7, "Structured Synchronizing Merge", BRANCHING),
    (8, "Multi-Merge", BRANCHING),
    (9, "Structured Discriminator", BRANCHING),
    (10, "Arbitrary Cycles", ITERATION),
    (11, "Implicit Termination", TERMINATION),
    (12, "Multiple Instances without Synchronization", INSTANCES),
    (13, "Multiple Instances with a priori Design-Time Knowledge", INSTANCES),
    (14, "Multiple Instances with a priori Run-Time Knowledge", INSTANCES),
    (15, "Multiple Instances without a priori Run-Time Knowledge", INSTANCES),
    (16, "Deferred Choice", STATE),
    (17, "Interleaved Parallel Routing", STATE),
    (18, "Milestone", STATE),
    (19, "Cancel Task", CANCELLING),
    (20, "Cancel Case", CANCELLING),
    (21, "Structured Loop", ITERATION),
    (22, "Recursion", ITERATION),
    (23, "Transient Trigger", TRIGGER),
    (24, "Persistent Trigger", TRIGGER),
    (25, "Cancel Region", CANCELLING),
    (26, "Cancel Multiple Instance Task", CANCELLING),
    (27, "Complete Multiple Instance Task", CANCELLING),
    (28, "Blocking Discriminator", BRANCHING),
    (29, "Cancelling Discriminator", BRANCHING),
    (30, "Structured Partial Join", BRANCHING),
    (31, "Blocking Partial Join", BRANCHING),
    (32, "Cancelling Partial Join", BRANCHING),
    (33, "Generalised AND-Join", BRANCHING),
    (34, "Static Partial Join for Multiple Instances", INSTANCES),
    (35, "Cancelling Partial Join for Multiple Instances", INSTANCES),
    (36, "Dynamic Partial Join for Multiple Instances", INSTANCES),
    (37, "Local Synchronizing Merge", BRANCHING),
    (38, "General Synchronizing Merge", BRANCHING),
    (39, "Critical Section", STATE),
    (40, "Interleaved Routing", STATE),
    (41, "Thread Merge", BRANCHING),
    (42, "Thread Split", BRANCHING),
    (43, "Explicit Termination", TERMINATION),
]

DEFAULT_TRACES = {
    1: "write_claim check_receipts pay_claim",
    2: "report_accident inspect_car ask_witness check_policy",
    3: "freeze_release test_program write_manual publish_release",
    4: "receive_order approve_as_clerk",
    5: "note_complaint scan_letter answer_complaint",
    6: "take_call send_ambulance send_fire_brigade",
    7: "plan_trip book_flight reserve_room pay_deposit send_travel_plan",
    8: "plan_brochure write_text draw_pictures proofread_part proofread_part print_part print_part",
    9: "ask_suppliers offer_of_ada place_order offer_of_bruno offer_of_cleo",
    10: "receive_draft revise_draft edit_draft revise_draft withdraw_draft",
    11: "say_goodbye file_bill clean_room put_key_back",
    12: "plan_party book_hall invite_guest#1 invite_guest#2 invite_guest#3",
    13: "write_report sign_report#1 sign_report#2 sign_report#3 file_report",
    14: "count_parcels inspect_parcel#1 inspect_parcel#2 inspect_parcel#3 store_delivery",
    15: "open_inquiry hear_witness#1 hear_witness#2 hear_witness#3 write_finding",
    16: "send_offer read_reply close_offer",
    17: "admit_patient measure_pressure take_x_ray draw_blood write_findings",
    18: "announce_concert open_sale exchange_ticket close_sale hold_concert",
    19: "open_ticket read_letter answer_letter",
    20: "take_order write_invoice",
    21: "look_for_pages read_page look_for_pages read_page look_for_pages close_book",
    22: (
        "list_archive/open_box list_archive/inner_box/open_box list_archive/inner_box/inner_box/open_box "
        "list_archive/inner_box/inner_box/list_papers list_archive/inner_box/inner_box/close_box "
        "list_archive/inner_box/close_box list_archive/close_box hand_in_list"
    ),
    23: "close_doors drive_off",
    24: "free_docks unload_truck unload_truck",
    25: "lodge_claim inspect_damage withdraw_claim send_receipt close_file",
    26: "call_vote cast_vote#1 cast_vote#2 find_flaw apologise",
    27: "send_questions answer_questions#1 answer_questions#2 count_answers",
    28: (
        "post_guards east_guard_reports sound_siren east_guard_reports west_guard_reports sound_siren "
        "west_guard_reports"
    ),
    29: "send_teams search_shore call_teams_back bring_hiker_home",
    30: "invite_reviewers review_by_ito review_by_juma decide_on_article review_by_kay",
    31: (
        "pour_wines mark_by_lena mark_by_miro award_medal mark_by_lena mark_by_miro mark_by_nils award_medal "
        "mark_by_nils"
    ),
    32: "prepare_payment sign_as_chair sign_as_treasurer release_payment",
    33: "order_bicycles weld_frame weld_frame lace_wheels assemble_bicycle lace_wheels assemble_bicycle",
    34: "call_for_bids write_bid#1 write_bid#2 award_contract write_bid#3 write_bid#4",
    35: "cook_dish taste_dish#1 taste_dish#2 write_menu",
    36: "make_appeal visit_donor#1 visit_donor#2 visit_donor#3 thank_helpers visit_donor#4",
    37: "take_application check_income ask_employer decide_loan",
    38: "plan_page write_text draw_picture judge_picture draw_picture judge_picture lay_out_page",
    39: "bring_beams lift_north_beam fix_north_beam lift_south_beam fix_south_beam take_crane_down",
    40: "drive_car_in check_brakes check_lights check_exhaust stick_on_badge",
    41: "print_contract sign_copy sign_copy sign_copy bind_copies",
    42: "copy_minutes stamp_set stamp_set post_set stamp_set post_set post_set",
    43: "advertise_flat first_buyer_signs",
}

EVERY = pytest.mark.parametrize("number", range(1, 44))


def trace(number: int, **variables: Any) -> list[str]:
    """The trace of a run that completes."""
    run = patterns[number].execute(variables)
    assert "completed" == run.outcome
    return list(run.trace)


def case_of(number: int, **data: Any) -> RunningCase:
    """A started case of a canonical net, without its story."""
    engine = Engine()
    engine.register(patterns[number].specification)
    case = engine.create_case(patterns[number].specification.id, {**patterns[number].defaults, **data})
    case.start()
    return case


def count(run: list[str], *prefixes: str) -> int:
    """How many entries of a trace begin so."""
    return sum(each.startswith(prefixes) for each in run)


# --- the catalogue ----------------------------------------------------------------------------------------------------


def test_numbers_names_and_categories_are_the_catalogues() -> None:
    """The 43 patterns have the numbers, names and categories of the revised catalogue."""
    assert TABLE == [(each.number, each.name, each.category) for each in patterns.values()]


def test_it_is_a_mapping_in_number_order() -> None:
    """The package is a mapping from 1 to 43 in this order, as is the catalogue that it holds."""
    assert 43 == len(patterns) == len(catalogue)
    assert [*range(1, 44)] == list(patterns) == list(patterns.keys()) == list(catalogue)
    assert dict(catalogue) == dict(patterns.items())
    assert 4 in patterns and 44 not in patterns
    assert patterns[4] is catalogue[4] is patterns.get(4)
    assert patterns.get(44) is None
    assert "<the 43 patterns>" == repr(catalogue)
    assert isinstance(catalogue, Catalogue)


def test_patterns_have_names_in_addresses() -> None:
    """A pattern is found by its slug and by other names under which it is published."""
    assert 4 == patterns["exclusive-choice"].number
    assert 37 == patterns["acyclic-synchronizing-merge"].number
    assert 19 == patterns["Cancel Activity"].number
    assert 43 == len({each.slug for each in patterns.values()})
    assert all(patterns[each.slug] is each for each in patterns.values())


def test_no_name_stands_for_two_patterns() -> None:
    """Each name, official or other, belongs to one pattern."""
    names = [name for each in patterns.values() for name in (each.name, *each.other_names)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (0, "there is no pattern 0: they are numbered 1 to 43"),
        (44, "there is no pattern 44: they are numbered 1 to 43"),
        (True, "there is no pattern True: they are numbered 1 to 43"),
        ("x", "there is no pattern 'x': they are numbered 1 to 43, and named as \"exclusive-choice\""),
        ("exclusive-choise", "there is no pattern 'exclusive-choise': did you mean 'exclusive-choice'?"),
    ],
)
def test_an_unknown_pattern_is_a_key_error_that_helps(key: Any, message: str) -> None:
    """Asking for what is not there says what is."""
    with pytest.raises(KeyError) as caught:
        patterns[key]

    assert (message,) == caught.value.args


def test_importing_makes_no_specification() -> None:
    """The import builds no net; a specification is made when it is asked for, and once."""
    program = (
        "import knhk.spec\n"
        "def refuse(tree): raise AssertionError\n"
        "knhk.spec.Specification.from_dict = refuse\n"
        "import knhk.patterns\n"
        "print(len(knhk.patterns), knhk.patterns[43].name)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "43 Explicit Termination\n" == done.stdout
    assert patterns[7].specification is patterns[7].specification


@EVERY
def test_every_pattern_is_described(number: int) -> None:
    """Each has a description, a story, and variables with meaning and default."""
    pattern = patterns[number]

    assert isinstance(pattern, Pattern)
    assert pattern.description.endswith(".") and pattern.story
    assert pattern.variables.keys() == pattern.defaults.keys()
    assert all("(default " in text for text in pattern.variables.values())


@EVERY
def test_every_net_is_well_formed_and_peoples_work_is_manual(number: int) -> None:
    """Each canonical net can be registered, and its work is for people, but for timers, routing and subnets."""
    specification = patterns[number].specification

    assert () == specification.problems()
    assert patterns[number].net is specification.root
    assert f"knhk-pattern-{number:02}" == specification.id
    assert all(
        task.manual is not None or task.subnet is not None or task.timer is not None
        for net in specification.nets().values()
        for task in net.tasks
    )


@EVERY
def test_every_pattern_runs_with_its_defaults(number: int) -> None:
    """Without variables each pattern ends as its story says, with the trace of the story."""
    run = patterns[number].execute()

    assert ("cancelled" if number == 20 else "completed") == run.outcome
    assert tuple(DEFAULT_TRACES[number].split()) == run.trace
    assert run.variables.keys() >= patterns[number].defaults.keys()


@EVERY
def test_every_pattern_runs_the_same_on_sqlite(number: int, tmp_path: Path) -> None:
    """A run on a durable engine gives what one in memory gives, and stays there with its history."""
    file = str(tmp_path / "runs.db")
    with Engine(file, durability="off") as engine:
        durable = patterns[number].execute(engine=engine)
        engine.evict()
        again = engine.case(durable.case_id)

        assert (durable.outcome, durable.variables) == (again.state, again.data)

    in_memory = patterns[number].execute()
    assert (in_memory.outcome, in_memory.trace, in_memory.variables) == (
        durable.outcome,
        durable.trace,
        durable.variables,
    )
    with Engine(file, durability="off") as engine:
        assert durable.outcome == engine.case(durable.case_id).state


def test_one_engine_runs_all_patterns_again_and_again() -> None:
    """Executions share a registration and nothing else."""
    store = MemoryStore()
    with Engine(store) as engine:
        runs = [each.execute(engine=engine) for _ in range(2) for each in patterns.values()]

        assert 86 == len({run.case_id for run in runs})
        assert [run.trace for run in runs[:43]] == [run.trace for run in runs[43:]]
        assert 43 == len(store.specifications())


def test_a_run_tells_outcome_trace_and_variables() -> None:
    """What the user's example says comes true, variables that nobody listens to included."""
    run = patterns[4].execute({"amount": 7, "note": ["x"]})

    assert isinstance(run, Run)
    assert ("completed", ("receive_order", "ship_at_once")) == (run.outcome, run.trace)
    assert {"amount": 7, "note": ["x"]} == run.variables


# --- variables that do not fit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "variables", "message"),
    [
        (1, {"x": object()}, "the given data is not JSON data"),
        (1, [1], "the given data must be a mapping"),
        (4, {"amount": "much"}, "receive_order -> approve_as_manager"),
        (6, {"fire": 3}, "take_call -> send_fire_brigade"),
        (8, {"parts": []}, "no predicate of the split holds"),
        (12, {"guests": 101}, "gives 101 instances"),
        (14, {"parcels": -1}, "is no number of instances"),
        (16, {"first": "nothing"}, 'first: must be one of "reply", "deadline", "withdrawal"'),
        (17, {"order": ["draw_blood"]}, "order: must be a list of "),
        (13, {"order": [1, 2, True]}, "order: must be a list of 1, 2, 3 in any order"),
        (21, {"pages": True}, "pages: must be a whole number from 0 to 100"),
        (21, {"pages": 101}, "pages: must be a whole number from 0 to 100"),
        (22, {"opened": 1}, "opened: is counted by the run itself: leave it out"),
    ],
)
def test_variables_that_do_not_fit_are_data_errors(number: int, variables: Any, message: str) -> None:
    """A value that the net or the story cannot use is refused, with its place."""
    with pytest.raises(DataError, match="^[^~]*" + message.replace("(", r"\(")):
        patterns[number].execute(variables)


def test_a_run_that_is_refused_leaves_no_open_case() -> None:
    """A case that could not go on is cancelled, so that an engine that others use keeps no work of it."""
    with Engine() as engine:
        with pytest.raises(DataError):
            patterns[4].execute({"amount": "much"}, engine=engine)

        assert ["cancelled"] == [each.state for each in engine.cases()]


def test_an_engines_limits_hold() -> None:
    """What the given engine does not allow is refused as it refuses."""
    with Engine(limits=Limits(depth=3)) as engine, pytest.raises(LimitExceeded):
        patterns[22].execute({"depth": 5}, engine=engine)


def test_time_passes_for_the_run_alone() -> None:
    """A story that waits moves no other case of the engine, nor its clock."""
    with Engine() as engine:
        engine.register(patterns[16].specification)
        other = engine.create_case("knhk-pattern-16", {})
        other.start()
        other.complete_task("send_offer")

        run = patterns[16].execute({"first": "deadline"}, engine=engine)

        assert "let_offer_lapse" in run.trace
        assert ["take_offer_back"] == other.enabled


def test_the_story_clock_goes_along_with_another() -> None:
    """Moves add to what the base clock says."""
    clock = StoryClock(StoryClock())
    before = clock.now()
    clock.advance(5)

    assert before + 5 == clock.now()


# --- what makes each the pattern that it is ---------------------------------------------------------------------------


def test_01_each_task_waits_for_the_one_before() -> None:
    """Exactly one task is offered at any time, also while the first one runs."""
    case = case_of(1)

    with pytest.raises(CommandError):
        case.start_task("check_receipts")
    case.start_task("write_claim")
    assert [] == case.enabled
    case.complete_task("write_claim")
    assert ["check_receipts"] == case.enabled


@pytest.mark.parametrize("order", [*permutations(["inspect_car", "ask_witness", "check_policy"])])
def test_02_branches_finish_in_any_order(order: tuple[str, ...]) -> None:
    """All branches are there at once and none waits for another."""
    assert ["report_accident", *order] == trace(2, order=list(order))


@pytest.mark.parametrize("order", [*permutations(["test_program", "write_manual"])])
def test_03_the_join_comes_last(order: tuple[str, ...]) -> None:
    """Whatever the order of the branches, what follows comes once and after both."""
    assert ["freeze_release", *order, "publish_release"] == trace(3, order=list(order))


@pytest.mark.parametrize(
    ("amount", "branch"),
    [
        (1001, "approve_as_manager"),
        (1000, "approve_as_clerk"),
        (101, "approve_as_clerk"),
        (100, "ship_at_once"),
        (7, "ship_at_once"),
    ],
)
def test_04_exactly_one_branch(amount: int, branch: str) -> None:
    """The first predicate that holds takes the thread, though the second would hold too."""
    assert ["receive_order", branch] == trace(4, amount=amount)


def test_05_either_branch_alone_goes_on() -> None:
    """The merge does not wait for the branch that was not taken."""
    assert ["note_complaint", "import_form", "answer_complaint"] == trace(5, channel="web")


@pytest.mark.parametrize(("injured", "fire", "crime"), [*product([True, False], repeat=3)])
def test_06_every_subset_of_branches(injured: bool, fire: bool, crime: bool) -> None:
    """Exactly the branches whose predicate holds are taken, the default when none does."""
    sent = {"send_ambulance": injured, "send_fire_brigade": fire, "send_police": crime}
    expected = [each for each, wanted in sent.items() if wanted] or ["calm_caller"]

    assert ["take_call", *expected] == trace(6, injured=injured, fire=fire, crime=crime)


@pytest.mark.parametrize(("flight", "hotel", "car"), [*product([True, False], repeat=3)])
def test_07_every_subset_is_merged_once(flight: bool, hotel: bool, car: bool) -> None:
    """The merge comes once, last, after all the work of the branches that were chosen."""
    chosen = {"book_flight": flight, "reserve_room": hotel, "pay_deposit": hotel, "rent_car": car}
    expected = {each for each, wanted in chosen.items() if wanted} or {"note_day_trip"}

    run = trace(7, flight=flight, hotel=hotel, car=car)

    assert expected == set(run[1:-1]) and len(run) == len(expected) + 2
    assert "send_travel_plan" == run[-1]


@pytest.mark.parametrize("parts", [["prices"], ["text", "prices"], ["text", "pictures", "prices"]])
def test_08_one_continuation_for_each_arrival(parts: list[str]) -> None:
    """What follows the merge runs as often as branches arrive."""
    run = trace(8, parts=parts)

    assert len(parts) == count(run, "proofread_part") == count(run, "print_part")


@pytest.mark.parametrize("order", [*permutations(["offer_of_ada", "offer_of_bruno", "offer_of_cleo"])])
def test_09_one_continuation_at_the_first_arrival(order: tuple[str, ...]) -> None:
    """The first offer gets the order; the others still come and change nothing."""
    first, *others = order

    assert ["ask_suppliers", first, "place_order", *others] == trace(9, order=list(order))


@pytest.mark.parametrize(
    ("desk", "turns", "last"),
    [
        ("author", 1, "withdraw_draft"),
        ("author", 2, "publish_draft"),
        ("editor", 1, "publish_draft"),
        ("editor", 4, "withdraw_draft"),
    ],
)
def test_10_entered_and_left_at_either_point(desk: str, turns: int, last: str) -> None:
    """Both entries lead to both exits, after any number of turns."""
    run = trace(10, desk=desk, turns=turns)

    assert turns == count(run, "revise_draft", "edit_draft")
    assert last == run[-1]


@pytest.mark.parametrize("order", [*permutations(["file_bill", "clean_room", "put_key_back"])])
def test_11_the_last_work_is_the_end(order: tuple[str, ...]) -> None:
    """Whichever thread ends last ends the case, and never before all work is done."""
    run = trace(11, order=list(order))

    assert sorted(order) == sorted(run[1:])
    assert run.index("clean_room") < run.index("put_key_back")


@pytest.mark.parametrize("guests", [0, 1, 7])
def test_12_nothing_waits_for_the_instances(guests: int) -> None:
    """The next task completes before any instance, and the case ends with the last of them."""
    invited = [f"invite_guest#{number}" for number in range(1, guests + 1)]

    assert ["plan_party", "book_hall", *invited] == trace(12, guests=guests)


def test_13_always_three_in_any_order() -> None:
    """The number is the net's, the order free, and what follows comes once."""
    expected = ["write_report", "sign_report#3", "sign_report#1", "sign_report#2", "file_report"]

    assert expected == trace(13, order=[3, 1, 2])


@pytest.mark.parametrize("parcels", [0, 1, 100])
def test_14_as_many_instances_as_the_case_says(parcels: int) -> None:
    """The number of instances is the variable's, none and the maximum included."""
    run = trace(14, parcels=parcels)

    assert parcels == count(run, "inspect_parcel#")
    assert "store_delivery" == run[-1]


@pytest.mark.parametrize(("witnesses", "named_later"), [(1, 0), (1, 50), (3, 2), (2, 5)])
def test_15_instances_are_added_while_others_run(witnesses: int, named_later: int) -> None:
    """Those of the beginning and those that came later are all completed before control passes on."""
    run = trace(15, witnesses=witnesses, named_later=named_later)

    assert witnesses + named_later == count(run, "hear_witness#")
    assert "write_finding" == run[-1]


@pytest.mark.parametrize(
    ("first", "task"),
    [("reply", "read_reply"), ("deadline", "let_offer_lapse"), ("withdrawal", "take_offer_back")],
)
def test_16_the_world_chooses_one(first: str, task: str) -> None:
    """A message, the clock or a person may be first, and the others do not happen."""
    assert ["send_offer", task, "close_offer"] == trace(16, first=first)


@pytest.mark.parametrize("order", [*permutations(["measure_pressure", "take_x_ray", "draw_blood"])])
def test_17_any_order_that_respects_the_partial_one(order: tuple[str, ...]) -> None:
    """Each examination is made once, the pressure before the blood, wherever the x-ray stands."""
    run = trace(17, order=list(order))

    assert sorted(order) == sorted(run[1:-1])
    assert run.index("measure_pressure") < run.index("draw_blood")


@pytest.mark.parametrize("number", [17, 40])
def test_17_and_40_never_two_at_a_time(number: int) -> None:
    """While one of the set is started none of the others is offered."""
    case = case_of(number)
    case.complete_task(case.enabled[0])

    case.start_task(case.enabled[0])

    assert [] == case.enabled


@pytest.mark.parametrize(
    ("visit", "task"), [("before", "keep_ticket"), ("during", "exchange_ticket"), ("after", "keep_ticket")]
)
def test_18_possible_only_at_the_milestone(visit: str, task: str) -> None:
    """The ticket is exchanged only while the sale is open, and the sale goes on in any case."""
    run = trace(18, visit=visit)

    assert [task] == [each for each in run if each.endswith("_ticket")]
    assert {"open_sale", "close_sale", "hold_concert"} <= set(run)


@pytest.mark.parametrize("letter", ["before the call", "during the call"])
def test_19_the_cancelled_task_and_what_follows_it_do_not_happen(letter: str) -> None:
    """A call that is offered, and one that runs, is gone with the letter."""
    assert ["open_ticket", "read_letter", "answer_letter"] == trace(19, letter=letter)


def test_19_without_the_letter_the_task_completes() -> None:
    """The call is made when nothing cancels it."""
    assert ["open_ticket", "call_customer", "note_call"] == trace(19, letter="never")


@pytest.mark.parametrize("after", range(5))
def test_20_nothing_remains_of_the_case(after: int) -> None:
    """Wherever the case stands it ends as cancelled, with nothing offered."""
    with Engine() as engine:
        run = patterns[20].execute({"after": after}, engine=engine)
        case = engine.case(run.case_id)

        assert ("cancelled", after) == (run.outcome, len(run.trace))
        assert [] == case.enabled == case.running == case.work_items()
        with pytest.raises(CommandError):
            case.complete_task("write_invoice")


def test_20_a_completed_case_is_not_cancelled() -> None:
    """After the last task it is too late."""
    assert "completed" == patterns[20].execute({"after": 5}).outcome


@pytest.mark.parametrize("pages", [0, 1, 100])
def test_21_the_test_comes_before_the_body(pages: int) -> None:
    """The body runs as often as pages are there, not at all without any, and the test once more."""
    run = trace(21, pages=pages)

    assert (pages, pages + 1) == (count(run, "read_page"), count(run, "look_for_pages"))
    assert 0 == patterns[21].execute({"pages": pages}).variables["pages"]


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_22_the_innermost_returns_first(depth: int) -> None:
    """As many boxes are opened as the depth says, and closed from the inside out."""
    run = trace(22, depth=depth)
    opened = [each.removesuffix("/open_box") for each in run if each.endswith("/open_box")]
    closed = [each.removesuffix("/close_box") for each in run if each.endswith("/close_box")]

    assert depth + 1 == len(opened)
    assert opened == sorted(opened, key=len)
    assert opened[::-1] == closed


def test_23_a_signal_that_nobody_waits_for_is_lost() -> None:
    """Early signals, however many, start nothing; one at the right time does."""
    lost = patterns[23].execute({"early": 3, "waiting": 0})

    assert ("running", ("close_doors",)) == (lost.outcome, lost.trace)
    assert ["close_doors", "drive_off"] == trace(23, early=0, waiting=1)


@pytest.mark.parametrize(("early", "waiting"), [(2, 0), (1, 1), (0, 2), (3, 3)])
def test_24_a_signal_is_kept(early: int, waiting: int) -> None:
    """Two signals unload two trucks, whenever they came."""
    assert 2 == count(trace(24, early=early, waiting=waiting), "unload_truck")


def test_24_each_signal_is_used_once() -> None:
    """One signal does not unload two trucks."""
    run = patterns[24].execute({"early": 1, "waiting": 0})

    assert ("running", ("free_docks", "unload_truck")) == (run.outcome, run.trace)


@pytest.mark.parametrize("done", range(4))
def test_25_the_region_stops_wherever_it_is(done: int) -> None:
    """Nothing of the region happens after the withdrawal, and what is outside goes on."""
    run = trace(25, done=done)

    assert ["withdraw_claim", "send_receipt", "close_file"] == run[done + 1 :]
    assert "settle_claim" not in run


@pytest.mark.parametrize("voted", [0, 1, 3])
def test_26_nothing_follows_the_cancelled_instances(voted: int) -> None:
    """Completed instances stay, open ones vanish, and control does not pass on."""
    run = trace(26, voters=4, voted=voted)

    assert voted == count(run, "cast_vote#")
    assert "announce_result" not in run


def test_26_all_instances_complete_in_time() -> None:
    """When all have voted before there is nothing to cancel."""
    assert "announce_result" in trace(26, voters=2, voted=9)


@pytest.mark.parametrize(("asked", "answered"), [(4, 0), (4, 3), (4, 4), (1, 9)])
def test_27_control_passes_on_once(asked: int, answered: int) -> None:
    """With no, some and all instances complete, what follows comes exactly once."""
    run = trace(27, asked=asked, answered=answered)

    assert min(asked, answered) == count(run, "answer_questions#")
    assert ["count_answers"] == run[-1:] and 1 == count(run, "count_answers")


EAST, WEST = "east_guard_reports", "west_guard_reports"


@pytest.mark.parametrize("order", sorted(set(permutations([EAST, EAST, WEST, WEST]))))
def test_28_one_firing_for_each_round(order: tuple[str, ...]) -> None:
    """The siren sounds at the first report, and again only when both guards have reported once."""
    run = trace(28, order=list(order))
    reports = [each for each in run[1:] if each != "sound_siren"]
    second = len(run) - 1 - run[::-1].index("sound_siren")

    assert [*order] == reports
    assert "sound_siren" == run[2] and 2 == count(run, "sound_siren")
    assert {EAST, WEST} <= set(run[1:second])


@pytest.mark.parametrize("finder", ["search_hills", "search_shore", "search_woods"])
def test_29_the_others_are_cancelled(finder: str) -> None:
    """Of three teams one completes its search."""
    assert ["send_teams", finder, "call_teams_back", "bring_hiker_home"] == trace(29, finder=finder)


@pytest.mark.parametrize("order", [*permutations(["review_by_ito", "review_by_juma", "review_by_kay"])])
def test_30_the_second_arrival_passes_on(order: tuple[str, ...]) -> None:
    """The decision comes once, after two reviews, and the third comes without effect."""
    first, second, third = order

    assert ["invite_reviewers", first, second, "decide_on_article", third] == trace(30, order=list(order))


def test_31_a_whole_second_wave_waits_for_one() -> None:
    """Second marks of two judges are held until the third judge has marked the first wine."""
    lena, miro, nils = "mark_by_lena", "mark_by_miro", "mark_by_nils"

    run = trace(31, order=[lena, lena, miro, nils, miro, nils])

    assert ["pour_wines", lena, lena, miro, "award_medal", nils, miro, "award_medal", nils] == run


@pytest.mark.parametrize("order", [*permutations(["sign_as_chair", "sign_as_treasurer", "sign_as_secretary"])])
def test_32_two_pass_on_and_the_third_is_cancelled(order: tuple[str, ...]) -> None:
    """Who would sign last does not sign."""
    assert ["prepare_payment", *order[:2], "release_payment"] == trace(32, order=list(order))


@pytest.mark.parametrize("order", sorted(set(permutations(["weld_frame"] * 2 + ["lace_wheels"] * 2))))
def test_33_one_firing_for_each_complete_set(order: tuple[str, ...]) -> None:
    """There are never more bicycles than frames or pairs of wheels, and two in the end."""
    run = trace(33, order=list(order))

    for length in range(len(run) + 1):
        made = [count(run[:length], each) for each in ("assemble_bicycle", "weld_frame", "lace_wheels")]
        assert made[0] <= min(made[1:])
    assert 2 == count(run, "assemble_bicycle")


@pytest.mark.parametrize("bidders", [0, 1, 2, 9])
def test_34_the_rest_runs_on_without_effect(bidders: int) -> None:
    """Two bids, or all if there are fewer, award the contract once; every bid is still completed."""
    run = trace(34, bidders=bidders)

    assert (bidders, 1) == (count(run, "write_bid#"), count(run, "award_contract"))
    assert min(2, bidders) + 1 == run.index("award_contract")


@pytest.mark.parametrize("cooks", [0, 1, 2, 9])
def test_35_the_rest_is_cancelled(cooks: int) -> None:
    """No more than two cooks taste."""
    run = trace(35, cooks=cooks)

    assert min(2, cooks) == count(run, "taste_dish#")
    assert "write_menu" == run[-1]


@pytest.mark.parametrize(
    ("target", "donors", "found_later", "before"), [(100, 2, 2, 3), (40, 1, 5, 1), (0, 3, 0, 1), (1000, 2, 1, 3)]
)
def test_36_a_condition_on_the_data_passes_control(target: int, donors: int, found_later: int, before: int) -> None:
    """Control passes when the target is reached, or when all have completed and it never was."""
    run = trace(36, target=target, donors=donors, found_later=found_later)

    assert before + 1 == run.index("thank_helpers")
    assert donors + found_later == count(run, "visit_donor#")


@pytest.mark.parametrize(
    ("salary", "house", "employed", "between"),
    [
        (True, False, True, {"check_income", "ask_employer"}),
        (True, False, False, {"check_income", "read_tax_return", "rate_security"}),
        (False, True, True, {"value_house", "rate_security"}),
        (True, True, True, {"check_income", "ask_employer", "value_house", "rate_security"}),
        (True, True, False, {"check_income", "read_tax_return", "value_house", "rate_security"}),
    ],
)
def test_37_only_living_branches_are_waited_for(salary: bool, house: bool, employed: bool, between: set[str]) -> None:
    """Both merges fire once, after every branch that is alive, and do not wait for one that died upstream."""
    run = trace(37, salary=salary, house=house, employed=employed)

    assert between == set(run[1:-1]) and len(between) == len(run) - 2
    assert "decide_loan" == run[-1]
    if "rate_security" in between:
        assert not {"read_tax_return", "value_house"} & set(run[run.index("rate_security") :])


@pytest.mark.parametrize(("text", "picture", "redraws"), [(True, True, 3), (True, False, 3), (False, True, 0)])
def test_38_waits_for_a_loop_as_long_as_it_may_deliver(text: bool, picture: bool, redraws: int) -> None:
    """The page is laid out once, after the last drawing, or at once when no picture can come."""
    run = trace(38, text=text, picture=picture, redraws=redraws)

    assert (redraws + 1 if picture else 0) == count(run, "draw_picture")
    assert 1 == count(run, "lay_out_page") and "lay_out_page" == run[-1]


@pytest.mark.parametrize(("first", "second"), [("north", "south"), ("south", "north")])
def test_39_a_section_once_entered_is_finished_first(first: str, second: str) -> None:
    """The other beam is wished for in between, and not lifted before the first one is fixed."""
    sections = [f"lift_{first}_beam", f"fix_{first}_beam", f"lift_{second}_beam", f"fix_{second}_beam"]

    assert ["bring_beams", *sections, "take_crane_down"] == trace(39, first=first)


@pytest.mark.parametrize("order", [*permutations(["check_brakes", "check_lights", "check_exhaust"])])
def test_40_every_order(order: tuple[str, ...]) -> None:
    """All orders of the set are possible, each task once."""
    assert ["drive_car_in", *order, "stick_on_badge"] == trace(40, order=list(order))


@pytest.mark.parametrize("signed", [0, 1, 2])
def test_41_nothing_happens_before_all_threads_are_there(signed: int) -> None:
    """With fewer than three copies signed nothing is bound."""
    run = patterns[41].execute({"signed": signed})

    assert ("running", signed + 1) == (run.outcome, len(run.trace))
    assert "bind_copies" not in run.trace


def test_42_three_threads_from_one() -> None:
    """Everything behind the split happens three times, without being joined."""
    run = trace(42)

    assert (1, 3, 3) == (count(run, "copy_minutes"), count(run, "stamp_set"), count(run, "post_set"))


@pytest.mark.parametrize(
    ("buyer", "rest"), [("first", ["first_buyer_signs"]), ("second", ["second_buyer_visits", "second_buyer_signs"])]
)
def test_43_the_first_thread_at_the_end_ends_the_case(buyer: str, rest: list[str]) -> None:
    """What the other buyer had started is discarded, and the case a success."""
    with Engine() as engine:
        run = patterns[43].execute({"buyer": buyer}, engine=engine)

        assert ("completed", ["advertise_flat", *rest]) == (run.outcome, list(run.trace))
        assert [] == engine.case(run.case_id).work_items()
