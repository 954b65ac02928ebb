"""Word the small sections of a plan: capacity, settings, costs, limits of other gateways.

Capacity: the parts of a server's memory, the busiest hour, and the versions that move.
Gateway limits: parts of the declarations that Envoy or LiteLLM cannot keep.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final

from fleet.names import server_address
from fleet.plan import (
    CostChange,
    DeviceUse,
    GatewayLimit,
    GatewayLimits,
    GatewayTarget,
    Plan,
    SettingChange,
)
from fleet.resources import LoadedAdapter, Server
from plans.render.detail_levels import capacity_rows
from plans.tables import and_more, counted, listed, percent, size

GATEWAY_NAMES: Final = {
    GatewayTarget.ENVOY: "Envoy",
    GatewayTarget.LITELLM: "LiteLLM",
    GatewayTarget.GATEWAY_API: "the Gateway API of Kubernetes",
}

_SILENT_ALIASES: Final = 3
"""Upper bound of aliases without demand that a line names; JSON has all."""
_SETTINGS: Final = 12
"""Upper bound of settings that are listed where no command acts on them; the plan file has all."""
_COSTS: Final = 12
"""Upper bound of clients whose cost is listed; the plan file has all."""
_LOST: Final = 3
"""Upper bound of aliases that the line on a loss names; the plan file has all."""
_MOVES: Final = 10
"""Upper bound of moves that are listed, forced or not; the plan file has all."""
_LIMITED_ALIASES: Final = 6
"""Upper bound of aliases that a line of a gateway limit names; the plan file has all."""


def undeclared_demand(plan: Plan) -> str:
    """Return which aliases declare no demand; empty where every alias does."""
    silent = plan.without_demand
    if not silent:
        return ""
    single = len(silent) == 1
    declare, are = ("declares", "is") if single else ("declare", "are")
    return f"{listed(silent, _SILENT_ALIASES)} {declare} no demand and {are} placed as if idle"


def busiest_hour(use: DeviceUse) -> str:
    """Return the share of a server's throughput that its busiest hour asks for."""
    if not use.load:
        return "unknown"
    top = max(use.load)
    return f"{percent(top)} at {use.load.index(top):02}:00 UTC" if top else "idle"


def settings_heading(plan: Plan) -> str:
    """Return the number of settings that differ from the last apply; empty for none."""
    if not plan.settings:
        return ""
    acting = sum(setting.acts for setting in plan.settings)
    which = f"; {acting} of them (!) name what commands run, contact or read" if acting else ""
    return f"Settings that differ from the last apply: {len(plan.settings)}{which}"


def settings_lines(plan: Plan, *, every: bool) -> Iterator[str]:
    """Yield the settings that differ: all renames, all that act, and the others while few."""
    yield from (renamed_line(setting) for setting in plan.settings if is_rename(setting))
    yield from (f"! {setting_line(setting)}" for setting in plan.settings if setting.acts)
    rest = [setting for setting in plan.settings if not setting.acts and not is_rename(setting)]
    if every or len(rest) <= _SETTINGS:
        yield from (f"~ {setting_line(setting)}" for setting in rest)
        return
    counts = Counter(setting.path.partition(".")[0] for setting in rest)
    yield f"~ {', '.join(f'{counts[section]} in {section}' for section in sorted(counts))}"


_RENAMED: Final = {"bases": "base", "clients": "client", "hosts": "host"}


def is_rename(setting: SettingChange) -> bool:
    """Say whether a setting is the name in the files of a base, a host or a client."""
    section, *rest = setting.path.split(".")
    return rest[1:] == ["called"] and section in _RENAMED and setting.after is not None


def renamed_line(setting: SettingChange) -> str:
    """Return a rename as a line."""
    section, first, _ = setting.path.split(".")
    what = f"{_RENAMED[section]} `{first}` is now called `{setting.after}`"
    return f"~ renamed, nothing moves: {what}"


def setting_line(setting: SettingChange) -> str:
    """Return a setting with its values before and after."""
    if setting.before is None:
        return f"{setting.path}: {setting.after} (new)"
    after = "(gone)" if setting.after is None else f"-> {setting.after}"
    return f"{setting.path}: {setting.before} {after}"


def client_costs(plan: Plan) -> Iterator[str]:
    """Yield the clients whose cost changes: those that cross 40 % of the fee come first."""
    if not plan.client_costs:
        return
    changes = sorted(plan.client_costs, key=lambda change: not change.crosses)
    yield f"Clients' cost a month in {changes[0].currency}, by declared demand:"
    yield from (f"  {_client_cost(change)}" for change in changes[:_COSTS])
    if rest := and_more(changes, _COSTS):
        yield f"  {rest}"


def _client_cost(change: CostChange) -> str:
    text = f"{change.client}: {change.before:,.2f} -> {change.after:,.2f}"
    if change.fee:
        text += f", {percent(change.after / change.fee, 1)} of the fee"
    if change.crosses:
        text += ": rises above 40 %" if change.over else ": falls below 40 %"
    return text


CAPACITY_TITLES: Final = ("Slots before", "during", "after", "of", "Busiest hour", "Memory")


def capacity_cells(use: DeviceUse) -> tuple[str, ...]:
    """Return the cells of a server under `CAPACITY_TITLES`."""
    slots = (use.slots_before, use.slots_during, use.slots_after, use.slots)
    return (*map(str, slots), busiest_hour(use), memory(use))


def boxes(plan: Plan) -> list[tuple[str, str, int | None, int | None, int]]:
    """Return place, server, taken slots before and after, and all slots of servers that change.

    None: no server is there.
    """
    gone = {change.address: change.before for change in plan.changes if change.after is None}
    new = {change.address for change in plan.changes if change.before is None}
    found: list[tuple[str, str, int | None, int | None, int]] = [
        (
            ", ".join(f"{use.host}/{device}" for device in use.devices),
            use.server,
            None if server_address(use.server) in new else use.slots_before,
            use.slots_after,
            use.slots,
        )
        for use in capacity_rows(plan)
    ]
    for server in gone.values():
        if isinstance(server, Server):
            held = sum(
                isinstance(change.before, LoadedAdapter) and change.before.server == server.name
                for change in plan.changes
            )
            place = ", ".join(f"{server.host}/{device}" for device in server.devices)
            slots = server.flags.max_loras if server.flags else held
            found.append((place, server.name, held, None, slots))
    return sorted(found, key=itemgetter(0, 1))


def moves(plan: Plan) -> Iterator[str]:
    """Yield the versions that leave a server for another, and why."""
    for forced, title in ((True, "Must move"), (False, "Moves to save")):
        found = [move for move in plan.moves if move.forced is forced]
        if found:
            yield f"{title}: {counted(len(found), 'adapter')}."
            yield from (f"  {move.adapter}: {move.why}" for move in found[:_MOVES])
            if rest := and_more(found, _MOVES):
                yield f"  {rest}"


def saving(plan: Plan) -> Iterator[str]:
    """Yield the saving that the plan leaves out, with the command to plan the moves."""
    if plan.saving is not None:
        yield (
            f"Up to {counted(plan.saving.moves, 'move')} would save {plan.saving.per_hour:.2f} per "
            f"hour: fleetctl plan --max-moves {plan.saving.moves}"
        )


def loss(plan: Plan) -> Iterator[str]:
    """Yield whether every promise is kept after the loss of any single device."""
    found = plan.loss
    if found is None:
        return
    consequences = [
        f"{listed(aliases, _LOST)} would {then}"
        for aliases, then in (
            (found.unserved, "have no server"),
            (found.fewer, "have fewer replicas"),
            (found.late, "answer late"),
        )
        if aliases
    ]
    text = "; ".join(consequences) or "other servers have too little room"
    match found.kept:
        case True:
            answer = "yes"
        case False:
            answer = f"no, without {found.place} {text}: fleetctl diagnose --loss gpu"
        case None:
            answer = "not known without a search: fleetctl diagnose --loss gpu"
    yield f"Survives the loss of any one device: {answer}"


def memory(use: DeviceUse) -> str:
    """Return the parts of a server's memory, such as weights and KV cache, and the total."""
    parts = {
        "weights": use.weights_bytes,
        "slots": use.slot_bytes,
        "KV": use.kv_bytes,
        "reserve": use.reserve_bytes,
    }
    known = [f"{name} {size(amount)}" for name, amount in parts.items() if amount is not None]
    basis = use.memory_basis or use.basis
    if not known:
        return f"unknown ({basis})" if basis else "unknown"
    total = f" of {size(use.total_bytes)}" if use.total_bytes is not None else ""
    return " + ".join(known) + total + (f" ({basis})" if basis else "")


def limits_heading(limits: GatewayLimits) -> str:
    """Return the heading over the limits of a gateway program: name and gateways."""
    gateways = f"gateway {listed(limits.gateways)}" if limits.gateways else "which is compiled for"
    return f"Lost in translation to {GATEWAY_NAMES[limits.target]}, {gateways}"


def limits_lines(limits: GatewayLimits) -> list[str]:
    """Return the limits of a gateway program, a short line for every limit."""
    return [_limit_line(limit) for limit in limits.lost]


def limits_sentences(limits: Iterable[GatewayLimit]) -> Iterator[str]:
    """Yield limits as sentences with their details, for `fleetctl compile`."""
    for limit in limits:
        text = _limit_line(limit)
        yield f"{text[0].upper()}{text[1:]}.{f' {limit.detail}' if limit.detail else ''}"


def _limit_line(limit: GatewayLimit) -> str:
    return (
        f"{limit.what}: {listed(limit.aliases, _LIMITED_ALIASES)}" if limit.aliases else limit.what
    )
