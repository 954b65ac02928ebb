"""Reading YAML: what it means, where it stands, and that the fast way equals ruamel's."""

import contextlib
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO
from yaml.error import YAMLError

from fleet.config.files.yaml import _UnusualError, parse, parse_fast, parse_slow, unmark
from fleet.errors import ConfigError


def value_of(text: str) -> Any:
    return parse(f"k: {text}\n", "f.yaml").value["k"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", 1000),
        ("12:30", "12:30"),
        ("09-18", "09-18"),
        ("1.10", 1.1),
        ("1e3", 1000.0),
        ("-.5", -0.5),
        (".inf", math.inf),
        ("2024-01-31", "2024-01-31"),
        ("24h", "24h"),
        ("10%", "10%"),
        ("'1.10'", "1.10"),
        ("=", "="),
        ("[a, [b], {c: 1}]", ["a", ["b"], {"c": 1}]),
        ("|\n  a\n  b\n", "a\nb\n"),
        (">-\n  a\n  b\n", "a b"),
    ],
)
def test_scalars_are_read_as_yaml_1_2(text: str, value: Any) -> None:
    found = value_of(text)
    assert found == value
    assert type(found) is type(value)


def test_every_key_and_scalar_has_its_place() -> None:
    parsed = parse("\ufeff# é\na: {b: [1, 'x']}\nc:\n  d: |\n    text\n", "f.yaml")
    marks = parsed.marks
    places = [marks["a"][0], marks["a"][1]["b"][0], *marks["a"][1]["b"][1], marks["c"][1]["d"][1]]
    assert [str(unmark(each, "f.yaml")) for each in places] == [
        "f.yaml:2:1",
        "f.yaml:2:5",
        "f.yaml:2:9",
        "f.yaml:2:12",
        "f.yaml:4:6",
    ]


def test_anchors_and_merge_keys_mean_what_they_do_in_ruamel() -> None:
    text = "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x\n"
    assert parse(text, "f.yaml").value == {
        "a": {"p": 1, "q": 2},
        "b": {"p": 1, "q": 3},
        "c": {"p": 1, "q": 2},
    }


def test_aliases_that_multiply_are_refused() -> None:
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError) as caught:
        parse("\n".join(lines), "f.yaml")
    assert caught.value.diagnostics[0].code == "FC1013"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "- " * 100_000, "{a: " * 5_000, "a:\n" + " " * 9999 + "b: 1"]
)
def test_deep_nesting_ends_in_an_error_or_a_value(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert parse(text, "f.yaml").value


plain = st.from_regex(r"[-+.0-9_xobeE:~<=a-fnulNtr% /]{0,8}", fullmatch=True)
scalars = st.one_of(
    plain,
    st.sampled_from(["true", "NULL", "1.10", "24h", "64MiB", "10%", "0x1f", "é 🎉", "a: b", "# c"]),
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.integers(),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
)
documents = st.dictionaries(
    st.text("abc-_x09é ", min_size=1, max_size=5),
    st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text("abcxyz", min_size=1, max_size=4), inner, max_size=3)
        ),
        max_leaves=12,
    ),
    min_size=1,
    max_size=5,
)


def same(text: str) -> None:
    """Whatever the fast way reads without an error, ruamel reads alike, at the same places."""
    try:
        fast = parse_fast(text, "f.yaml")
    except (ConfigError, YAMLError, RecursionError, _UnusualError):
        return  # `parse` leaves these to ruamel
    slow = parse_slow(text, "f.yaml")
    assert repr(fast.value) == repr(slow.value)
    assert fast.marks == slow.marks


@given(document=documents, flow=st.booleans(), indent=st.sampled_from([2, 4]))
def test_the_fast_way_equals_ruamel_on_dumped_documents(
    document: dict[str, Any], *, flow: bool, indent: int
) -> None:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = flow
    yaml.indent = indent
    stream = StringIO()
    yaml.dump(document, stream)
    same(stream.getvalue())


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), plain | st.text(max_size=8)))
@example({"a": "'x'y", "b": '"\\/"'})
def test_the_fast_way_equals_ruamel_on_handwritten_lines(lines: dict[str, str]) -> None:
    same("".join(f"{key}: {value}\n" for key, value in lines.items()))


@given(st.text("ab:-?#,[]{}'\"|>&*!% \n.01<=~\\", max_size=40))
@example("a: {b: c:d}")
@example("[!,]")
@example("a: [b:c, http://x/y]")
@example('a: {"b":c}')
@example("a: - b")
@example("a:\n- b\n-  - c\n   - d")
def test_the_fast_way_equals_ruamel_on_arbitrary_text(text: str) -> None:
    same(text)
    same(f"a: {text}")
