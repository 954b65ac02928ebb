"""Requests as clients should not send them: made by their structure, then damaged byte by byte."""

import string
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from runtime.gateway.body.endpoints import PATHS
from runtime.gateway.body.fields import DROPPED
from tests.runtime.gateway.sockets import post
from tests.runtime.gateway.stage import ACME, CHAT, NEW, OLD, OTHERS, TEXT

WRONG = "acme-secret-that-is-none"
OWN, FOREIGN = "acme-support", "globex-dates"
_MODELS = [OWN] * 6 + [FOREIGN, OLD, NEW, OTHERS, "tiny", "", "ACME-SUPPORT", OWN + "\\u0000"]
_ESCAPED = "".join(f"\\u{ord(each):04x}" for each in OWN)

# ------------------------------------------------------------------ bodies
_names = st.one_of(
    st.sampled_from(
        ["seed", "top_p", "stop",
         "model", "mod\\u0065l", "\\u006dodel", "Model", "model ", "messages", "prompt",
         "input",
         "stream", "stream_options", "user", "metadata", "session_id", "n", "echo", "logprobs",
         "store", "background", "tools", "max_tokens", *sorted(DROPPED)]
    ),
    st.text(st.characters(exclude_characters='"\\', min_codepoint=32), max_size=6),
)  # fmt: skip
_scalars = st.one_of(
    st.sampled_from([f'"{each}"' for each in _MODELS]),
    st.sampled_from(
        ["1", "0", "true", "false", "null", f'"{_ESCAPED}"', "-1", "9007199254740993", '"true"',
         '"\\ud800"', '"a\\u0022,\\u0022model\\u0022:\\u0022x"', "1e400", '"\\"', "NaN", "", "01"]
    ),
    st.text(string.printable, max_size=8).map(lambda text: '"' + text.replace('"', "") + '"'),
)  # fmt: skip
_spaces = st.sampled_from([*["", " "] * 9, "\n\t", "\u00a0", "\x0b"])


@st.composite
def _objects(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    members = draw(st.lists(st.tuples(_names, values), max_size=6))
    comma, colon, end = draw(_spaces), draw(_spaces), draw(_spaces)
    return (
        "{" + ("," + comma).join(f'"{name}":{colon}{value}' for name, value in members) + end + "}"
    )


_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        _objects(inner), st.lists(inner, max_size=3).map(lambda each: f"[{','.join(each)}]")
    ),
    max_leaves=6,
)
_TRUTHS = ["true", "1", "1.0", '"yes"', '"TRUE"', r'"\u0074rue"', r'"\u0031"', "false", "null", "7"]
_OPTIONS = ["null", "{}", '{"include_usage":false}', r'{"include_us\u0061ge":0}', "0", "[]"]


_NUMBERS = [
    "1", "1", "17", '"100"', r'"\u0031\u0030\u0030"', r'"1\u0030"',
    r'"\u0039\u0039"', '" 1_00.0"', "true", '"x"',
]  # fmt: skip


@st.composite
def _many(draw: st.DrawFn) -> str:
    """Prompts and numbers of completions, which may ask for many answers."""
    blanks, count = draw(st.sampled_from(["", " " * 99])), draw(st.integers(1, 20))
    prompts = ",".join([draw(st.sampled_from(['"hi"', "[1,2]", "7"]))] * count)
    return f',"n":{draw(st.sampled_from(_NUMBERS))},"prompt":[{blanks}{prompts}]'


@st.composite
def _counting(draw: st.DrawFn) -> str:
    """Members that say how the answer is told, and its counts, in all ways that a server reads."""
    truth, options = draw(st.sampled_from(_TRUTHS)), draw(st.sampled_from(["", *_OPTIONS]))
    more = f',"stream_options":{options}' if options else ""
    return f',"stream":{draw(_spaces)}{truth}{more}'


_MESSAGES = '"messages":[{"role":"user","content":"hi"}],"input":"hi","max_tokens":2'


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Objects that are often good enough to be answered, with members twice, nested, escaped."""
    model = draw(st.sampled_from([OWN] * 12 + _MODELS))
    asked = draw(st.one_of(st.just(',"prompt":"hi"'), _many()))
    text = good = f'"model":"{model}",{_MESSAGES}{asked}'
    match draw(st.sampled_from(["good"] * 6 + ["after", "before"] * 2 + ["else", "anything"])):
        case "good":
            text = f"{{{good}{draw(st.one_of(st.just(''), _counting()))}}}"
        case "after":
            text = f'{{{good},"x":{draw(_objects(_values))}}}'
        case "before":
            text = f'{draw(_objects(_values))[:-1]},"x":0,{good}}}'
        case "else":
            text = draw(_objects(_values))
        case _:
            text = draw(_values)
    raw = text.encode("utf-8", "surrogatepass")
    dress = draw(st.sampled_from([""] * 30 + ["bom", "utf-16", "twice", "cut", "deep"]))
    match dress:
        case "bom":
            return b"\xef\xbb\xbf" + raw
        case "utf-16":
            return text.encode("utf-16", "surrogatepass")
        case "twice":
            return raw + raw
        case "cut":
            return raw[: draw(st.integers(0, len(raw)))]
        case "deep":
            return raw[:-1] + b',"a":' + b"[" * 3000 + b"]" * 3000 + b"}"
        case _:
            return raw


# ------------------------------------------------------------------ heads
_usual = st.sampled_from(
    ["X-Session-Id: s", "Connection: close", "Connection: keep-alive", "Expect: 100-continue",
     "X-Fleetctl-Version: 2.2.0", "X-Fleetctl-Purpose: eval", "X-Request-Id: mine", "Cookie: a=b",
     "Content-Type: application/json; charset=utf-8", "X-Forwarded-For: 10.0.0.1",
     "Trailer: Authorization", "A: " + "b" * 5000]
)  # fmt: skip
_unusual = st.sampled_from(
    [f"Authorization: Bearer {WRONG}", f"Authorization: Bearer {ACME}", f"x-api-key: {ACME}",
     "Content-Type: text/plain", "Content-Encoding: gzip", "Connection: Upgrade\r\nUpgrade: h2c",
     "Expect: 200-ok", "Content-Length: 3", "Content-Length: +5", "Content-Length: 0x5",
     "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "A: b\r\n folded",
     "Transfer-Encoding : chunked", ": empty", "A\x00: b", "A: \xff"]
)  # fmt: skip
_request_ids = st.one_of(
    st.sampled_from(["mine", "a b", "", "x" * 129, "a\tb", "a\r\n b", "a\rb", "a\nb", "a\x00"]),
    st.text(string.printable, max_size=8),
)
_targets = st.sampled_from(
    [CHAT] * 25 + [TEXT] * 5
    + [*sorted(PATHS), "/v1/models", "/v1/models/globex-dates", "/v1/load_lora_adapter", "/metrics",
       f"{CHAT}?model=globex-dates", f"http://x{CHAT}", "//v1/chat/completions", f"{CHAT}/",
       "/v1/chat/../chat/completions", "/v1/chat%2fcompletions", "*", "x:443", f"{CHAT}#a"]
)  # fmt: skip


@st.composite
def _chunked(draw: st.DrawFn, body: bytes) -> bytes:
    made, place = b"", 0
    while place < len(body):
        size = draw(st.integers(1, max(1, len(body) - place)))
        style = draw(st.sampled_from([b"%x", b"%X", b"0%x", b"%x;a=b", b"%x ", b"%x\n"]))
        made += style % size + b"\r\n" + body[place : place + size] + b"\r\n"
        place += size
    end = draw(
        st.sampled_from(
            [b"0\r\n\r\n"] * 9 + [b"0\r\nAuthorization: Bearer x\r\n\r\n", b"0\r\n", b""]
        )
    )
    return made + end


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request; without more headers and with a plain body, most are answered."""
    body = draw(bodies())
    if draw(st.sampled_from([False] * 4 + [True])):
        return post(body, f"X-Request-Id: {draw(_request_ids)}")  # as on a warmed connection
    method = draw(st.sampled_from(["POST"] * 40 + ["GET", "HEAD", "PUT", "POST\t", "post", "PRI"]))
    version = draw(st.sampled_from(["HTTP/1.1"] * 20 + ["HTTP/1.0", "HTTP/2.0", "HTTP/1.1 "]))
    lines = [f"{method} {draw(_targets)} {version}", "Host: x"]
    shown = [f"Authorization: Bearer {ACME}"] * 8 + [f"X-Api-Key: {ACME}"] * 3 + ["A: no key"]
    lines.append(draw(st.sampled_from(shown)))
    lines += draw(st.lists(_usual, max_size=2))
    lines += [draw(_unusual)] if draw(st.sampled_from([False] * 8 + [True])) else []
    match draw(st.sampled_from(["plain"] * 12 + ["chunked"] * 6 + ["longer", "shorter", "none"])):
        case "plain":
            lines.append(f"Content-Length: {len(body)}")
        case "chunked":
            lines.append("Transfer-Encoding: chunked")
            body = draw(_chunked(body))
        case "longer":
            lines.append(f"Content-Length: {len(body) + draw(st.integers(1, 40))}")
        case "shorter":
            lines.append(f"Content-Length: {max(0, len(body) - draw(st.integers(1, 40)))}")
        case _:
            pass
    order = draw(st.permutations(lines[1:]))
    return "\r\n".join([lines[0], *order, "", ""]).encode("latin-1", "replace") + body


_PIECES = [b"\r\n", b"\n", b"\r\n\r\n", b"\x00", b":", b" ", b'"', b"}", b"\\u0022", b"\xff", b"0"]
_PIECES += [b"globex-dates", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"tiny"]


@st.composite
def _damage(draw: st.DrawFn, request: bytes) -> bytes:
    made = bytearray(request)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(made)))
        match draw(st.integers(0, 3)):
            case 0:
                del made[place : place + draw(st.integers(1, 9))]
            case 1:
                made[place:place] = draw(st.sampled_from(_PIECES))
            case 2:
                made[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case _:
                made[place:place] = made[: draw(st.integers(0, min(len(made), 4000)))]
    return bytes(made)


@dataclass(frozen=True)
class Sent:
    """The bytes that a connection sends."""

    data: bytes
    cuts: tuple[int, ...]
    """Places at which the bytes are cut into parts that are sent singly."""

    def parts(self) -> list[bytes]:
        places = [0, *self.cuts, len(self.data)]
        return [self.data[a:b] for a, b in pairwise(places) if b > a]


@st.composite
def sent(draw: st.DrawFn) -> Sent:
    """1 to 3 requests in a row, some of them damaged, in 1 to 4 parts."""
    made = []
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        request = draw(requests())
        made.append(
            draw(_damage(request))
            if draw(st.sampled_from([False, False, False, True]))
            else request
        )
    data = b"".join(made)
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=3))
    return Sent(data, tuple(sorted(cuts)))


def drawn(number: int) -> list[bytes]:
    """Return the bytes that `number` connections send, the same on every call."""
    found: list[bytes] = []

    @settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(sent())
    def keep(request: Sent) -> None:
        found.append(request.data)

    keep()
    return found
