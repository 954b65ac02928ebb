"""The part of a stream of events that reaches the client, and the counts."""

import json
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.gateway.body.sse import CompletionsStream
from runtime.usage.row import Tokens

DONE = b"data: [DONE]\n\n"


def unfinished(text: str) -> object:
    """Return a choice as vLLM streams it before the last."""
    return {"index": 0, "text": text, "finish_reason": None}


def event(choices: list[object], usage: int | None = None, *, spaced: bool = False) -> bytes:
    document: dict[str, object] = {"id": "x", "choices": choices}
    if usage is not None:
        document["usage"] = {"completion_tokens": usage}
    separators = (", ", ": ") if spaced else (",", ":")
    return b"data: " + json.dumps(document, separators=separators).encode() + b"\n\n"


@pytest.mark.parametrize("spaced", [False, True])
@given(data=st.data())
def test_wherever_a_stream_is_cut_the_client_gets_what_an_uncounted_one_holds(
    data: st.DataObject, *, spaced: bool
) -> None:
    choice: st.SearchStrategy[object] = st.text(max_size=9)
    if not spaced:  # of values the blanks stay
        choice |= st.text(max_size=9).map(unfinished)
    texts = data.draw(st.lists(choice, max_size=5))
    events = [event([t], n, spaced=spaced) for n, t in enumerate(texts)]
    events += [event([], len(texts)), DONE]
    whole, ends = b"".join(events), [*accumulate(map(len, events))]
    places = st.integers(0, len(whole)) | st.sampled_from(ends)
    cuts = sorted(data.draw(st.lists(places, max_size=9)))
    parts = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    stream = CompletionsStream(keeps_last=False, keeps_all=False)
    passed = b"".join(stream.feed(part) for part in parts) + stream.end()
    assert passed == b"".join(event([t]) for t in texts) + DONE
    assert json.loads(stream.usage) == {"completion_tokens": len(texts)}
    assert stream.is_done


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_what_a_client_asked_for_it_gets_byte_for_byte(line_end: bytes) -> None:
    whole = b": hi\n\n" + event(["a"], 1) + event([], 1, spaced=True) + DONE
    whole = whole.replace(b"\n", line_end)
    stream = CompletionsStream(keeps_last=True, keeps_all=True)
    assert stream.feed(whole) + stream.end() == whole
    assert stream.is_done


def test_an_event_is_passed_on_as_soon_as_it_is_complete() -> None:
    stream = CompletionsStream(keeps_last=False, keeps_all=False)
    assert stream.feed(event(["a"])[:-1]) == event(["a"])[:-1]
    assert stream.feed(b"\n") == b"\n"
    assert stream.feed(event(["b"], 1)) == event(["b"])


def test_the_rest_of_a_line_is_no_event_though_it_begins_as_one() -> None:
    stream = CompletionsStream(keeps_last=False, keeps_all=False)
    start, _, rest = event([unfinished("data: ")], 1).partition(b'"data: ')
    assert stream.feed(start + b'"') == b""
    assert stream.feed(b"data: " + rest) == event([unfinished("data: ")])
    assert stream.usage == b'{"completion_tokens":1}'


def test_no_counts_are_read_from_what_a_model_wrote() -> None:
    stream = CompletionsStream(keeps_last=False, keeps_all=False)
    spoken = event(['"usage":{"completion_tokens":9}', "\n\ndata: [DONE]\n\n"])
    assert stream.feed(spoken) == spoken
    assert (stream.usage, stream.is_done) == (b"", False)


CHOICE = r'{"index":0,"delta":{"content":"TEXT"},"finish_reason":null}'


@pytest.mark.parametrize("text", ["a", r",\"usage\":{\"n\":1}}", "{}}", "}}"])
@pytest.mark.parametrize(
    ("before", "usage", "after"),
    [
        ("", '{"completion_tokens":7}', ""),
        ("", '{"completion_tokens":7,"x":"}"}', ""),
        ("", '{"completion_tokens":7,"details":{"cached_tokens":1}}', ""),
        ("", '{"completion_tokens":7}', ',"x":{"a":1}'),
        ("", '{"completion_tokens":7}', ',"x":1'),
        (',"x":{"y":1,"usage":{"completion_tokens":9}}', '{"completion_tokens":7}', ""),
        (',"x":{"y":1,"usage":{"completion_tokens":9}}', "null", ""),
        (',"x":{"y":1,"usage":{"completion_tokens":9}}', "", ""),
    ],
)
def test_the_counts_of_an_event_are_its_own_wherever_they_stand(
    text: str, before: str, usage: str, after: str
) -> None:
    start = f'data: {{"id":"x","choices":[{CHOICE.replace("TEXT", text)}]{before}'
    stream = CompletionsStream(keeps_last=False, keeps_all=False)
    counts = f',"usage":{usage}' if usage else ""
    passed = stream.feed(f"{start}{counts}{after}}}\n\n".encode())
    assert json.loads(passed.removeprefix(b"data: ")) == json.loads(f"{start[6:]}{after}}}")
    assert passed.endswith(b"}\n\n")
    assert stream.usage == (usage if usage != "null" else "").encode()


@pytest.mark.parametrize("line", [b'data: {"usage": \n\n', b'data: ["usage"]\n\n', b"usage\n\n"])
def test_what_is_no_event_is_passed_on(line: bytes) -> None:
    assert CompletionsStream(keeps_last=False, keeps_all=False).feed(line) == line


def counted(index: int, prompt: int, made: int) -> bytes:
    """An event of several answers: its counts are of this one only."""
    usage = {"prompt_tokens": prompt, "completion_tokens": made}
    document = {"choices": [{"index": index, "text": "a"}], "usage": usage}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


LAST = b'data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":20}}\n\n'


@pytest.mark.parametrize(
    ("answers", "events", "tokens"),
    [
        ((1, 1), [counted(0, 5, 1), counted(0, 5, 2)], (5, 2)),
        ((1, 2), [counted(0, 5, 1), counted(1, 5, 1), counted(0, 5, 3)], (5, 4)),
        ((2, 1), [counted(0, 5, 1), counted(1, 7, 4)], (12, 5)),
        ((2, 2), [counted(0, 5, 1), counted(1, 5, 2), counted(3, 7, 3)], (12, 6)),
        ((2, 2), [counted(0, 5, 1), counted(3, 7, 3), LAST], (12, 20)),
    ],
)
def test_several_answers_that_are_left_are_counted_together(
    answers: tuple[int, int], events: list[bytes], tokens: tuple[int, int]
) -> None:
    stream = CompletionsStream(keeps_last=False, keeps_all=False, answers=answers)
    stream.feed(b"".join(events))
    assert stream.result().tokens == Tokens(*tokens)
