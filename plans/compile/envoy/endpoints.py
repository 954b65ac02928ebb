"""List the paths of the API and the headers that Envoy keeps.

An endpoint says which fields of a body are read and which are written. Fields and limits are
those of fleetctl's own gateway (`runtime/gateway/body/endpoints.py`, `rewrite.py`).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from plans.compile.envoy.messages import CLIENT_STATE, VERSION_STATE, Json

KEPT: Final = (
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "x-api-key",
    "x-session-id",
)
"""Headers of a client that Envoy keeps; all others are removed before a filter reads them."""


def others(kept: Iterable[str] = KEPT) -> str:
    """Return a regular expression of all header names but `kept` and HTTP/2's own."""
    return f"(?:{_leaving(sorted(kept), ':')})"


def other_words(words: Iterable[str], end: str) -> str:
    """Return a regular expression of all texts without the character `end`, but for the words."""
    return f"(?:{_leaving(sorted(words), '', end)})"


def _leaving(words: list[str], begin: str | None = None, end: str = "") -> str:
    """Return a regular expression of all texts that are none of the words.

    RE2 has no negation, so the expression spells out where a text leaves the tree of the words:
    at some character, or by its end.

    Args:
        words: Rests of the words at a place of the tree.
        begin: At the root: a character that no text begins with; empty for none.
        end: A character that no text holds; empty for none.
    """
    ends = "" in words
    heads = sorted({word[0] for word in words if word})
    ways = [] if ends or begin == ":" else [""]
    some = f"[^{end}]" if end else "."
    outside = "".join(re.escape(head) for head in heads) + (begin or "") + end
    ways.append(f"[^{outside}]{some}*" if heads else f"{some}+")
    ways += [
        re.escape(head) + f"(?:{_leaving([w[1:] for w in words if w.startswith(head)], end=end)})"
        for head in heads
    ]
    return "|".join(ways)


ECHOED: Final = "x-fleetctl-echo"
LOGPROBS: Final = "x-fleetctl-logprobs"
CHOICES: Final = "x-fleetctl-choices"
TOOLS: Final = "x-fleetctl-tools"
STORED: Final = {
    "previous_response_id": "x-fleetctl-previous-response-id",
    "conversation": "x-fleetctl-conversation",
    "background": "x-fleetctl-background",
}
"""Field to header, for fields that read or leave a conversation on the server."""

_NULL: Final = (
    "kv_transfer_params",
    "ec_transfer_params",
    "vllm_xargs",
    "prompt_logprobs",
    "prompt_embeds",
    "session_id",
    "chat_template",
    "mm_processor_kwargs",
    "media_io_kwargs",
    "return_mm_kwargs",
    "stream_interval",
)
_USUAL: Final[Json] = {
    "model": f"%FILTER_STATE({VERSION_STATE}:PLAIN)%",
    "cache_salt": f"%FILTER_STATE({CLIENT_STATE}:PLAIN)%",
    "request_id": "%REQ(x-request-id)%",
    "priority": 0,
    "mm_payload": "tensors",
    "routed_experts_prompt_start": 0,
    "enable_response_messages": False,
    **dict.fromkeys(_NULL),
}
"""Fields that every body gets: the version's name, and vLLM's defaults for fields by which a client
could reach or slow another client."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path, or several that are treated alike."""

    name: str
    path: str
    """Regular expression of the whole path."""
    read: Mapping[str, str] = field(default_factory=dict)
    """Header to the field of the body that fills the header, beside the headers of every path."""
    written: Json = field(default_factory=lambda: _USUAL)
    """Fields of the body that the server gets."""
    streamed: Json = field(default_factory=dict)
    """Further ones where a stream is asked for."""

    @property
    def variants(self) -> Mapping[str, tuple[Json, bool | None]]:
        """Fields to write by filter name, and the requests that the filter is for.

        True: streams only. False: all but streams. None: every request.
        """
        name = f"fleetctl.rewriting.{self.name}"
        if not self.streamed:
            return {name: (self.written, None)}
        return {name: (self.written, False), f"{name}.stream": (self.written | self.streamed, True)}

    @property
    def reading(self) -> str:
        """Name of the filter that reads bodies of this endpoint."""
        return f"fleetctl.reading.{self.name}"


_COUNTED: Final[Json] = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
ENDPOINTS: Final = (
    Endpoint(
        "completions",
        "/v1/(chat/)?completions",
        {ECHOED: "echo", LOGPROBS: "logprobs", CHOICES: "n"},
        streamed=_COUNTED,
    ),
    Endpoint(
        "responses",
        "/v1/responses",
        {TOOLS: "tools", **{header: name for name, header in STORED.items()}},
        written=_USUAL | {"store": False, "request_id": "resp_%REQ(x-request-id)%"},
    ),
    Endpoint("messages", "/v1/messages(/count_tokens)?"),
    Endpoint("embeddings", "/v1/embeddings"),
)
SERVED: Final = "|".join(endpoint.path for endpoint in ENDPOINTS)
"""Regular expression of all paths of endpoints."""
READ: Final = tuple({name: None for endpoint in ENDPOINTS for name in endpoint.read})
"""Headers that endpoints read fields into."""

_OWN_TOOLS: Final = ("custom", "function")
"""Kinds of tools that the client runs; other kinds make the server call out."""
_SCHEMAS: Final = (
    "array", "boolean", "integer", "null", "number", "object", "string",
    "grammar", "text",
)  # fmt: skip
"""Other values of `type` inside of tools: in JSON Schemas and in formats."""
FOREIGN_TOOLS: Final = rf"""(?s).*"type" ?: ?"{other_words((*_OWN_TOOLS, *_SCHEMAS), '"')}".*"""
"""Regular expression of a list of tools, as JSON, that may hold a kind which the server runs.

Envoy's expressions cannot count brackets, so every `type` has to be that of a tool or a schema.
"""
