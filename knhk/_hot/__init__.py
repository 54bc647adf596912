"""
The token game as it runs: the one place that chooses between what is compiled and what is not.

The compiled kernel (`knhk._hot.kernel`) is taken where it was built; the reference kernel does the same, which property tests
hold.  With it come `express` (`knhk._hot.express`), without which a case is driven one command at a time, and two ways with
JSON trees (`knhk._hot.plain`), without which the ``json`` module does their work.
`WorkFields` is what an express fills in of the work that it hands out.
``KNHK_NO_EXTENSION=1`` takes the reference kernel in any case; ``KNHK_REQUIRE_EXTENSION=1`` refuses to do without the
compiled one.  Both are read when this is first imported, and not again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from knhk import _kernel

if TYPE_CHECKING:
    # For the type checker both kernels are the definition; kernel.pyi says it of the compiled one.
    from knhk._kernel import Marking, Net

__all__ = ("COMPILED", "Marking", "Net", "WorkFields", "copy_tree", "dump_tree", "express")


def choose(environment: Mapping[str, str], load: Callable[[], ModuleType]) -> ModuleType:
    """
    Return the kernel to use.

    Args:
        environment: where the two switches are looked up.
        load: imports the compiled kernel, or raises ImportError.

    Raises:
        ImportError: the switches contradict each other, or the compiled kernel is required and not there.
    """
    forbidden = environment.get("KNHK_NO_EXTENSION") == "1"
    required = environment.get("KNHK_REQUIRE_EXTENSION") == "1"
    if forbidden and required:
        message = "KNHK_NO_EXTENSION and KNHK_REQUIRE_EXTENSION contradict each other: unset one of them"
        raise ImportError(message)
    if forbidden:
        return _kernel
    try:
        return load()
    except ImportError as error:
        if not required:
            return _kernel
        message = (
            f"KNHK_REQUIRE_EXTENSION=1, but the compiled kernel cannot be imported ({error}); "
            "to build it, install a C compiler and the Python headers (Debian: gcc python3-dev), then "
            "run 'pip install .' (or '--editable .') where KNHK's sources are"
        )
        raise ImportError(message) from error


_chosen = choose(os.environ, lambda: import_module("knhk._hot.kernel"))
COMPILED: bool = _chosen.COMPILED
"""Whether the compiled kernel was taken."""

express: Any = import_module("knhk._hot.express") if COMPILED else None
"""The module `knhk._hot.express`, or None."""


class _WorkFields:
    """What `knhk._hot.express.WorkFields` is, without a compiler."""

    __slots__ = ("_data", "_number", "_source", "attempt", "case_id", "index", "item", "task")

    def __init__(
        self,
        case_id: str,
        task: str,
        number: int,
        attempt: int,
        source: dict[str, Any],
        item: Any = None,
        index: int | None = None,
    ) -> None:
        self.case_id = case_id
        self.task = task
        self._number = number
        self.attempt = attempt
        self._source = source
        self._data: dict[str, Any] | None = None
        self.item = item
        self.index = index


def _not_ours(_: object, __: int = 0) -> None:
    """Leave the tree to the ``json`` module."""
    return


_plain: Any = import_module("knhk._hot.plain") if COMPILED else None
copy_tree: Callable[[object, int], Any] = _plain.copy if COMPILED else _not_ours
"""Returns a copy of a JSON tree of about so many characters at most, or None for what only the ``json`` module can handle."""
dump_tree: Callable[[object], bytes | None] = _plain.dump if COMPILED else _not_ours
"""Returns a JSON tree as compact UTF-8, or None for what only the ``json`` module can handle."""

if TYPE_CHECKING:
    WorkFields = _WorkFields
else:
    WorkFields = express.WorkFields if COMPILED else _WorkFields
    Marking = _chosen.Marking
    Net = _chosen.Net
