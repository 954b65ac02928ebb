"""The bounds of schemas, patterns and grammars."""

import json
from typing import Any

import msgspec
import pytest

from runtime.gateway.body.errors import ApiError
from runtime.gateway.body.fields import BOUNDS
from tests.runtime.gateway.test_fields import refusal

TEXT = {"type": "string"}
UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
MAIL = r"^(?:[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9]+)*)@[a-z]+\.[a-z]{2,}$"


def schema(count: int, inner: Any = None, **more: Any) -> dict[str, Any]:
    named = {f"p{number}": inner or TEXT for number in range(count)}
    return {"type": "object", "properties": named, **more}


def matching(pattern: str, count: int = 1) -> dict[str, Any]:
    return schema(count, {"type": "string", "pattern": pattern})


def form(given: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": given}}


def tower(levels: int) -> Any:
    made: Any = TEXT
    for _ in range(levels):
        made = {"type": "array", "items": made}
    return made


SHAPES = [
    (schema(256), ""),
    (schema(257), "256 properties in an object"),
    (schema(4, schema(255)), ""),
    (schema(5, schema(255)), "1024 properties"),
    (schema(3000, {"type": "string", "pattern": "^a$"}), "at most"),
    (schema(32, minProperties=1), ""),
    (schema(33, minProperties=1), "32 properties where"),
    (schema(33, maxProperties=40), "32 properties where"),
    (matching(UUID, 20), ""),
    (matching(MAIL, 60), ""),
    (matching("a", 65), "64 patterns"),
    (matching("a" * 513), "512 letters in a pattern"),
    (matching("[a-z]?" * 16), ""),
    (matching("[a-z]?" * 17), "16 of `*`"),
    (matching("([a-z]*)*" * 9), "16 of `*`"),
    (matching(".{1,1024}"), ""),
    (matching(".{1,1025}"), "1024 letters in patterns"),
    (matching("(.{1,40}a){1,40}"), "1024 letters in patterns"),
    (matching(r"[\]{9999}]\{9999}"), ""),
    (matching("((.{9}a){9}b){9}"), ""),
    (matching("((.{99}a){99}b){99}"), "1024 letters in patterns"),
    ({"patternProperties": {f"^a{n}": TEXT for n in range(65)}}, "64 patterns"),
    ({"enum": [str(n) for n in range(1024)]}, ""),
    ({"enum": [str(n) for n in range(1025)]}, "1024 values in a list"),
    (tower(28), ""),
    (tower(65), "64 levels"),
    ({"const": "a" * 65_536}, "65536 bytes"),
]


@pytest.mark.parametrize(("given", "says"), SHAPES)
@pytest.mark.parametrize(
    "field",
    [
        lambda given: {"response_format": form(given)},
        lambda given: {"structured_outputs": {"json": given}},
        lambda given: {"structured_outputs": {"json": json.dumps(given)}},
        lambda given: {"guided_json": given},
        lambda given: {"guided_json": json.dumps(given)},
        lambda given: {"text": {"format": form(given)["json_schema"]}},
        lambda given: {"output_config": {"format": {"type": "json_schema", "schema": given}}},
    ],
    ids=["response_format", "structured", "as text", "guided", "guided text", "responses", "msg"],
)
def test_a_schema_is_bounded_wherever_it_stands(field: Any, given: Any, says: str) -> None:
    found = refusal(**field(given))
    assert found == "" if not says else says in found, found


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"structured_outputs": {"regex": "[a-z]?" * 16}}, ""),
        ({"structured_outputs": {"regex": "[a-z]?" * 17}}, "16 of `*`"),
        ({"structured_outputs": {"grammar": 'root ::= "a"\n' * 32}}, ""),
        ({"structured_outputs": {"grammar": 'root ::= "a"\n' * 33}}, "32 rules"),
        ({"structured_outputs": {"grammar": "a" * 4097}}, "4096 letters"),
        ({"structured_outputs": {"choice": ["a"] * 1024}}, ""),
        ({"structured_outputs": {"choice": ["a"] * 1025}}, "1024 values"),
        ({"structured_outputs": {"json": '{"pattern": NaN'}}, "not sound JSON"),
        ({"structured_outputs": {"structural_tag": json.dumps(form(schema(257)))}}, "256"),
        ({"guided_regex": "a{1,5000}"}, "1024 letters"),
        ({"guided_grammar": "root ::= a\n" * 33}, "32 rules"),
        ({"guided_choice": ["a"] * 1025}, "1024 values"),
        ({"tools": [{"function": {"parameters": schema(128)}}] * 16}, ""),
        ({"tools": [{"function": {"parameters": schema(129)}}]}, "128 properties"),
        ({"tools": [{"input_schema": schema(128)}] * 17}, "2048 properties"),
        ({"tools": [{"description": "a" * 500_000}]}, ""),
        ({"tools": [{"description": "a" * 600_000}]}, "524288 bytes"),
        ({"tools": [{"default": {"json": "no JSON"}}]}, ""),
        ({"tools": [[{}] * 1000] * 17}, "16384 values"),
        ({"response_format": {"type": "json_object"}}, ""),
        ({"response_format": "[" * 3}, ""),
    ],
)
def test_other_shapes_of_a_form_are_bounded_too(fields: dict[str, Any], says: str) -> None:
    found = refusal(**fields)
    assert found == "" if not says else says in found, found


def test_escaped_names_hide_nothing() -> None:
    written = json.dumps(schema(257)).replace('"properties"', r'"propert\u0069es"')
    with pytest.raises(ApiError, match="256 properties"):
        BOUNDS["guided_json"].check("guided_json", msgspec.Raw(written.encode()))
