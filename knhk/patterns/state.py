"""State-based: patterns 16 to 18, 39 and 40."""

from __future__ import annotations

from typing import Final

from knhk.patterns._notation import chain, fan, person
from knhk.patterns._pattern import Pattern
from knhk.patterns._scene import Scene
from knhk.patterns._variables import arrangement, one_of

CATEGORY: Final = "State-based"


def _wait_for_the_customer(scene: Scene) -> None:
    scene.complete("send_offer")
    first = scene.data["first"]
    if first == "reply":
        scene.event("reply")
        scene.complete("read_reply")
    elif first == "deadline":
        scene.wait(days=10)
    else:
        scene.complete("take_offer_back")
    scene.finish()


DEFERRED_CHOICE = Pattern(
    number=16,
    name="Deferred Choice",
    category=CATEGORY,
    description=(
        "Several tasks are offered from the same state; the world outside chooses by starting one, and the others are "
        "withdrawn."
    ),
    story="an offer is answered, lapses after ten days, or is taken back, whichever comes first",
    other_names=("Implicit Choice", "Deferred XOR-split"),
    listens={"first": one_of("what happens first", "reply", "deadline", "withdrawal")},
    net={
        "tasks": {
            "send_offer": person("seller"),
            "read_reply": person("seller", trigger={"event": "reply", "mode": "transient"}),
            "let_offer_lapse": {"timer": "10d"},
            "take_offer_back": person("seller"),
            "close_offer": person("clerk", join="xor"),
        },
        "conditions": ["offer_open"],
        "flows": [
            *chain("start", "send_offer", "offer_open"),
            *chain("offer_open", "read_reply", "close_offer"),
            *chain("offer_open", "let_offer_lapse", "close_offer"),
            *chain("offer_open", "take_offer_back", "close_offer"),
            *chain("close_offer", "end"),
        ],
    },
    script=_wait_for_the_customer,
)

INTERLEAVED_PARALLEL_ROUTING = Pattern(
    number=17,
    name="Interleaved Parallel Routing",
    category=CATEGORY,
    description="Tasks of which some must come before others run one at a time, in any order that respects this.",
    story="one patient, three examinations: blood is drawn only after its pressure is known, the x-ray fits anywhere",
    listens={
        "order": arrangement(
            "the order that is wished for; what is not possible at its turn comes later",
            "measure_pressure",
            "take_x_ray",
            "draw_blood",
        )
    },
    net={
        "tasks": {
            "admit_patient": person("nurse", split="and"),
            "measure_pressure": person("nurse", join="and", split="and"),
            "draw_blood": person("nurse", join="and", split="and"),
            "take_x_ray": person("radiographer", join="and", split="and"),
            "write_findings": person("doctor", join="and"),
        },
        "conditions": [
            "patient_free",
            "pressure_due",
            "blood_due",
            "x_ray_due",
            "blood_drawn",
            "x_ray_taken",
        ],
        "flows": [
            *chain("start", "admit_patient"),
            *fan("admit_patient", "pressure_due", "x_ray_due", "patient_free"),
            *chain("pressure_due", "measure_pressure", "blood_due", "draw_blood", "blood_drawn", "write_findings"),
            *chain("x_ray_due", "take_x_ray", "x_ray_taken", "write_findings"),
            *chain("patient_free", "measure_pressure", "patient_free"),
            *chain("patient_free", "draw_blood", "patient_free"),
            *chain("patient_free", "take_x_ray", "patient_free"),
            *chain("patient_free", "write_findings", "end"),
        ],
    },
    script=lambda scene: scene.in_order(scene.data["order"]),
)


def _come_to_the_box_office(scene: Scene) -> None:
    scene.complete("announce_concert")
    visit = scene.data["visit"]
    if visit != "before":
        scene.complete("open_sale")
    if visit == "after":
        scene.complete("close_sale")
    scene.complete("exchange_ticket" if "exchange_ticket" in scene.open else "keep_ticket")
    scene.finish()


MILESTONE = Pattern(
    number=18,
    name="Milestone",
    category=CATEGORY,
    description=(
        "A task is enabled only while another part of the case stands in a given state; looking at the state does not "
        "change it, and once it has passed the task is not possible any more."
    ),
    story="a ticket can be exchanged only while the sale is open; before and after, it is kept",
    listens={"visit": one_of("when the guest comes to the box office", "during", "before", "after")},
    net={
        "tasks": {
            "announce_concert": person("manager", split="and"),
            "open_sale": person("manager"),
            "close_sale": person("manager"),
            "exchange_ticket": person("cashier", reads=["sale_open"]),
            "keep_ticket": person("cashier"),
            "hold_concert": person("manager", join="and"),
        },
        "conditions": ["sale_open", "ticket_in_hand", "ticket_settled"],
        "flows": [
            *chain("start", "announce_concert"),
            *chain("announce_concert", "open_sale", "sale_open", "close_sale", "hold_concert"),
            *chain("announce_concert", "ticket_in_hand", "exchange_ticket", "ticket_settled", "hold_concert"),
            *chain("ticket_in_hand", "keep_ticket", "ticket_settled"),
            *chain("hold_concert", "end"),
        ],
    },
    script=_come_to_the_box_office,
)


def _share_the_crane(scene: Scene) -> None:
    first, second = ("north", "south") if scene.data["first"] == "north" else ("south", "north")
    # Each step of the second team is wished for before the next one of the first: the crane decides what is possible.
    scene.in_order([f"lift_{first}_beam", f"lift_{second}_beam", f"fix_{second}_beam", f"fix_{first}_beam"])


CRITICAL_SECTION = Pattern(
    number=39,
    name="Critical Section",
    category=CATEGORY,
    description="Of several parts of a net only one may be active at a time; once entered it is finished first.",
    story="two beams and one crane: it holds a beam from lifting to fixing, and only then takes the other",
    listens={"first": one_of("which beam is lifted first", "north", "south")},
    net={
        "tasks": {
            "bring_beams": person("driver", split="and"),
            "lift_north_beam": person("crane", join="and"),
            "fix_north_beam": person("welder", split="and"),
            "lift_south_beam": person("crane", join="and"),
            "fix_south_beam": person("welder", split="and"),
            "take_crane_down": person("crane", join="and"),
        },
        "conditions": ["crane_free", "north_beam_due", "south_beam_due", "north_beam_fixed", "south_beam_fixed"],
        "flows": [
            *chain("start", "bring_beams"),
            *fan("bring_beams", "crane_free", "north_beam_due", "south_beam_due"),
            *chain("north_beam_due", "lift_north_beam", "fix_north_beam", "north_beam_fixed", "take_crane_down"),
            *chain("south_beam_due", "lift_south_beam", "fix_south_beam", "south_beam_fixed", "take_crane_down"),
            *chain("crane_free", "lift_north_beam"),
            *chain("fix_north_beam", "crane_free", "lift_south_beam"),
            *chain("fix_south_beam", "crane_free", "take_crane_down", "end"),
        ],
    },
    script=_share_the_crane,
)

INTERLEAVED_ROUTING = Pattern(
    number=40,
    name="Interleaved Routing",
    category=CATEGORY,
    description="A set of tasks, each done once, in any order, never two at a time.",
    story="three checks of a car in a garage with one lift",
    listens={
        "order": arrangement("the order of the checks", "check_brakes", "check_lights", "check_exhaust"),
    },
    net={
        "tasks": {
            "drive_car_in": person("driver", split="and"),
            "check_brakes": person("mechanic", join="and", split="and"),
            "check_lights": person("mechanic", join="and", split="and"),
            "check_exhaust": person("mechanic", join="and", split="and"),
            "stick_on_badge": person("mechanic", join="and"),
        },
        "conditions": [
            "lift_free",
            "brakes_due",
            "lights_due",
            "exhaust_due",
            "brakes_fine",
            "lights_fine",
            "exhaust_fine",
        ],
        "flows": [
            *chain("start", "drive_car_in"),
            *fan("drive_car_in", "brakes_due", "lights_due", "exhaust_due", "lift_free"),
            *chain("brakes_due", "check_brakes", "brakes_fine", "stick_on_badge"),
            *chain("lights_due", "check_lights", "lights_fine", "stick_on_badge"),
            *chain("exhaust_due", "check_exhaust", "exhaust_fine", "stick_on_badge"),
            *chain("lift_free", "check_brakes", "lift_free"),
            *chain("lift_free", "check_lights", "lift_free"),
            *chain("lift_free", "check_exhaust", "lift_free"),
            *chain("lift_free", "stick_on_badge", "end"),
        ],
    },
    script=lambda scene: scene.in_order(scene.data["order"]),
)

PATTERNS: Final = (
    DEFERRED_CHOICE,
    INTERLEAVED_PARALLEL_ROUTING,
    MILESTONE,
    CRITICAL_SECTION,
    INTERLEAVED_ROUTING,
)
