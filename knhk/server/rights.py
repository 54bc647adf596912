"""Who may do what: operations, and the roles that may ask for them; whatever is not written here is refused."""

from __future__ import annotations

from typing import Final

VIEWER, OPERATOR, DESIGNER, PARTICIPANT, AUDITOR, ADMIN = (
    "viewer",
    "operator",
    "designer",
    "participant",
    "auditor",
    "admin",
)
ROLES: Final = frozenset({VIEWER, OPERATOR, DESIGNER, PARTICIPANT, AUDITOR, ADMIN})

_READ: Final = frozenset({VIEWER, OPERATOR, DESIGNER, ADMIN})
_RUN: Final = frozenset({OPERATOR, ADMIN})
_DESIGN: Final = frozenset({DESIGNER, ADMIN})
_ITEMS: Final = frozenset({PARTICIPANT, OPERATOR, ADMIN})

RIGHTS: Final[dict[str, frozenset[str]]] = {
    "workflow.list": _READ,
    "workflow.get": _READ,
    "workflow.register": _DESIGN,
    "workflow.remove": _DESIGN,
    "workflow.verify": _DESIGN | {OPERATOR},
    "case.list": _READ,
    "case.get": _READ,
    "case.history": _READ,
    "case.create": _RUN,
    "case.start": _RUN,
    "case.execute": _RUN,
    "case.cancel": _RUN,
    "case.suspend": _RUN,
    "case.resume": _RUN,
    "case.event": _RUN,
    "item.list": _READ | {PARTICIPANT},
    "item.get": _READ | {PARTICIPANT},
    "item.offer": _RUN,
    "item.allocate": _ITEMS,
    "item.start": _ITEMS,
    "item.complete": _ITEMS,
    "item.fail": _ITEMS,
    "item.suspend": _ITEMS,
    "item.resume": _ITEMS,
    "item.delegate": _ITEMS,
    "item.skip": _RUN,
    "work.claim": _ITEMS,
    "work.complete": _ITEMS,
    "work.fail": _ITEMS,
    "work.extend": _ITEMS,
    "work.release": _ITEMS,
    "letter.list": _READ,
    "letter.get": _READ,
    "letter.replay": _RUN,
    "letter.discard": _RUN,
    "webhook.list": _RUN,
    "webhook.create": _RUN,
    "webhook.remove": _RUN,
    "pattern.list": _READ,
    "pattern.get": _READ,
    "pattern.execute": _RUN | _DESIGN,
    "instance.list": _READ,
    "audit.read": frozenset({AUDITOR, ADMIN}),
    "audit.verify": frozenset({AUDITOR, ADMIN}),
}
"""By operation, the roles that may ask for it."""


def may(roles: frozenset[str], operation: str) -> bool:
    """Whether somebody with these roles may ask for an operation."""
    return not roles.isdisjoint(RIGHTS.get(operation, frozenset()))
