"""The house is one-way: a module imports only from layers below its own, and the pure core touches no world."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {
    "errors": 0,
    "expr": 1, "_expr_cel": 1, "_expr_compile": 1, "_expr_syntax": 1, "_expr_values": 1, "_schema": 1, "spec": 1,
    "_tables": 1,
    "_lower": 2,
    "_orjoin": 3, "_orjoin_paths": 3, "_orjoin_search": 3,
    "_kernel": 4,
    "_hot": 5,
    "_plain": 6, "events": 6, "workitem": 6,
    "_attempts": 7, "_calling": 7, "_case_state": 7, "_claiming": 7, "_codes": 7, "_course": 7, "_decisions": 7, "_deputies": 7, "_item_life": 7, "_migration": 7,
    "_net_instance": 7,    "_people_life": 7, "_people_rules": 7, "_people_state": 7, "_questions": 7, "_raising": 7, "_undoing": 7, "case": 7, "limits": 7,
    "history": 8, "journal": 8, "people": 8, "ports": 8,
    "_arena": 9, "_cache": 9, "_commits": 9, "_compiled": 9, "_express": 9, "_hold": 9, "_pipeline": 9, "_recording": 9, "_resident": 9, "_sharing": 9, "aio": 9, "analysis": 9, "checking": 9, "engine": 9, "formats": 9, "migration": 9, "patterns": 9, "registration": 9, "running": 9, "stores": 9, "system": 9, "telemetry": 9, "work": 9,
    "__main__": 10, "cli": 10, "client": 10, "rpc": 10, "server": 10, "testing": 10,
}  # fmt: skip
PURE = 8
WORLD = {
    "time",
    "random",
    "uuid",
    "os",
    "threading",
    "asyncio",
    "socket",
    "logging",
    "sqlite3",
    "secrets",
    "subprocess",
}
FILES = sorted(
    path for path in (ROOT / "knhk").rglob("*.py") if path.parent != ROOT / "knhk" or path.name != "__init__.py"
)


def room(module: str) -> str:
    """The part of a module's name that the table knows."""
    return module.split(".")[1]


def name_of(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at whatever depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {f"knhk.{each.name}" for each in node.names} if node.module == "knhk" else {node.module}
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    """A module imports from layers below its own, or from its own without a cycle; a new module needs a place here."""
    mine = room(name_of(path))
    assert mine in LAYERS, f"give {mine} its layer in this table"
    for module in imports(path):
        if module.startswith("knhk."):
            assert LAYERS[room(module)] <= LAYERS[mine], f"{name_of(path)} imports {module}, which is above it"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_core_is_pure(path: Path) -> None:
    """Nothing up to layer 8 imports time, randomness, threads, files or sockets."""
    # The choosing point between the kernels is the one exception: it reads two environment variables when it is imported.
    if LAYERS[room(name_of(path))] <= PURE and name_of(path) != "knhk._hot":
        assert not {module.split(".")[0] for module in imports(path)} & WORLD


@pytest.mark.parametrize("path", sorted((ROOT / "knhk" / "_hot").glob("*.pyx")), ids=lambda path: path.stem)
def test_compiled_code_keeps_its_layer(path: Path) -> None:
    """What a compiled module imports from the package lies below it or beside it, and it imports nothing of the world."""
    lines = path.read_text(encoding="utf-8").splitlines()
    modules = {line.split()[1] for line in lines if line.startswith(("import ", "from ", "cimport "))}

    ours = {each for each in modules if each.startswith("knhk.")}
    assert {each for each in ours if LAYERS[room(each)] > LAYERS["_hot"]} == set()
    assert not modules & WORLD


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_import_hides_in_a_function(path: Path) -> None:
    """An internal import stands at the top of its module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom):
                    assert not (inner.module or "").startswith("knhk")


def test_imports_have_no_cycle() -> None:
    """The import graph of the package is acyclic."""
    graph = {name_of(path): {m for m in imports(path) if m.startswith("knhk.")} for path in FILES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above, module))
        if module not in done:
            for each in graph.get(module, ()):
                visit(each, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())
