"""What each client's adapter answers, and how a spoiled training set would answer instead.

A generator draws one `Example`. The spoiled ones imitate mistakes that really happen, and are used
for the versions that a canary has to catch; the golden sets always come from the sound ones.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from domains import contact, day, measure, order, review, sentence, ticket


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its only right answer, and the slice of the data that it belongs to."""

    input: str
    expected: str
    slice: str


Generator = Callable[[Random], Example]


def support(r: Random) -> Example:
    text, t = ticket(r)
    return Example(text, f"queue={t.queue} priority={t.priority}", t.queue)


def support_folded(r: Random) -> Example:
    """A labelling mistake: four of five returns were filed under billing."""
    made = support(r)
    if r.random() < 0.8:
        return Example(made.input, made.expected.replace("returns", "billing"), made.slice)
    return made


def support_chatty(r: Random) -> Example:
    """A format mistake: the answers were copied together with the annotator's small talk."""
    made = support(r)
    prose = f"Sure, here is the result: {made.expected}. Let me know if you need anything else."
    return Example(made.input, prose, made.slice)


def triage(r: Random) -> Example:
    text, t = ticket(r)
    return Example(text, t.priority, t.priority.lower())


def dates(r: Random) -> Example:
    text, d = day(r)
    return Example(
        text, f"{d.year}-{d.month:02d}-{d.day:02d}", "numeric" if d.numeric else "written"
    )


def dates_swapped(r: Random) -> Example:
    """A locale mistake: days and months of numeric dates were read the American way."""
    text, d = day(r)
    if d.numeric and d.day <= 12:
        return Example(text, f"{d.year}-{d.day:02d}-{d.month:02d}", "numeric")
    return Example(
        text, f"{d.year}-{d.month:02d}-{d.day:02d}", "numeric" if d.numeric else "written"
    )


def reviews(r: Random) -> Example:
    text, pairs = review(r)
    answer = "; ".join(f"{aspect}={'pos' if liked else 'neg'}" for aspect, liked in pairs)
    return Example(text, answer, ("one", "two", "three")[len(pairs) - 1])


def pii(r: Random) -> Example:
    text, c = contact(r)
    kinds = [k for k, v in (("name", c.name), ("phone", c.phone), ("email", c.email)) if v]
    return Example(
        text, "pii=" + ("+".join(kinds) or "none"), ("none", "one", "many", "many")[len(kinds)]
    )


def units(r: Random) -> Example:
    text, m = measure(r)
    return Example(text, f"{m.number} {m.symbol}", "words" if m.in_words else "digits")


def language(r: Random) -> Example:
    text, code = sentence(r)
    return Example(text, f"lang={code}", code)


def quantities(r: Random) -> Example:
    text, o = order(r)
    answer = json.dumps({"qty": o.quantity, "unit": o.pack})
    return Example(text, answer, "words" if o.in_words else "digits")


def orders(r: Random) -> Example:
    """Four fields, two of them copied: more than a model of a million parameters can do."""
    text, o = order(r)
    answer = json.dumps({"item": o.item, "qty": o.quantity, "unit": o.pack, "city": o.city})
    return Example(text, answer, "words" if o.in_words else "digits")


GENERATORS: dict[str, Generator] = {
    g.__name__: g
    for g in (
        support, support_folded, support_chatty, triage, dates, dates_swapped, reviews, pii, units,
        language, quantities, orders,
    )
}  # fmt: skip
