"""Reads golden sets: the questions that judge every version of a task, one JSON object a line.

    {"id": "t-1", "input": "No rush. ...", "expected": "queue=shipping"}
    {"id": "t-2", "messages": [...], "expected": {"qty": 5}, "metric": {"json_fields": {}},
     "format": {"json_schema": {"schema": {...}}}, "context": "...", "tags": ["must_pass"]}

`input` is one user message, `messages` a whole conversation, `prompt` raw text for the
completions endpoint. `metric` (default `exact`) scores accuracy, `format` scores the form,
`grounding` scores whether the answer invents; it is `grounded_numbers` where an item has a
`context`, which is compared with and never sent. A first line `{"defaults": {...}}` gives
`metric`, `format`, `grounding`, `max_tokens` and `system` to all items that say nothing else.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fleet.errors import ConfigError, Diagnostic, Position, did_you_mean
from fleet.evals.golden_item import (
    ACCURACY,
    FORMAT,
    MUST_PASS,
    GoldenItem,
    GoldenItemError,
    ItemCheck,
    golden_item,
)
from fleet.evals.metrics import METRICS
from fleet.response_format import ResponseFormat
from fleet.rollout_policy import BY_FORM

DEFAULTS = frozenset({"metric", "format", "grounding", "max_tokens", "system"})


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """A golden set as read; ids are unique and every item can be scored."""

    file: str
    digest: str
    """SHA-256 of the file's bytes, 64 hex digits."""
    items: tuple[GoldenItem, ...]
    by_id: Mapping[str, GoldenItem] = field(default_factory=dict, repr=False, compare=False)

    @property
    def must_pass(self) -> tuple[str, ...]:
        """Ids of the items tagged `must_pass`."""
        return tuple(item.id for item in self.items if MUST_PASS in item.tags)


def read_golden_set(content: bytes, file: str) -> GoldenSet:
    """Read a golden set; blank lines do not count.

    Args:
        content: The file's bytes, UTF-8, with or without a byte order mark.
        file: Its name, for errors.

    Raises:
        ConfigError: with every bad line and its place; also when there is no item at all.
    """
    reading = _Reading(file)
    found = list(reading.items(content))
    if not found and not reading.problems:
        reading.refuse(1, "FC1301", "No golden items", "The file holds no item to ask.")
    if reading.problems:
        raise ConfigError(*reading.problems)
    digest = hashlib.sha256(content).hexdigest()
    return GoldenSet(file, digest, tuple(found), {item.id: item for item in found})


def with_format(golden: GoldenSet, wanted: ResponseFormat | None) -> GoldenSet:
    """Return the set with the format that an adapter declares asked of items that ask for none."""
    if wanted is None:
        return golden
    check = ItemCheck(BY_FORM, {"format": wanted})
    items = tuple(
        item if FORMAT in item.checks else replace(item, checks={**item.checks, FORMAT: check})
        for item in golden.items
    )
    return replace(golden, items=items, by_id={item.id: item for item in items})


def scored_by(golden: GoldenSet, score: str, form: ResponseFormat | None = None) -> GoldenSet:
    """Return the set with every answer scored by a given metric; the result counts as another set.

    Args:
        golden: The set.
        score: The metric's name.
        form: What the adapter declares, which `declared_format` asks of every answer.

    Raises:
        ItemError: there is no such metric, or it cannot score an item.
    """
    if score == BY_FORM and form is None:
        raise GoldenItemError(
            "the adapter declares no `format`", "Add one, such as `format: json`."
        )
    if score not in METRICS:
        hint = did_you_mean(score, sorted(METRICS)) or f"There are {', '.join(METRICS)}."
        raise GoldenItemError(f"there is no metric `{score}`", hint)
    metric = METRICS[score]
    options = {"format": form} if score == BY_FORM else {}
    for item in golden.items:
        lacks = metric.needs_expected and item.expected is None
        wrong = "`expected` is missing" if lacks else metric.fault(item.expected, options)
        if wrong:
            raise GoldenItemError(
                f"`{score}` cannot score `{item.id}` of {golden.file}: {wrong}",
                "Without `score` each item is scored by the metric it names.",
            )
    items = tuple(
        replace(item, checks={**item.checks, ACCURACY: ItemCheck(score, options)})
        for item in golden.items
    )
    asked = f"{golden.digest} {score}{f' {form}' if options else ''}"
    digest = hashlib.sha256(asked.encode()).hexdigest()
    return replace(golden, digest=digest, items=items, by_id={item.id: item for item in items})


class _Reading:
    """Goes through the lines and keeps what is wrong with them."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Diagnostic] = []
        self._seen: dict[str, int] = {}
        self._asked: dict[str, int] = {}
        self._defaults: Mapping[str, Any] = {}

    def items(self, content: bytes) -> Iterator[GoldenItem]:
        for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
            if not raw.strip():
                continue
            document = self._document(number, raw)
            if document is None:
                continue
            if set(document) == {"defaults"}:
                self._take_defaults(number, document["defaults"])
                continue
            made = self._item(number, document, raw)
            if made is not None:
                yield made

    def _document(self, number: int, raw: bytes) -> dict[str, Any] | None:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            summary = "Golden line is not JSON"
            self.refuse(number, "FC1302", summary, f"Not UTF-8: {error.reason}.", error.start + 1)
            return None
        try:
            document = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant)
        except json.JSONDecodeError as error:
            detail = f"{error.msg}."
            self.refuse(number, "FC1302", "Golden line is not JSON", detail, error.colno, text)
            return None
        except (ValueError, RecursionError) as error:
            detail = f"{str(error) or 'Too deeply nested'}."
            self.refuse(number, "FC1302", "Golden line is not JSON", detail, 1, text)
            return None
        if not isinstance(document, dict):
            detail = "An item is a JSON object with `id`, `input` and `expected`."
            self.refuse(number, "FC1302", "Golden line is not JSON", detail, 1, text)
            return None
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            detail = "A text in it holds half a character, which nobody can be asked."
            self.refuse(number, "FC1302", "Golden line is not JSON", detail, 1, text)
            return None
        return document

    def _take_defaults(self, number: int, given: Any) -> None:
        if self._seen or self._defaults or self.problems:
            detail = "`defaults` stands on the first line, once."
            self.refuse(number, "FC1303", "Golden item is wrong", detail)
        elif not isinstance(given, dict) or set(given) - DEFAULTS:
            detail = f"`defaults` may hold {', '.join(sorted(DEFAULTS))}."
            self.refuse(number, "FC1303", "Golden item is wrong", detail)
        else:
            self._defaults = given

    def _item(self, number: int, document: dict[str, Any], raw: bytes) -> GoldenItem | None:
        line = raw.decode("utf-8")
        try:
            made = golden_item({**self._defaults, **document})
        except GoldenItemError as error:
            named = str(document.get("id", ""))
            detail = f"{f'`{named}`: ' if named else ''}{error}."
            summary = "Golden item is wrong"
            self.refuse(number, "FC1303", summary, detail, 1, line, error.hint)
            return None
        if made.id in self._seen:
            detail = f"`{made.id}` is the id of another item; ids pair the answers of two versions."
            self._twice(number, self._seen[made.id], detail, line)
            return None
        self._seen[made.id] = number
        asked = json.dumps({**document, "id": "", "tags": []}, sort_keys=True)
        first = self._asked.setdefault(asked, number)
        if first != number:
            detail = (
                f"`{made.id}` asks and expects what another item does. It is no further evidence: "
                "its answers are the other's."
            )
            self._twice(number, first, detail, line)
            return None
        return made

    def _twice(self, number: int, first: int, detail: str, line: str) -> None:
        """Note an item that stands there already."""
        self.problems.append(
            Diagnostic(
                "FC1304", "Golden item given twice", detail, Position(self.file, number, 1),
                line, also=(("first given at", Position(self.file, first, 1)),),
                hint="Delete one of them.",
            )
        )  # fmt: skip

    def refuse(
        self,
        line: int,
        code: str,
        summary: str,
        detail: str,
        column: int = 1,
        source: str = "",
        hint: str = "",
    ) -> None:
        """Note a problem with its place."""
        place = Position(self.file, line, column)
        self.problems.append(Diagnostic(code, summary, detail, place, source, hint=hint))


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"`{twice}` stands twice in one object")
    return document


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
