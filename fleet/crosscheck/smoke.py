"""Smoke tests: enough known inputs, each of them once."""

from collections.abc import Iterator

from fleet.crosscheck.references import Path
from fleet.declarations import Adapter
from fleet.problems import Finding

FEWEST, MOST = 5, 10
"""Inputs of a smoke test. 8 that all must pass catch a version that breaks 30 % of its answers
with 94 %; more prove little more, and the test must be over in seconds.
"""


def check_smoke(at: Path, adapter: Adapter) -> Iterator[Finding]:
    """Yield what is wrong with an adapter's smoke test; that there is none is for `hints`."""
    inputs = adapter.smoke
    for position, text in enumerate(inputs):
        if text in inputs[:position]:
            detail = f"It is asked already: input {inputs.index(text) + 1} of {len(inputs)}."
            yield Finding("FC1231", (*at, "smoke", position), detail, hint="Ask something else.")
    if 0 < len({*inputs}) < FEWEST:
        number = "1 input" if len({*inputs}) == 1 else f"{len({*inputs})} inputs"
        detail = f"{number} cannot show that a version is sane before it gets traffic."
        hint = (
            f"Give {FEWEST} to {MOST} known ones, at least one of which the base answers "
            "differently: `smoke: [..., ...]`."
        )
        yield Finding("FC1231", (*at, "smoke"), detail, hint=hint)
