"""The run of a pattern, step by step: what its history says, with where the tokens were after each step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from knhk.case import Case
from knhk.engine import Engine
from knhk.errors import MissingExtra
from knhk.events import EventKind
from knhk.formats.picture import draw, tokens_of
from knhk.journal import decode_batch
from knhk.patterns import Run, patterns

MOST_STEPS: Final = 200
"""Steps that are shown at the most."""

_QUIET: Final = frozenset({EventKind.ITEM_OFFERED})


@attrs.frozen
class Step:
    """
    One step of a run.

    Args:
        kind, path: the event.
        picture: the net after it (SVG); "" where it cannot be drawn.
    """

    kind: str
    path: str
    picture: str


def play(number: int, variables: Mapping[str, Any]) -> tuple[Run, list[Step]]:
    """
    Run a pattern in memory, and return what it came to and its steps.

    Raises:
        DataError: as `Pattern.execute`.
    """
    pattern = patterns[number]
    with Engine("memory:") as engine:
        run = pattern.execute(variables, engine=engine)
        running = engine.case(run.case_id)
        events = running.history()
        batches = list(engine.store.history(run.case_id))
        specification = pattern.specification
        compiled = running._cache.compiled(specification.id, specification.version)
    case = Case(compiled.program, compiled.kernels)
    steps: list[Step] = []
    records = (record for batch in batches for record in decode_batch(batch)[1])
    for event, record in zip(events, records, strict=True):
        case.state.apply(record)
        if event.kind not in _QUIET and len(steps) < MOST_STEPS:
            try:
                picture = draw(specification, tokens=tokens_of(case))
            except (MissingExtra, ValueError):
                picture = ""
            steps.append(Step(event.kind.value, event.path, picture))
    return run, steps
