"""Traffic policy: how a gateway treats the requests for one alias, beyond which version answers.

Everything has a default, and a default leaves no trace in plans and routing tables: a fleet
that declares nothing of it has routes without a policy.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from fleet.formats import Format, FormatKind

CHOICES = 16
"""Most answers to one request (`n`) where nothing else is declared."""
QUEUE_S = 1.0
"""How long a request waits where its own limits are used up and nothing is declared, seconds."""
USUAL_TURNS = 2
"""Turns in a row of a client about whom nothing is declared."""


class Sticky(StrEnum):
    """What keeps a user on one version while traffic is split."""

    SESSION = "session"
    """The header X-Session-Id, else the user that the body names, else chance."""
    USER = "user"
    """The user that the body names, else chance."""
    REQUEST = "request"
    """Nothing: each request is assigned by chance."""
    KEY = "key"
    """The API key: everyone who shares it is on one version."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be asked. None: no limit. Counted by each gateway for itself."""

    concurrency: int | None = None
    """Requests at work at the same time."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Prompt and answer together, charged when they are known: after the answer."""
    queue_s: float | None = None
    """How long a request waits for its turn before it is refused, seconds.

    None: `QUEUE_S` where limits of its own are used up, and for a server that is busy as long as an
    answer may take to begin.
    """


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that gets copies of requests; its answers are thrown away."""

    adapter: str
    """Full name."""
    servers: tuple[str, ...]
    """Servers that hold it, sorted."""
    percent: int
    """Share of the requests that are copied."""
    concurrency: int
    """Copies at work at the same time; beyond it there are none."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long answers may take, seconds. None: the gateway's own."""

    first_byte_s: float | None = None
    """Until a server begins its answer; of one that is no stream, until it is there."""
    idle_s: float | None = None
    """Longest pause inside a stream."""
    total_s: float | None = None
    """Longest that a whole answer may take."""


USUAL_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for the requests for one alias."""

    sticky: Sticky = Sticky.SESSION
    format: Format | None = None
    """What form its answers must have."""
    limits: Limits = UNLIMITED
    """Of this alias."""
    client_limits: Limits = UNLIMITED
    """Of its client, all aliases together."""
    gateways: int = 1
    """Gateways that have the limits between them: each allows its part."""
    choices: int = CHOICES
    """Most answers to one request (`n`)."""
    timeouts: Timeouts = USUAL_TIMEOUTS
    server_in_flight: int | None = None
    """Requests that a gateway keeps at work on one server at a time; the rest wait in turn.

    None: as many as the server runs at a time, which it is asked.
    """
    turns: int | None = None
    """Turns in a row that waiting requests get, beside those with 1. None: `USUAL_TURNS`."""
    prioritized: bool = False
    """Whether its servers look at priorities: they are told these turns."""
    shadow: Shadow | None = None


def differences(before: Policy | None, after: Policy | None) -> Iterator[tuple[str, str, str]]:
    """Yield what differs between two policies: name, before, after; empty is the default."""
    was, will = _lines(before or Policy()), _lines(after or Policy())
    for name in dict.fromkeys((*will, *was)):
        if was.get(name) != will.get(name):
            yield name, was.get(name, "none"), will.get(name, "none")


def _lines(policy: Policy) -> dict[str, str]:
    """Return what is not the default, in words, by the name that the declarations use."""
    found: dict[str, str] = {}
    for each in fields(Policy):
        value = getattr(policy, each.name)
        if value == each.default:
            continue
        match value:
            case Limits() | Timeouts():
                for limit in fields(value):
                    if (of := getattr(value, limit.name)) != limit.default:
                        found[f"{_NAMES.get(each.name, each.name)}.{_name(limit.name)}"] = _text(
                            limit.name, of
                        )
            case Shadow():
                found["shadow"] = (
                    f"{value.percent} % to {value.adapter} on {', '.join(value.servers)}, "
                    f"{value.concurrency} at a time"
                )
            case Format():
                found["format"] = value.shown
            case _:
                found[_name(each.name)] = _text(each.name, value)
    return found


_NAMES = {"client_limits": "client's limits"}


def _name(field_name: str) -> str:
    return field_name.removesuffix("_s").replace("server_in_flight", "max_in_flight")


def _text(field_name: str, value: Any) -> str:
    return f"{value:g} s" if field_name.endswith("_s") else str(value)


def read(document: Mapping[str, Any] | None) -> Policy | None:
    """Return the policy that a plain document holds; unknown fields are ignored.

    Raises:
        KeyError, TypeError, ValueError: it holds no policy.
    """
    if document is None:
        return None
    known = {each.name: document[each.name] for each in fields(Policy) if each.name in document}
    for name in ("limits", "client_limits"):
        if name in known:
            names = {each.name for each in fields(Limits)}
            known[name] = Limits(**{key: known[name][key] for key in known[name] if key in names})
    if "timeouts" in known:
        names = {each.name for each in fields(Timeouts)}
        given = known["timeouts"]
        known["timeouts"] = Timeouts(**{key: given[key] for key in given if key in names})
    if "sticky" in known:
        known["sticky"] = Sticky(known["sticky"])
    if known.get("format"):
        form = known["format"]
        labels = tuple(form.get("labels", ()))
        known["format"] = Format(FormatKind(form["kind"]), form.get("text", ""), labels)
    if known.get("shadow"):
        shadow = known["shadow"]
        known["shadow"] = Shadow(
            shadow["adapter"], tuple(shadow["servers"]), shadow["percent"], shadow["concurrency"]
        )
    return Policy(**known)
