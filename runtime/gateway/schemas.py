"""The size of the schemas, patterns and grammars that answers are to follow.

A server turns them into an automaton over its whole vocabulary before it answers. That takes
vLLM's engine seconds for schemas of a kind that no program needs, and the requests of all other
clients wait meanwhile.
"""

import re
from typing import Final

import msgspec

from runtime.gateway.errors import invalid

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
