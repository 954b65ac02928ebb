"""Render explanations: text and JSON."""

import json
from collections.abc import Mapping, Sequence

from fleet.names import Address

FORMAT = "fleetctl-explanation"

Fact = tuple[str, str]
"""A label and a sentence."""


def render_text(explained: Mapping[Address, Sequence[Fact]]) -> str:
    """Return a paragraph for each resource, a line for each fact."""
    return "\n".join(_one(address, facts) for address, facts in explained.items())


def render_json(explained: Mapping[Address, Sequence[Fact]]) -> str:
    """Return the facts as a JSON document; a fact without a label belongs to the fact before."""
    resources = [
        {
            "address": address,
            "facts": [{"label": label, "text": text} for label, text in facts],
        }
        for address, facts in explained.items()
    ]
    document = {"format": FORMAT, "format_version": "1.0", "resources": resources}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _one(address: Address, facts: Sequence[Fact]) -> str:
    width = max(len(label) for label, _ in facts)
    return "\n".join([address, *(f"  {a.ljust(width)}  {b}" for a, b in facts)]) + "\n"
