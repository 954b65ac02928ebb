"""The body of a request: parsed, checked, and written anew for a server.

Only the top level is decoded, and written anew: whatever trick spells `model` twice, nested or
escaped, the server gets a single `model`, the gateway's. Values are passed on byte for byte.
"""

import codecs
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, cast

import msgspec

from runtime.gateway.body.endpoints import COUNTED, PLAIN_TYPES, RESPONSES, check_headers
from runtime.gateway.body.errors import invalid, no_such_model
from runtime.gateway.body.fields import SENT, check_size

USER_FIELDS: Final = ("user", "safety_identifier", "prompt_cache_key")
"""Fields that name a user of the client; the first that is given counts."""

MAX_NAMES: Final = 256
MAX_NAME: Final = 256
"""Upper bounds of the names at the top level, and of the letters of a name."""
MAX_USER: Final = 4096
"""Upper bound of the JSON of a value that names a user or a session, bytes."""

_TOP: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_YES: Final = msgspec.Raw(b"true")
_NO: Final = msgspec.Raw(b"false")
_COUNTS: Final = {"include_usage": _YES, "continuous_usage_stats": _YES}
_CLEAR: Final = frozenset({b"true", b"false", b"null"})
_LAX: Final = msgspec.json.Decoder(int | float | str)
_SWITCHES: Final = {
    **dict.fromkeys((1, "1", "true", "t", "yes", "y", "on"), _YES),
    **dict.fromkeys((0, "0", "false", "f", "no", "n", "off"), _NO),
}
"""Other spellings of true and false that vLLM reads; texts in any case."""
_START: Final = re.compile(rb"[ \t\r\n]*\{[ \t\r\n]*")
_MEMBER: Final = re.compile(rb'("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_END: Final = re.compile(rb"[ \t\r\n]*(?:,[ \t\r\n]*|\}[ \t\r\n]*)")


class RequestBody(msgspec.Struct, frozen=True):
    """A body as sent by the client, top level decoded."""

    fields: dict[str, msgspec.Raw]
    model: str
    stream: bool = False
    """Whether the client asks for a stream of events."""
    user: str | None = None
    """User that the client names; None: no name."""
    session: str | None = None
    """Session that the client names; None or empty: no name."""

    @property
    def wants_last_usage(self) -> bool:
        """Whether the client asks for an event with the token counts at the end."""
        return self._option("include_usage")

    @property
    def wants_all_usage(self) -> bool:
        """Whether the client asks for the token counts in every event."""
        return self.wants_last_usage and self._option("continuous_usage_stats")

    def _option(self, name: str) -> bool:
        options = _object(self.fields.get("stream_options"))
        return options is not None and _truthy(options.get(name))

    def for_server(
        self, path: str, adapter: msgspec.Raw, client: msgspec.Raw, priority: int | None = None
    ) -> bytes:
        """Return the body that the server gets.

        `adapter` and `client` are the version that answers and the owner of the request, as JSON;
        prompts cached for one client serve no other. Of priorities, the lower the sooner.
        """
        sent = self.fields.copy()
        if not SENT.issuperset(sent):
            for name in sent.keys() - SENT:
                del sent[name]
        sent["model"] = adapter
        sent["cache_salt"] = client
        if priority is not None:
            sent["priority"] = msgspec.Raw(b"%d" % priority)
        if path == RESPONSES:
            sent["store"] = _NO
        if self.stream and path in COUNTED:
            options = _object(sent.get("stream_options"))
            if options is not None:  # anything else is for vLLM to refuse
                options |= _COUNTS
                sent["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
        return msgspec.json.encode(sent)


def parse_body(raw: bytes | bytearray, content_type: str = "", encoding: str = "") -> RequestBody:
    """Return a whole body, decoded; headers that were not given are empty.

    Raises:
        ApiError: 400, the body is not one JSON object in UTF-8 with unique names and a model that
            is text, or asks for what no client may have. 404, the model's name is empty.
    """
    if encoding or content_type not in PLAIN_TYPES:
        check_headers(content_type, encoding)
    fields = _decoded(raw)
    if "model" not in fields:
        raise invalid("The request body names no model. GET /v1/models lists yours.", "model")
    model = _text(fields["model"])
    if model is None:
        raise invalid("`model` is not text.", "model")
    if not model:  # vLLM would answer from the base
        raise no_such_model()
    if "echo" in fields and _truthy(fields["echo"]) and _given(fields.get("logprobs")):
        raise invalid("`echo` cannot be combined with `logprobs`.", "echo")
    stream = fields.get("stream")
    if stream is not None and bytes(stream) not in _CLEAR:
        fields["stream"] = _switch(stream)
        stream = fields["stream"]
    session = fields.get("session_id")
    return RequestBody(
        fields,
        model,
        stream == _YES,
        _user(fields),
        None if session is None else _name("session_id", session),
    )


def _decoded(raw: bytes | bytearray) -> dict[str, msgspec.Raw]:
    """Return the top level of a body, or refuse the body (400)."""
    check_text(raw)
    try:
        fields = _TOP.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        text = "The request body is not a JSON object: look at its quotes and commas."
        raise invalid(text) from None
    if not _is_plain(raw, fields):
        if len(fields) > MAX_NAMES or max(map(len, fields), default=0) > MAX_NAME:
            text = f"The request body may have at most {MAX_NAMES} names of {MAX_NAME} letters."
            raise invalid(text)
        if not _unique(raw, fields):
            raise invalid("A name is given twice in the request body.")
    return fields


def _user(fields: dict[str, msgspec.Raw]) -> str | None:
    for name in USER_FIELDS:
        raw = fields.get(name)
        if raw is not None and (text := _name(name, raw)):
            return text
    metadata = fields.get("metadata")  # of messages
    if metadata is None:
        return None
    check_size("metadata", metadata)
    raw = (_object(metadata) or {}).get("user_id")
    return None if raw is None else _name("metadata", raw) or None


def _name(field: str, raw: msgspec.Raw) -> str | None:
    """Return the user or session that a field names; None: the value is no text."""
    if _SIZE(raw) > MAX_USER:
        check_size(field, raw, MAX_USER)
    return _text(raw)


def _switch(raw: msgspec.Raw) -> msgspec.Raw:
    """Return `stream` as `true` or `false`; refuse (400) a value that vLLM reads as neither."""
    try:
        value = _LAX.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = ""
    switch = _SWITCHES.get(value.lower() if isinstance(value, str) else value)
    if switch is None:
        raise invalid("`stream` is neither true nor false.", "stream")
    return switch


def _text(raw: msgspec.Raw) -> str | None:
    try:
        return _TEXT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _object(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw] | None:
    """Return the members of an object; empty: not given or null; None: no object."""
    if raw is None or bytes(raw) == b"null":
        return {}
    try:
        return _TOP.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _given(raw: msgspec.Raw | None) -> bool:
    return raw is not None and bytes(raw) not in {b"null", b"false"}


def _truthy(raw: msgspec.Raw | None) -> bool:
    """Return whether vLLM may read the value as true, such as `1`, `"true"` and `"yes"`."""
    return _given(raw) and raw is not None and bytes(raw) not in {b"0", b'""', b'"false"'}


def _is_plain(raw: bytes | bytearray, fields: dict[str, msgspec.Raw]) -> bool:
    """Return whether a body plainly has every name once, as most bodies do.

    Written without blanks, its members take all its bytes: a name that is given twice or escaped
    would need more. With blanks, they are put together again as usual, and are the whole body.
    """
    letters = "".join(fields)
    if not letters or len(fields) > _USUAL_NAMES or len(letters) > _USUAL_LENGTH:
        return False
    size = len(letters) if letters.isascii() else len(letters.encode())
    blanks = len(raw) - sum(map(_SIZE, fields.values()), size + 4 * len(fields) + 1)
    if blanks != 2 * len(fields) - 1:
        return not blanks
    members = _frame(tuple(fields)).copy()
    members[1::2] = fields.values()
    return b"".join(members) == raw


_SIZE: Final = cast("Callable[[msgspec.Raw], int]", len)
"""Bytes of a value; the stubs do not say that a value has a length."""
_USUAL_NAMES: Final = 64
_USUAL_LENGTH: Final = 1024
"""Upper bounds of names and their letters in a cached frame, since clients choose the names."""


@lru_cache(maxsize=1024)
def _frame(names: tuple[str, ...]) -> list[bytes | msgspec.Raw]:
    """Return the bytes around the values of these members, with places for the values.

    Names that no usual body writes so get other bytes, which no body has.
    """
    frame: list[bytes | msgspec.Raw] = []
    for place, name in enumerate(names):
        is_usual = name.isascii() and '"' not in name and "\\" not in name
        written = b'"%b"' % name.encode() if is_usual else b"}"
        frame += [b"%b%b: " % (b", " if place else b"{", written), b""]
    return [*frame, b"}"]


def _unique(raw: bytes | bytearray, fields: dict[str, msgspec.Raw]) -> bool:
    """Return whether every name stands once at the top level.

    The decoder keeps the last of equal names. So the check walks over the bytes, past each name and
    its kept value: where another value stands, the name was given twice.
    """
    start = _START.match(raw)
    assert start is not None, "the decoder accepted an object"
    position, seen = start.end(), set()
    while member := _MEMBER.match(raw, position):
        name = _TEXT.decode(member[1])
        value = fields[name]
        after = _END.match(raw, member.end() + _SIZE(value))
        if name in seen or after is None or not raw.startswith(value, member.end()):
            return False
        seen.add(name)
        position = after.end()
    return position == len(raw) and len(seen) == len(fields)


MAX_COLONS: Final = 100_000
"""Upper bound of the colons of a body, and so of its names, for all of which objects are made at
once. A prompt of a million tokens has fewer."""


class BodyText(bytearray):
    """A body as far as received; `add` alone makes it grow."""

    __slots__ = ("_colons", "_decode", "_is_text")

    def __init__(self) -> None:
        super().__init__()
        self._colons, self._is_text = 0, True
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def add(self, part: bytes, *, is_last: bool = False) -> None:
        """Take the next part."""
        self += part
        self._colons += part.count(b":")
        try:
            if self._is_text:
                self._decode(part, is_last)
        except UnicodeDecodeError:
            self._is_text = False

    def check(self) -> None:
        """Raise 400 for a whole body that is no text, or has too many colons."""
        self.add(b"", is_last=True)
        _check(self._colons, is_text=self._is_text)


def check_text(raw: bytes | bytearray) -> None:
    """Raise 400 for a whole body that is no text, or has too many colons."""
    if isinstance(raw, BodyText):
        raw.check()
        return
    is_text = raw.isascii()
    if not is_text:
        try:
            is_text = bool(raw.decode())
        except UnicodeDecodeError:
            is_text = False
    _check(raw.count(b":") if len(raw) > MAX_COLONS else 0, is_text=is_text)


def _check(colons: int, *, is_text: bool) -> None:
    if colons > MAX_COLONS:
        raise invalid(f"The request body may have at most {MAX_COLONS} colons.")
    if not is_text:
        raise invalid("The request body is not UTF-8.")
