"""Explanations as people and machines read them."""

import json
from collections.abc import Mapping, Sequence

from fleet.names import Address
from plans.explain.resource import Fact

FORMAT = "fleetctl-explanation"


def render_text(explained: Mapping[Address, Sequence[Fact]]) -> str:
    """Return a paragraph for each resource, a line for each fact."""
    return "\n".join(_one(address, facts) for address, facts in explained.items())


def render_json(explained: Mapping[Address, Sequence[Fact]]) -> str:
    """Return all of it as one JSON document; an empty label goes on with the one before."""
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
