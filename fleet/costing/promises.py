"""Finds the hours with a promised p95, and adds up the hours of a kept promise."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fleet.costing.hours import HOUR
from fleet.costing.terms import Terms
from fleet.names import client_of


@dataclass(frozen=True, slots=True)
class PromiseHours:
    """A promised p95, and the hours of a kept promise."""

    limit_ms: int
    """As last promised."""
    judged: int
    """Hours with a promise and an answer."""
    kept: int
    """Of these the hours whose p95 is within the promise of the hour."""


class PromisedSpan(NamedTuple):
    """Hours on end with the same promise of an alias."""

    alias: str
    limit_ms: int
    begin: datetime
    end: datetime


def promised_spans(hours: Iterable[tuple[datetime, Terms]]) -> Iterator[PromisedSpan]:
    """Yield the spans of promises, those of an alias in the order of time."""
    begun: dict[tuple[str, int], datetime] = {}
    last, end = None, None
    for hour, terms in hours:
        if terms is not last:
            its = [client.promises.items() for client in terms.clients.values()]
            now = dict.fromkeys((promise for promises in its for promise in promises), hour)
            for promise in [*begun]:
                if promise not in now:
                    yield PromisedSpan(*promise, begun.pop(promise), hour)
            begun = {**now, **begun}
        last, end = terms, hour + HOUR
    for promise, begin in begun.items():
        if end is not None:
            yield PromisedSpan(*promise, begin, end)


def promise_hours(
    spans: Iterable[PromisedSpan], judge: Callable[[PromisedSpan], tuple[int, int]]
) -> Mapping[str, Mapping[str, PromiseHours]]:
    """Return the hours of promises by client and alias.

    `judge`: the hours of a span with answers, and those whose p95 is within the promise.
    """
    found: dict[str, dict[str, PromiseHours]] = {}
    for span in spans:
        judged, kept = judge(span)
        its = found.setdefault(client_of(span.alias), {})
        before = its.get(span.alias, PromiseHours(0, 0, 0))
        its[span.alias] = PromiseHours(span.limit_ms, before.judged + judged, before.kept + kept)
    return found
