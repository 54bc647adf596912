"""
The token game as it runs: the one place that chooses between the compiled kernel and the reference kernel.

The compiled one (`knhk._hot.kernel`) is taken where it was built; both do the same, which property tests hold.
``KNHK_NO_EXTENSION=1`` takes the reference kernel in any case; ``KNHK_REQUIRE_EXTENSION=1`` refuses to do without the
compiled one.  Both are read when this is first imported, and not again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from knhk import _kernel

if TYPE_CHECKING:
    # For the type checker both kernels are the definition; kernel.pyi says it of the compiled one.
    from knhk._kernel import Marking, Net

__all__ = ("COMPILED", "Marking", "Net")


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

if not TYPE_CHECKING:
    Marking = _chosen.Marking
    Net = _chosen.Net
