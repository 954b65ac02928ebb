"""Prints the sizes, names and imports of a checkout: `python -m tests.bench.house [--root PATH]`.

The files are read and nothing of them is imported, so that any checkout can be measured, before
and after a change of its layout. What counts as an import: `tests.bench.house_modules`.
`--collect` has pytest count too, which imports the checkout's tests.
"""

import argparse
import ast
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import networkx as nx

from tests.bench.house_budgets import as_table, habits, house_figures, parameters, touched
from tests.bench.house_classes import alike
from tests.bench.house_modules import (
    FUNCTIONS,
    PACKAGES,
    Module,
    circles,
    import_graph,
    imports,
    read_modules,
)

SHORT, LONG = 60, 300
"""Lines: a module below the first is counted as short, one above the second as long."""
README_LINES = 100
"""Lines that the README of a package may have."""
COMMANDS = "fleetctl.commands"
"""The package of the commands, whose imports inside functions are counted apart."""
ENTRY = "make_plan"
"""The function whose module is the start of the longest chain of imports."""
MOST_PARAMETERS = 10
"""Functions that are listed with the number of their parameters."""


@dataclass(frozen=True)
class Figure:
    """One number, and what it is made of."""

    name: str
    value: int
    rows: dict[str, Any] = field(default_factory=dict)


def measure(root: Path) -> Iterator[Figure]:
    """Yield the figures of a checkout, read from its files."""
    modules = read_modules(root)
    graph = import_graph(modules)
    yield from sizes(modules)
    yield class_homes(modules)
    yield from deferred_imports(modules)
    groups = circles(graph)
    yield Figure("Circles of files", len(groups), {group[0]: group for group in groups})
    yield from inner_imports(modules, graph)
    yield from reached(modules, graph)
    yield from readmes(root)
    yield longest_parameters(modules)
    yield from written_tests(root)


def sizes(modules: Mapping[str, Module]) -> Iterator[Figure]:
    """Yield modules and lines by package, then the modules that are short or long."""
    by_package: defaultdict[str, list[int]] = defaultdict(list)
    for module in modules.values():
        flat = f"{module.package}, flat" if module.package in PACKAGES else module.package
        for package in (module.parts[0], flat):
            by_package[package].append(module.lines)
    for top in PACKAGES:
        inside = {
            name: numbers
            for name, numbers in by_package.items()
            if name.split(",")[0].split(".")[0] == top
        }
        rows = {
            name: f"{len(numbers)} modules, {sum(numbers)} lines"
            for name, numbers in sorted(inside.items())
        }
        yield Figure(f"Lines of {top}", sum(by_package[top]), rows)
    yield Figure("Modules", len(modules))
    yield Figure("Lines", sum(module.lines for module in modules.values()))
    short = [module for module in modules.values() if module.lines < SHORT]
    faces = sum(module.is_package for module in short)
    yield Figure(f"Modules under {SHORT} lines", len(short), {"of these `__init__`": faces})
    long = {name: module.lines for name, module in modules.items() if module.lines > LONG}
    yield Figure(f"Modules over {LONG} lines", len(long), long)


def class_homes(modules: Mapping[str, Module]) -> Figure:
    """Return the names that are a class in two modules or more."""
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for module in modules.values():
        for name in {node.name for node in module.tree.body if isinstance(node, ast.ClassDef)}:
            homes[name].append(module.name)
    several = {name: places for name, places in sorted(homes.items()) if len(places) > 1}
    return Figure("Class names with two homes or more", len(several), several)


def deferred_imports(modules: Mapping[str, Module]) -> Iterator[Figure]:
    """Yield the import statements inside functions, with and without the commands."""
    counts = {
        module.name: sum(deferred for _, deferred in imports(module.tree))
        for module in modules.values()
    }
    for without in (False, True):
        rows = dict.fromkeys(PACKAGES, 0)
        for name, count in counts.items():
            if not (without and f"{name}.".startswith(f"{COMMANDS}.")):
                rows[name.partition(".")[0]] += count
        which = f" without {COMMANDS}" if without else ""
        yield Figure(f"Imports inside functions{which}", sum(rows.values()), rows)


def inner_imports(modules: Mapping[str, Module], graph: "nx.DiGraph[str]") -> Iterator[Figure]:
    """Yield which modules of a package of `fleet`, its face aside, others import."""
    outside: dict[str, list[str]] = {}
    for name, module in modules.items():
        if module.parts[0] == PACKAGES[0] and module.is_inner:
            importers = [modules[other] for other in graph.predecessors(name)]
            found = [other.name for other in importers if other.package != module.package]
            outside |= {name: sorted(found)} if found else {}
    yield Figure(
        "Inner modules of `fleet` imported from outside their package", len(outside), outside
    )
    pairs = [(name, other) for name, found in outside.items() for other in found]
    yield Figure("Imports of inner modules of `fleet` from outside their package", len(pairs))
    far = {name for name, other in pairs if modules[other].parts[0] != PACKAGES[0]}
    yield Figure("Inner modules of `fleet` imported from outside `fleet`", len(far))


def reached(modules: Mapping[str, Module], graph: "nx.DiGraph[str]") -> Iterator[Figure]:
    """Yield how many modules the one that defines `make_plan` imports, itself included."""
    for module in modules.values():
        functions = (node for node in module.tree.body if isinstance(node, FUNCTIONS))
        if any(node.name == ENTRY for node in functions):
            found = {module.name, *nx.descendants(graph, module.name)}
            rows = Counter(modules[name].package for name in found)
            yield Figure(
                f"Modules reached by `{ENTRY}`",
                len(found),
                {"defined in": module.name, **dict(sorted(rows.items()))},
            )


def readmes(root: Path) -> Iterator[Figure]:
    """Yield how many READMEs the packages have, and those that are too long."""
    pages = {
        str(path.relative_to(root)): path.read_text(encoding="utf-8").count("\n")
        for package in PACKAGES
        for path in sorted((root / package).rglob("README.md"))
    }
    long = {name: lines for name, lines in pages.items() if lines > README_LINES}
    yield Figure("READMEs of packages", len(pages))
    yield Figure(f"READMEs of packages over {README_LINES} lines", len(long), long)


def longest_parameters(modules: Mapping[str, Module]) -> Figure:
    """Return the functions with the longest lists of parameters; `self` and `cls` do not count."""
    counts = {
        f"{module.name}:{node.lineno} {node.name}": parameters(node)
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, FUNCTIONS)
    }
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_PARAMETERS]
    return Figure("Longest list of parameters", most[0][1] if most else 0, dict(most))


def written_tests(root: Path) -> Iterator[Figure]:
    """Yield the test functions that stand in the files, and how many carry each marker."""
    files = sorted((root / "tests").rglob("test_*.py"))
    markers: Counter[str] = Counter()
    count = 0
    for path in files:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node, marked in _test_functions(tree):
            count += 1
            markers.update(_markers(*marked, *node.decorator_list))
    yield Figure("Test files", len(files))
    yield Figure("Test functions", count, dict(sorted(markers.items())))


def _test_functions(
    tree: ast.Module,
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, list[ast.expr]]]:
    """Yield the functions, and the expressions that mark all of their module or class."""
    marked = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and "pytestmark" in map(ast.unparse, node.targets)
    ]
    for node in tree.body:
        if isinstance(node, FUNCTIONS) and node.name.startswith("test"):
            yield node, marked
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for inner in node.body:
                if isinstance(inner, FUNCTIONS) and inner.name.startswith("test"):
                    yield inner, [*marked, *node.decorator_list]


def _markers(*expressions: ast.expr) -> set[str]:
    return {
        node.attr
        for expression in expressions
        for node in ast.walk(expression)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pytest.mark"
    }


def collected_tests(root: Path) -> Figure:
    """Return what pytest collects in a checkout, and how many of these tests carry each marker."""
    command = [sys.executable, "-P", str(Path(__file__).with_name("house_collect.py"))]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    counted = json.loads(done.stdout)
    return Figure("Tests that pytest collects", counted["tests"], counted["markers"])


def as_text(figures: list[Figure]) -> str:
    """Return the figures, their rows below them."""
    lines = []
    for figure in figures:
        lines.append(f"{figure.name}: {figure.value}")
        for name, value in figure.rows.items():
            lines.append(f"  {name}: {', '.join(value) if isinstance(value, list) else value}")
    return "\n".join(lines)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description="Print the sizes, names and imports of a checkout."
    )
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("--format", choices=["text", "json"], default="text")
    parser.add_argument("--collect", action="store_true", help="have pytest collect the tests too")
    given = parser.parse_args()
    figures = [*measure(given.root), *([collected_tests(given.root)] if given.collect else [])]
    if given.format == "json":
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
    else:
        modules = read_modules(given.root)
        print(as_table(house_figures(modules)), "", as_text(figures), "", sep="\n")
        for pair, shared in alike(modules).items():
            print(f"{pair}: {shared}")
        for name, figure in habits(modules).items():
            print(f"{name}: {figure}")
        print(f"modules and packages that the median feature touches: {touched(given.root)}")


if __name__ == "__main__":
    main()
