"""A registered specification, ready to run: lowered, with a kernel for each of its nets."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from knhk import _hot, _kernel
from knhk._express import express_net
from knhk._kernel import Net
from knhk._lower import Program, lower
from knhk._schema import Check, compile_schema
from knhk.errors import KnhkError
from knhk.expr import Dialect
from knhk.spec import Specification


@attrs.frozen
class Compiled:
    """
    A registered specification, ready to run.

    Args:
        program: the specification, compiled.
        kernels: a kernel for each of its nets.
        check: of its data, where it has a schema.
        express: what an express needs to know of its root net (`knhk._express`), or None.
    """

    program: Program
    kernels: tuple[Net, ...]
    check: Check | None = None
    express: Any = None


Kernel = Literal["auto", "reference", "compiled"]


def choose_kernel(name: Kernel) -> type[Net]:
    """
    Return the class of nets of a kernel: ``auto`` is the compiled one where it was built.

    Raises:
        KnhkError: the compiled kernel is asked for by name and was not built.
    """
    if name == "compiled" and not _hot.COMPILED:
        message = (
            "the compiled kernel was not built: install a C compiler and the Python headers, and install KNHK again"
        )
        raise KnhkError(message)
    return _kernel.Net if name == "reference" else _hot.Net


def compile_specification(
    specification: Specification,
    *,
    dialect: Dialect = "subset",
    kernel: type[Net] = _hot.Net,
    or_join_budget: int | None = None,
    express: bool = True,
) -> Compiled:
    """Compile a well-formed specification; `express` False lets the driver do all its work."""
    program = lower(specification, dialect=dialect)
    check = None if specification.data is None else compile_schema(specification.data)
    kernels = tuple(kernel(each.tables, or_join_budget=or_join_budget) for each in program.nets)
    # Data that must fit a schema are looked at by the driver, with every result.
    net = express_net(program.nets[0], kernels[0]) if check is None and express else None
    return Compiled(program, kernels, check, net)
