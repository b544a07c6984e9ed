# SPDX-License-Identifier: Apache-2.0
"""The rules for all Python of the repository: a function is written once, and what is ignored has a reason."""

from __future__ import annotations

import ast
import copy
import io
import pathlib
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = (
    "plugins",
    "roles",
    "scripts",
    "extensions",
    "clients/python/src",
    "clients/python/tests",
    "sandbox/src",
    "sandbox/tests",
    "tests",
)
# Nodes of the syntax tree of a body. A smaller one is one short call, such as `super().__init__(x)` and an assignment.
LEAST = 20
# Functions that are the same and stay so: the places, and why.
ALLOWED = {
    (
        "plugins/module_utils/_deployment/rules/cloudrun.py:_memory_of",
        "sandbox/src/gcp_sandbox/services/run/template.py:memory_of",
    ): "Neither package can import the other, and the sandbox must not have the collection's mistakes.",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(
    tree: ast.AST, values: dict[str, str], inside: str = ""
) -> Iterator[tuple[str, Function, dict[str, str]]]:
    """Yield every function with its name, which begins with the names around it, and the values of names outside."""
    for node in ast.iter_child_nodes(tree):
        name = f"{inside}{node.name}" if isinstance(node, Function | ast.ClassDef) else ""
        if isinstance(node, Function):
            yield name, node, values | (fixtures(tree) if node.name.startswith("test_") else {})
        yield from functions(node, values, f"{name}." if name else inside)


def fixtures(tree: ast.AST) -> dict[str, str]:
    """Return the fixtures of a class of tests, as text: a test of another class has others under the same names."""
    if not isinstance(tree, ast.ClassDef):
        return {}
    return {node.name: ast.dump(node) for node in tree.body if isinstance(node, Function) and node.decorator_list}


def constants(tree: ast.Module) -> dict[str, str]:
    """Return the values that a module gives to its names, as text."""
    return {
        target.id: ast.dump(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


class Plain(ast.NodeTransformer):
    """Replace a body's local names by numbers in their order, and names from outside by their values."""

    def __init__(self, local: Iterable[str], values: dict[str, str]) -> None:
        self.local, self.values = set(local), values
        self.numbers: dict[str, str] = {}

    def name(self, name: str) -> str:
        if name in self.local:
            return self.numbers.setdefault(name, str(len(self.numbers)))
        return self.values.get(name, name)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.name(node.id), node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(self.name(node.arg), node.annotation)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        if node.name:
            node.name = self.name(node.name)
        return self.generic_visit(node)


def nodes(statements: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for statement in statements:
        yield from ast.walk(statement)


def statements(function: Function) -> list[ast.stmt]:
    """Return the body without its docstring."""
    return function.body[ast.get_docstring(function) is not None :]


def local_names(function: Function) -> set[str]:
    """Return the names that only the function knows: parameters, variables, and those of inner functions."""
    found = set()
    for node in nodes([function.args, *statements(function)]):
        if isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    return found


def shape(function: Function, values: dict[str, str]) -> str:
    """Return the body as text that is equal for functions that differ only in local names."""
    given = values.keys() & {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    fixed = given if function.name.startswith("test_") else set()
    plain = Plain(local_names(function) - fixed, values)
    return "\n".join(ast.dump(plain.visit(copy.deepcopy(statement))) for statement in statements(function))


def repeated(root: pathlib.Path, folders: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the places of each function that stands more than once: `FILE:NAME`, in order."""
    alike = defaultdict(list)  # by the kinds of their nodes, which is cheaper than to compare all shapes
    files = (path for folder in folders for path in (root / folder).rglob("*.py") if not path.is_symlink())
    for path in sorted(files):
        tree = ast.parse(path.read_text())
        for name, function, values in functions(tree, constants(tree)):
            kinds = tuple(type(node) for node in nodes(statements(function)))
            if len(kinds) >= LEAST:
                alike[kinds].append((f"{path.relative_to(root)}:{name}", function, values))
    places = defaultdict(list)
    for group in alike.values():
        if len(group) > 1:
            for place, function, values in group:
                places[shape(function, values)].append(place)
    return sorted(tuple(sorted(found)) for found in places.values() if len(found) > 1)


def test_a_function_is_written_once():
    found = repeated(ROOT, FOLDERS)
    new = [" and ".join(places) for places in found if places not in ALLOWED]
    assert not new, "the same function in two places; move it to a module that both import:\n" + "\n".join(new)
    assert not set(ALLOWED) - set(found), "entries of ALLOWED that no longer stand twice"


def test_every_folder_is_searched():
    assert [folder for folder in FOLDERS if not any((ROOT / folder).rglob("*.py"))] == []


FIRST = '''
def first(tree, dotted):
    """Return a value."""
    for key in dotted.split("."):
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
'''
METHOD = """
class Reader:
    def read(self, path: str, size: int = 3):
        for part in path.split("."):
            self = self.get(part) if isinstance(self, dict) else None
        return self
"""


@pytest.mark.parametrize(
    ("second", "again"),
    [
        pytest.param(FIRST, "first", id="the same"),
        pytest.param(METHOD, "Reader.read", id="a method with other names, types and no docstring"),
        pytest.param(f"def outer():{METHOD}".replace("\n", "\n    "), "outer.Reader.read", id="in a function"),
        pytest.param(FIRST.replace('"."', '"/"'), "", id="another text"),
        pytest.param(FIRST.replace("dict", "list"), "", id="another name that is not local"),
        pytest.param(FIRST.replace("return tree", "return key"), "", id="another variable"),
    ],
)
def test_a_planted_duplicate_is_found(tmp_path, second, again):
    for name, text in (("a", FIRST), ("b", second)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "module.py").write_text(text)
    assert repeated(tmp_path, ("a", "b")) == ([("a/module.py:first", f"b/module.py:{again}")] if again else [])


def test_constants_count_by_their_value(tmp_path):
    body = "def read(cloud):\n    return cloud.get(cloud.address, NAME, cloud.place, cloud.zone, cloud.home)\n"
    for name, value in (("a", "one"), ("b", "two"), ("c", "one")):
        (tmp_path / f"{name}.py").write_text(f"NAME = {value!r}\n{body}")
    assert repeated(tmp_path, (".",)) == [("a.py:read", "c.py:read")]


def test_tests_differ_by_the_fixtures_of_their_class(tmp_path):
    called = "run(deployed.name, deployed.place, deployed.zone)"
    body = f"    def test_again(self, deployed, run):\n        assert {called}.changed == 0\n"
    fixture = "    @pytest.fixture\n    def deployed(self):\n        return {}\n"
    for name, value in (("a", 1), ("b", 2), ("c", 1)):
        (tmp_path / f"{name}.py").write_text(f"class Test{name}:\n{fixture.format(value)}\n{body}")
    assert repeated(tmp_path, (".",)) == [("a.py:Testa.test_again", "c.py:Testc.test_again")]


def test_short_functions_do_not_count(tmp_path):
    body = "def __init__(self, sandbox, runtime):\n    super().__init__(sandbox)\n    self.runtime = runtime\n"
    (tmp_path / "a.py").write_text(body + body)
    assert repeated(tmp_path, (".",)) == []


# -- errors that are ignored


def ignores(node: ast.AST) -> bool:
    """Return whether a statement goes on after an error of any kind, or after one that it does not use."""
    if isinstance(node, ast.ExceptHandler):
        every = node.type is None or any(
            isinstance(part, ast.Name) and part.id in ("Exception", "BaseException") for part in ast.walk(node.type)
        )
        body = list(nodes(node.body))
        used = any(isinstance(part, ast.Raise) for part in body) or any(
            (isinstance(part, ast.Name) and part.id == node.name)
            or (isinstance(part, ast.Attribute) and part.attr == "exception")
            for part in body
        )
        return every and not used
    if isinstance(node, ast.With):
        return any(
            ast.unparse(item.context_expr).startswith(("contextlib.suppress(", "suppress(")) for item in node.items
        )
    return isinstance(node, ast.Expr) and any(
        part.arg == "ignore_errors" for part in ast.walk(node) if isinstance(part, ast.keyword)
    )


def without_reason(text: str) -> list[int]:
    """Return the lines that ignore errors without a comment above, beside or directly below them."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = {token.start[0] for token in tokens if token.type == tokenize.COMMENT}
    found = []
    for node in ast.walk(ast.parse(text)):
        if ignores(node):
            last = node.body[0].lineno if isinstance(node, ast.ExceptHandler | ast.With) else node.end_lineno
            if comments.isdisjoint(range(node.lineno - 1, last + 1)):
                found.append(node.lineno)
    return found


def test_errors_that_are_ignored_have_a_reason():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("plugins", "roles", "scripts", "clients/python/src", "sandbox/src")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in without_reason(path.read_text())
    ]
    assert not found, "write the reason as a comment, or handle the error:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("with contextlib.suppress(OSError):\n    a()\n", [1]),
        ("with contextlib.suppress(OSError):  # the file is optional\n    a()\n", []),
        ("a()\nshutil.rmtree(b, ignore_errors=True)\n", [2]),
        ("# What stays is empty.\nshutil.rmtree(b, ignore_errors=True)\n", []),
        ("try:\n    a()\nexcept:\n    b()\n", [3]),
        ("try:\n    a()\nexcept Exception:\n    pass\n", [3]),
        ("try:\n    a()\nexcept Exception:\n    # The answer is optional.\n    pass\n", []),
        ("try:\n    a()\nexcept (OSError, BaseException) as error:\n    b(error)\n", []),
        ("try:\n    a()\nexcept BaseException:\n    b()\n    raise\n", []),
        ("try:\n    a()\nexcept Exception:\n    log.exception('a')\n", []),
        ("try:\n    a()\nexcept OSError:\n    b()\n", []),
    ],
)
def test_ignored_errors_are_seen(text, lines):
    assert without_reason(text) == lines
