"""The words that the made-up clients, customers and goods are called by, and draws from them.

Everything here is invented. Every draw takes its own `random.Random`: a seed fixes the data.
"""

from random import Random


def listed(text: str) -> list[str]:
    """Return the words of a text; a long list reads better as one."""
    return text.split()


FIRST = listed(
    "Ana Bo Carla Dmitri Elena Farid Grace Hugo Imani Jonas Kira Leo Maya Nadia Omar Priya Quinn "
    "Rosa Sven Tara Umar Vera Wes Yara Zane"
)
LAST = listed(
    "Petrov Lindqvist Okafor Tanaka Moreau Castillo Novak Haddad Jensen Silva Kowalski Rossi Meyer "
    "Dubois Iyer Walsh Berg Santos Weber Clarke"
)
CITIES = listed(
    "Lyon Oslo Porto Turin Ghent Leeds Basel Gdansk Malmo Seville Austin Boise Denver Fresno Tampa "
    "Quito Lima Accra Hanoi Kyoto"
)
MATERIALS = listed(
    "cedar copper ceramic linen steel walnut glass cotton rubber bamboo oak brass slate wool"
)
GOODS = listed(
    "planks pipes tiles sheets bolts shelves jars bags seals trays doors hooks panels rugs"
)
PACKS = ("boxes", "pallets", "crates", "rolls", "packs")
MONTHS = listed(
    "January February March April May June July August September October November December"
)
SYLLABLES = listed(
    "ba ce di fo gu ha je ki lo mu na pe qui ro su ta ve wi xo yu za bren clor dast fim gral hesk"
)
ONES = listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
TENS = listed("twenty thirty forty fifty sixty seventy eighty ninety")


def word(r: Random) -> str:
    """Return a word that no language has."""
    return "".join(r.choice(SYLLABLES) for _ in range(r.randint(2, 3)))


def person(r: Random) -> str:
    """Return a first and a last name."""
    return f"{r.choice(FIRST)} {r.choice(LAST)}"


def goods(r: Random) -> str:
    """Return something one can order, such as `oak doors`."""
    return f"{r.choice(MATERIALS)} {r.choice(GOODS)}"


def spelled(number: int) -> str:
    """Return a number from 0 to 99 in English words."""
    if number < len(ONES):
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens - 2] + (f"-{ONES[ones]}" if ones else "")


def ordinal_suffix(day: int) -> str:
    """Return `st`, `nd`, `rd` or `th` for a day of the month."""
    if 10 < day < 14:
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
