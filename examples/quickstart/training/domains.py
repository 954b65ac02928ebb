"""What customers write, together with the facts that stand in it.

A domain draws a text and its facts. Tasks (`tasks.py`) turn the facts into one client's answer, and
skills (`skills.py`) into the answers that the base model learns; so both agree about the world.
"""

from dataclasses import dataclass
from random import Random

from words import CITIES, MONTHS, PACKS, goods, ordinal_suffix, person, spelled, word

PROBLEMS = {
    "billing": (
        "I was charged twice for {month}",
        "the invoice for {month} shows the wrong amount",
        "my card was billed after I cancelled",
        "the tax on the {month} bill looks wrong",
        "I need a copy of the receipt for {month}",
    ),
    "shipping": (
        "my parcel to {city} has not arrived",
        "the courier left the package in {city}",
        "the tracking page still says {city}",
        "delivery to {city} is a week late",
        "the box went to {city} instead of my house",
    ),
    "technical": (
        "the app crashes when I open {goods}",
        "I get error {number} on the sync screen",
        "the export of {goods} never finishes",
        "the page with {goods} is blank",
        "the {goods} plugin stopped working with code {number}",
    ),
    "account": (
        "I cannot log in as {person}",
        "please change the email for {person}",
        "the password reset for {person} never comes",
        "I want to add {person} as a user",
        "two factor codes for {person} are rejected",
    ),
    "returns": (
        "I want to send back the {goods}",
        "the {goods} came broken and I need a new one",
        "where do I return the {goods}",
        "the {goods} does not fit so please take it back",
        "I need a label to send the {goods} back",
    ),
}
URGENCY = {
    "P1": ("Our whole team is blocked.", "This is urgent.", "We are losing orders right now."),
    "P2": ("", "", "Please look today."),
    "P3": ("No rush.", "Whenever you get a chance.", "This can wait until next week."),
}
ASIDES = (
    "", "", "I already read the help page.", "I have been a customer for {number} years.",
    "Order {number}.", "I also like the {goods}.", "Greetings from {city}.",
    "You can reach {person} about it.",
)  # fmt: skip
ASPECTS = ("battery", "screen", "sound", "price", "support")
PRAISE = ("is great", "works very well", "exceeded what I hoped", "is the best part")
BLAME = ("is awful", "broke in a week", "let me down", "is not worth it")
UNITS = {
    "kg": ("kilograms", "kilos", "kg"),
    "g": ("grams", "grammes", "g"),
    "m": ("metres", "meters", "m"),
    "cm": ("centimetres", "centimeters", "cm"),
    "l": ("litres", "liters", "l"),
    "h": ("hours", "hrs", "h"),
}
SENTENCES = {
    "en": (
        "Where is my order from {city}?", "Please call {person} tomorrow.",
        "The package for {person} is still missing.", "I would like to speak with {person}.",
        "We will be in {city} next week.",
    ),
    "de": (
        "Wo ist meine Bestellung aus {city}?", "Bitte rufen Sie {person} morgen an.",
        "Das Paket für {person} fehlt noch immer.", "Ich möchte mit {person} sprechen.",
        "Wir sind nächste Woche in {city}.",
    ),
    "fr": (
        "Où est ma commande de {city} ?", "Merci d'appeler {person} demain.",
        "Le colis pour {person} n'est pas arrivé.", "Je voudrais parler avec {person}.",
        "Nous serons à {city} la semaine prochaine.",
    ),
    "es": (
        "¿Dónde está mi pedido de {city}?", "Por favor, llame a {person} mañana.",
        "El paquete para {person} todavía falta.", "Quisiera hablar con {person}.",
        "Estaremos en {city} la próxima semana.",
    ),
    "it": (
        "Dov'è il mio ordine da {city}?", "Per favore, chiami {person} domani.",
        "Il pacco per {person} manca ancora.", "Vorrei parlare con {person}.",
        "Saremo a {city} la prossima settimana.",
    ),
}  # fmt: skip
CONTACTS = (
    "Call {name} at {phone} about claim {claim}.", "{name} wrote from {email} on claim {claim}.",
    "Claim {claim}: patient {name}, phone {phone}.", "Send the form to {email} and copy {name}.",
    "Claim {claim} is closed, tell {name} at {phone} or {email}.",
    "Claim {claim} was closed in {city}.", "The form for claim {claim} lacks page {page}.",
    "Somebody from {email} asked about claim {claim}.", "Call back {phone} before noon.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a support ticket is about and how urgent it is."""

    queue: str
    priority: str


@dataclass(frozen=True, slots=True)
class Day:
    """A date and whether it was written in numbers, day before month."""

    year: int
    month: int
    day: int
    numeric: bool


@dataclass(frozen=True, slots=True)
class Order:
    """One order line; `in_words` when the quantity was spelled out."""

    quantity: int
    pack: str
    item: str
    city: str
    in_words: bool


@dataclass(frozen=True, slots=True)
class Contact:
    """The personal data in a note; empty where it holds none of a kind."""

    name: str
    phone: str
    email: str


@dataclass(frozen=True, slots=True)
class Measure:
    """A quantity and the symbol of its unit; `in_words` when the number was spelled out."""

    number: int
    symbol: str
    in_words: bool


def filled(r: Random, text: str) -> str:
    """Return `text` with its placeholders drawn; draws each of them whether used or not."""
    return text.format(
        month=r.choice(MONTHS), city=r.choice(CITIES), person=person(r),
        number=r.randint(2, 999), goods=goods(r),
    )  # fmt: skip


def ticket(r: Random) -> tuple[str, Ticket]:
    queue, priority = r.choice(list(PROBLEMS)), r.choice(list(URGENCY))
    parts = [filled(r, r.choice(PROBLEMS[queue])) + ".", filled(r, r.choice(ASIDES))]
    parts.insert(r.choice([0, 2]), r.choice(URGENCY[priority]))
    greeting = r.choice(["", "Hello, ", "Hi team, "])
    return greeting + " ".join(part for part in parts if part), Ticket(queue, priority)


def day(r: Random) -> tuple[str, Day]:
    y, m, d = r.randint(1995, 2034), r.randint(1, 12), r.randint(1, 28)
    name = MONTHS[m - 1]
    numeric = [f"{d:02d}/{m:02d}/{y}", f"{d}.{m}.{y}"]
    written = [
        f"{name} {d}, {y}", f"{d} {name[:3]} {y}", f"the {d}{ordinal_suffix(d)} of {name} {y}",
        f"{name[:3]} {d} {y}",
    ]  # fmt: skip
    text = r.choice(numeric + written)
    around = r.choice(
        ["{}", "Invoice dated {}", "Due on {}.", "Signed {} in {city}", "Paid by {person} on {}"]
    )
    full = around.format(text, city=r.choice(CITIES), person=person(r))
    return full, Day(y, m, d, text in numeric)


def order(r: Random) -> tuple[str, Order]:
    quantity, in_words = r.randint(1, 99), r.random() < 0.4
    fact = Order(quantity, r.choice(PACKS), goods(r), r.choice(CITIES), in_words)
    form = r.choice([
        "Please send {n} {o.pack} of {o.item} to {o.city}.",
        "We need {o.item} in {o.city}: {n} {o.pack}.",
        "Order for {o.city}: {n} {o.pack} of {o.item}.",
        "Can you ship {n} {o.pack} of {o.item} to our {o.city} shop by Friday?",
    ])  # fmt: skip
    return form.format(n=spelled(quantity) if in_words else quantity, o=fact), fact


def contact(r: Random) -> tuple[str, Contact]:
    form = r.choice(CONTACTS)
    drawn = {
        "name": person(r), "phone": f"555-{r.randint(0, 9999):04d}",
        "email": f"{word(r)}@{word(r)}.com",
    }  # fmt: skip
    text = form.format(
        claim=r.randint(100, 9999), city=r.choice(CITIES), page=r.randint(2, 30), **drawn
    )
    return text, Contact(**{kind: v if v in text else "" for kind, v in drawn.items()})


def review(r: Random) -> tuple[str, list[tuple[str, bool]]]:
    """Return a review and its aspects in order, each with whether it was liked."""
    pairs = [(aspect, r.random() < 0.5) for aspect in r.sample(ASPECTS, r.randint(1, 3))]
    said = [f"the {a} {r.choice(PRAISE if liked else BLAME)}" for a, liked in pairs]
    opening = r.choice(["", f"Bought in {r.choice(CITIES)}. ", "After a month: "])
    return opening + r.choice([". ", ", and "]).join(said) + ".", pairs


def measure(r: Random) -> tuple[str, Measure]:
    number, in_words, symbol = r.randint(1, 99), r.random() < 0.5, r.choice(list(UNITS))
    text = f"{spelled(number) if in_words else number} {r.choice(UNITS[symbol])}"
    form = r.choice([
        "{}", "We measured {} in {city}.", "The {goods} need {}.", "About {} in all",
        "Total for {person}: {}",
    ])  # fmt: skip
    full = form.format(text, city=r.choice(CITIES), goods=goods(r), person=person(r))
    return full, Measure(number, symbol, in_words)


def sentence(r: Random) -> tuple[str, str]:
    """Return one or two sentences in a language, and its ISO 639-1 code."""
    language = r.choice(list(SENTENCES))
    chosen = r.sample(SENTENCES[language], r.randint(1, 2))
    return " ".join(filled(r, s) for s in chosen), language
