"""Advanced branching and synchronization, the joins that do not wait for all: 9 and 28 to 32."""

from __future__ import annotations

from typing import Final

from knhk.patterns._notation import chain, fan, gather, person
from knhk.patterns._pattern import Pattern
from knhk.patterns._scene import Scene
from knhk.patterns._variables import arrangement, one_of
from knhk.patterns.branching import CATEGORY

STRUCTURED_DISCRIMINATOR = Pattern(
    number=9,
    name="Structured Discriminator",
    category=CATEGORY,
    description=(
        "The first of several branches to arrive passes the thread on; the others are awaited without effect, and then "
        "the join is ready for another round."
    ),
    story="three suppliers are asked for the same part, and the first offer gets the order",
    other_names=("Discriminator",),
    listens={
        "order": arrangement("the order in which the offers come", "offer_of_ada", "offer_of_bruno", "offer_of_cleo")
    },
    net={
        "tasks": {
            "ask_suppliers": person("buyer", split="and"),
            "offer_of_ada": person("supplier"),
            "offer_of_bruno": person("supplier"),
            "offer_of_cleo": person("supplier"),
            "place_order": person("buyer", join={"partial": 1}),
        },
        "flows": [
            *chain("start", "ask_suppliers"),
            *fan("ask_suppliers", "offer_of_ada", "offer_of_bruno", "offer_of_cleo"),
            *gather("place_order", "offer_of_ada", "offer_of_bruno", "offer_of_cleo"),
            *chain("place_order", "end"),
        ],
        "termination": "implicit",
    },
    script=lambda scene: scene.in_order(scene.data["order"]),
)

BLOCKING_DISCRIMINATOR = Pattern(
    number=28,
    name="Blocking Discriminator",
    category=CATEGORY,
    description=(
        "A discriminator whose branches may deliver again before it is ready: such arrivals are held until every "
        "branch has delivered once."
    ),
    story="two guards each report the same two alarms; the siren sounds once for each alarm",
    listens={
        "order": arrangement(
            "the order in which the reports come",
            "east_guard_reports",
            "east_guard_reports",
            "west_guard_reports",
            "west_guard_reports",
        )
    },
    net={
        "tasks": {
            "post_guards": person("chief", split="and"),
            "east_guard_reports": person("guard"),
            "west_guard_reports": person("guard"),
            "sound_siren": person("chief", join={"partial": 1}),
        },
        "conditions": ["seen_in_the_east", "seen_in_the_west"],
        "flows": [
            *chain("start", "post_guards"),
            *fan("post_guards", "seen_in_the_east", "seen_in_the_west", weight=2),
            *chain("seen_in_the_east", "east_guard_reports", "sound_siren"),
            *chain("seen_in_the_west", "west_guard_reports", "sound_siren"),
            *chain("sound_siren", "end"),
        ],
        "termination": "implicit",
    },
    script=lambda scene: scene.in_order(scene.data["order"]),
)

_SEARCHES = ("search_hills", "search_shore", "search_woods")


def _search(scene: Scene) -> None:
    scene.complete("send_teams")
    finder = scene.data["finder"]
    others = [each for each in _SEARCHES if each != finder]
    # One of the others is under way and one only offered when they are called back.
    scene.start(others[0])
    scene.complete(finder)
    scene.finish(except_for=others)


CANCELLING_DISCRIMINATOR = Pattern(
    number=29,
    name="Cancelling Discriminator",
    category=CATEGORY,
    description="The first of several branches to arrive passes the thread on, and the others are cancelled.",
    story="three teams look for a lost hiker; when one finds her, the others are called back",
    listens={"finder": one_of("which team finds the hiker", "search_shore", "search_hills", "search_woods")},
    net={
        "tasks": {
            "send_teams": person("chief", split="and"),
            "search_hills": person("team"),
            "search_shore": person("team"),
            "search_woods": person("team"),
            "call_teams_back": person(
                "chief",
                join={"partial": 1, "cancels": ["hills", "shore", "woods", *_SEARCHES]},
            ),
            "bring_hiker_home": person("team"),
        },
        "conditions": ["hills", "shore", "woods"],
        "flows": [
            *chain("start", "send_teams"),
            *chain("send_teams", "hills", "search_hills", "call_teams_back"),
            *chain("send_teams", "shore", "search_shore", "call_teams_back"),
            *chain("send_teams", "woods", "search_woods", "call_teams_back"),
            *chain("call_teams_back", "bring_hiker_home", "end"),
        ],
    },
    script=_search,
)

STRUCTURED_PARTIAL_JOIN = Pattern(
    number=30,
    name="Structured Partial Join",
    category=CATEGORY,
    description=(
        "A given number of several branches pass the thread on together; the rest is awaited without effect, and then "
        "the join is ready for another round."
    ),
    story="of three reviews of an article two are enough for a decision; the third still comes and changes nothing",
    listens={
        "order": arrangement("the order in which the reviews come", "review_by_ito", "review_by_juma", "review_by_kay")
    },
    net={
        "tasks": {
            "invite_reviewers": person("editor", split="and"),
            "review_by_ito": person("reviewer"),
            "review_by_juma": person("reviewer"),
            "review_by_kay": person("reviewer"),
            "decide_on_article": person("editor", join={"partial": 2}),
        },
        "flows": [
            *chain("start", "invite_reviewers"),
            *fan("invite_reviewers", "review_by_ito", "review_by_juma", "review_by_kay"),
            *gather("decide_on_article", "review_by_ito", "review_by_juma", "review_by_kay"),
            *chain("decide_on_article", "end"),
        ],
        "termination": "implicit",
    },
    script=lambda scene: scene.in_order(scene.data["order"]),
)

BLOCKING_PARTIAL_JOIN = Pattern(
    number=31,
    name="Blocking Partial Join",
    category=CATEGORY,
    description=(
        "A partial join whose branches may deliver again before it is ready: such arrivals are held until every branch "
        "has delivered once."
    ),
    story="two wines are tasted by three judges; two marks are enough for a medal, one wine after the other",
    listens={
        "order": arrangement(
            "the order in which the marks come",
            "mark_by_lena",
            "mark_by_miro",
            "mark_by_lena",
            "mark_by_miro",
            "mark_by_nils",
            "mark_by_nils",
        )
    },
    net={
        "tasks": {
            "pour_wines": person("steward", split="and"),
            "mark_by_lena": person("judge"),
            "mark_by_miro": person("judge"),
            "mark_by_nils": person("judge"),
            "award_medal": person("chair", join={"partial": 2}),
        },
        "conditions": ["glasses_of_lena", "glasses_of_miro", "glasses_of_nils"],
        "flows": [
            *chain("start", "pour_wines"),
            *fan("pour_wines", "glasses_of_lena", "glasses_of_miro", "glasses_of_nils", weight=2),
            *chain("glasses_of_lena", "mark_by_lena", "award_medal"),
            *chain("glasses_of_miro", "mark_by_miro", "award_medal"),
            *chain("glasses_of_nils", "mark_by_nils", "award_medal"),
            *chain("award_medal", "end"),
        ],
        "termination": "implicit",
    },
    script=lambda scene: scene.in_order(scene.data["order"]),
)

_SIGNATURES = ("sign_as_chair", "sign_as_treasurer", "sign_as_secretary")

CANCELLING_PARTIAL_JOIN = Pattern(
    number=32,
    name="Cancelling Partial Join",
    category=CATEGORY,
    description="A given number of several branches pass the thread on together, and the others are cancelled.",
    story="a payment needs two of three signatures; then the third is no longer asked for",
    listens={"order": arrangement("the order in which they would sign", *_SIGNATURES)},
    net={
        "tasks": {
            "prepare_payment": person("clerk", split="and"),
            "sign_as_chair": person("chair"),
            "sign_as_treasurer": person("treasurer"),
            "sign_as_secretary": person("secretary"),
            "release_payment": person(
                "clerk",
                join={
                    "partial": 2,
                    "cancels": ["chair_asked", "treasurer_asked", "secretary_asked", *_SIGNATURES],
                },
            ),
        },
        "conditions": ["chair_asked", "treasurer_asked", "secretary_asked"],
        "flows": [
            *chain("start", "prepare_payment"),
            *chain("prepare_payment", "chair_asked", "sign_as_chair", "release_payment"),
            *chain("prepare_payment", "treasurer_asked", "sign_as_treasurer", "release_payment"),
            *chain("prepare_payment", "secretary_asked", "sign_as_secretary", "release_payment"),
            *chain("release_payment", "end"),
        ],
    },
    script=lambda scene: scene.in_order(scene.data["order"]),
)

PATTERNS: Final = (
    STRUCTURED_DISCRIMINATOR,
    BLOCKING_DISCRIMINATOR,
    CANCELLING_DISCRIMINATOR,
    STRUCTURED_PARTIAL_JOIN,
    BLOCKING_PARTIAL_JOIN,
    CANCELLING_PARTIAL_JOIN,
)
