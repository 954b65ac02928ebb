"""Compare the live state with the desired state, by keyed equality."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from operator import attrgetter
from typing import Any

from fleet.names import version_of
from fleet.plan import Action, Change, Reason
from fleet.resources import Key, LoadedAdapter, Resource, Route, Server, Share, State
from fleet.response_format import ResponseFormat
from fleet.traffic import CapturePolicy, LimitPolicy, ShadowPolicy, TimeoutPolicy, TrafficPolicy


def diff(desired: State, live: State) -> tuple[Change, ...]:
    """Return the changes from the live to the desired state, sorted by address.

    Pure and total; `diff(state, state)` is empty. Resources unknown in `live` are left alone.
    An adapter that leaves a server and appears on another is a single move. The reasons are those
    that the two states alone can tell; `fleet.planning.reasons` knows more.
    """
    return tuple(sorted(_paired(_changes(desired, live)), key=attrgetter("address")))


def _changes(desired: State, live: State) -> Iterator[Change]:
    for address in {*desired.resources, *live.resources}:
        if not live.knows(address):
            continue
        before, after = live.resources.get(address), desired.resources.get(address)
        if before is None:
            policy = after.policy if isinstance(after, Route) else None
            details = tuple(differences(None, policy))
            yield Change(address, Action.CREATE, None, after, Reason.DECLARED, details=details)
        elif after is None:
            yield Change(address, Action.DELETE, before, None, Reason.REMOVED)
        elif before != after:
            action, reason = _DIFFERING[type(before)]
            details = tuple(_details(before, after))
            yield Change(address, action, before, after, reason, details=details)


_DIFFERING: Mapping[type[Resource], tuple[Action, Reason]] = {
    Server: (Action.REPLACE, Reason.FLAGS_CHANGED),
    LoadedAdapter: (Action.UPDATE, Reason.WRONG_SOURCE),
    Route: (Action.UPDATE, Reason.DECLARED),
    Key: (Action.UPDATE, Reason.ROTATED),
}


def _paired(changes: Iterable[Change]) -> Iterator[Change]:
    """Turn a delete here and a create there of the same adapter into a move."""
    deleted_by_version: dict[str, list[Change]] = defaultdict(list)
    unpaired: list[Change] = []
    for change in sorted(changes, key=attrgetter("address")):
        if change.action is Action.DELETE and isinstance(change.before, LoadedAdapter):
            deleted_by_version[change.before.adapter].append(change)
        else:
            unpaired.append(change)
    for change in unpaired:
        after, creates = change.after, change.action is Action.CREATE
        if creates and isinstance(after, LoadedAdapter) and deleted_by_version[after.adapter]:
            before = deleted_by_version[after.adapter].pop(0).before
            yield replace(change, action=Action.MOVE, before=before, reason=Reason.REPLICA_MOVED)
        else:
            yield change
    for left_over in deleted_by_version.values():
        yield from left_over


def _details(before: Resource, after: Resource) -> Iterator[tuple[str, str, str]]:
    """Yield the fields that differ between two resources of the same kind: name, before, after."""
    match before, after:
        case Server(), Server():
            yield from _server_details(before, after)
        case LoadedAdapter(), LoadedAdapter():
            path = before.path or "another path"
            if before.digest != after.digest:
                yield "digest", before.digest or path, after.digest or "another path"
            if before.unsure:
                yield "bytes", f"perhaps those of a damaged copy, {path}", "those of the digest"
        case Route(), Route():
            yield from _route_details(before, after)
        case Key(), Key():
            if before.reference != after.reference:
                yield "reference", before.reference, after.reference
            if before.fingerprint != after.fingerprint:
                unread = "not readable here"
                yield "fingerprint", before.fingerprint or unread, after.fingerprint or unread
        case _:
            yield "kind", type(before).__name__, type(after).__name__


def _server_details(before: Server, after: Server) -> Iterator[tuple[str, str, str]]:
    from deepdiff import DeepDiff  # noqa: PLC0415 (0.2 s, and servers seldom change)

    old, new = _plain(before), _plain(after)
    difference = DeepDiff(old, new, view="tree", ignore_type_in_groups=[(tuple, list)])
    lines = {
        ".".join(map(str, field.path(output_format="list"))): (field.t1, field.t2)
        for group in difference.values()
        for field in group
    }
    for name, (was, is_) in sorted(lines.items()):
        yield name, _as_text(was), _as_text(is_)


def _plain(server: Server) -> dict[str, object]:
    """Return the flags where known, else the digest that stands for them."""
    fields = {"base": server.base, "host": server.host, "port": server.port}
    fields["devices"] = ", ".join(server.devices)
    fields["supervisor"] = server.supervisor or "usual"
    if server.flags is None:
        return {**fields, "digest": server.digest}
    flags = asdict(server.flags)
    return {**fields, **flags, "extra": dict(server.flags.extra)}


def _as_text(value: object) -> str:
    return "none" if value is None or type(value).__name__ == "NotPresent" else str(value)


def _route_details(before: Route, after: Route) -> Iterator[tuple[str, str, str]]:
    was = {share.adapter: share for share in before.shares}
    will = {share.adapter: share for share in after.shares}
    for adapter in dict.fromkeys((*will, *was)):
        old, new = was.get(adapter), will.get(adapter)
        name = version_of(adapter)
        if old is None or new is None or old.percent != new.percent:
            yield name, _percent(old), _percent(new)
        if old is not None and new is not None and old.servers != new.servers:
            yield f"{name} on", ", ".join(old.servers), ", ".join(new.servers)
    if before.salt != after.salt:
        yield "salt", before.salt, after.salt
    yield from differences(before.policy, after.policy)


def _percent(share: Share | None) -> str:
    return "none" if share is None else f"{share.percent} %"


def differences(
    before: TrafficPolicy | None, after: TrafficPolicy | None
) -> Iterator[tuple[str, str, str]]:
    """Yield the fields that differ between two policies: name, before, after."""
    was, will = _lines(before or TrafficPolicy()), _lines(after or TrafficPolicy())
    for name in dict.fromkeys((*will, *was)):
        if was.get(name) != will.get(name):
            yield name, was.get(name, "none"), will.get(name, "none")


def _lines(policy: TrafficPolicy) -> dict[str, str]:
    """Return the fields that differ from the default, in words, by their names in declarations."""
    lines: dict[str, str] = {}
    for field in fields(TrafficPolicy):
        value = getattr(policy, field.name)
        if value == field.default:
            continue
        match value:
            case LimitPolicy() | TimeoutPolicy():
                section = _NAMES.get(field.name, field.name)
                for limit in fields(value):
                    if (amount := getattr(value, limit.name)) != limit.default:
                        lines[f"{section}.{_name(limit.name)}"] = _text(limit.name, amount)
            case ShadowPolicy():
                lines["shadow"] = (
                    f"{value.percent} % to {value.adapter} on {', '.join(value.servers)}, "
                    f"{value.concurrency} at a time"
                )
            case CapturePolicy():
                lines["capture"] = f"{value.percent} % of the text, kept {value.keep_days} days"
            case ResponseFormat():
                lines["format"] = value.shown
            case _:
                lines[_name(field.name)] = _text(field.name, value)
    return lines


_NAMES = {"client_limits": "client's limits"}


def _name(field_name: str) -> str:
    return field_name.removesuffix("_s").replace("server_in_flight", "max_in_flight")


def _text(field_name: str, value: Any) -> str:
    return f"{value:g} s" if field_name.endswith("_s") else str(value)
