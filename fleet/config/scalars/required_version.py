"""Checks `required_version` of `fleet.yaml`: which releases of fleetctl may read a fleet. Pure."""

import re

KEY = "required_version"
PATTERN = r"(==|!=|<=|>=|~=|<|>)\s*([0-9]+(?:\.[0-9]+){0,3})"
"""A condition of a requirement: an operator, and a version of numbers alone."""

_CONDITION = re.compile(PATTERN)
_VERSION = re.compile(r"v?([0-9]+(?:\.[0-9]+)*)[._-]?((?:a|b|rc|c|alpha|beta|pre|dev)[0-9.]*)?")


def conditions(requirement: str) -> list[tuple[str, tuple[int, ...]]]:
    """Return operators and versions of a requirement such as `>=0.1,<2`.

    Raises:
        ValueError: the requirement is malformed; the text names the part.
    """
    found = []
    for part in requirement.split(","):
        match = _CONDITION.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"`{part.strip()[:40]}` is not an operator and a version")
        release = tuple(int(number) for number in match[2].split("."))
        if match[1] == "~=" and len(release) == 1:
            raise ValueError(f"`{part.strip()}` needs a version of two numbers or more")
        found.append((match[1], release))
    return found


def allows(requirement: str, running: str) -> bool:
    """Say whether a release keeps every condition of a requirement.

    Numbers that are not written are 0. A release before a final release, such as `2.0rc1`, counts
    as earlier than 2.0, and the condition `<2` refuses it.

    Raises:
        ValueError: the requirement or the version is malformed.

    Source:
        PEP 440, version specifiers; wildcards, epochs and local versions are left out.
    """
    match = _VERSION.match(running)
    if match is None:
        raise ValueError(f"`{running[:40]}` is not a version")
    release, final = tuple(int(number) for number in match[1].split(".")), match[2] is None
    return all(_keeps(*condition, release, final=final) for condition in conditions(requirement))


def refusal(requirement: object, running: str) -> str:
    """Return why a release must not read a fleet; empty: the release may.

    `requirement` is as declared; None: any release may. A malformed requirement is reported with
    the other values, not here.
    """
    try:
        if not isinstance(requirement, str) or allows(requirement, running):
            return ""
    except ValueError:
        return ""
    return (
        f"This is fleetctl {running}, and the fleet requires `{requirement}`. The declarations "
        "were read no further."
    )


def _keeps(operator: str, bound: tuple[int, ...], release: tuple[int, ...], *, final: bool) -> bool:
    kept = len(bound) - 1  # numbers of `~=` that stay
    width = max(len(bound), len(release))
    bound, here = ((*numbers, *[0] * (width - len(numbers))) for numbers in (bound, release))
    same, at_least = here == bound and final, (here, final) >= (bound, True)
    return {
        "==": same,
        "!=": not same,
        ">=": at_least,
        "<=": here <= bound,
        ">": here > bound,
        "<": here < bound,
        "~=": at_least and here[:kept] == bound[:kept],
    }[operator]
