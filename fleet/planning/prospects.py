"""Find the consequences of a plan that its steps alone do not show, alias by alias.

A rollout that begins goes on by itself; a tier, a rollout or a gate that is declared anew changes
terms without a step; a server that restarts or is upgraded answers for clients whose routes stay.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain

from fleet.names import alias_parts
from fleet.plan import Change, Impact, Prospect, Reason, RolloutAhead, SettingChange
from fleet.planning.desired import PlanInput
from fleet.resources import Route, Server

_ROUTED = frozenset({"limits", "format", "sticky", "choices", "shadow", "capture", "timeouts"})
"""Settings of clients and tiers that a change of a route shows."""
_NAMES = frozenset({"called", "formerly"})
_CARD = frozenset({"kind", "memory"})
"""Settings of a device that tell another card."""
_Terms = Mapping[str, Mapping[str, str]]
"""Settings by their first two parts, such as `tiers.premium`."""


def prospects_of(
    plan_input: PlanInput,
    changes: Collection[Change],
    impacts: Iterable[Impact],
    settings: Iterable[SettingChange],
    rollouts: Mapping[str, RolloutAhead],
) -> tuple[Prospect, ...]:
    """Return the consequences by alias, sorted; aliases without any are left out.

    Args:
        plan_input: The input and the first stages of the plan.
        changes: The changes of the plan.
        impacts: The effects of the steps; their aliases name restarts there.
        settings: The declared values that differ from the last apply.
        rollouts: The stages ahead, by alias, of all rollouts that the plan begins or moves.
    """
    told = {impact.alias for impact in impacts}
    routed = {change.after.alias: change for change in changes if isinstance(change.after, Route)}
    begun = {alias: ahead for alias, ahead in rollouts.items() if alias in routed}
    terms = _changed_terms(plan_input, tuple(settings))
    for alias, change in routed.items():
        if alias not in told and alias not in begun:
            terms[alias] += (SettingChange(*detail) for detail in change.details if _moves(detail))
    servers = _changed_servers(plan_input, changes, told)
    return tuple(
        Prospect(
            alias_parts(alias)[0],
            alias,
            begun.get(alias),
            tuple(terms[alias]),
            servers.get(alias, ()),
        )
        for alias in sorted({*begun, *servers, *(alias for alias in terms if terms[alias])})
    )


def _moves(detail: tuple[str, str, str]) -> bool:
    """Say whether a detail of a route tells that other servers answer."""
    return detail[0].endswith(" on")


def _changed_servers(
    plan_input: PlanInput, changes: Iterable[Change], told: Collection[str]
) -> dict[str, tuple[str, ...]]:
    """Return by alias the servers that answer now and restart, or whose upgrade the plan moves."""
    changed = {change.before.name for change in changes if isinstance(change.before, Server)}
    upgraded = {
        server.base
        for change in changes
        if change.reason is Reason.UPGRADE
        for server in change.resources
        if isinstance(server, Server)
    }
    for upgrade in plan_input.placement.upgrades:
        if upgrade.base in upgraded:
            changed.update(upgrade.old)
    found = {
        alias: tuple(sorted(changed.intersection(chain(*(s.servers for s in route.shares)))))
        for alias, route in plan_input.live.routes().items()
        if alias in plan_input.fleet.adapters and alias not in told
    }
    return {alias: servers for alias, servers in found.items() if servers}


def _changed_terms(
    plan_input: PlanInput, settings: tuple[SettingChange, ...]
) -> dict[str, list[SettingChange]]:
    """Return by alias the terms that differ from the last apply; of aliases that have a route."""
    applied = plan_input.history.settings
    found: dict[str, list[SettingChange]] = defaultdict(list)
    if not settings or not applied:
        return found
    old, new = _sections(applied), _sections(plan_input.fleet.settings)
    cards, servers = [*_cards(settings)], plan_input.live.servers()
    for alias, route in plan_input.live.routes().items():
        if alias not in plan_input.fleet.adapters:
            continue
        was, now = _terms(old, alias), _terms(new, alias)
        found[alias] += (
            SettingChange(name, was.get(name), now.get(name))
            for name in dict.fromkeys((*now, *was))
            if was.get(name) != now.get(name)
        )
        places = {
            f"{server.host}.{device}"
            for share in route.shares
            for server in map(servers.get, share.servers)
            if server is not None
            for device in server.devices
        }
        found[alias] += (change for place, change in cards if place in places)
    return found


def _cards(settings: Iterable[SettingChange]) -> Iterator[tuple[str, SettingChange]]:
    """Yield host and device of every card that changes, with the setting that differs."""
    for setting in settings:
        match setting.path.split("."):
            case ["hosts", host, "devices", device, name] if name in _CARD and setting.after:
                named = f"{host}/{device} {name}"
                yield f"{host}.{device}", SettingChange(named, setting.before, setting.after)
            case _:
                pass


def _sections(settings: Mapping[str, str]) -> _Terms:
    sections: dict[str, dict[str, str]] = defaultdict(dict)
    for path, value in settings.items():
        section, _, rest = path.partition(".")
        name, _, rest = rest.partition(".")
        sections[f"{section}.{name}"][rest] = value
    return sections


def _terms(sections: _Terms, alias: str) -> dict[str, str]:
    """Return the settings that hold for an alias by short names: its own, its tier's, its gates'.

    A setting of the tier that client or adapter declare themselves is left out.
    """
    client, task = alias_parts(alias)
    beyond = f"adapters.{task}."
    mine = sections.get(f"clients.{client}", {})
    adapter = {path.removeprefix(beyond): v for path, v in mine.items() if path.startswith(beyond)}
    own = {path: v for path, v in mine.items() if not path.startswith(("adapters.", "keys."))}
    own |= {path: v for path, v in adapter.items() if path not in ("version", "base")}
    usual = {name: sections.get(f"defaults.{name}", {}).get("") for name in ("tier", "rollout")}
    tier = mine.get("tier") or usual["tier"] or "standard"
    rollout = adapter.get("rollout") or usual["rollout"] or "standard"
    pace = sections.get(f"rollouts.{rollout}", {})
    owned = {path.partition(".")[0] for path in own}
    terms = {"tier": tier} | {
        path: value
        for path, value in sections.get(f"tiers.{tier}", {}).items()
        if path.partition(".")[0] not in owned
    }
    terms |= {"rollout": rollout, **pace, **own}
    for gate in json.loads(pace.get("gates", "[]")):
        terms |= {f"{gate}.{path}": v for path, v in sections.get(f"gates.{gate}", {}).items()}
    hidden = _ROUTED | _NAMES
    return {path: v for path, v in terms.items() if path and path.partition(".")[0] not in hidden}
