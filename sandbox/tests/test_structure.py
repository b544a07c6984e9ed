# SPDX-License-Identifier: Apache-2.0
"""The package's structure: no import circle, and imports that point down the layers only."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import gcp_sandbox
import pytest
from gcp_sandbox.services import SERVICES

ROOT = Path(gcp_sandbox.__file__).parent

# A layer imports itself and what stands to its right. The modules at the package's root that are in no layer (the
# command, the daemon, the composition, the tests' client) may import everything.
BASE = ("config", "store", "environment")
LAYERS = {
    "services": ("serving", "backends", "gateway", *BASE),
    "serving": ("backends", "gateway", *BASE),
    "backends": ("gateway", *BASE),
    "network": ("gateway", *BASE),
    "gateway": BASE,
    "environment": ("config",),
    "store": (),
    "config": (),
}


def _modules(root: Path) -> dict[str, Path]:
    """Module name -> file."""
    names = {}
    for file in root.rglob("*.py"):
        parts = [root.name, *file.relative_to(root).with_suffix("").parts]
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


def _imports(name: str, file: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """The package's modules that a module imports, wherever in it: in functions and for type checking too."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            for alias in node.names:
                found = next((m for m in (f"{base}.{alias.name}", base) if m in modules), None)
                if found:
                    yield found


@functools.cache
def graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    modules = _modules(root)
    return {name: {found for found in _imports(name, file, modules) if found != name} for name, file in modules.items()}


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """Sets of nodes that reach one another (Tarjan's strongly connected components of more than one node)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(edges.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def layer(module: str) -> str:
    """The first part of a module's name below the package; "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def test_the_graph_sees_every_kind_of_import(tmp_path):
    package = tmp_path / "p"
    (package / "x").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "x" / "__init__.py").write_text("from .a import one\n")
    (package / "x" / "a.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p import b\n")
    (package / "b.py").write_text("def f():\n    import p.x\n")
    found = graph(package)
    assert found["p.x"] == {"p.x.a"} and found["p.x.a"] == {"p.b"} and found["p.b"] == {"p.x"}
    assert circles(found) == [["p.b", "p.x", "p.x.a"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_no_import_circle_among_modules():
    assert circles(graph()) == []


def test_no_import_circle_among_packages():
    edges: dict[str, set[str]] = {}
    for module, targets in graph().items():
        mine = edges.setdefault(layer(module), set())
        mine |= {layer(target) for target in targets} - {layer(module)}
    assert circles(edges) == []


def test_every_package_is_a_layer():
    packages = {folder.parent.name for folder in ROOT.glob("*/__init__.py")}
    assert packages - set(LAYERS) == {"testing"}


@pytest.mark.parametrize("name", LAYERS)
def test_imports_point_down(name):
    wrong = [
        f"{module} imports {target}"
        for module, targets in graph().items()
        for target in sorted(targets)
        if layer(module) == name and layer(target) not in (name, *LAYERS[name])
    ]
    assert wrong == []


def test_a_service_does_not_import_another():
    """It asks through a port (gateway.ports)."""

    def service(module: str) -> str:
        return ".".join(module.split(".")[:3])

    wrong = [
        f"{module} imports {target}"
        for module, targets in graph().items()
        for target in sorted(targets)
        if layer(module) == layer(target) == "services" and service(module) != service(target)
    ]
    assert wrong == []


def test_every_service_module_is_in_the_table():
    modules = {path.partition(":")[0] for path in SERVICES.values()}
    found = {name for name in _modules(ROOT) if layer(name) == "services" and name.count(".") == 2}
    assert found == modules
