"""The request fields that vLLM reads, and the use that the gateway makes of them.

A field is passed on as it is, passed on within a bound, dropped, refused, or set by the gateway. A
field that no list names is dropped: nothing is known of the harm that the field may do. The lists
are those of vLLM 0.32; a test asks the installed vLLM for fields that are missing here.
"""

import re
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from runtime.gateway.body.errors import invalid

_ANY: Final = msgspec.json.Decoder()
_PROPERTIES: Final = frozenset({"properties", "patternProperties"})
_PATTERNS: Final = frozenset({"pattern", "regex"})
_GRAMMARS: Final = frozenset({"grammar", "guided_grammar", "guided_regex"})
_COUNTS: Final = ("minProperties", "maxProperties")
_TOKEN: Final = re.compile(
    r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|(?P<open>\((?:\?[:=!])?)|(?P<close>\))"
    r"|(?P<times>\{(\d*),?(\d*)\}|[*+?])|.",
    re.DOTALL,
)
"""A part of a regular expression: a letter or a set of letters, a bracket, how often."""
_JSON_TEXTS: Final = frozenset({"json", "guided_json", "structural_tag"})
"""Names of values that may be JSON in a text."""


class SchemaBound(msgspec.Struct, frozen=True):
    """Upper bounds of the schemas in a field, all of them together unless said otherwise."""

    most_bytes: int = 65_536
    """Of the field's JSON."""
    most_of_object: int = 256
    """Properties of an object: the time to build grows with their square."""
    most_of_counted: int = 32
    """Properties of an object with `minProperties` or `maxProperties`: each number of properties
    that may be there is built by itself."""
    most_properties: int = 1024
    most_patterns: int = 64
    most_letters: int = 512
    """Letters of a pattern."""
    most_quantifiers: int = 16
    """`*`, `+`, `?` and `{2,9}` in a pattern: the time to build grows with their cube."""
    most_repeated: int = 1024
    """Letters of all patterns, those that may come nine times counted nine times."""
    most_grammar: int = 4096
    """Letters of a grammar."""
    most_rules: int = 32
    """Rules of a grammar."""
    most_choices: int = 1024
    """Elements of a list that names the choices."""
    most_values: int = 16_384
    """Values in objects and lists of any kind."""
    most_levels: int = 64
    """Levels of nested objects and lists."""

    def check(self, name: str, raw: msgspec.Raw) -> None:
        """Refuse (400) a field with a schema beyond the bounds."""
        if len(memoryview(raw)) > self.most_bytes:
            raise invalid(f"`{name}` may take at most {self.most_bytes} bytes.", name)
        _SchemaParts(self, name).take(raw)


class _SchemaParts:
    """The parts of all schemas in a field, counted."""

    def __init__(self, bound: SchemaBound, name: str) -> None:
        self._bound, self._name = bound, name
        self._values = self._properties = self._patterns = self._repeated = 0
        self._open: list[tuple[str, object, int]] = []
        """Values to look at: their names, and the level that they are on."""

    def take(self, raw: bytes | msgspec.Raw) -> None:
        """Look at all of a field, or refuse the field (400)."""
        bound = self._bound
        self._open.append((self._name, self._decoded(raw), 1))
        while self._open:
            name, value, level = self._open.pop()
            if isinstance(value, str):
                self._text(name, value, level)
                continue
            if not isinstance(value, dict | list):
                continue
            self._most(level, bound.most_levels, "levels of objects and lists")
            self._values += len(value)
            self._most(self._values, bound.most_values, "values")
            if isinstance(value, dict):
                self._object(name, value)
                self._open += [(member, inner, level + 1) for member, inner in value.items()]
            else:
                self._most(len(value), bound.most_choices, "values in a list")
                self._open += [("", element, level + 1) for element in value]

    def _object(self, name: str, value: dict[str, object]) -> None:
        bound = self._bound
        if name in _PROPERTIES:
            self._most(len(value), bound.most_of_object, "properties in an object")
            self._properties += len(value)
            self._most(self._properties, bound.most_properties, "properties")
            if name == "patternProperties":
                for pattern in value:
                    self._pattern(pattern)
        if any(count in value for count in _COUNTS):
            named = (value.get(kind) for kind in _PROPERTIES)
            number = sum(len(inner) for inner in named if isinstance(inner, dict))
            self._most(number, bound.most_of_counted, "properties where their number is bounded")

    def _text(self, name: str, text: str, level: int) -> None:
        bound = self._bound
        if name in _PATTERNS:
            self._pattern(text)
        elif name in _GRAMMARS:
            self._most(len(text), bound.most_grammar, "letters of a grammar")
            rules = text.count("::=")
            self._most(max(rules, text.count(":") - 2 * rules), bound.most_rules, "rules")
            self._sized(text, 2 * bound.most_quantifiers)
        elif name in _JSON_TEXTS and self._name != "tools":  # whose texts nobody reads as JSON
            self._open.append(("", self._decoded(text.encode("utf-8", "replace")), level))

    def _pattern(self, text: str) -> None:
        bound = self._bound
        self._patterns += 1
        self._most(self._patterns, bound.most_patterns, "patterns")
        self._most(len(text), bound.most_letters, "letters in a pattern")
        self._sized(text, bound.most_quantifiers)

    def _sized(self, text: str, most: int) -> None:
        """Count the letters of a pattern or grammar as often as they may come."""
        quantifiers, letters = _size(text)
        self._most(quantifiers, most, "of `*`, `+`, `?` and `{}` in a pattern")
        self._repeated += letters
        self._most(self._repeated, self._bound.most_repeated, "letters in patterns, repeated")

    def _decoded(self, raw: bytes | msgspec.Raw) -> object:
        try:
            return _ANY.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise invalid(f"`{self._name}` is not sound JSON.", self._name) from None

    def _most(self, number: int, most: int, things: str) -> None:
        if number > most:
            raise invalid(f"`{self._name}` may have at most {most} {things}.", self._name)


def _size(pattern: str) -> tuple[int, int]:
    """Return the number of quantifiers of a pattern, and of its letters as often as they may come.

    What may come without end counts once, for that is built as a loop.
    """
    quantifiers, sums, last = 0, [0], 0
    for token in _TOKEN.finditer(pattern):
        if token["open"]:
            sums.append(0)
        elif token["close"]:
            if len(sums) > 1:
                last = sums.pop()
                sums[-1] += last
        elif token["times"]:
            quantifiers += 1
            more = max(int(token[4] or 1), int(token[5] or 1)) - 1
            sums[-1] += last * more
            last *= more + 1
        else:
            last = 1
            sums[-1] += 1
    return quantifiers, sum(sums)


PASSED: Final = frozenset(
    {
        "add_generation_prompt",
        "add_special_tokens",
        "chat_template_kwargs",
        "continue_final_message",
        "dimensions",
        "documents",
        "echo",  # refused with `logprobs`
        "embed_dtype",
        "encoding_format",
        "endianness",
        "frequency_penalty",
        "ignore_eos",
        "include",
        "include_reasoning",
        "include_stop_str_in_output",
        "input",
        "instructions",
        "length_penalty",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "max_tool_calls",
        "messages",
        "min_p",
        "padding",
        "parallel_tool_calls",
        "presence_penalty",
        "previous_input_messages",
        "reasoning",
        "reasoning_effort",
        "repetition_penalty",
        "return_prompt_text",
        "return_token_ids",
        "return_token_offsets",
        "return_tokens_as_token_ids",
        "seed",
        "service_tier",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stream",
        "suffix",
        "system",
        "temperature",
        "tool_choice",
        "top_k",
        "top_p",
        "truncate_prompt_tokens",
        "truncation",
        "truncation_side",
        "use_activation",
        "use_beam_search",
        "user",
        "watermarking",
    }
)
"""Fields that the server gets as they are."""

DROPPED: Final = frozenset(
    {
        "priority",  # jumps the queue of other clients
        "request_id",  # collides with other clients' requests
        "kv_transfer_params",  # reads and writes other requests' KV cache
        "ec_transfer_params",
        "vllm_xargs",  # reaches into the engine
        "prompt_logprobs",  # costs as much as generating the prompt
        "prompt_embeds",  # tensors, unpickled by the server
        "session_id",  # names a session of the engine's, which another client could guess
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
"""Fields that reach other clients or cost them; vLLM would accept them from any client."""

REFUSED: Final = frozenset({"background", "conversation", "previous_response_id"})
"""Fields that read or leave a conversation on the server, open to other clients; refused on
`/v1/responses` unless they are off, and read on no other path."""

BY_PATH: Final = frozenset(
    {
        "best_of",
        "metadata",
        "model",
        "n",
        "prompt",
        "prompt_cache_key",
        "safety_identifier",
        "store",
    }
)
"""Fields that `body` and `endpoints` read, bound or write anew."""


class Bound(Protocol):
    """An upper bound of a field's value."""

    def check(self, name: str, raw: msgspec.Raw) -> None:
        """Refuse (400) a value beyond the bound; `name` is the field's."""


_NUMBER: Final = msgspec.json.Decoder(int | float | str)
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LIST_BYTES: Final = 65_536
"""Upper bound of a list's JSON, bytes; 1,024 numbers take a fifth of that."""


class Items(msgspec.Struct, frozen=True):
    """Upper bounds of a list's elements, or an object's members, and of their texts."""

    most: int
    most_bytes: int = _LIST_BYTES
    """Of all texts in the list together; of the JSON of other values."""

    def check(self, name: str, raw: msgspec.Raw) -> None:
        """Refuse (400) a list that is too long; anything else is for vLLM to refuse."""
        check_size(name, raw)
        try:
            value = _ANY.decode(raw)
        except _BROKEN:
            raise invalid(f"`{name}` is not sound JSON.", name) from None
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list | dict):
            return
        if len(value) > self.most:
            raise invalid(f"`{name}` may have at most {self.most} elements.", name)
        size = sum(len(text.encode("utf-8", "replace")) for text in value if isinstance(text, str))
        if size > self.most_bytes:
            raise invalid(f"`{name}` may take at most {self.most_bytes} bytes of text.", name)


class Size(msgspec.Struct, frozen=True):
    """Upper bound of a value's JSON, bytes."""

    most: int = _LIST_BYTES

    def check(self, name: str, raw: msgspec.Raw) -> None:
        """Refuse (400) a value that is too long."""
        check_size(name, raw, self.most)


class Number(msgspec.Struct, frozen=True):
    """Upper bound of a number, or of the number that is an object's `member`."""

    most: int
    member: str = ""

    def check(self, name: str, raw: msgspec.Raw) -> None:
        """Refuse (400) a larger number; what is no number is for vLLM to refuse."""
        if self.member:
            value = self._member(name, raw)
        else:
            try:
                value = _NUMBER.decode(raw)
            except msgspec.ValidationError:  # such as true, which `logprobs` of chats are
                return
            except _BROKEN:
                raise invalid(f"`{name}` is not sound JSON.", name) from None
        if isinstance(value, int | float | str) and self._is_beyond(value):
            named = f"{name}.{self.member}" if self.member else name
            raise invalid(f"`{named}` may be at most {self.most}.", name)

    def _member(self, name: str, raw: msgspec.Raw) -> object:
        check_size(name, raw)
        try:
            value = _ANY.decode(raw)
        except _BROKEN:
            raise invalid(f"`{name}` is not sound JSON.", name) from None
        return value.get(self.member) if isinstance(value, dict) else None

    def _is_beyond(self, value: float | str) -> bool:
        try:
            return not float(value) <= self.most  # NaN is beyond
        except ValueError:  # a text that vLLM does not read as a number either
            return False
        except OverflowError:
            return True


_MOST_TOKENS: Final = 1_000_000
"""Upper bound of numbers of tokens: far above any context, and far below 2**31, where the 32 bits
end in which vLLM's GPU runner keeps them. Such a request ends the engine."""
_TOKEN_IDS: Final = 1024
_STOP_IDS: Final = 120
"""vLLM's GPU runner has room for 128 with the model's own ends, of which a model has a few."""
_SAMPLED: Final = 20
"""Probabilities of other tokens for a token; vLLM's own default of `--max-logprobs`."""

BOUNDS: Final[Mapping[str, Bound]] = {
    "allowed_token_ids": Items(_TOKEN_IDS),
    "logit_bias": Items(_TOKEN_IDS),
    "stop_token_ids": Items(_STOP_IDS),
    "logprob_token_ids": Items(120),
    # 64 words of 448 bytes are at most 128 rows of 960 tokens, once with a space before and once
    # without. The GPU runner has room for 128 rows and 1,024 tokens, and ends beyond.
    "bad_words": Items(64, most_bytes=448),
    "stop": Items(4, most_bytes=4096),
    "stop_sequences": Items(4, most_bytes=4096),
    "min_tokens": Number(_MOST_TOKENS),
    "thinking_token_budget": Number(_MOST_TOKENS),
    "thinking": Number(_MOST_TOKENS, member="budget_tokens"),
    "logprobs": Number(_SAMPLED),
    "top_logprobs": Number(_SAMPLED),
    # The scheduler looks for every length up to this in the tokens so far, at every token.
    "repetition_detection": Number(256, member="max_pattern_size"),
    "response_format": SchemaBound(),
    "structured_outputs": SchemaBound(),
    "stream_options": Size(4096),
    "guided_json": SchemaBound(),
    "guided_regex": SchemaBound(),
    "guided_choice": SchemaBound(),
    "guided_grammar": SchemaBound(),
    "text": SchemaBound(),
    "output_config": SchemaBound(),
    # A prompt as well as a schema: agents send the tools of all their servers.
    "tools": SchemaBound(most_bytes=2**19, most_of_object=128, most_properties=2048),
}
"""Fields that end or stall an engine beyond these bounds, for every request of every client."""

KNOWN: Final = PASSED | DROPPED | REFUSED | BY_PATH | BOUNDS.keys()
"""All fields that a list names."""
SENT: Final = KNOWN - DROPPED
"""Fields that a server may get of a client."""


def check_size(name: str, raw: msgspec.Raw, most: int = _LIST_BYTES) -> None:
    """Refuse (400) a value whose JSON has more bytes."""
    if len(memoryview(raw)) > most:
        raise invalid(f"`{name}` may take at most {most} bytes.", name)


def check_bounds(fields: Mapping[str, msgspec.Raw]) -> None:
    """Refuse (400) a body with a field beyond its bound."""
    if not BOUNDS.keys().isdisjoint(fields):
        for name in BOUNDS.keys() & fields.keys():
            BOUNDS[name].check(name, fields[name])
