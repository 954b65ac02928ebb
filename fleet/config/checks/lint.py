"""Warns of well-formed declarations that do not have the effect that their author expects.

For `fleetctl validate` alone. A plan says the same of the versions that the plan is about.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from fleet.config.checks.clients import FEWEST, MOST
from fleet.config.checks.references import DeclaredAdapter, adapters_of
from fleet.config.files.merge import Path
from fleet.config.files.validate import Problem
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.rollouts import Gate
from fleet.policies import OFFLINE, REPLAY, RISES

_READ_ALONG = {"format_drop": "the form", "truncation_rise": "the end"}
"""Properties of answers that only fleetctl's own gateway writes down, by metric."""
LISTED = 20
"""Upper bound of the aliases without a gate that a warning names."""


def lint(given: Declarations) -> Iterator[Problem]:
    """Yield warnings; several of the same kind become one, at the first place."""
    adapters = [*adapters_of(given)]
    yield from _smoke(adapters)
    by_rollout: dict[str, list[DeclaredAdapter]] = defaultdict(list)
    for adapter in adapters:
        by_rollout[adapter.declared.rollout or given.defaults.rollout].append(adapter)
    by_gate: dict[str, list[DeclaredAdapter]] = defaultdict(list)
    for name, users in by_rollout.items():
        gates = given.rollouts[name].gates if name in given.rollouts else ()
        if not gates:
            yield _unjudged(given, name, users)
        for gate_name in gates:
            by_gate[gate_name] += users
    for name, gate in given.gates.items():
        if not any(name in rollout.gates for rollout in given.rollouts.values()):
            detail = f"No rollout asks `{name}`, so it stops no version."
            hint = f"Add it to the `gates` of a rollout: `gates: [{name}]`."
            yield Problem(
                "FC1248", ("gates", name), detail, hint=hint, at="key", severity="warning"
            )
        elif by_gate[name]:
            yield from _blind(given, name, gate, by_gate[name])


def _smoke(adapters: Sequence[DeclaredAdapter]) -> Iterator[Problem]:
    none = [adapter for adapter in adapters if not adapter.declared.smoke]
    if none:
        detail = (
            f"Versions of {_named(none)} get traffic, also after a rollback, without known inputs "
            "asked of them: the built-in prompt shows only that they answer."
        )
        hint = (
            f"Add `smoke: [..., ...]` with {FEWEST} to {MOST} known inputs, at least one of which "
            "the base answers differently."
        )
        yield Problem("FC1232", none[0].path, detail, hint=hint, at="key", severity="warning")
    for adapter in adapters:
        inputs, path = len(adapter.declared.smoke), (*adapter.path, "smoke", MOST)
        if inputs > MOST:
            detail = f"`{adapter.alias}` has {inputs} inputs, of which the first {MOST} are asked."
            hint = "Put the ones that tell most first, and delete the others."
            yield Problem("FC1233", path, detail, hint=hint, severity="warning")


def _unjudged(given: Declarations, name: str, users: Sequence[DeclaredAdapter]) -> Problem:
    asks = f"`gates: [{', '.join([*given.gates][:4]) or 'errors'}]`"
    at, hint = users[0].path, f"Declare `rollouts: {{{name}: {{{asks[1:-1]}}}}}`"
    if name in given.rollouts:
        at, hint = ("rollouts", name), f"Add {asks} to it"
    if not given.gates:
        hint += ", and `gates: {errors: {metric: error_rate_rise, max: 2pp}}`"
    aliases = sorted(user.alias for user in users)
    named = ", ".join(f"`{alias}`" for alias in aliases[:LISTED])
    if len(aliases) > LISTED:
        named += f" and {len(aliases) - LISTED} more"
    detail = (
        f"Nothing judges new versions of {named}, which take over by time alone: `{name}` asks no "
        "gate."
    )
    return Problem("FC1246", at, detail, hint=f"{hint}.", at="key", severity="warning")


def _blind(
    given: Declarations, name: str, gate: Gate, users: Sequence[DeclaredAdapter]
) -> Iterator[Problem]:
    """Yield why a gate can pass no version, of any adapter or of some."""
    at: Path = ("gates", name)
    only_own = _READ_ALONG.get(gate.metric)
    if gate.metric == REPLAY:
        why, lack = "asks captured requests again, and nothing is captured", "capture"
        hint = 'Add `capture: {consent: "WHO, WHEN"}` to the client that agreed, or `golden:`.'
    elif gate.metric in OFFLINE:
        why, lack = "is judged on a golden set, of which there is none", "golden"
        hint = "Add `golden: golden/FILE.jsonl` to the adapter, or to the gate."
    elif not given.gateways:
        why, lack = "is judged on the requests that gateways write down, and none is declared", ""
        hint = 'Add `gateways: {main: {listen: "127.0.0.1:8080"}}`.'
    elif only_own and all(gateway.kind == "envoy" for gateway in given.gateways.values()):
        why, lack = f"needs to know {only_own} of answers, which no Envoy writes down", ""
        hint = "Declare a gateway of fleetctl's own, or leave the gate out."
    elif gate.metric == "format_drop":
        why, lack = "counts answers without the declared form, of which there is none", "format"
        hint = "Add such as `format: json` to the adapter."
    elif gate.metric in RISES:
        why, lack = "compares two versions, and all requests of one key go to one of them", "keys"
        hint = "Write such as `sticky: session`, or give the client a second key."
    else:
        return
    blind = [user for user in users if not lack or _lacks(given, user, lack)]
    if not blind or (gate.metric in OFFLINE and gate.golden is not None):
        return
    detail = f"`{name}` {why}; no version of {_named(blind)} can pass it."
    where, also = (blind[0].path, (("asked by", at),)) if lack else (at, ())
    yield Problem("FC1247", where, detail, hint=hint, at="key", also=also, severity="warning")


def _lacks(given: Declarations, user: DeclaredAdapter, lack: str) -> bool:
    """Say whether an adapter lacks a golden set, a format, captured text or something to split."""
    if lack == "capture":
        return given.clients[user.client].capture is None
    if lack == "keys":
        return user.declared.sticky == "key" and len(given.clients[user.client].keys) < 2  # noqa: PLR2004 (one for each version)
    return getattr(user.declared, lack) is None


def _named(users: Sequence[DeclaredAdapter]) -> str:
    first, more = f"`{users[0].alias}`", len(users) - 1
    return f"{first} and {more} more" if more else first
