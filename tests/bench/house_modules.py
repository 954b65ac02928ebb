"""Reads the modules of a checkout for `tests.bench.house`, without importing any of them.

An import is an edge to the module that the imported name is: `from fleet import plan` leads to
`fleet.plan`, `from fleet.plan import Plan` too, and `from fleet.history import History` to the
`__init__` of `fleet.history`, where that name is looked up. The packages above a module are no
edges, although Python runs their `__init__` first. All imports count: at the top, inside functions,
under `TYPE_CHECKING`. A package whose `__init__` has a `__getattr__` also imports the modules
whose names stand in its strings, in full or from the package on.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import networkx as nx

PACKAGES = ("fleet", "plans", "runtime", "fleetctl")
"""Folders that are read, the lowest layer first."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Module:
    """A file of Python."""

    name: str
    """Dotted; of an `__init__` the name of its package."""
    is_package: bool
    parts: tuple[str, ...]
    """Path from the checkout on."""
    lines: int
    written_lines: int
    """Those that are not blank."""
    tree: ast.Module

    @property
    def package(self) -> str:
        """The sub-package of the first level, such as `fleet.placement`, or else `fleet`."""
        return ".".join(self.parts[: 2 if len(self.parts) > 2 else 1])

    @property
    def is_inner(self) -> bool:
        """Whether the module belongs to a sub-package without being the package's face."""
        return self.name.count(".") > 1


@cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a file, which is parsed once.

    Raises:
        SyntaxError: the file is no Python.
    """
    return ast.parse(path.read_text(encoding="utf-8"))


def read_modules(root: Path) -> dict[str, Module]:
    """Return the modules of the four packages by name.

    Raises:
        SyntaxError: a file is no Python.
    """
    modules = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).parts
            is_package = path.name == "__init__.py"
            name = ".".join((*parts[:-1], *(() if is_package else (path.stem,))))
            text = path.read_text(encoding="utf-8")
            lines = text.splitlines()
            written = sum(bool(line.strip()) for line in lines)
            modules[name] = Module(name, is_package, parts, len(lines), written, tree_of(path))
    return modules


def import_graph(modules: Mapping[str, Module]) -> "nx.DiGraph[str]":
    """Return which module imports which."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(modules)
    for module in modules.values():
        names = [name for node, _ in imports(module.tree) for name in _named(node, module)]
        for name in (*names, *_named_in_strings(module, modules)):
            target = name
            while target and target not in modules:
                target = target.rpartition(".")[0]
            if target and target != module.name:
                graph.add_edge(module.name, target)
    return graph


def circles(graph: "nx.DiGraph[str]") -> list[list[str]]:
    """Return the groups of modules that import each other, directly or by way of others."""
    groups = nx.strongly_connected_components(graph)
    return sorted(sorted(group) for group in groups if len(group) > 1)


def imports(
    node: ast.AST, *, deferred: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield each import statement, and whether the statement is inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, deferred
        inside = deferred or isinstance(child, FUNCTIONS)
        yield from imports(child, deferred=inside)


def _named(node: ast.Import | ast.ImportFrom, module: Module) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    above = module.name.split(".")
    above = above[: len(above) - node.level + module.is_package] if node.level else []
    base = ".".join((*above, *([node.module] if node.module else [])))
    return [f"{base}.{alias.name}" for alias in node.names]


def _named_in_strings(module: Module, modules: Mapping[str, Module]) -> list[str]:
    functions = [node for node in module.tree.body if isinstance(node, ast.FunctionDef)]
    if not module.is_package or all(node.name != "__getattr__" for node in functions):
        return []
    texts = {
        node.value
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    names = (name for text in texts for name in (text, f"{module.name}.{text.lstrip('.')}"))
    return [name for name in names if name in modules]
