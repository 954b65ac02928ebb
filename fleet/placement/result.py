"""Result: from the board to the placement that the rest of planning reads."""

from collections import defaultdict

from fleet.names import adapter_address
from fleet.placement.bins import Bin
from fleet.placement.bound import lower_bound
from fleet.placement.consolidate import cost
from fleet.placement.figures import device_use, is_tight, load_warnings, slot_warnings
from fleet.placement.flags import server_of
from fleet.placement.outcome import Placement, Status
from fleet.placement.search import Board
from fleet.resources import Server


def result(board: Board) -> Placement:
    """Return what a search has decided."""
    servers = _servers(board)
    listed: dict[str, set[str]] = defaultdict(set)
    for adapter, names in board.wanted.loaded.items():
        for each in names:
            listed[each].add(adapter)
    uses = tuple(
        device_use(
            board.bins[each], frozenset(listed[each]), _foreign(board, board.bins[each]),
            board.hardware,
        )
        for each in servers
    )  # fmt: skip
    price, bound = round(cost(board), 6), lower_bound(board)
    status: Status = "optimal" if price <= bound + 1e-6 else "feasible"
    return Placement(
        servers=servers,
        bindings={name: tuple(sorted(board.bound[name])) for name in board.items},
        why=dict(sorted(board.why.items())),
        server_why=dict(sorted(board.opened.items())),
        capacity=uses,
        tight=frozenset(
            each for each in servers if is_tight(board.bins[each], frozenset(listed[each]))
        ),
        unplaced=dict(sorted(board.unplaced.items())),
        warnings=(*slot_warnings(uses), *load_warnings(board), *board.notes),
        forced=dict(sorted(board.forced.items())),
        optional=dict(sorted(board.optional.items())),
        price=price,
        bound=min(bound, price),
        status=status,
    )


def _servers(board: Board) -> dict[str, Server]:
    servers: dict[str, Server] = {}
    for name, bin_ in sorted(board.bins.items()):
        if bin_.residents or not bin_.devices:
            servers[name] = server_of(bin_)
            if bin_.live is not None and bin_.changed and not bin_.fixed:
                board.opened[name] = bin_.changed
        elif _foreign(board, bin_) and bin_.live is not None:
            servers[name] = bin_.live
    return servers


def _foreign(board: Board, bin_: Bin) -> frozenset[str]:
    """Return what a server lists that is neither ours nor wanted."""
    names = bin_.names - bin_.residents.keys()
    ours = board.wanted.owned
    return frozenset(each for each in names if adapter_address(each, bin_.name) not in ours)
