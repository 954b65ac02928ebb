"""Defines verdict and finding: what a gate concluded, from which counts, by which rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from fleet.encoding import plain

Counts = Mapping[str, float | Sequence[float]]
"""Whole counts, sums and lists of them, by name: all that a verdict is computed from."""


class Verdict(StrEnum):
    """The conclusion of a gate. Missing data is never a PASS and never a FAIL."""

    PASS = "PASS"  # noqa: S105 (not a password)
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Finding:
    """A judged gate, with everything needed to judge the gate again.

    Rates and scores are fractions from 0 to 1, times seconds.
    """

    gate: str
    metric: str
    verdict: Verdict
    rule: str
    """Name of the method, a key of `fleet.gates.recheck.RULES`."""
    estimate: float | None
    """How much worse the new version is, or its rate; None: no data."""
    lower: float | None
    upper: float | None
    """The 95 % bounds of the estimate; one-sided."""
    value: float | None
    """The p-value of an offline gate, the e-value of a live gate."""
    counts: Counts
    parameters: Mapping[str, float] = field(default_factory=dict)
    """The limits and constants that the rule used."""
    reason: str = ""
    """A sentence for people."""
    power: str = ""
    """Smallest harm that these counts could have shown; empty where that is not known."""

    def plain(self) -> dict[str, Any]:
        """Return the finding in plain form; `of` reads the form back."""
        document: dict[str, Any] = plain(self)
        return document

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Return the finding in plain form; later additions are ignored.

        Raises:
            ValueError: a field is missing or of the wrong kind.
        """
        try:
            known = {attribute.name: document[attribute.name] for attribute in fields(cls)}
            counts = {
                str(name): tuple(map(float, value)) if isinstance(value, list) else float(value)
                for name, value in known["counts"].items()
            }
            parameters = {str(name): float(value) for name, value in known["parameters"].items()}
            verdict = Verdict(known["verdict"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a finding: {error}") from error
        return cls(**{**known, "verdict": verdict, "counts": counts, "parameters": parameters})


def points_text(fraction: float) -> str:
    """Return a difference of rates for people: `3.2 pp`; bounds of approximations end at 100."""
    return f"{max(-1.0, min(1.0, fraction)) * 100:.1f} pp"


def percent_text(fraction: float) -> str:
    """Return a rate or a chance for people: `3 %`, `0.25 %`, `under 0.01 %`."""
    if 0 < fraction < 1e-4:  # noqa: PLR2004 (below it, digits say nothing)
        return "under 0.01 %"
    return f"{fraction * 100:.2g} %" if 0 < fraction < 0.1 else f"{fraction * 100:.0f} %"  # noqa: PLR2004 (a digit more of small ones)
