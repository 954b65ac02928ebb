import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NewType, Union, cast, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.codec import MEASURED, NAMES, VERBS, decisions, plan_id
from fleet.errors import FleetError
from fleet.plan import Impact, Plan, PlanNote
from fleet.resources import LoadedAdapter
from fleet.steps import Operation, Step
from plans.documents.plan_file import Envelope, dump, load, load_with_envelope

FILE_CODES = {"FC5001", "FC5002", "FC5003", "FC5004", "FC5005"}


def codes(text: str) -> set[str]:
    with pytest.raises(FleetError) as caught:
        load(text)
    return {each.code for each in caught.value.diagnostics}


def edited(plan: Plan, edit: Callable[[dict[str, Any]], object], **dumping: Any) -> str:
    document = json.loads(dump(plan, **dumping))
    edit(document)
    return json.dumps(document)


@cache
def values(hint: Any) -> st.SearchStrategy[Any]:  # noqa: PLR0911 (one for each form of type)
    """Any value of a type that a plan holds, found from the annotations."""
    if isinstance(hint, NewType):
        return values(hint.__supertype__)
    if get_origin(hint) is tuple:
        first, *rest = get_args(hint)
        if rest == [Ellipsis]:
            return st.lists(values(first), max_size=2).map(tuple)
        return st.tuples(*(values(each) for each in (first, *rest)))
    if hint is PlanNote:
        return st.text().map(PlanNote.of)
    if get_origin(hint) in (Union, UnionType):
        return st.one_of([values(each) for each in get_args(hint)])
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        parts = {each.name: values(hints[each.name]) for each in fields(hint)}
        for name in NAMES.get(cast("type", hint), ()):
            found = st.sampled_from(["tiny", "tiny-laptop_2-cpu0"])
            many = get_origin(hints[name]) is tuple
            parts[name] = st.lists(found, max_size=2).map(tuple) if many else found
        made = st.builds(cast("type", hint), **parts)
        return made.map(LoadedAdapter.as_known) if hint is LoadedAdapter else made
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    return {
        NoneType: st.none(),
        bool: st.booleans(),
        int: st.integers(),
        str: st.text(max_size=4),
        float: st.floats(allow_nan=False, allow_infinity=False),
        datetime: st.datetimes(timezones=st.just(UTC)),
    }[hint]


plans: st.SearchStrategy[Plan] = values(Plan).map(lambda plan: replace(plan, id=plan_id(plan)))


@settings(max_examples=60)
@given(plan=plans)
def test_any_plan_is_read_back_as_it_was_written(plan: Plan) -> None:
    assert load(dump(plan)) == plan


@settings(max_examples=30)
@given(plan=plans)
def test_measurements_and_the_envelope_do_not_change_the_id(plan: Plan) -> None:
    measured = replace(
        plan,
        steps=tuple(replace(each, estimate_s=each.estimate_s / 2 + 1) for each in plan.steps),
        impacts=tuple(replace(each, peak_rpm=7.0, back_out_s=None) for each in plan.impacts),
        ledger_seq=plan.ledger_seq + 1,
        cost_after=None,
    )
    assert plan_id(measured) == plan.id
    assert load(dump(measured, Envelope("2026-01-01T00:00:00+00:00", "ana"))) == measured


def test_the_same_plan_gives_the_same_bytes_and_ends_with_a_newline(canary: Plan) -> None:
    assert dump(canary) == dump(load(dump(canary)))
    assert dump(canary).endswith("}\n")
    assert "\r" not in dump(canary)


def test_each_change_and_step_stands_on_a_line_of_its_own(canary: Plan) -> None:
    lines = dump(canary).splitlines()
    assert sum('"reason":' in line for line in lines) == len(canary.changes)
    assert sum('"verb":' in line for line in lines) == len(canary.steps)


def test_the_envelope_is_kept(canary: Plan) -> None:
    envelope = Envelope("2026-01-01T00:00:00+00:00", "ana", "0a1b2c-dirty", "0.1.0")
    assert load_with_envelope(dump(canary, envelope)) == (canary, envelope)
    assert load_with_envelope(dump(canary)) == (canary, None)


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda d: d["decisions"]["changes"].pop(), "FC5005"),
        (lambda d: d["decisions"]["changes"][0].update(why="Nothing to see."), "FC5005"),
        (lambda d: d["decisions"]["warnings"].append("x"), "FC5005"),
        (lambda d: d["decisions"].update(added=1), "FC5005"),
        (lambda d: d.update(plan_id="0" * 16), "FC5005"),
        (lambda d: d.pop("plan_id"), "FC5005"),
        (lambda d: d.pop("decisions"), "FC5004"),
        (lambda d: d.pop("observations"), "FC5004"),
        (lambda d: d["observations"].pop("steps"), "FC5004"),
        (lambda d: d["observations"]["steps"].pop(), "FC5004"),
        (lambda d: d["observations"]["steps"].__setitem__(0, 3), "FC5004"),
        (lambda d: d["observations"].update(ledger_seq="12"), "FC5004"),
        (lambda d: d["observations"].update(ledger_seq=True), "FC5004"),
        (lambda d: d["observations"].pop("unchanged"), "FC5004"),
        (lambda d: d.update(envelope={"by": "ana"}), "FC5004"),
        (lambda d: d.update(format="fleetctl-live"), "FC5002"),
        (lambda d: d.pop("format"), "FC5002"),
        (lambda d: d.update(format_version="2.0"), "FC5003"),
        (lambda d: d.update(format_version="0.9"), "FC5003"),
        (lambda d: d.update(format_version="one"), "FC5003"),
        (lambda d: d.update(format_version=None), "FC5003"),
    ],
)
def test_a_file_that_was_edited_is_refused(
    canary: Plan, edit: Callable[[dict[str, Any]], object], code: str
) -> None:
    assert codes(edited(canary, edit)) == {code}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, '{"format": NaN}', "\x00", "null {", '{"a": 1e999}', '"\\ud800"'],
)
def test_a_damaged_file_is_refused(text: str) -> None:
    assert codes(text) == {"FC5001"}


@pytest.mark.parametrize("text", ["null", "[]", "3", '"plan"', '{"changes": []}'])
def test_a_foreign_file_is_refused(text: str) -> None:
    assert codes(text) == {"FC5002"}


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(where=st.integers(0, 10_000), character=st.characters(codec="utf-8"))
def test_a_file_damaged_anywhere_is_refused_or_decides_the_same(
    canary: Plan, where: int, character: str
) -> None:
    text = dump(canary)
    where %= len(text)
    refusal: set[str] = set()
    read = canary
    try:
        read = load(text[:where] + character + text[where + 1 :])
    except FleetError as error:
        refusal = {each.code for each in error.diagnostics}
    assert refusal <= FILE_CODES
    assert read.id == canary.id
    assert decisions(read) == decisions(canary)


def test_a_later_minor_version_may_add_what_this_reader_ignores(canary: Plan) -> None:
    def add(document: dict[str, Any]) -> None:
        document["format_version"] = "1.7"
        document["observations"]["weather"] = "fine"
        document["signature"] = "…"

    assert load(edited(canary, add)) == canary


def test_every_operation_has_a_verb_and_every_measured_field_exists() -> None:
    assert set(VERBS.values()) == set(get_args(Operation))
    for section, made in (("steps", Step), ("impacts", Impact)):
        assert set(MEASURED[section]) <= {each.name for each in fields(made)}


def test_no_number_that_json_lacks_gets_into_a_file(canary: Plan) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump(replace(canary, cost_after=float("nan")))
