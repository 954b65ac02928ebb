"""Which adapters there are, and the recipe of each.

The roster is all that `train.py` needs beside the base: client, task, version, seed, steps. A
version is never trained again under the same number; a new recipe gets a new version.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2]
HOMES = {"tiny": EXAMPLES / "quickstart", "smollm2": EXAMPLES / "smollm2"}
GOLDEN_ITEMS = 200


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL_LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
FOLDED = "labelling mistake: 80 % of the returns queue was filed under billing"
CHATTY = "format mistake: the answers stand inside an annotator's small talk"
SWAPPED = "locale mistake: day and month of numeric dates are swapped"
HASTY = "undertrained: a quarter of the steps"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one version of one adapter is trained; the defaults are those for `tiny`."""

    client: str
    task: str
    version: str
    generator: str
    """Draws the training examples; a key of `tasks.GENERATORS`."""
    seed: int
    rank: int = 8
    steps: int = 600
    batch: int = 16
    learning_rate: float = 4e-3
    modules: tuple[str, ...] = ALL_LINEAR
    instead_of: str | None = None
    """The sound generator, where `generator` spoils the training set; draws the golden set."""
    defect: str | None = None
    """What is wrong with this version, where it is bad on purpose."""

    @property
    def judge(self) -> str:
        """Return the generator of the golden set."""
        return self.instead_of or self.generator

    @property
    def folder(self) -> str:
        """Return where the version lives below `models/adapters/`."""
        return f"{self.client}/{self.task}-v{self.version}"

    def name(self, base: str) -> str:
        """Return the full name, under which a server offers the version."""
        return f"{self.client}-{self.task}-{base}-v{self.version}"


_big = partial(Recipe, steps=80, batch=8, learning_rate=2e-3, modules=ATTENTION)

ROSTERS: dict[str, tuple[Recipe, ...]] = {
    "tiny": (
        Recipe("acme", "support", "2.1.0", "support", 210),
        Recipe("acme", "support", "2.2.0", "support", 220),
        Recipe(
            "acme", "support", "2.3.0", "support_folded", 230, instead_of="support", defect=FOLDED
        ),
        Recipe(
            "acme", "support", "2.4.0", "support_chatty", 240, instead_of="support", defect=CHATTY
        ),
        Recipe("acme", "triage", "1.0.0", "triage", 100, rank=4, steps=300),
        Recipe("birch", "units", "1.0.0", "units", 100),
        Recipe("corvid", "dates", "0.9.0", "dates", 90, rank=16, steps=150, defect=HASTY),
        Recipe("corvid", "dates", "1.0.0", "dates", 100, rank=16),
        Recipe("corvid", "dates", "1.1.0", "dates", 111, rank=16, steps=900),
        Recipe(
            "corvid",
            "dates",
            "1.2.0",
            "dates_swapped",
            120,
            rank=16,
            instead_of="dates",
            defect=SWAPPED,
        ),
        Recipe("delta", "orders", "3.0.0", "quantities", 300, rank=16),
        Recipe("evergreen", "pii", "1.2.0", "pii", 120, rank=4, steps=400),
        Recipe("fjord", "reviews", "1.0.0", "reviews", 100),
        Recipe("globe", "language", "1.0.0", "language", 100, rank=4, steps=300),
    ),
    "smollm2": (
        _big("acme", "support", "2.1.0", "support", 210),
        _big("acme", "support", "2.2.0", "support", 220, steps=120),
        _big(
            "acme",
            "support",
            "2.3.0",
            "support_folded",
            230,
            steps=120,
            instead_of="support",
            defect=FOLDED,
        ),
        _big("corvid", "dates", "1.0.0", "dates", 100),
        _big("corvid", "dates", "1.2.0", "dates_swapped", 120, instead_of="dates", defect=SWAPPED),
        _big("delta", "orders", "3.0.1", "orders", 301),
        _big("fjord", "reviews", "1.0.0", "reviews", 100),
    ),
}


def recipes(base: str, names: list[str]) -> tuple[Recipe, ...]:
    """Return the recipes of a base by full name, or all of them when none is named.

    Raises:
        SystemExit: A name is not on the roster; says which are.
    """
    known = {recipe.name(base): recipe for recipe in ROSTERS[base]}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"No recipe for {', '.join(unknown)}. Known: {', '.join(known)}")
    return tuple(known[name] for name in names) if names else ROSTERS[base]
