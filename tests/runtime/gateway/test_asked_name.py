"""The model that a response names, wherever its stream is cut and whatever the model wrote."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runtime.gateway.body.sse import CompletionsStream, TypedStream, with_asked_name
from tests.runtime.gateway.stage import OLD

ASKED = "acme-support"
QUOTES = f'"model":"{OLD}"'


@given(st.text(max_size=20).map(lambda text: text + QUOTES), st.sampled_from([(",", ":"), None]))
def test_only_the_name_changes_and_no_text(text: str, separators: tuple[str, str] | None) -> None:
    choice = {"message": {"content": text, "tool_calls": [{"arguments": QUOTES}]}}
    document: dict[str, Any] = {"id": OLD, "model": OLD, "choices": [choice]}
    raw = json.dumps(document, separators=separators).encode()
    expected = document | {"model": ASKED}
    assert json.loads(with_asked_name(raw, OLD, ASKED)) == expected
    assert with_asked_name(raw, OLD, OLD) == raw


@given(st.data(), st.sampled_from(["completions", "typed"]))
def test_wherever_a_stream_is_cut_no_part_names_the_version(data: st.DataObject, kind: str) -> None:
    stream = (
        TypedStream() if kind == "typed" else CompletionsStream(keeps_last=True, keeps_all=True)
    )
    event: dict[str, Any] = {"type": "message_start", "message": {"model": OLD}, "model": OLD}
    whole = b"data: %b\n\n" % json.dumps(event, separators=(",", ":")).encode() * 3
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    passed = [with_asked_name(stream.feed(part), OLD, ASKED) for part in parts]
    passed.append(with_asked_name(stream.end(), OLD, ASKED))
    assert b"".join(passed) == whole.replace(OLD.encode(), ASKED.encode())
