"""Whether a judge may decide: how far it agrees with people who have labelled the same answers.

A judge that was not compared with people's labels for a client, or that agrees with them too
little, is advisory: its scores are shown, and no gate is decided by them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.evals.run import Judge
from fleet.history import Entry

LEAST_KAPPA = 0.6
"""Agreement beyond chance from which a judge decides; usually called substantial.

Source:
    Landis and Koch 1977, Biometrics 33: 0.61 to 0.80 substantial.
"""
LEAST_LABELS = 50


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a judge's words compare with people's labels."""

    n: int
    """Labelled answers."""
    agreed: int
    unparsable: int
    """Answers to which it said neither YES nor NO; they count as disagreement."""
    kappa: float | None
    """Cohen's kappa, -1 to 1; None: all labels are the same, and nothing is to be told apart."""

    @property
    def objection(self) -> str:
        """Why the judge decides nothing; empty: it does."""
        if self.n < LEAST_LABELS:
            return f"it was compared with {self.n} labels, and {LEAST_LABELS} are needed"
        if self.kappa is None:
            return "all labels it was compared with are the same, which proves nothing"
        if round(self.kappa, 9) < LEAST_KAPPA:
            return f"its kappa is {self.kappa:.2f} on {self.n} labels, and {LEAST_KAPPA} is needed"
        return ""

    def plain(self) -> dict[str, Any]:
        """Return it as the ledger keeps it."""
        kappa = None if self.kappa is None else round(self.kappa, 4)
        counts = {"n": self.n, "agreed": self.agreed, "unparsable": self.unparsable}
        return {**counts, "kappa": kappa, "objection": self.objection}


def agreement(pairs: Sequence[tuple[bool, bool | None]]) -> Agreement:
    """Compare labels with what the judge said of the same answers; None: neither YES nor NO.

    Source:
        Cohen 1960, Educational and Psychological Measurement 20: (po - pe) / (1 - pe).
    """
    n = len(pairs)
    # What cannot be read is the opposite of the label: the worst that it can have meant.
    both = [(label, (not label) if said is None else said) for label, said in pairs]
    agreed = sum(label == said for label, said in both)
    unparsable = sum(said is None for _, said in pairs)
    yes = sum(label for label, _ in both)
    if yes in {0, n}:
        return Agreement(n, agreed, unparsable, None)
    said_yes = sum(said for _, said in both)
    chance = (yes * said_yes + (n - yes) * (n - said_yes)) / n**2
    return Agreement(n, agreed, unparsable, (agreed / n - chance) / (1 - chance))


def objection(entries: Iterable[Entry], judge: Judge | None, client: str) -> str:
    """Return why a judge decides nothing for a client; empty: it does.

    Args:
        entries: The ledger, oldest first; the last comparison of this judge counts.
        judge: Who is asked; another model, or another place, is another judge.
        client: Whose answers are judged.
    """
    if judge is None:
        return "no judge is declared (evals: {judge: {url: ..., model: ...}})"
    found: Mapping[str, Any] | None = None
    for each in entries:
        data = each.data
        about = (data.get("client"), data.get("url"), data.get("model"))
        if each.kind == "judge_compared" and about == (client, judge.url, judge.model):
            found = data
    if found is None:
        return f"`{judge.model}` was never compared with people's labels for {client}"
    why = str(found.get("objection", ""))
    return f"`{judge.model}` is advisory for {client}: {why}" if why else ""
