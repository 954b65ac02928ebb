"""What `tests.bench.house` and `tests.bench.calls` count, on what has one of each defect."""

from pathlib import Path

from tests.bench.calls import walk
from tests.bench.house import measure
from tests.bench.house_budgets import (
    back_up,
    circles_of_rooms,
    context_free,
    flat_files,
    room_graph,
)
from tests.bench.house_classes import alike
from tests.bench.house_modules import import_graph, read_modules

FILES = {
    "fleet/__init__.py": '"""One."""\n',
    "fleet/plan.py": "class Plan:\n    pass\n",
    "fleet/planning/__init__.py": "from fleet.planning.entry import make_plan\n",
    "fleet/planning/entry.py": "from fleet import plan\nfrom .rules import RULES\n"
    "def make_plan(a, /, b, *c, d, **e):\n    pass\n",
    "fleet/planning/rules.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
    "    from fleet.planning.entry import make_plan\nRULES = 1\n",
    "fleet/packing/__init__.py": "HOMES = {'pack': 'fleet.packing.search'}\n"
    "def __getattr__(name):\n    return HOMES[name]\n",
    "fleet/packing/search.py": "x = 0\n" * 301,
    "plans/__init__.py": "",
    "plans/render/text.py": "import fleet.planning.rules\nclass Plan:\n"
    "    def __init__(self, of):\n        import fleet.plan\n",
    "plans/README.md": "line\n" * 101,
    "runtime/__init__.py": "",
    "runtime/README.md": "line\n" * 100,
    "fleetctl/__init__.py": "",
    "fleetctl/commands/__init__.py": "",
    "fleetctl/commands/show.py": "def command():\n    from plans.render.text import Plan\n",
    "tests/test_one.py": "import pytest\npytestmark = [pytest.mark.live]\n"
    "@pytest.mark.slow\ndef test_one():\n    pass\nclass TestTwo:\n    def test_two(self):\n"
    "        pass\ndef helper():\n    pass\n",
}


def write(root: Path) -> None:
    for name, text in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def test_a_checkout_with_one_of_each_defect(tmp_path: Path) -> None:
    write(tmp_path)
    figures = {figure.name: figure for figure in measure(tmp_path)}
    assert figures["Lines of fleet"].rows == {
        "fleet": "7 modules, 316 lines",
        "fleet, flat": "2 modules, 3 lines",
        "fleet.packing": "2 modules, 304 lines",
        "fleet.planning": "3 modules, 9 lines",
    }
    assert (figures["Modules"].value, figures["Lines"].value) == (13, 322)
    assert figures["Modules under 60 lines"].value == 12
    assert figures["Modules over 300 lines"].rows == {"fleet.packing.search": 301}
    assert figures["Class names with two homes or more"].rows == {
        "Plan": ["fleet.plan", "plans.render.text"]
    }
    assert figures["Imports inside functions"].value == 2
    assert figures["Imports inside functions without fleetctl.commands"].rows == {
        "fleet": 0, "plans": 1, "runtime": 0, "fleetctl": 0,
    }  # fmt: skip
    assert figures["Circles of files"].rows == {
        "fleet.planning.entry": ["fleet.planning.entry", "fleet.planning.rules"]
    }
    inner = figures["Inner modules of `fleet` imported from outside their package"]
    assert inner.rows == {"fleet.planning.rules": ["plans.render.text"]}
    reached = figures["Modules reached by `make_plan`"]
    assert (reached.value, reached.rows) == (
        3,
        {"defined in": "fleet.planning.entry", "fleet": 1, "fleet.planning": 2},
    )
    assert figures["READMEs of packages"].value == 2
    assert figures["READMEs of packages over 100 lines"].rows == {"plans/README.md": 101}
    assert figures["Longest list of parameters"].rows == {
        "fleet.planning.entry:3 make_plan": 5,
        "fleet.packing:2 __getattr__": 1,
        "plans.render.text:3 __init__": 1,
        "fleetctl.commands.show:1 command": 0,
    }
    assert figures["Test functions"].value == 2
    assert figures["Test functions"].rows == {"live": 2, "slow": 1}


def test_rooms_names_and_fields_are_counted(tmp_path: Path) -> None:
    write(tmp_path)
    shape = "class {}:\n" + "".join(f"    {field}: int\n" for field in "abcde")
    for name, text in {
        "fleet/plan.py": "class Plan:\n    pass\ndef pick(its, *, servers):\n    found = its\n",
        "fleet/packing/search.py": shape.format("Adapter") + "    f: int\n",
        "fleet/planning/rules.py": shape.format("AdapterSpec")
        + "from fleet.packing import search\n",
        "fleet/packing/shapes.py": "from fleet.planning import entry\n",
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    modules = read_modules(tmp_path)
    assert alike(modules) == {"Adapter / AdapterSpec": "5 of 5 fields"}
    assert context_free([modules["fleet.plan"]]) == 500.0  # its and found in 4 lines
    assert flat_files(modules)["fleet.packing"] == 2
    rooms = room_graph(modules)
    assert circles_of_rooms(rooms) == [["fleet.packing", "fleet.planning"]]
    assert sum(back_up(rooms).values()) == 1


def test_a_face_that_imports_when_asked_imports_what_it_names(tmp_path: Path) -> None:
    write(tmp_path)
    graph = import_graph(read_modules(tmp_path))
    assert list(graph.successors("fleet.packing")) == ["fleet.packing.search"]


def test_a_climb_leads_back_into_a_higher_layer() -> None:
    judging, session = "runtime/operations/rounds/judge.py", "runtime/workspace.py"
    ledger, fold = "runtime/ledger/file.py", "fleet/history/fold.py"
    path = walk([judging, judging, session, ledger, fold, ledger, session, fold, session, judging])
    assert (path.calls, path.changes, path.pairs) == (10, 8, 8)
    assert path.files == (judging, session, ledger, fold)
    assert path.climbs == (
        (fold, ledger), (ledger, session), (fold, session), (session, judging),
    )  # fmt: skip
