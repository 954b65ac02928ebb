"""Heads that repeat on a connection, but for the values that every request has of its own."""

import asyncio
from pathlib import Path

import pytest

from runtime.gateway.http.messages import RepeatedHead, repeated_head
from tests.runtime.gateway.sockets import answered, connected, post, raw
from tests.runtime.gateway.stage import stage

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
IDS = (f"traceparent: {TRACE}", "tracestate: a=1", "X-Request-Id: r0")


def known(*headers: str) -> RepeatedHead[str]:
    head = repeated_head(post(b"{}", *headers), "meaning")
    assert head is not None
    return head


def test_a_head_is_known_again_with_other_values_that_vary() -> None:
    for headers in (IDS, IDS[::-1], IDS[1:], ()):
        head = known(*headers)
        split = head.split(post(b"[1, 2]", *(f"{line}9" for line in headers)))
        assert split is not None
        length, body, values = split
        assert (length, body) == (6, b"[1, 2]")
        given = {line.partition(":")[0].lower(): f"{line.partition(': ')[2]}9" for line in headers}
        named = zip(head.names, values, strict=True)
        assert {name.decode(): value.decode() for name, value in named} == given


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a b",
        "a\tb",
        " a",
        "a\x00",
        "\xff",
        "a\n",
        "a\rb",
        "x" * 129,
        "a\r\nTransfer-Encoding: chunked",
    ],
)
def test_a_value_with_anything_else_is_for_the_parser(value: str) -> None:
    assert known(IDS[0]).split(post(b"{}", f"traceparent: {value}")) is None


def test_any_other_difference_is_for_the_parser() -> None:
    head = known(IDS[0])
    for other in (
        post(b"{}"),
        post(b"{}", IDS[0], IDS[0]),
        post(b"{}", IDS[0], "A: b"),
        post(b"{}", IDS[0].replace("t", "T", 1)),
        post(b"{}", IDS[0], key="another"),
        post(b"{}", IDS[0], length="123456789"),
        post(b"{}", IDS[0], length="-1"),
    ):
        assert head.split(other) is None
    twice = known(IDS[2], IDS[2])
    assert twice.names == ()
    assert repeated_head(post(b"{}", length=None), "") is None
    assert repeated_head(post(b"{}", "Content-Length: 2"), "") is None


def test_requests_on_a_connection_keep_their_own_ids_and_traces(tmp_path: Path) -> None:
    ids = ["r1", "r2", "two words", "r3", "x" * 129, "r4"]
    traces = [f"00-{number + 1:032x}-00f067aa0ba902b7-01" for number in range(len(ids))]

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours, connected(ours) as (reader, writer):
            for number, (given, trace) in enumerate(zip(ids, traces, strict=True)):
                body = raw("hi" * number)
                writer.write(post(body, f"traceparent: {trace}", f"X-Request-Id: {given}"))
                assert (await answered(reader))[0] == 200
            rows = ours.rows()
            sound = ["r1", "r2", None, "r3", None, "r4"]
            assert [row["given_id"] for row in rows] == sound
            assert [row["trace_id"] for row in rows] == [trace[3:35] for trace in traces]
            sent = [head["traceparent"] for head in ours.replicas["s1"].headers]
            assert sent == traces

    asyncio.run(scenario())
