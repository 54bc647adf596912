"""What one case may do at the most."""

from __future__ import annotations

import attrs

from knhk._plain import MAX_PAYLOAD


@attrs.frozen(kw_only=True)
class Limits:
    """
    What one case may do; beyond it a command is refused with `LimitExceeded` and nothing has happened.

    Args:
        steps: tasks that start by themselves within one command.
        instances: instances of one activation of a multiple-instance task.
        depth: composite tasks inside one another.
        crashes: attempts at a task without a retry policy, of which each was cut off by the end of its process; after so many
            its item fails.  A retry policy has its own bound, `max_attempts`.
        leases: claims on external work without a retry policy, of which each ended without a result; after so many its item
            fails.
        or_join_budget: work units of an OR-join's exact search; beyond it the join waits and the case shows a problem.
            None: the kernel's own (`knhk._orjoin.DEFAULT_BUDGET`).
        worklets: worklets inside one another: a case that runs in the place of work of a case that itself does, and so on.
        payload: bytes of one piece of data as JSON: what a case is created with, an event brings or work gives.
    """

    steps: int = 1_000_000
    instances: int = 100_000
    depth: int = 1_000
    crashes: int = 5
    leases: int = 10
    or_join_budget: int | None = None
    worklets: int = 8
    payload: int = MAX_PAYLOAD
