"""A client's request body: its model replaced, policy fields dropped, the rest byte-exact.

Only the top level is decoded, and it is written anew: whatever trick spells `model` twice,
nested or escaped, the server gets one `model`, and it is the gateway's.
"""

import re
from functools import lru_cache
from typing import Final

import msgspec

from runtime.gateway.endpoints import CHAT, COUNTED, RESPONSES
from runtime.gateway.refusals import invalid, no_such_model

DROPPED: Final = frozenset(
    {
        "priority",  # jumps the queue of other clients
        "request_id",  # collides with other clients' requests
        "kv_transfer_params",  # reads and writes other requests' KV cache
        "ec_transfer_params",
        "vllm_xargs",  # reaches into the engine
        "prompt_logprobs",  # costs as much as generating the prompt
        "prompt_embeds",  # tensors, unpickled by the server
        "session_id",  # names a session of the engine's, to whoever guesses it
        "chat_template",  # a program for the server to run
        "mm_processor_kwargs",  # reach into how the server reads images
        "media_io_kwargs",
        "mm_payload",
        "return_mm_kwargs",
        "routed_experts_prompt_start",
        "enable_response_messages",  # shows the prompt as the server has put it together
        "stream_interval",  # hides what was generated of a stream that is left
        "cache_salt",  # set by the gateway, one per client
    }
)
"""Fields that cross tenants or cost others; vLLM would accept them from anybody."""

STICKY: Final = ("user", "safety_identifier", "prompt_cache_key")
"""Body fields that tell one user of a client from another, the first that is given counts."""
SESSION: Final = "session_id"
"""Body field that tells one session of a client from another."""

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
"""What vLLM also reads as true and false, texts in any case."""
_START: Final = re.compile(r"[ \t\r\n]*\{[ \t\r\n]*")
_MEMBER: Final = re.compile(r'("(?:[^"\\]|\\.)*")[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_END: Final = re.compile(r"[ \t\r\n]*(?:,[ \t\r\n]*|\}[ \t\r\n]*)")


class Body(msgspec.Struct, frozen=True):
    """A request body as a client sent it, top level decoded."""

    fields: dict[str, msgspec.Raw]
    model: str

    @property
    def stream(self) -> bool:
        """Whether the client asks for a stream of events."""
        return self.fields.get("stream") == _YES

    @property
    def last_count(self) -> bool:
        """Whether the client asks for an event with the token counts at the end."""
        return self._option("include_usage")

    @property
    def all_counts(self) -> bool:
        """Whether the client asks for the token counts in every event."""
        return self.last_count and self._option("continuous_usage_stats")

    def _option(self, name: str) -> bool:
        options = _object(self.fields.get("stream_options"))
        return options is not None and _truthy(options.get(name))

    @property
    def user(self) -> str | None:
        """The user on whose behalf the client asks, if it says so."""
        for name in STICKY:
            raw = self.fields.get(name)
            if raw is not None and (text := _text(raw)):
                return text
        named = (_object(self.fields.get("metadata")) or {}).get("user_id")  # of messages
        return None if named is None else _text(named) or None

    @property
    def session(self) -> str | None:
        """The session that the client names, if it does."""
        raw = self.fields.get(SESSION)
        return None if raw is None else _text(raw)

    def for_server(
        self, adapter: str, client: str, path: str = CHAT, priority: int | None = None
    ) -> bytes:
        """Return the body that the server gets.

        Args:
            adapter: Full name of the version that answers.
            client: Owner of the request; prompts cached for one client serve no other.
            path: One of the paths of `endpoints`.
            priority: For servers that look at it, the lower the sooner.
        """
        kept = {name: raw for name, raw in self.fields.items() if name not in DROPPED}
        kept["model"] = _quoted(adapter)
        kept["cache_salt"] = _quoted(client)
        if priority is not None:
            kept["priority"] = msgspec.Raw(b"%d" % priority)
        if path == RESPONSES:
            kept["store"] = _NO
        if path in COUNTED and self.stream:
            options = _object(kept.get("stream_options"))
            if options is not None:  # anything else is for vLLM to refuse
                options |= _COUNTS
                kept["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
        return msgspec.json.encode(kept)


def read(raw: bytes) -> Body:
    """Decode a body.

    Raises:
        RefusalError: it is not one JSON object in UTF-8 with unique names and a model that
            is text, or it asks for what no client may have.
    """
    try:
        fields = _TOP.decode(raw)
        text = "" if _is_plain(raw, fields) else raw.decode("utf-8")
    except UnicodeDecodeError:
        raise invalid("The request body is not UTF-8.") from None
    except (msgspec.DecodeError, RecursionError):
        raise invalid("The request body is not a JSON object.") from None
    if text and not _unique(text, fields):
        raise invalid("A name is given twice in the request body.")
    if "model" not in fields:
        raise invalid("The request body names no model.", "model")
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
    return Body(fields, model)


def _switch(raw: msgspec.Raw) -> msgspec.Raw:
    """Return `stream` as the one word that leaves nobody a choice how to read it.

    Raises:
        RefusalError: vLLM reads neither true nor false in it.
    """
    try:
        value = _LAX.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = ""
    read = _SWITCHES.get(value.lower() if isinstance(value, str) else value)
    if read is None:
        raise invalid("`stream` is neither true nor false.", "stream")
    return read


@lru_cache(maxsize=16_384)
def _quoted(name: str) -> msgspec.Raw:
    """Return a name of ours as JSON."""
    return msgspec.Raw(msgspec.json.encode(name))


def _text(raw: msgspec.Raw) -> str | None:
    try:
        return _TEXT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _object(raw: msgspec.Raw | None) -> dict[str, msgspec.Raw] | None:
    """Return the members of an object, none of one that is not given; None of anything else."""
    if raw is None or bytes(raw) == b"null":
        return {}
    try:
        return _TOP.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _given(raw: msgspec.Raw | None) -> bool:
    return raw is not None and bytes(raw) not in {b"null", b"false"}


def _truthy(raw: msgspec.Raw | None) -> bool:
    """Whether vLLM may read the value as true: it also takes `1`, `"true"` and `"yes"`."""
    return _given(raw) and raw is not None and bytes(raw) not in {b"0", b'""', b'"false"'}


def _is_plain(raw: bytes, fields: dict[str, msgspec.Raw]) -> bool:
    """Say whether it is quick to see that no name stands twice in a body; most are so.

    Put together anew in one of the two usual ways to write JSON, its members are the whole body:
    there is nothing else in it.
    """
    if not fields or not raw.isascii():
        return False
    names = tuple(fields)
    if len(names) > _USUAL_NAMES or len(names[0]) > _USUAL_LENGTH:
        return False
    text = "".join(names)
    if len(text) > _USUAL_LENGTH or not text.isascii() or '"' in text or "\\" in text:
        return False
    start = len(names[0]) + 4
    made = _frame(names, spaced=raw[start : start + 1] == b" ").copy()
    made[1::2] = fields.values()
    return b"".join(made) == raw


_USUAL_NAMES: Final = 64
_USUAL_LENGTH: Final = 1024
"""What a frame may take of the memory: clients choose the names."""


@lru_cache(maxsize=1024)
def _frame(names: tuple[str, ...], *, spaced: bool) -> list[bytes | msgspec.Raw]:
    """Return what stands around the values of these members, with room for them in between."""
    comma, colon = (b", ", b": ") if spaced else (b",", b":")
    made: list[bytes | msgspec.Raw] = []
    for place, name in enumerate(names):
        made += [b'%b"%b"%b' % (comma if place else b"{", name.encode(), colon), b""]
    return [*made, b"}"]


def _unique(text: str, fields: dict[str, msgspec.Raw]) -> bool:
    """Say whether no name stands twice at the top level.

    The decoder keeps the last of equal names. So this walks over the text, past each name
    and its kept value: where another value stands, the name was given twice.
    """
    start = _START.match(text)
    assert start is not None, "the decoder accepted an object"
    position, seen = start.end(), set()
    while member := _MEMBER.match(text, position):
        name = _TEXT.decode(member[1])
        value = str(bytes(fields[name]), "utf-8")
        end = _END.match(text, member.end() + len(value))
        if name in seen or end is None or not text.startswith(value, member.end()):
            return False
        seen.add(name)
        position = end.end()
    return position == len(text) and len(seen) == len(fields)
