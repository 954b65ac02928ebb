"""Probes that a client may try, as data: replayed on our gateway, and through any other proxy.

Every probe is one request of client `acme` against the table of `stage.table`: what it may reach
are the versions of `acme-support`, and nothing with `globex` in it may come back.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from tests.runtime.gateway.probe_inputs import (
    CONVERSATIONS,
    FOREIGN,
    MALFORMED,
    NO_KEY,
    OWN_TOOLS,
    PATHS,
    body,
)
from tests.runtime.gateway.stage import ACME, CHAT, GLOBEX, OTHERS, TEXT
from tests.runtime.gateway.typed_server import COUNT_TOKENS, EMBEDDINGS, MESSAGES, RESPONSES

Headers = tuple[tuple[str, str], ...]
KEY: Final[Headers] = (("Authorization", f"Bearer {ACME}"),)
JSON: Final[Headers] = (("Content-Type", "application/json"),)
OWN: Final = body(b'"model":"acme-support"')
OWN_EVERYWHERE: Final = body(b'"model":"acme-support","prompt":"hi","input":"hi"')
FORBIDDEN: Final = (b"globex", ACME.encode(), GLOBEX.encode())
"""Texts that no answer, log line or metric may hold: the other client's name, and secrets."""


class Outcome(Enum):
    """The outcome of a probe. One that is not served reaches no server."""

    SERVED = "by a version of its own alias"
    LISTED = "by the gateway itself, its own aliases only"
    UNKNOWN = "one and the same answer for all of them"
    NO_PATH = "no such path"
    NO_KEY = "no key that opens anything"
    UNCLEAR = "no HTTP, or two readers could see it end at different places"
    TOO_LARGE = "larger than is read"
    REFUSED = "a body or a header that is not taken"


STATUSES: Final = {
    Outcome.SERVED: {200},
    Outcome.LISTED: {200},
    Outcome.UNKNOWN: {404},
    Outcome.NO_PATH: {404},
    Outcome.NO_KEY: {401},
    Outcome.UNCLEAR: {400, 501},
    Outcome.TOO_LARGE: {400, 414, 431},
    Outcome.REFUSED: {400},
}
"""With which status our gateway answers; another proxy may choose another one that refuses."""


@dataclass(frozen=True)
class Probe:
    name: str
    outcome: Outcome
    body: bytes = OWN
    method: str = "POST"
    path: str = CHAT
    headers: Headers = KEY + JSON
    is_framed: bool = False
    """Whether headers and body say by themselves where the request ends."""
    whole: bytes = b""
    """The request as bytes, where the other fields cannot express the request."""

    def wire(self, host: str = "gateway") -> bytes:
        """Return the bytes of the request on the wire."""
        if self.whole:
            return self.whole
        head = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}"]
        head += [f"{name}: {value}" for name, value in self.headers]
        if not self.is_framed:
            head.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*head, "", ""]).encode("latin-1") + self.body


def _chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))


_SMUGGLED: Final = b"POST /v1/load_lora_adapter HTTP/1.1\r\nHost: gateway\r\n\r\n"
_CHUNKS: Final[Headers] = (("Transfer-Encoding", "chunked"),)
_LENGTH: Final = str(len(OWN))

_NAMES = [Probe(name, Outcome.UNKNOWN, raw) for name, raw in FOREIGN.items()]
_OTHER_PATHS = (TEXT, RESPONSES, MESSAGES, COUNT_TOKENS, EMBEDDINGS)
_ELSEWHERE = [
    Probe(f"{name} on {path}", Outcome.UNKNOWN, raw, path=path)
    for name, raw in FOREIGN.items()
    for path in _OTHER_PATHS
]
_TYPED = [
    *(
        Probe(f"its own alias on {path}", Outcome.SERVED, OWN_EVERYWHERE, path=path)
        for path in _OTHER_PATHS
    ),
    *(
        Probe(f"{name} on {path}", Outcome.REFUSED, MALFORMED[name], path=path)
        for name in ("two models, the foreign one last", "two models, one escaped", "no model")
        for path in _OTHER_PATHS
    ),
    *(
        Probe(name, Outcome.REFUSED, body(b'"model":"acme-support",' + raw), path=RESPONSES)
        for name, raw in CONVERSATIONS.items()
    ),
    Probe("tools of its own", Outcome.SERVED, body(b'"model":"acme-support",' + OWN_TOOLS),
          path=RESPONSES),
    Probe("no conversation", Outcome.SERVED,
          body(b'"model":"acme-support","background":false,"previous_response_id":null'),
          path=RESPONSES),
    Probe("a foreign user", Outcome.SERVED,
          body(b'"model":"acme-support","metadata":{"user_id":"globex"}'), path=MESSAGES),
]  # fmt: skip
_BODIES = [Probe(name, Outcome.REFUSED, raw) for name, raw in MALFORMED.items()]
_PATHS = [
    Probe(f"{method} {path}", Outcome.NO_PATH, method=method, path=path)
    for path in PATHS
    for method in ("POST", "GET", "DELETE")
]
_KEYS = [
    Probe(f"key {number} on {path}", Outcome.NO_KEY, path=path, headers=tuple(h.items()) + JSON)
    for number, h in enumerate(({}, *NO_KEY))
    for path in (CHAT, *_OTHER_PATHS)
] + [
    Probe(
        "two keys",
        Outcome.NO_KEY,
        body(b'"model":"globex-dates"'),
        headers=(*KEY, ("Authorization", f"Bearer {GLOBEX}"), *JSON),
    )
]

_SPOOFED: Final[Headers] = (
    ("X-Amzn-SageMaker-Adapter-Identifier", OTHERS),
    ("X-Request-Id", "mine"),
    ("X-Fleetctl-Version", OTHERS),
    ("X-Fleetctl-Client", "globex"),
    ("X-Data-Parallel-Rank", "1"),
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Original-Url", "/v1/load_lora_adapter"),
    ("X-Http-Method-Override", "DELETE"),
    ("Cookie", "client=globex"),
    ("X-Model", "globex-dates"),
)
_HEADERS = [
    Probe("headers of others", Outcome.SERVED, headers=KEY + JSON + _SPOOFED),
    Probe("no type", Outcome.SERVED, headers=KEY),
    Probe("many unknown headers", Outcome.SERVED,
          headers=KEY + JSON + tuple((f"X-A{n}", "a") for n in range(50))),
    Probe("a foreign session", Outcome.SERVED, headers=(*KEY, *JSON, ("X-Session-Id", "globex"))),
    Probe("an encoding", Outcome.REFUSED, headers=(*KEY, *JSON, ("Content-Encoding", "gzip"))),
    Probe("a type of form", Outcome.REFUSED,
          headers=(*KEY, ("Content-Type", "application/x-www-form-urlencoded"))),
    Probe("a charset", Outcome.REFUSED,
          headers=(*KEY, ("Content-Type", "application/json; charset=utf-16"))),
]  # fmt: skip
_FRAMES = [
    Probe("chunks", Outcome.SERVED, _chunked(OWN), headers=KEY + JSON + _CHUNKS, is_framed=True),
    Probe("small chunks", Outcome.SERVED, _chunked(*(OWN[n : n + 1] for n in range(len(OWN)))),
          headers=KEY + JSON + _CHUNKS, is_framed=True),
    Probe("chunks of a foreign name", Outcome.UNKNOWN,
          _chunked(b'{"model":"glo', b'bex-dates","messages":[]}'),
          headers=KEY + JSON + _CHUNKS, is_framed=True),
    Probe("chunks with a length", Outcome.UNCLEAR, _chunked() + _SMUGGLED,
          headers=(*KEY, *JSON, *_CHUNKS, ("Content-Length", "5")), is_framed=True),
    Probe("a length with chunks", Outcome.UNCLEAR, _chunked() + _SMUGGLED,
          headers=(*KEY, *JSON, ("Content-Length", "5"), *_CHUNKS), is_framed=True),
    Probe("two lengths", Outcome.UNCLEAR, OWN + _SMUGGLED,
          headers=(*KEY, *JSON, ("Content-Length", _LENGTH), ("Content-Length", "5")),
          is_framed=True),
    Probe("a signed length", Outcome.UNCLEAR,
          headers=(*KEY, *JSON, ("Content-Length", f"+{_LENGTH}")), is_framed=True),
    Probe("chunks that are not last", Outcome.UNCLEAR, _chunked(),
          headers=(*KEY, *JSON, ("Transfer-Encoding", "chunked, gzip")), is_framed=True),
    Probe("an unknown encoding of the transfer", Outcome.UNCLEAR, _chunked() + _SMUGGLED,
          headers=(*KEY, *JSON, ("Transfer-Encoding", "xchunked")), is_framed=True),
    Probe("a chunk of negative size", Outcome.UNCLEAR, b"-1\r\n", headers=KEY + JSON + _CHUNKS,
          is_framed=True),
    Probe("a space before a colon", Outcome.UNCLEAR, OWN + _SMUGGLED,
          headers=(*KEY, *JSON, ("Content-Length ", _LENGTH)), is_framed=True),
    Probe("a null in a header", Outcome.UNCLEAR, headers=(*KEY, *JSON, ("X-A", "\x00"))),
    Probe("a null in a key", Outcome.UNCLEAR,
          headers=(("Authorization", f"Bearer {ACME}\x00"), *JSON)),
    Probe("a line end in a header", Outcome.UNCLEAR, headers=(*KEY, *JSON, ("X-A", "a\nb"))),
    Probe("no HTTP", Outcome.UNCLEAR,
          whole=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n"),
]  # fmt: skip
_HUGE = [
    Probe("a huge header", Outcome.TOO_LARGE, headers=(*KEY, *JSON, ("X-A", "a" * 2**20))),
    Probe("thousands of headers", Outcome.TOO_LARGE,
          headers=KEY + JSON + tuple((f"X-A{n}", "a" * 99) for n in range(2000))),
    Probe("a huge path", Outcome.TOO_LARGE, path="/" + "a" * 2**20),
]  # fmt: skip
_MODELS = [
    Probe("its models", Outcome.LISTED, b"", "GET", "/v1/models"),
    Probe("its model", Outcome.LISTED, b"", "GET", "/v1/models/acme-support"),
    *(
        Probe(f"the model {name}", Outcome.UNKNOWN, b"", "GET", f"/v1/models/{name}")
        for name in ("globex-dates", OTHERS, "tiny", "globex%2Ddates")
    ),
]
_ALLOWED = [
    Probe("its own alias", Outcome.SERVED),
    Probe("its own alias, escaped", Outcome.SERVED, body(b'"mod\\u0065l":"acme\\u002dsupport"')),
    Probe("its own alias, with foreign names in other fields", Outcome.SERVED,
          body(b'"model":"acme-support","lora":"globex-dates","user":"globex","metadata":'
               b'{"model":"globex-dates"}')),
    Probe("fields that cross clients", Outcome.SERVED,
          body(b'"model":"acme-support","cache_salt":"globex","priority":-9,"request_id":"x",'
               b'"kv_transfer_params":{"remote":"globex"}')),
    Probe("a query", Outcome.SERVED, path=CHAT + "?model=globex-dates"),
]  # fmt: skip

PROBES: Final = (
    *_NAMES, *_ELSEWHERE, *_TYPED, *_BODIES, *_PATHS, *_KEYS, *_HEADERS, *_FRAMES, *_HUGE,
    *_MODELS, *_ALLOWED,
)  # fmt: skip
