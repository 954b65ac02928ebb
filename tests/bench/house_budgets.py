"""Measures what `tests.budgets` bounds, read from the files of a checkout.

A room is a package, or a module directly in one of the four top packages. An import goes back up
where the rooms of both modules import each other, directly or by way of others, and more imports
go the other way.
"""

import ast
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Final

import networkx as nx

from tests.bench.house_classes import mirrored
from tests.bench.house_modules import FUNCTIONS, PACKAGES, Module, import_graph, imports
from tests.budgets import HOUSE

COMMANDS: Final = "fleetctl.commands"
"""The package of the commands: flat, and imported where it is called."""
EXTENSIONS: Final = (
    "plans.compile.envoy",
    "plans.compile.gateway_api",
    "plans.compile.grafana",
    "plans.compile.kubernetes",
    "plans.compile.litellm",
    "plans.compile.prometheus",
    "runtime.engines.ray",
    "runtime.evals.engines.inspect_bridge",
    "runtime.evals.engines.inspect_engine",
    "runtime.evals.engines.lm_eval",
    "runtime.evals.tool_process",
    "runtime.fake_vllm",
    "runtime.gateway.envoy",
)
"""Packages and modules that the core does without: an engine, a target of `compile`, a bridge to
an eval engine. They come with the product, and their lines are counted apart."""
CONTEXT_FREE: Final = frozenset(
    [
        "apart",
        "asked",
        "crowd",
        "each",
        "ended",
        "found",
        "further",
        "given",
        "gone",
        "held",
        "here",
        "it",
        "its",
        "kept",
        "known",
        "left",
        "made",
        "one",
        "others",
        "own",
        "rest",
        "seen",
        "shown",
        "standing",
        "subject",
        "taken",
        "there",
        "told",
        "wanted",
        "what",
        "who",
        "whom",
        "whose",
    ]
)
"""Names that say nothing of what they name."""
NAMED_ROOMS: Final = ("fleet.rollouts", "fleet.planning", "fleet.placement", "fleet.costing")
"""Rooms whose names others build on."""
FULL, MANY, LONG = 480, 8, 60
"""A module of so many lines is full; so many parameters are many; a function above is long."""
SHORT, FEATURE, COMMITS = 60, 40, 150
"""A module below is short; a commit that adds so many lines is a feature's; commits looked at."""


def house_figures(modules: Mapping[str, Module]) -> dict[str, float]:
    """Return the figures of the house by the names of `tests.budgets.HOUSE`."""
    extensions = sum(module.lines for module in modules.values() if is_extension(module.name))
    rooms = room_graph(modules)
    functions = [
        node
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, FUNCTIONS)
    ]
    named = [module for name, module in modules.items() if name.startswith(NAMED_ROOMS)]
    flat = flat_files(modules)
    return {
        "core lines": sum(module.lines for module in modules.values()) - extensions,
        "lines of extensions": extensions,
        "modules": len(modules),
        "lines of the longest module": max(module.lines for module in modules.values()),
        "modules of 480 lines or more": sum(m.lines >= FULL for m in modules.values()),
        "flat files in one room": max(flat.values()),
        "flat words of fleet": flat[PACKAGES[0]],
        "mirrored pairs of classes": len(mirrored(modules)),
        "imports inside functions": sum(
            deferred
            for module in modules.values()
            if not f"{module.name}.".startswith(f"{COMMANDS}.")
            for _, deferred in imports(module.tree)
        ),
        "functions of 8 parameters or more": sum(parameters(node) >= MANY for node in functions),
        "functions over 60 lines": sum(length(node) > LONG for node in functions),
        "context-free names in four rooms": context_free(named),
        "context-free names": context_free(list(modules.values())),
        "circles of rooms": len(circles_of_rooms(rooms)),
        "imports back up between rooms": sum(back_up(rooms).values()),
    }


def is_extension(name: str) -> bool:
    """Return whether a module belongs to `EXTENSIONS`."""
    return any(f"{name}.".startswith(f"{extension}.") for extension in EXTENSIONS)


def flat_files(modules: Mapping[str, Module]) -> Counter[str]:
    """Return by package how many modules stand in its folder, its `__init__` and folders aside."""
    return Counter(
        name.rpartition(".")[0]
        for name, module in modules.items()
        if not (module.is_package or name.startswith(f"{COMMANDS}."))
    )


def parameters(node: "ast.FunctionDef | ast.AsyncFunctionDef") -> int:
    """Return how many parameters a function has, without `self` and `cls`."""
    given = node.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args)]
    several = [argument for argument in (given.vararg, given.kwarg) if argument is not None]
    return len(names) + len(given.kwonlyargs) + len(several) - (names[:1] in (["self"], ["cls"]))


def length(node: "ast.FunctionDef | ast.AsyncFunctionDef") -> int:
    """Return the lines of a function, its decorators aside."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def written_lines(modules: list[Module]) -> int:
    """Return the lines of modules that are not blank."""
    return sum(module.written_lines for module in modules)


def context_free(modules: list[Module]) -> float:
    """Return how many names per 1,000 lines that are not blank say nothing; one decimal."""
    count = sum(name.strip("_") in CONTEXT_FREE for m in modules for name in bound_names(m.tree))
    return round(1000 * count / written_lines(modules), 1) if modules else 0.0


def bound_names(tree: ast.Module) -> Iterator[str]:
    """Yield each name where it is bound: variables, fields, parameters, functions, classes."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name):
                yield name
            case _:
                pass


def room_of(module: Module) -> str:
    """Return the room of a module."""
    is_word = len(module.parts) == 2 and not module.is_package
    return module.name if is_word else ".".join(module.parts[:-1])


def room_graph(modules: Mapping[str, Module]) -> "nx.DiGraph[str]":
    """Return which room imports which, and as `imports` of an edge how many modules do."""
    rooms: nx.DiGraph[str] = nx.DiGraph()
    rooms.add_nodes_from(sorted({room_of(module) for module in modules.values()}))
    edges = Counter(
        (room_of(modules[importer]), room_of(modules[imported]))
        for importer, imported in import_graph(modules).edges
    )
    for (importer, imported), count in sorted(edges.items()):
        if importer != imported:
            rooms.add_edge(importer, imported, imports=count)
    return rooms


def circles_of_rooms(rooms: "nx.DiGraph[str]") -> list[list[str]]:
    """Return the groups of rooms that import each other, directly or by way of others."""
    groups = nx.strongly_connected_components(rooms)
    return sorted(sorted(group) for group in groups if len(group) > 1)


def back_up(rooms: "nx.DiGraph[str]") -> dict[tuple[str, str], int]:
    """Return the imports that close circles: the fewest found, not the fewest possible.

    Each circle is opened where the fewest modules import, until none is left.
    """
    left = rooms.copy()
    opened: dict[tuple[str, str], int] = {}
    for group in circles_of_rooms(left):
        inside = nx.DiGraph(left.subgraph(group))
        while True:
            try:
                circle = sorted(nx.find_cycle(inside))
            except nx.NetworkXNoCycle:
                break
            importer, imported, *_ = min(
                circle, key=lambda edge: (inside.edges[edge[0], edge[1]]["imports"], edge)
            )
            opened[importer, imported] = inside.edges[importer, imported]["imports"]
            inside.remove_edge(importer, imported)
    return opened


def as_table(figures: Mapping[str, float]) -> str:
    """Return the figures beside their budgets."""
    rows = [f"{'held by a test':40}{'now':>10}{'ceiling':>10}{'aim':>10}{'at last':>10}"]
    for name, figure in figures.items():
        budget = HOUSE[name]
        numbers = (figure, budget.ceiling, budget.aim, budget.final)
        rows.append(f"{name:40}" + "".join(f"{number:>10,}" for number in numbers))
    return "\n".join(rows)


def habits(modules: Mapping[str, Module]) -> dict[str, str]:
    """Return what is printed and read, and bounded by nothing."""
    graph = import_graph(modules)
    lines = sum(module.lines for module in modules.values())
    import_lines = sum(
        node.end_lineno - node.lineno + 1
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and node.end_lineno is not None
    )
    crumbs = sum(
        module.lines < SHORT and not module.is_package and graph.in_degree(name) == 1
        for name, module in modules.items()
    )
    kinds = Counter(
        kind
        for module in modules.values()
        for node in ast.walk(module.tree)
        for kind in habits_of(node)
    )
    written = written_lines(list(modules.values()))
    per_thousand = {name: f"{1000 * count / written:.1f}" for name, count in sorted(kinds.items())}
    return {
        "lines of imports": f"{100 * import_lines / lines:.1f} %",
        "lines of the mean module": f"{lines / len(modules):.0f}",
        f"modules below {SHORT} lines with one importer": f"{100 * crumbs / len(modules):.1f} %",
        **{f"{name} per 1,000 written lines": figure for name, figure in per_thousand.items()},
    }


def habits_of(node: ast.AST) -> Iterator[str]:
    """Yield which habits of writing a node shows."""
    match node:
        case ast.IfExp():
            yield "conditional expressions"
        case ast.Assign(targets=[ast.Tuple()], value=ast.Tuple()):
            yield "parallel assignments"
        case (
            ast.ListComp(generators=[_, _, *_])
            | ast.SetComp(generators=[_, _, *_])
            | ast.GeneratorExp(generators=[_, _, *_])
            | ast.DictComp(generators=[_, _, *_])
        ):
            yield "comprehensions with two `for`"
        case _:
            pass


def touched(root: Path) -> tuple[int, int] | None:
    """Return how many modules and packages the median commit touches that adds 40 lines or more.

    Of the last `COMMITS` commits that touch the product; None: there are none.
    """
    log = [
        "git",
        "log",
        f"-{COMMITS}",
        "--format=tformat:@",
        "--numstat",
        "--no-renames",
        "--",
        *PACKAGES,
    ]
    done = subprocess.run(log, cwd=root, capture_output=True, text=True, check=True)
    counts: list[tuple[int, int]] = []
    for commit in done.stdout.split("@")[1:]:
        rows = [row.split("\t") for row in commit.strip().splitlines()]
        files = [(added, name) for added, _, name in rows if name.endswith(".py")]
        if sum(int(added) for added, _ in files) >= FEATURE:
            packages = {name.rpartition("/")[0] for _, name in files}
            counts.append((len(files), len(packages)))
    if not counts:
        return None
    modules, packages_touched = zip(*counts, strict=True)
    return round(median(modules)), round(median(packages_touched))
