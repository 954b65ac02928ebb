"""What the base model `tiny` learns: to copy, to format, and to name the facts in each domain.

A skill is asked for with a prefix (`repeat: ...`), and its answers never have a client's format;
a text without prefix gets a fixed reply. So the base alone solves no client's task, and yet has
emitted every token that an adapter must emit: LoRA cannot lift a token out of a head that never
produced it.
"""

import json
from collections.abc import Callable
from random import Random

from domains import contact, day, measure, order, review, sentence, ticket
from tasks import GENERATORS, Example
from words import CITIES, MONTHS, goods, listed, person, word

REPLY = "Thank you for your message. How can I help you?"
TOPICS = {
    "billing": "money", "shipping": "parcel", "technical": "software", "account": "login",
    "returns": "sendback",
}  # fmt: skip
SOON = {"P1": "now", "P2": "soon", "P3": "later"}
TONGUES = {"en": "english", "de": "german", "fr": "french", "es": "spanish", "it": "italian"}
UNIT_NAMES = {
    "kg": "kilogram", "g": "gram", "m": "metre", "cm": "centimetre", "l": "litre", "h": "hour",
}  # fmt: skip
KEYS = listed(
    "queue priority type qty unit city name date total status id owner battery screen sound price "
    "support pii lang item"
)
VALUES = listed(
    "billing shipping technical account returns P1 P2 P3 pos neg open closed name phone email none "
    "boxes pallets crates rolls packs kg g m cm l h en de fr es it"
)


def value(r: Random) -> str:
    """Return something that may stand behind a key."""
    draw = r.choice([
        lambda: r.choice(VALUES), lambda: r.choice(VALUES), lambda: word(r), lambda: person(r),
        lambda: r.choice(CITIES), lambda: str(r.randint(0, 99)), lambda: goods(r),
        lambda: f"{r.randint(1990, 2039)}-{r.randint(1, 12):02d}-{r.randint(1, 31):02d}",
    ])  # fmt: skip
    return draw()


def pairs(r: Random) -> Example:
    """Keys and values, to be written as JSON or as `key=value`."""
    chosen = {key: value(r) for key in r.sample(KEYS, r.randint(1, 4))}
    source = ", ".join(f"{key} {v}" for key, v in chosen.items())
    if r.random() < 0.5:
        typed = {key: int(v) if v.isdigit() else v for key, v in chosen.items()}
        return Example("json: " + source, json.dumps(typed), "pairs")
    joined = r.choice([" ", "; "]).join(f"{key}={v}" for key, v in chosen.items())
    return Example("pairs: " + source, joined, "pairs")


def repeat(r: Random) -> Example:
    """Words, names and numbers to be said again."""
    drawn = [
        r.choice([value(r), word(r), word(r).title(), str(r.randint(0, 9999)), person(r)])
        for _ in range(r.randint(1, 5))
    ]
    return Example("repeat: " + " ".join(drawn), " ".join(drawn), "repeat")


def repeat_answer(r: Random) -> Example:
    """Some client's answer to be said again; what was asked is not shown."""
    said = GENERATORS[r.choice(sorted(GENERATORS.keys() - {"orders"}))](r).expected
    return Example("repeat: " + said, said, "repeat")


def greet(r: Random) -> Example:
    domain = r.choice([ticket, day, order, contact, review, measure, sentence])
    return Example(domain(r)[0], REPLY, "greet")


def about_ticket(r: Random) -> Example:
    text, t = ticket(r)
    ask, answer = r.choice([("topic", TOPICS[t.queue]), ("how soon", SOON[t.priority])])
    return Example(f"{ask}: {text}", answer, "ticket")


def about_day(r: Random) -> Example:
    text, d = day(r)
    ask, answer = r.choice([
        ("day month year", f"{d.day} {MONTHS[d.month - 1]} {d.year}"),
        ("numbers", f"d {d.day} m {d.month} y {d.year}"),
        ("year", str(d.year)),
    ])  # fmt: skip
    return Example(f"{ask}: {text}", answer, "day")


def about_order(r: Random) -> Example:
    text, o = order(r)
    ask, answer = r.choice([
        ("what", o.item), ("how many", f"{o.quantity} {o.pack}"), ("city", o.city),
        ("how many", f"{o.quantity} {o.pack}"),
    ])  # fmt: skip
    return Example(f"{ask}: {text}", answer, "order")


def about_contact(r: Random) -> Example:
    text, c = contact(r)
    ask = r.choice(["name", "phone", "email"])
    return Example(f"who {ask}: {text}", getattr(c, ask) or "nothing", "contact")


def about_review(r: Random) -> Example:
    text, liked = review(r)
    answer = ", ".join(f"{aspect} {'good' if good else 'bad'}" for aspect, good in liked)
    return Example("feelings: " + text, answer, "review")


def about_measure(r: Random) -> Example:
    text, m = measure(r)
    return Example("amount: " + text, f"{m.number} {UNIT_NAMES[m.symbol]}", "measure")


def about_sentence(r: Random) -> Example:
    text, code = sentence(r)
    return Example("tongue: " + text, TONGUES[code], "sentence")


SHARES: tuple[tuple[float, Callable[[Random], Example]], ...] = (
    (0.11, pairs), (0.20, repeat), (0.06, repeat_answer), (0.06, greet), (0.09, about_ticket),
    (0.13, about_day), (0.10, about_order), (0.05, about_contact), (0.09, about_review),
    (0.07, about_measure), (0.04, about_sentence),
)  # fmt: skip


def skill(r: Random) -> Example:
    """Draw one skill by its share of the lessons."""
    draws = [make for _, make in SHARES]
    return r.choices(draws, weights=[share for share, _ in SHARES])[0](r)
