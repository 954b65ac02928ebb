"""Word the consequences of a plan beyond its steps, a line for aliases with the same ones."""

from collections import defaultdict
from collections.abc import Container, Iterator

from fleet.names import base_of, server_address, version_of
from fleet.plan import Chances, Change, Plan, Prospect, RolloutAhead, SettingChange
from fleet.resources import Key
from plans.render.detail_levels import FEW
from plans.tables import counted, duration, listed, size
from plans.wording import client_of

TITLE = "What follows"
_ALIKE = 3
"""Upper bound of the aliases that a line names; the plan file has all."""


def prospect_lines(plan: Plan) -> list[str]:
    """Return the consequences as lines: rollouts first, then restarts, terms and keys."""
    changed = {change.address for change in plan.changes}
    groups: dict[str, list[str]] = defaultdict(list)
    ranked = sorted(plan.prospects, key=lambda told: (not told.rollout, not told.servers))
    for told in ranked:
        for text in _texts(told, changed):
            groups[text].append(told.alias)
    for change in plan.changes:
        if text := _key_text(change):
            groups[text].append(client_of(change))
    lines = [f"{listed(aliases, _ALIKE)}{text}" for text, aliases in groups.items()]
    return lines if len(lines) <= FEW else [*lines[: FEW - 1], _rest(plan, len(lines) - FEW + 1)]


def outlook(plan: Plan) -> list[str]:
    """Return the likely ends of the rollouts whose chances stand nowhere else in the plan."""
    told = {told.alias for told in plan.prospects if told.rollout and told.rollout.chances}
    return [str(note) for note in plan.outlook if note.subject not in told]


def rollouts_begun(plan: Plan) -> list[str]:
    """Return the rollouts that a plan begins, such as `acme-support 2.2.0`."""
    return [
        f"{told.alias} {version_of(told.rollout.version)}"
        for told in plan.prospects
        if told.rollout and told.rollout.begins
    ]


def _rest(plan: Plan, number: int) -> str:
    whole = f"of {len(plan.prospects)} aliases in all"
    return f"and {counted(number, 'line')} more, {whole}: fleetctl plan --format json"


def axes(plan: Plan) -> list[tuple[str, list[tuple[int, str]]]]:
    """Return the stages of every rollout ahead, for a drawing; of `FEW` rollouts at most."""
    found = [(told.alias, told.rollout) for told in plan.prospects if told.rollout]
    return [(f"{alias} {_versions(ahead)}", stages(ahead)) for alias, ahead in found[:FEW]]


def _texts(told: Prospect, changed: Container[str]) -> Iterator[str]:
    if told.rollout:
        yield f" {rollout_text(told.rollout)}"
    if told.servers:
        restarts = any(server_address(name) in changed for name in told.servers)
        how = (
            "restarts, and another server answers meanwhile"
            if restarts and len(told.servers) == 1
            else "restart in turn, and the others answer meanwhile"
            if restarts
            else "gives way to a server with the new settings, see Upgrades"
        )
        yield f": {listed(told.servers, _ALIKE)} {how}"
    cards = [setting for setting in told.settings if "/" in setting.path]
    if terms := [setting for setting in told.settings if setting not in cards]:
        yield f": {', '.join(map(_term, terms))}"
    if cards:
        yield (
            f": {', '.join(map(_term, cards))}; no step of this plan restarts its server, and "
            "answers stop while the card is changed"
        )


def _key_text(change: Change) -> str:
    """Return the consequence of a change of a key for the client's requests; empty: no key."""
    match change.before, change.after:
        case None, Key(name=name):
            return f": new key {name} lets requests in"
        case Key(name=name), None:
            return f": key {name} is withdrawn, and requests with it are refused"
        case Key(name=name), Key(reference=place, fingerprint=None):
            return f": key {name} is read from {place}, which is not readable here"
        case Key(name=name, fingerprint=old), Key(fingerprint=new) if old != new:
            return f": key {name} is rotated, and requests with its old secret are refused"
        case Key(name=name), Key(reference=place):
            return f": key {name} is read from {place}, and its secret stays"
        case _:
            return ""


def _term(setting: SettingChange) -> str:
    """Return a changed term, such as `retrain_every 90d -> 30d`."""
    was, now = (
        "default"
        if value is None
        else size(int(value))
        if setting.path.endswith(" memory") and value.isdigit()
        else value
        for value in (setting.before, setting.after)
    )
    return f"{setting.path} {was} -> {now}"


def rollout_text(ahead: RolloutAhead) -> str:
    """Return versions, shares with their conditions and earliest times, the way back, chances."""
    return "; ".join(
        (
            f"{_versions(ahead)}: {ahead.percent} % now",
            *_stages(ahead),
            *_traffic(ahead),
            *([f"not in {', '.join(ahead.closed)}"] if ahead.closed else []),
            *([f"rollback {duration(ahead.back_out_s)}"] if ahead.back_out_s else []),
            _decided(ahead),
        )
    )


def _versions(ahead: RolloutAhead) -> str:
    new, old = version_of(ahead.version), version_of(ahead.stable) if ahead.stable else ""
    if old and base_of(ahead.version) != base_of(ahead.stable):
        return f"{old} on {base_of(ahead.stable)} -> {new} on {base_of(ahead.version)}"
    return f"{old} -> {new}" if old else new


def stages(ahead: RolloutAhead) -> list[tuple[int, str]]:
    """Return the shares of a rollout in turn, with their earliest times in a few words."""
    later = list(ahead.weights)
    found = [(ahead.percent, "now")]
    if not ahead.percent:
        found.append(
            (later.pop(0), "after its golden set" if ahead.golden else "once it may begin")
        )
    times = (duration(place * ahead.bake_s) for place in range(1, len(later) + 1))
    return found + [(weight, f"after {time}") for weight, time in zip(later, times, strict=True)]


def _stages(ahead: RolloutAhead) -> Iterator[str]:
    later = list(ahead.weights)
    if not ahead.percent:
        first, *later = ahead.weights
        golden = f"after its golden set ({', '.join(ahead.golden)})"
        yield f"{first} % {golden if ahead.golden else 'as soon as it may begin'}"
    if later:
        since = "after this apply" if ahead.percent else "later"
        times = (duration(place * ahead.bake_s) for place in range(1, len(later) + 1))
        shares = ", ".join(f"{weight} %" for weight in later)
        yield f"{shares} at the earliest {', '.join(times)} {since}"


def _traffic(ahead: RolloutAhead) -> Iterator[str]:
    """Yield the requests that gates need at the next share, and by when they are expected."""
    if ahead.needed is None or ahead.needed_s is None:
        return
    share = ahead.percent or ahead.weights[0]
    yield (
        f"gates need about {ahead.needed} requests at {share} %, expected within "
        f"{duration(ahead.needed_s)} (an estimate; people decide after {duration(ahead.longest_s)})"
    )


def _decided(ahead: RolloutAhead) -> str:
    if not ahead.gated:
        return "no gate: time alone decides"
    return _chances(ahead.chances) if ahead.chances else "chances of its gates unknown"


def _chances(chances: Chances) -> str:
    known = f"promoted by itself {chances.promoted:.0%}, waits for a person {chances.held:.0%}"
    wrong = f", failed by mistake {chances.failed:.1%}" if chances.failed else ""
    return f"{known}{wrong} (if no worse)".replace("%", " %")
