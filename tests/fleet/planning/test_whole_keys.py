"""A canary of keys: where they are few, the plan says what comes of a share of them."""

import pytest

from fleet.planning.notes import coarse_shares
from fleet.rollouts.decide import decide_rollouts
from fleet.spec import ClientKey
from fleet.traffic import Sticky
from tests.fleet.planning.builders import NOON, adapter, fleet, history, route, state

OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"


def warned(sticky: Sticky, keys: int) -> str:
    """Return the warning of a plan that gives a new version its first 10 percent."""
    acme = tuple(ClientKey(f"k{n}", f"env:K{n}", "f" * 12) for n in range(keys))
    what = fleet(adapter(NEW, sticky=sticky), known=[OLD], keys={"acme": acme})
    live = state(route("acme-support", (OLD, 100, "s")))
    return "".join(map(str, coarse_shares(what, decide_rollouts(what, live, history(), NOON))))


@pytest.mark.parametrize(
    ("sticky", "keys", "said"),
    [
        (Sticky.KEY, 1, "1 key: with a chance of 90 % none of them are answered by 2.2.0, which"),
        (Sticky.KEY, 4, "`acme` has 4 keys: with a chance of 66 %"),
        (Sticky.KEY, 49, "`acme` has 49 keys: with a chance of 1 %"),
        (Sticky.KEY, 50, ""),
        (Sticky.SESSION, 1, ""),
    ],
)  # fmt: skip
def test_few_keys_that_are_kept_whole_are_a_warning(sticky: Sticky, keys: int, said: str) -> None:
    found = warned(sticky, keys)
    assert (said in found, bool(found)) == (True, bool(said))
