"""The request body that a server gets."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.gateway.body.body import RequestBody, parse_body
from runtime.gateway.body.endpoints import CHAT, MESSAGES, RESPONSES, TEXT
from runtime.gateway.body.errors import ApiError
from runtime.gateway.body.fields import PASSED, SENT

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=8,
)  # fmt: skip
NAMES = st.text(max_size=6) | st.sampled_from(sorted(PASSED - {"stream", "echo", "user"}))


def for_server(
    body: RequestBody, adapter: str, client: str, path: str = CHAT, priority: int | None = None
) -> bytes:
    """Return the body that a server gets."""
    adapter_json, client_json = (
        msgspec.Raw(msgspec.json.encode(name)) for name in (adapter, client)
    )
    return body.for_server(path, adapter_json, client_json, priority)


@given(
    fields=st.dictionaries(NAMES, JSON, max_size=6),
    ascii_only=st.booleans(),
    indent=st.none() | st.integers(0, 3),
)
def test_all_fields_that_are_passed_on_arrive_unchanged_and_no_others(
    fields: dict[str, object], *, ascii_only: bool, indent: int | None
) -> None:
    document = {**fields, "model": "acme-support"}
    raw = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    sent = json.loads(for_server(parse_body(raw), "acme-support-tiny-v1.0.0", "acme"))
    assert sent.pop("model") == "acme-support-tiny-v1.0.0"
    assert sent.pop("cache_salt") == "acme"
    assert sent == {name: value for name, value in fields.items() if name in SENT - {"model"}}


@given(
    members=st.lists(st.tuples(NAMES, JSON), min_size=1, max_size=5),
    twice=st.integers(0, 9),
    value=JSON,
)
def test_a_name_given_twice_is_always_noticed(
    members: list[tuple[str, object]], twice: int, value: object
) -> None:
    members = [*dict(members).items(), ("model", "acme-support")]
    members.append((members[twice % len(members)][0], value))
    raw = "{" + " , ".join(f"{json.dumps(n)} : {json.dumps(v)}" for n, v in members) + "}"
    with pytest.raises(ApiError):
        parse_body(raw.encode())


@pytest.mark.parametrize(
    ("fields", "sticky"),
    [
        ({"user": "a", "safety_identifier": "b"}, "a"),
        ({"safety_identifier": "b", "prompt_cache_key": "c"}, "b"),
        ({"prompt_cache_key": "c"}, "c"),
        ({"user": "", "prompt_cache_key": "c"}, "c"),
        ({"user": 7}, None),
        ({"metadata": {"user_id": "d"}}, "d"),
        ({"user": "a", "metadata": {"user_id": "d"}}, "a"),
        ({"metadata": {"user_id": ""}}, None),
        ({"metadata": "d"}, None),
        ({}, None),
    ],
)
def test_the_first_field_that_names_a_user_counts(
    fields: dict[str, object], sticky: str | None
) -> None:
    assert parse_body(json.dumps({"model": "m", **fields}).encode()).user == sticky


TRUE = ["true", "1", "1.0", "1e0", "10e-1", '"1"', '"true"', '"TRUE"', '"Yes"', '"y"', '"on"',
        '"T"', r'"\u0074rue"', r'"\u0031"', r'"t\u0052ue"', " true"]  # fmt: skip
FALSE = ["false", "0", "0.0", "-0.0", '"0"', '"False"', '"no"', '"N"', '"off"', '"f"',
         r'"\u0066alse"']  # fmt: skip


@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES, MESSAGES])
@pytest.mark.parametrize(
    ("value", "streams"), [*((each, True) for each in TRUE), *((each, False) for each in FALSE)]
)
def test_a_server_reads_stream_as_we_do(path: str, value: str, *, streams: bool) -> None:
    read = parse_body(b'{"model":"m","stream":%b}' % value.encode())
    sent = json.loads(for_server(read, "v", "acme", path))
    assert (read.stream, sent["stream"]) == (streams, streams)
    counted = streams and path in {CHAT, TEXT}
    assert ("stream_options" in sent) == counted


@pytest.mark.parametrize(
    "value",
    ["2", "-1", "0.5", '""', '" true"', '"truth"', "[]", "{}", "[true]", "1e30", "1e999",
     "9007199254740993", '"\u0131"'],
)  # fmt: skip
def test_what_is_neither_true_nor_false_is_refused_as_stream(value: str) -> None:
    with pytest.raises(ApiError, match="neither true nor false"):
        parse_body(b'{"model":"m","stream":%b}' % value.encode())


@pytest.mark.parametrize(
    "options",
    ["null", "{}", '{"include_usage":false}', r'{"include_us\u0061ge":false}',
     '{"include_usage":true,"include_usage":0,"continuous_usage_stats":"\\u0066alse"}'],
)  # fmt: skip
def test_a_stream_tells_its_counts_whatever_its_options_say(options: str) -> None:
    raw = b'{"model":"m","stream":1.0,"stream_options":%b}' % options.encode()
    pairs = json.loads(for_server(parse_body(raw), "v", "acme"), object_pairs_hook=list)
    named = sorted(dict(pairs)["stream_options"])
    assert named == [("continuous_usage_stats", True), ("include_usage", True)]


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"echo": True, "logprobs": 0}, True),
        ({"echo": "true", "logprobs": 1}, True),
        ({"echo": True}, False),
        ({"echo": True, "logprobs": None}, False),
        ({"echo": False, "logprobs": 1}, False),
        ({"logprobs": 1}, False),
    ],
)
def test_the_probabilities_of_the_prompt_are_not_to_be_had(
    fields: dict[str, object], *, refused: bool
) -> None:
    raw = json.dumps({"model": "m", **fields}).encode()
    if not refused:
        assert parse_body(raw).model == "m"
        return
    with pytest.raises(ApiError, match="echo"):
        parse_body(raw)
