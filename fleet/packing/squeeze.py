"""Squeeze large groups: many servers at once are asked to carry the same at a lower price.

How much less a cheaper mix may carry than the servers it replaces grows with each success and
shrinks with each failure: at first whole servers are left out, in the end one type exchanged for
a slightly cheaper one.
"""

import numpy as np

from fleet.packing.exchange import CORE, OVERHEAD, fullness, positions, replaced, seated
from fleet.packing.mixes import bargain
from fleet.packing.problem import Group, Rack
from fleet.packing.tabu import MixedRepair

ITEMS = 1_000
"""About how many items are rearranged at once."""
MOVES = 200
"""Most moves for one mix."""
PATIENCE = 25
"""Moves without progress after which a mix is given up."""
LOSS, LEAST, MOST = 0.04, 0.001, 0.2
"""Share of what the servers carry that a mix may lose: at first, at least, at most."""
GREEDIER, TAMER = 1.6, 0.7
"""What becomes of it after a success, and after a failure."""
EMPTIEST = 0.7
"""How often the emptiest of the drawn servers are exchanged; else any."""


def squeeze(group: Group, rack: Rack, moves: int, seed: int, floor: int) -> Rack:
    """Search until the moves are used up or the price is down to `floor`.

    Args:
        group: What is packed.
        rack: A valid rack to start from.
        moves: Moves of repair in all.
        seed: Start of the chance.
        floor: A lower bound of the price.
    """
    chance = np.random.Generator(np.random.PCG64(seed))
    full = fullness(group, rack)
    loss = LOSS
    while moves > 0 and rack.price(group) > floor:
        moves -= OVERHEAD
        bins = len(rack.gpus)
        core = min(bins, 1 + int(chance.integers(CORE)))
        chosen = chance.permutation(bins)[: max(core, round(ITEMS * bins / len(group.rank)))]
        if chance.random() < EMPTIEST:
            chosen = chosen[np.argsort(-full[chosen], kind="stable")]
        members = np.isin(rack.home, chosen).nonzero()[0]
        part = group.part(members)
        inner = Rack(rack.gpus[chosen], positions(chosen, rack.home[members]))
        mix = bargain(part, inner.gpus, core, loss)
        home = None if mix is None else seated(part, inner, mix)
        if mix is None or home is None:
            continue
        work = MixedRepair(part, mix, home, chance)
        moves -= work.run(min(MOVES, moves), PATIENCE, chance)
        if work.done:
            rack = replaced(group, rack, chosen, members, mix, work.seats)
            full = fullness(group, rack)
            loss = min(MOST, loss * GREEDIER)
        else:
            loss = max(LEAST, loss * TAMER)
    return rack
