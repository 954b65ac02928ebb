"""Reads golden sets: the questions that judge every version of a task, as lines of JSON objects.

`docs/evals.md` lists the keys of an item. An item's context is compared with and never sent.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fleet.codes import diagnostic
from fleet.errors import ConfigError, Diagnostic, Position, did_you_mean
from fleet.evals.golden_item import (
    ACCURACY,
    FORMAT,
    METRICS,
    MUST_PASS,
    USUAL_MAX_TOKENS,
    GoldenItem,
    GoldenItemError,
    ItemCheck,
    golden_item,
)
from fleet.policies import BY_FORM, INTACT
from fleet.response_format import ResponseFormat

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

    @property
    def groups(self) -> dict[str, str]:
        """Groups by id, of the items that name a group."""
        return {item.id: item.group for item in self.items if item.group}

    def parts(self, number: int) -> tuple[tuple[GoldenItem, ...], ...]:
        """Return the items in parts, in an order that depends on names alone.

        Items that must pass come first, and a group is in a single part.
        """
        names = {item.id: item.group or item.id for item in self.items}
        first = {names[item] for item in self.must_pass}
        order = sorted(
            {*names.values()},
            key=lambda name: (name not in first, hashlib.sha256(name.encode()).digest()),
        )
        part_of = {name: at * number // len(order) for at, name in enumerate(order)}
        return tuple(
            tuple(item for item in self.items if part_of[names[item.id]] == part)
            for part in range(number)
        )

    def only(self, ids: Collection[str]) -> "GoldenSet":
        """Return the set with the items of these ids; fewer than all count as another set."""
        if len(ids) == len(self.items):
            return self
        items = tuple(item for item in self.items if item.id in ids)
        digest = hashlib.sha256(f"{self.digest} {sorted(ids)}".encode()).hexdigest()
        file = f"{self.file} ({len(items)} of {len(self.items)} items)"
        return GoldenSet(file, digest, items, {item.id: item for item in items})


def read_golden_set(content: bytes, file: str) -> GoldenSet:
    """Read a golden set: UTF-8, with or without a byte order mark; blank lines do not count.

    Raises:
        ConfigError: with every bad line and its place; also when there is no item at all.
    """
    items: dict[str, GoldenItem] = {}
    problems: list[Diagnostic] = []
    lines = _Lines()
    for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            item = lines.item(Position(file, number, 1), raw, first=not items and not problems)
        except ConfigError as error:
            problems += error.diagnostics
            continue
        if item is not None:
            items[item.id] = item
    if not items and not problems:
        raise _refusal(Position(file, 1, 1), "FC1301", "The file holds no item to ask.")
    if problems:
        raise ConfigError(*problems)
    digest = hashlib.sha256(content).hexdigest()
    return GoldenSet(file, digest, tuple(items.values()), items)


def with_format(golden: GoldenSet, wanted: ResponseFormat | None) -> GoldenSet:
    """Return the set with the format that an adapter declares asked of items that ask for none."""
    if wanted is None:
        return golden
    check = ItemCheck(BY_FORM, {"format": wanted})
    return _with_checks(golden, lambda checks: {**checks, FORMAT: checks.get(FORMAT, check)})


def _with_checks(
    golden: GoldenSet, change: Callable[[Mapping[str, ItemCheck]], Mapping[str, ItemCheck]]
) -> GoldenSet:
    items = tuple(replace(item, checks=change(item.checks)) for item in golden.items)
    return replace(golden, items=items, by_id={item.id: item for item in items})


def scored_by(golden: GoldenSet, score: str, form: ResponseFormat | None = None) -> GoldenSet:
    """Return the set with every answer scored by a given metric; the result counts as another set.

    `form` is the adapter's format, which `declared_format` and `intact` ask of every answer.

    Raises:
        GoldenItemError: there is no such metric, or the metric cannot score an item.
    """
    if score == BY_FORM and form is None:
        hint = "Add one, such as `format: json`."
        raise GoldenItemError("the adapter declares no `format`", hint)
    if score not in METRICS:
        hint = did_you_mean(score, sorted(METRICS)) or f"There are {', '.join(METRICS)}."
        raise GoldenItemError(f"there is no metric `{score}`", hint)
    metric = METRICS[score]
    options = {"format": form} if form and score in (BY_FORM, INTACT) else {}
    for item in golden.items:
        lacks = metric.needs_expected and item.expected is None
        wrong = "`expected` is missing" if lacks else metric.fault(item.expected, options)
        if wrong:
            raise GoldenItemError(
                f"`{score}` cannot score `{item.id}` of {golden.file}: {wrong}",
                "Without `score` each item is scored by the metric it names.",
            )
    asked = f"{golden.digest} {score}{f' {form}' if options else ''}"
    digest = hashlib.sha256(asked.encode()).hexdigest()
    check = ItemCheck(score, options)
    return replace(_with_checks(golden, lambda checks: {**checks, ACCURACY: check}), digest=digest)


def _refusal(
    place: Position, code: str, detail: str, source: str = "", hint: str = "", first: int = 0
) -> ConfigError:
    """Return the error of a line; `first` is an earlier line that holds the same item."""
    also = (("first given at", Position(place.file, first, 1)),) if first else ()
    return ConfigError(diagnostic(code, detail, place, source=source, hint=hint, also=also))


@dataclass(slots=True)
class _Lines:
    """Makes items of lines; keeps the defaults, and the lines of ids and questions so far."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    def item(self, place: Position, raw: bytes, *, first: bool) -> GoldenItem | None:
        """Return the item of a line; None: the line holds the defaults."""
        document = _document(raw, place)
        if set(document) == {"defaults"}:
            given = document["defaults"]
            if not first or self.defaults:
                raise _refusal(place, "FC1303", "`defaults` stands on the first line, once.")
            if not isinstance(given, dict) or set(given) - DEFAULTS:
                detail = f"`defaults` may hold {', '.join(sorted(DEFAULTS))}."
                raise _refusal(place, "FC1303", detail)
            self.defaults = given
            return None
        line = raw.decode("utf-8")
        try:
            item = golden_item({**self.defaults, **document})
        except GoldenItemError as error:
            name = str(document.get("id", ""))
            detail = f"{f'`{name}`: ' if name else ''}{error}."
            raise _refusal(place, "FC1303", detail, line, error.hint) from None
        asked = json.dumps({**document, "id": "", "tags": [], "group": ""}, sort_keys=True)
        earlier = self.ids.setdefault(item.id, place.line)
        detail = f"`{item.id}` is the id of another item; ids pair the answers of two versions."
        if earlier == place.line:
            earlier = self.asked.setdefault(asked, place.line)
            detail = (
                f"`{item.id}` asks and expects what another item does. It is no further evidence: "
                "its answers are the other's."
            )
        if earlier != place.line:
            raise _refusal(place, "FC1304", detail, line, "Delete one of them.", earlier)
        return item


def _document(raw: bytes, place: Position) -> dict[str, Any]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        where = replace(place, column=error.start + 1)
        raise _refusal(where, "FC1302", f"Not UTF-8: {error.reason}.") from None
    try:
        document = json.loads(text, object_pairs_hook=_pairs, parse_constant=_constant)
    except json.JSONDecodeError as error:
        where = replace(place, column=error.colno)
        detail = f"{error.msg}. The item cannot be asked or scored, so no set with it is used."
        raise _refusal(where, "FC1302", detail, text, "Correct the line.") from None
    except (ValueError, RecursionError) as error:
        raise _refusal(place, "FC1302", f"{str(error) or 'Too deeply nested'}.", text) from None
    if not isinstance(document, dict):
        detail = "An item is a JSON object with `id`, `input` and `expected`."
        raise _refusal(place, "FC1302", detail, text)
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        detail = "A text in it holds half a character, which no model can be asked."
        raise _refusal(place, "FC1302", detail, text) from None
    return document


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"`{twice}` stands twice in one object")
    return document


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


ROOM: Final = 2
"""Tokens that an answer may have, in those of the captured answer, where no limit was asked."""
_ROLES: Final = ("system", "developer", "user", "assistant")
_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_PLAIN: Final = ("text", "input_text", "output_text")
"""Types of the parts of a message that are text."""


@dataclass(frozen=True, slots=True)
class CapturedText:
    """A captured request with its answer."""

    id: str
    request: Mapping[str, Any]
    """The body, of any of the paths of a gateway."""
    answer: str
    output_tokens: int | None


def golden(captured: CapturedText) -> dict[str, Any] | None:
    """Return a golden item that expects the answer; None: the request holds more than text."""
    asked = _asked(captured.request)
    if asked is None:
        return None
    given = (captured.request.get(name) for name in _LIMITS)
    longest = next((limit for limit in given if type(limit) is int and limit > 0), None)
    enough = max(USUAL_MAX_TOKENS, ROOM * (captured.output_tokens or 0))
    return {"id": captured.id, **asked, "expected": captured.answer} | (
        {"max_tokens": longest or enough} if longest or enough > USUAL_MAX_TOKENS else {}
    )


def replayed(captured: CapturedText, group: str) -> GoldenItem | None:
    """Return the item by which a request is asked again; None: no model can be asked so.

    `group`: the user or the session that the request shares with others; empty: none.
    """
    document = golden(captured)
    try:
        json.dumps(document, ensure_ascii=False).encode()  # half a character is no UTF-8
        return None if document is None else golden_item({**document, "group": group})
    except (UnicodeEncodeError, GoldenItemError):
        return None


def training(captured: CapturedText) -> dict[str, Any] | None:
    """Return a training item: a conversation, or prompt and completion; None: as `golden`."""
    asked = _asked(captured.request)
    if asked is None or "prompt" in asked:
        return asked and {**asked, "completion": captured.answer}
    return {"messages": [*asked["messages"], {"role": "assistant", "content": captured.answer}]}


EXPORTS: Final[Mapping[str, Callable[[CapturedText], dict[str, Any] | None]]] = {
    "golden": golden,
    "training": training,
}
"""By the name of a form."""


def _asked(request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `messages` or `prompt`; None: the request holds tools, images or several prompts."""
    if request.get("tools"):
        return None
    if "prompt" in request:
        prompt = request["prompt"]
        return {"prompt": prompt} if isinstance(prompt, str) and prompt.strip() else None
    given = request.get("messages", request.get("input"))
    given = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(given, list):
        return None
    if first := request.get("system") or request.get("instructions"):
        given = [{"role": "system", "content": first}, *given]
    messages = [_message(message) for message in given]
    is_asked = bool(messages) and None not in messages and given[-1].get("role") == "user"
    return {"messages": messages} if is_asked else None


def _message(given: Any) -> dict[str, str] | None:
    if not isinstance(given, dict) or given.get("role") not in _ROLES or given.get("tool_calls"):
        return None
    content = given.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [
        part.get("text") if isinstance(part, dict) and part.get("type") in _PLAIN else None
        for part in parts
    ]
    if not all(isinstance(text, str) for text in texts):
        return None
    return {"role": given["role"], "content": "".join(map(str, texts))}
