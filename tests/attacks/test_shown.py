"""A plan shows each declared value that differs from the last apply, or the change made by it."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from fleet.codes import Sources
from fleet.config import Declarations, Tree, check_shape, parse, resolve_fleet, with_former_names
from fleet.config.checks import ProjectFacts
from fleet.errors import ConfigError, FleetError
from fleet.history import History, settings_due
from fleet.plan import Plan
from fleet.planning import make_plan
from fleet.resources import State
from fleet.spec import AdapterFacts, FleetSpec
from tests.attacks.conftest import call
from tests.drawn import drawn, examples

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
RICH = Path(__file__).with_name("rich.yaml").read_text("utf-8")
VALUES: tuple[Any, ...] = (
    None, "other", "env:OTHER", "http://10.9.9.9:9000", "127.0.0.1:9999", "127.0.0.2", "1.2.3", 5,
    7, 2, 0.25, False, True, ["other"], "5%", "7d", "90s", "3GiB", "10-12", "Europe/Berlin", "gold",
    "standard",
    "tiny", "laptop", ["laptop"], ["acme"], "host", "device", "client", "cached", "pinned", "hold",
    "server", "native", "cordoned", "fake", "envoy", ["envoy"], ["ledger_away"], ["rolled_back"],
    "roll_back", [5, 100], ["5%", "100%"], ["Mon 10:00-Tue 10:00"], "5pp", "2.5x", "600ms", 64,
    "float32", "2032-02-02", "f" * 64, "error_rate", "birch-faq", "birch-faq-tiny-v2.0.0", "json",
    "request", "classification", "long_generation", "slow", "right", ["right"], "0.33.0", ">=0.0.2",
    "session", "drifted", ["undecided"], "label", "undecided", "CHF", "even", "in_use", "systemd",
    f"a.io/b@sha256:{'0' * 64}", "warn", "/etc/other.pem",
)  # fmt: skip
Where = tuple[str, ...]


@cache
def rich() -> dict[str, Any]:
    found: dict[str, Any] = parse(RICH, "fleet.yaml").value
    return found


def read(document: dict[str, Any]) -> tuple[Declarations, FleetSpec, frozenset[str]] | None:
    """Return what a document declares and the codes of its errors; None: no declarations."""
    tree = with_former_names(Tree(document, {}, Sources({})))
    given_, _ = check_shape(tree.value)
    if given_ is None:
        return None
    fleet, problems = resolve_fleet(given_, tree, ProjectFacts())
    facts = {
        str(adapter.name): AdapterFacts(
            hashlib.sha256(str(adapter.name).encode()).hexdigest(), 8, 1 << 20, ("q_proj",)
        )
        for adapter in fleet.adapters.values()
    }
    errors = {problem.code for problem in problems if problem.severity == "error"}
    return given_, replace(fleet, versions=facts), frozenset(errors)


def fields_of(model: BaseModel, path: Where = ()) -> Iterator[Where]:
    """Yield the place of every declared field, set or not; names of maps are those that are set."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from fields_of(value, (*path, name))
        elif isinstance(value, dict) and value:
            for key, item in value.items():
                inner = (*path, name, key)
                yield from fields_of(item, inner) if isinstance(item, BaseModel) else [inner]
        else:
            yield (*path, name)


def edited(document: dict[str, Any], where: Where, value: Any) -> dict[str, Any]:
    """Return the document with another value at a place; None takes the value away."""
    made = deepcopy(document)
    node = made
    for name in where[:-1]:
        node = node.setdefault(name, {})
    if value is None:
        node.pop(where[-1], None)
    else:
        node[where[-1]] = value
    return made


def planned(fleet: FleetSpec, live: State, history: History) -> Plan:
    return make_plan(fleet, live, history, NOW)


def shows(fleet: FleetSpec, live: State, history: History) -> bool:
    """Say whether the plan of an edited fleet shows a change; a refused fleet shows why."""
    if settings_due(fleet.settings, history):
        return True
    try:
        plan = planned(fleet, live, history)
    except FleetError:
        return True
    return bool(plan.settings or plan.changes)


def applied(fleet: FleetSpec) -> tuple[State, History]:
    """Return the state and the history after an apply of a fleet."""
    first = planned(fleet, State(), History())
    there = {change.address: change.after for change in first.changes if change.after is not None}
    known = {setting.path: setting.after or "" for setting in first.settings}
    owned = frozenset(map(str, there))
    return State(resources=there), History(owned=owned, established=there, settings=known)


@cache
def parsed() -> tuple[Declarations, FleetSpec, frozenset[str]]:
    found = read(rich())
    assert found is not None
    return found


@cache
def base() -> tuple[State, History]:
    return applied(parsed()[1])


PLACES = sorted(set(fields_of(check_shape(rich())[0] or Declarations(fleet="x"))))


KINDS = {
    "calm": "max_traffic_per_day", "office": "closed", "pairs": "two_approvals",
    "budget": "max_cost_rise", "provenance": "signed",
}  # fmt: skip
"""By plan rule: its kind, beside which every other kind is refused."""
ALONE = {
    f"plan_rules.{rule}.{kind}"
    for rule, own in KINDS.items()
    for kind in KINDS.values()
    if kind != own
} | {
    "plan_rules.budget.exceptions", "plan_rules.pairs.exceptions",
    "plan_rules.provenance.exceptions",
    "plan_rules.calm.exceptions.launch.adapter", "plan_rules.calm.exceptions.launch.client",
    "plan_rules.office.exceptions.other.adapter", "plan_rules.office.exceptions.other.client",
    "evals.through", "gates.errors.floor", "gates.errors.golden", "gates.errors.samples",
    "gates.errors.score", "gates.right.alarm", "gates.right.false_alarm",
    "gates.right.min_requests", "gates.right.tolerate", "gateways.main.host", "gateways.main.kind",
    "gateways.other.admin", "gateways.other.kind", "hosts.box.engine", "hosts.box.paths",
    "hosts.box.servers", "hosts.box.supervisor", "hosts.far.devices", "hosts.far.engine",
    "hosts.far.image", "hosts.far.store", "hosts.far.supervisor", "hosts.laptop.image",
    "hosts.laptop.paths", "hosts.laptop.servers", "hosts.laptop.store", "hosts.node.address",
    "hosts.node.engine", "hosts.node.image", "hosts.node.insecure", "hosts.node.paths",
    "hosts.node.servers", "hosts.node.supervisor", "state.file",
    "hosts.far.fetch", "hosts.laptop.fetch", "extensions.fleetctl-acme.notice_sinks",
    *(f"hosts.{name}.{key}" for name in ("box", "far", "laptop")
      for key in ("cluster", "insecure", "node", "token")),
}  # fmt: skip
"""Places where every other value is refused, beside what else is declared."""


def edits(document: dict[str, Any], where: Where) -> Iterator[tuple[Any, FleetSpec]]:
    """Yield the other values of a field that are valid, with the fleets that they declare."""
    found = parsed() if document is rich() else read(document)
    assert found is not None
    for value in VALUES:
        with contextlib.suppress(ConfigError, ValueError, TypeError):
            made = read(edited(document, where, value))
            if made is not None and made[0] != found[0] and not made[2] - found[2]:
                yield value, made[1]


@pytest.mark.parametrize("where", PLACES, ids=".".join)
def test_every_edit_of_a_declared_field_is_shown(where: Where) -> None:
    live, history = base()
    tried = [*islice(edits(rich(), where), 1)]
    assert bool(tried) is (".".join(where) not in ALONE)
    for value, fleet in tried:
        assert shows(fleet, live, history), f"{'.'.join(where)}: {value!r} is not shown"


@drawn
@settings(max_examples=examples(25, 100), deadline=None, derandomize=True)
@given(st.data())
def test_an_edit_of_any_fleet_is_shown(data: st.DataObject) -> None:
    document = rich()
    for where in data.draw(st.lists(st.sampled_from(PLACES), max_size=8)):
        without = edited(document, where, None)
        found = read(without)
        document = without if found and not found[2] - parsed()[2] else document
    found = read(document)
    assert found is not None
    try:
        live, history = applied(found[1])
    except FleetError:
        assume(False)
    where = data.draw(st.sampled_from(PLACES))
    choices = [*islice(edits(document, where), 4)]
    assume(choices)
    _, fleet = data.draw(st.sampled_from(choices))
    assert shows(fleet, live, history)


def test_the_same_declarations_show_nothing() -> None:
    live, history = base()
    found = read(rich())
    assert found is not None
    plan = planned(found[1], live, history)
    assert (plan.changes, plan.settings) == ((), ())
    assert (
        plan.id == planned(replace(found[1], settings={}), live, replace(history, settings={})).id
    )


def test_the_walk_meets_every_field_of_the_models() -> None:
    met = {part for where in PLACES for part in where}
    names = {name for model in models(Declarations) for name in model.model_fields}
    assert names - met == set()


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    """Return a model with all models inside it."""
    found = {model}
    pending: list[Any] = [field.annotation for field in model.model_fields.values()]
    while pending:
        hint = pending.pop()
        pending += get_args(hint)
        if isinstance(hint, type) and issubclass(hint, BaseModel) and hint not in found:
            found.add(hint)
            pending += [field.annotation for field in hint.model_fields.values()]
    return found


@pytest.mark.parametrize("command", [("show",), ("graph", "--plan")], ids=["show", "graph"])
def test_it_is_said_that_a_file_speaks_for_itself(
    project: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "plan.json"
    assert call(project, "plan", "--out", str(file)).code == 0
    assert "this state folder made this plan." in call(project, *command, str(file)).stderr
    document = json.loads(file.read_text())
    document["observations"]["unchanged"] = 7
    file.write_text(json.dumps(document))
    assert "did not make the plan" in call(project, *command, str(file)).stderr
