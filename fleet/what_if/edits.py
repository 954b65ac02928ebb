"""Edits parts of a `FleetSpec`, and refuses changes that cannot be made."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TypeVar

from fleet.errors import FleetError, did_you_mean
from fleet.spec import FleetSpec

T = TypeVar("T")


def by_name(items: Mapping[str, T]) -> Mapping[str, T]:
    """Return the items sorted by name, as a fleet holds them."""
    return dict(sorted(items.items(), key=lambda item: item[0]))


def without(items: Mapping[str, T], name: str) -> Mapping[str, T]:
    """Return the items without `name`."""
    return {key: item for key, item in items.items() if key != name}


def with_warnings(fleet: FleetSpec, *lines: str) -> FleetSpec:
    """Return the fleet with the side effects of a change among its warnings."""
    return replace(fleet, warnings=(*fleet.warnings, *(f"what if: {line}" for line in lines)))


def names(first: str) -> Iterator[str]:
    """Yield a name and its numbered variants, without end."""
    yield first
    yield from (f"{first}_{number}" for number in count(2))


EXAMPLES = (
    "gpu h100_80g +1",
    "gpu h100 +2 at 3.00",
    "gpu h100 -1",
    "host rack1 gone",
    "client acme x3",
    "client acme gone",
    "clients +20",
    "adapter acme-support x2",
    "adapter acme-support rank 64",
    "adapter acme-support replicas 2",
    "adapter acme-support gone",
    "base llama3_8b max_loras 32",
    "base llama3_8b max_lora_rank 64",
    "base llama3_8b tensor_parallel 2",
    "utilization 80%",
    "canary_slots 1",
)
"""An example of every form."""

Named = Mapping[str, str]
"""The parts of a change's text, by name."""


def not_understood(text: str) -> FleetError:
    """Return the error for a text that is of no known form, with examples of the nearest form."""
    words = text.lower().split()
    first = words[0] if words else ""
    forms = [example for example in EXAMPLES if example.split()[0] == first]
    firsts = sorted({example.split()[0] for example in EXAMPLES})
    near = "" if forms else did_you_mean(first, firsts)
    shown = ", ".join(f"`{form}`" for form in forms or EXAMPLES)
    detail = f"`{text}` is no change that can be tried{f'; {near}' if near else '.'}"
    return FleetError.of("FC6040", "What-if not understood", detail, hint=f"Write such as {shown}.")


def known(kind: str, name: str, names: Sequence[str]) -> str:
    """Return the name that equals `name`, or else the only name that begins with `name`.

    Raises:
        FleetError: FC6041, there is none, or several begin so.
    """
    begin = [choice for choice in names if choice.lower().startswith(name)]
    exact = [choice for choice in begin if choice.lower() == name]
    if len(exact or begin) == 1:
        return (exact or begin)[0]
    several = f"`{name}` may be {' or '.join(f'`{choice}`' for choice in begin[:4])}."
    declared = f"Declared: {', '.join(sorted(names)[:8])}." if names else ""
    detail = several if begin else f"No {kind} is called `{name}`."
    hint = did_you_mean(name, sorted(names)) or declared
    raise FleetError.of("FC6041", "What-if names nothing in the fleet", detail, hint=hint)


def impossible(detail: str, hint: str) -> FleetError:
    """Return the error for a change that is understood and cannot be made."""
    return FleetError.of("FC6042", "What-if cannot be tried", detail, hint=hint)
