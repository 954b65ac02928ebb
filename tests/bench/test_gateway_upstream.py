"""What answers behind the candidates of the gateway's benchmark, with nginx or without."""

import http.client
import json
from pathlib import Path

from tests.bench.gateway_stub import EVENTS, WHOLE
from tests.bench.gateway_upstream import Upstream


def answered(port: int, *bodies: str) -> list[bytes]:
    """Return the answers on one connection, which is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    found = []
    for body in bodies:
        connection.request("POST", "/v1/chat/completions", body)
        reply = connection.getresponse()
        found.append(reply.read())
        assert reply.status == 200
    connection.close()
    return found


def test_whole_answers_and_streams_come_from_one_port_in_turns(tmp_path: Path) -> None:
    large = json.dumps({"messages": "x" * 32_000})
    with Upstream.running(tmp_path) as behind:
        behind.play(streams=False)
        assert answered(behind.port, "{}", large, "{}") == [WHOLE] * 3
        behind.play(streams=True)
        (stream,) = answered(behind.port, '{"stream": true}')
        assert stream.count(b"data: ") == EVENTS + 1
        assert not behind.play(streams=True)
        behind.play(streams=False)
        assert answered(behind.port, large) == [WHOLE]
