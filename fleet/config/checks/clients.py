"""Checks clients and adapters: versions, ranks, renames, demand, keys, smoke tests, formats."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fleet.config.checks import ProjectFacts
from fleet.config.checks.references import (
    DeclaredAdapter,
    DeclaredNames,
    adapters_of,
    check_places,
    check_zone,
    reference,
)
from fleet.config.files.lockfile import Lock
from fleet.config.files.merge import Path
from fleet.config.files.validate import Problem
from fleet.config.schema.clients import Adapter
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.traffic import ClientNotify, Notify
from fleet.names import AdapterName, Version, client_of, is_id
from fleet.response_format import FormatKind, flaw


def check_keys(given: Declarations, fingerprints: Mapping[str, str | None]) -> Iterator[Problem]:
    """Yield keys that share a secret; `fingerprints` are by reference, None: not readable."""
    seen: dict[str, Path] = {}
    for client_name, client in sorted(given.clients.items()):
        for key, secret in sorted(client.keys.items()):
            path = ("clients", client_name, "keys", key)
            other = seen.setdefault(fingerprints.get(secret) or secret, path)
            if other != path:
                detail = (
                    f"`{client_name}/{key}` and `{other[1]}/{other[3]}` have the same secret, so "
                    "a gateway cannot tell who calls."
                )
                hint = (
                    "Name a reference of its own for one of them. If a file was overwritten, put "
                    "its own secret back, or remove the file and make a new one with `fleetctl "
                    "key create CLIENT/KEY`."
                )
                also = (("the other key at", other),)
                yield Problem("FC1213", path, detail, hint=hint, also=also)


FEWEST, MOST = 5, 10
"""Inputs of a smoke test. 8 inputs that all must pass catch a version that breaks 30 % of its
answers with 94 %; more inputs prove little more, and the test must be over in seconds.
"""


def _smoke(at: Path, inputs: Sequence[str]) -> Iterator[Problem]:
    """Check the inputs of a smoke test; a missing smoke test is for `lint`."""
    for position, text in enumerate(inputs):
        if text in inputs[:position]:
            detail = f"It is asked already: input {inputs.index(text) + 1} of {len(inputs)}."
            yield Problem("FC1231", (*at, "smoke", position), detail, hint="Ask something else.")
    if 0 < len({*inputs}) < FEWEST:
        number = "1 input" if len({*inputs}) == 1 else f"{len({*inputs})} inputs"
        detail = f"{number} cannot show that a version is sane before it gets traffic."
        hint = (
            f"Give {FEWEST} to {MOST} known ones, at least one of which the base answers "
            "differently: `smoke: [..., ...]`."
        )
        yield Problem("FC1231", (*at, "smoke"), detail, hint=hint)


def _traffic(at: Path, adapter: Adapter, facts: ProjectFacts) -> Iterator[Problem]:
    wanted = adapter.format
    if wanted is not None and wanted.kind is FormatKind.SCHEMA and wanted.text in facts.schemas:
        text = facts.schemas[wanted.text]
        hint = "Add the file, or correct the path; it is relative to the project."
        problem = "It is not in the project, or is no text."
        if text is not None:
            hint, problem = "Correct the file.", flaw(replace(wanted, text=text))
        if problem:
            yield Problem("FC1229", (*at, "format"), f"`{wanted.text}`: {problem}", hint=hint)
    if adapter.shadow is None:
        return
    _, client, _, task, *_ = at
    shadow = f"{client}-{task}-{adapter.base}-v{adapter.shadow.version}"
    if shadow not in facts.lock.adapters:
        detail = f"`{shadow}` was never added to the library: its bytes are not pinned."
        command = f"fleetctl adapter add PATH --as {shadow}"
        yield Problem("FC1210", (*at, "shadow", "version"), detail, command=command)
    if adapter.shadow.version == adapter.version:
        detail = f"{adapter.version} is the version that answers: its copies would tell nothing."
        hint = "Name another version, or delete `shadow`."
        yield Problem("FC1230", (*at, "shadow", "version"), detail, hint=hint)


def check_clients(
    given: Declarations, names: DeclaredNames, facts: ProjectFacts
) -> Iterator[Problem]:
    """Check clients and adapters."""
    former: dict[str, Path] = {}
    taken: dict[tuple[str, str], Path] = {}
    unlocked: list[AdapterName] = []
    unrecorded: list[DeclaredAdapter] = []
    yield from _receivers(("notify",), given.notify)
    for client_name, client in given.clients.items():
        path = ("clients", client_name, "tier")
        yield from reference("FC1201", "tier", client.tier, names.tiers, path)
        if client.capture:
            yield from _capture((*path[:2], "capture"), given)
        yield from _receivers(("clients", client_name, "notify"), client.notify)
    for adapter in adapters_of(given):
        at, alias, declared = adapter.path, adapter.alias, adapter.declared
        yield from _adapter(at, declared, names, facts)
        yield from _traffic(at, declared, facts)
        yield from _smoke(at, declared.smoke)
        version = Version.parse(declared.version)
        name = AdapterName(adapter.client, str(at[-1]), declared.base, version)
        if str(name) in facts.lock.adapters:
            yield from _rank(given, facts.lock, name)
            yield from _base(facts.lock, name)
        elif name.base in names.bases:
            unlocked.append(name)
        if declared.alias_for:
            yield from _further(adapter, names, taken)
        if declared.formerly:
            yield from _rename((*at, "formerly"), declared.formerly, names.aliases, former)
        if declared.demand and declared.demand.observed and alias not in facts.observed:
            unrecorded.append(adapter)
    yield from _unlocked(unlocked, facts.lock)
    yield from _unrecorded(unrecorded)
    yield from check_places(given, names)


def _receivers(at: Path, notify: Notify | ClientNotify | None) -> Iterator[Problem]:
    operators = notify.alertmanager if isinstance(notify, Notify) else None
    if notify and not (notify.webhook or notify.mail or operators):
        hint = "Add `webhook` or `mail`, or remove `notify`."
        yield Problem("FC1113", at, "It names no receiver of its notices.", hint=hint)


def _capture(at: Path, given: Declarations) -> Iterator[Problem]:
    """Warn where no declared gateway captures text; without any, `gateway start` runs one here."""
    gateways = given.gateways.values()
    if gateways and all(its.kind == "envoy" or "://" in (its.admin or "") for its in gateways):
        detail = "No text is kept: gateways with a URL as `admin` and Envoys capture nothing."
        hint = "Declare a gateway of this machine, without `admin`, or leave `capture` out."
        yield Problem("FC1255", at, detail, hint=hint, at="key", severity="warning")


def _adapter(
    at: Path, adapter: Adapter, names: DeclaredNames, facts: ProjectFacts
) -> Iterator[Problem]:
    yield from reference("FC1202", "base", adapter.base, names.bases, (*at, "base"))
    yield from reference("FC1203", "rollout", adapter.rollout, names.rollouts, (*at, "rollout"))
    yield from reference("FC1205", "host", adapter.pin, names.holders, (*at, "pin"))
    for key, file in (("golden", adapter.golden), ("rolling", adapter.rolling)):
        if file in facts.absent:
            detail = f"`{file}` does not exist in the project."
            hint = "Add the file, or correct the path; versions are compared on it."
            yield Problem("FC1216", (*at, key), detail, hint=hint)
    demand, path = adapter.demand, (*at, "demand")
    if demand is None:
        return
    yield from check_zone(demand.timezone, facts, (*path, "timezone"))
    if demand.peak_rpm is None and not demand.observed and "peak_rpm" not in names.written(*path):
        detail = f"`{'.'.join(map(str, path))}` has no `peak_rpm`."
        hint = "Add `peak_rpm: 30`, requests per minute in the busiest hour, or `observed: true`."
        yield Problem("FC1004", path, detail, hint=hint, at="key")


def _unrecorded(adapters: Sequence[DeclaredAdapter]) -> Iterator[Problem]:
    """Name adapters whose `observed` demand was never recorded; a declared demand holds then."""
    command = "fleetctl demand record"
    waiting = []
    for adapter in adapters:
        if adapter.declared.demand and adapter.declared.demand.peak_rpm is not None:
            waiting.append(adapter)
            continue
        detail = f"No demand of `{adapter.alias}` was recorded, and none is declared in its place."
        hint = "Record it while a gateway runs, or give `peak_rpm` until then."
        path = (*adapter.path, "demand", "observed")
        yield Problem("FC1226", path, detail, hint=hint, command=command)
    if waiting:
        aliases = ", ".join([adapter.alias for adapter in waiting[:3]] + ["…"] * bool(waiting[3:]))
        which = "1 adapter" if len(waiting) == 1 else f"{len(waiting)} adapters"
        detail = f"No demand of {which} was recorded yet; the declared one holds ({aliases})."
        path = (*waiting[0].path, "demand", "observed")
        yield Problem("FC1226", path, detail, command=command, severity="warning")


def _unlocked(names: Sequence[AdapterName], lock: Lock) -> Iterator[Problem]:
    versions: dict[str, list[str]] = {}
    for locked in sorted(map(AdapterName.parse, lock.adapters)):
        versions.setdefault(locked.alias, []).append(str(locked))
    for name in names:
        known = versions.get(name.alias)
        near = f"In the lock: {', '.join(known[-4:])}." if known else ""
        detail = f"`{name}` was never added to the library: its bytes are not pinned."
        path = ("clients", name.client, "adapters", name.task, "version")
        command = f"fleetctl adapter add PATH --as {name}"
        yield Problem("FC1210", path, detail, hint=near, command=command)


def _rank(given: Declarations, lock: Lock, name: AdapterName) -> Iterator[Problem]:
    base = given.bases.get(name.base)
    rank = lock.adapters[str(name)].rank
    if base and base.max_lora_rank and rank > base.max_lora_rank:
        detail = (
            f"`{name}` has rank {rank}, and the servers of base `{name.base}` reserve slots of "
            f"rank {base.max_lora_rank}. A server refuses an adapter above its limit."
        )
        hint = f"Raise `max_lora_rank` of `{name.base}`, which restarts its servers."
        also = (("limited at", ("bases", name.base, "max_lora_rank")),)
        path = ("clients", name.client, "adapters", name.task, "version")
        yield Problem("FC1211", path, detail, hint=hint, also=also)


def _base(lock: Lock, name: AdapterName) -> Iterator[Problem]:
    pinned = lock.adapters[str(name)].base
    if pinned != name.base:
        detail = f"The lock pins `{name}` for base `{pinned}`; its name says `{name.base}`."
        hint = "Restore fleet.lock, or add the version again under the name of its base."
        path = ("clients", name.client, "adapters", name.task, "version")
        yield Problem("FC1263", path, detail, hint=hint)


def _further(
    adapter: DeclaredAdapter, names: DeclaredNames, taken: dict[tuple[str, str], Path]
) -> Iterator[Problem]:
    """Refuse a further name that means another alias of the client already."""
    name, path = adapter.declared.alias_for or "", (*adapter.path, "alias_for")
    first = taken.setdefault((adapter.client, name), path)
    if first != path:
        detail = f"`{name}` is a further name of another adapter of `{adapter.client}`."
        also = (("first given at", first),)
        yield Problem("FC1296", path, detail, hint="Delete one of the two.", also=also)
    elif name != adapter.alias and name in names.aliases and client_of(name) == adapter.client:
        detail = f"`{name}` is the alias of another adapter, and is answered by that one."
        yield Problem("FC1296", path, detail, hint="Delete `alias_for`, or the other adapter.")


def _rename(
    path: Path, alias: str, aliases: Sequence[str], former: dict[str, Path]
) -> Iterator[Problem]:
    parts = alias.split("-")
    first = former.setdefault(alias, path)
    if len(parts) != 2 or not all(map(is_id, parts)):  # noqa: PLR2004 (client and task)
        detail = f"`{alias}` is not an alias."
        yield Problem("FC1212", path, detail, hint="Write `client-task`, such as `acme-helpdesk`.")
    elif alias in aliases:
        detail = f"`{alias}` is still declared, so nothing was renamed."
        yield Problem("FC1212", path, detail, hint="Delete `formerly`, or the old adapter.")
    elif first != path:
        detail = f"Two adapters claim to be the former `{alias}`."
        also = (("first given at", first),)
        yield Problem("FC1212", path, detail, hint="Only one can take over its history.", also=also)
