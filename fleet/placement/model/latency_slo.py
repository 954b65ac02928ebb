"""Latency: which answers come later than promised, by the law of throughput.

A declared p95 of a tier keeps an adapter off a kind of server that, as measured, misses the p95
even while idle. Late answers warn where the promise is declared or the speed measured.

- An estimated speed keeps no adapter off: an estimate is no measurement.
- The usual p95 of a latency class is an aim and no promise: later answers are counted.
- Under load the planner already fills servers by their deadlines.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf, isfinite

from fleet.capacity import prompt_seconds, speed_of, step_seconds
from fleet.errors import Diagnostic
from fleet.hardware import BaseSpec, Basis, DeviceSpec, Profile
from fleet.names import alias_of
from fleet.placement.model.accounts import AdapterAccount, ServerAccount
from fleet.placement.model.causes import Limit, Obstacle
from fleet.placement.model.items import Item
from fleet.plan import LateAliases
from fleet.spec import AdapterSpec, FleetSpec
from fleet.vllm import rank_bucket

SHOWN = 3
"""Upper bound of the answers that a warning names."""


@dataclass(frozen=True, slots=True)
class LatencyAnswer:
    """Time of an adapter's answers in the slowest hour of those with requests."""

    adapter: str
    server: str
    hour: int
    tokens: int
    """Decoded for an answer."""
    seconds: float
    """Infinite: its server is asked for more than it can decode."""
    due_s: float
    promised: bool
    """Whether a tier promises the time; else it is the aim of the latency class."""
    basis: Basis

    @property
    def late(self) -> bool:
        """Whether the answers take longer than promised, or aimed at."""
        return self.seconds > self.due_s

    @property
    def due(self) -> str:
        """The time within which the answers are due: `2 s are promised`."""
        if not isfinite(self.due_s):
            return "no time is promised or aimed at"
        says = "promised" if self.promised else "the aim of its latency class"
        return f"{self.due_s:g} s are {says}"


def answer_of(
    resident: AdapterAccount, declared: AdapterSpec | None, account: ServerAccount
) -> LatencyAnswer | None:
    """Return the time of an adapter's answers on its server; None: not known, or no requests.

    As in `fleet.capacity.decode_law.step_within`: the step under way, the prompt, a step a token.
    """
    busy_hours = [hour for hour, tokens in enumerate(resident.load.tokens) if tokens]
    if declared is None or declared.demand is None or not busy_hours or not account.step_s:
        return None
    hour = max(busy_hours, key=lambda hour: (account.step_s[hour], -hour))
    tokens, prompt = declared.demand.output_tokens, declared.demand.prompt_tokens
    return LatencyAnswer(
        adapter=resident.adapter,
        server=account.server,
        hour=hour,
        tokens=tokens,
        seconds=(tokens + 1) * account.step_s[hour] + prompt * account.prompt_s,
        due_s=declared.slo_s if declared.aimed else inf,
        promised=declared.promised,
        basis=account.basis,
    )


def answers_of(fleet: FleetSpec, accounts: Iterable[ServerAccount]) -> Iterator[LatencyAnswer]:
    """Yield the time of every adapter's answers, by server and name."""
    for account in accounts:
        for resident in account.residents:
            answer = answer_of(resident, fleet.adapters.get(alias_of(resident.adapter)), account)
            if answer is not None:
                yield answer


def late_aliases(fleet: FleetSpec, accounts: Iterable[ServerAccount]) -> LateAliases | None:
    """Return the aliases with an answer later than its p95; None: all in time, or not known."""
    answers = [(alias_of(answer.adapter), answer) for answer in answers_of(fleet, accounts)]
    late = {alias: answer.promised for alias, answer in answers if answer.late}
    if not late:
        return None
    promised = tuple(sorted(alias for alias, promised in late.items() if promised))
    aimed = tuple(sorted(late.keys() - {*promised}))
    return LateAliases(len({alias for alias, _ in answers}), promised, aimed)


def late(fleet: FleetSpec, accounts: Iterable[ServerAccount]) -> Diagnostic | None:
    """Return a warning that names the answers that come late; None: all in time.

    Answers that are neither promised nor measured are counted by `late_aliases` alone: a warning in
    every plan is no warning.
    """
    answers = sorted(
        (
            answer
            for answer in answers_of(fleet, accounts)
            if answer.late and (answer.promised or answer.basis.is_measured)
        ),
        key=lambda late_answer: (
            not late_answer.promised,
            -late_answer.seconds / late_answer.due_s,
            late_answer.adapter,
            late_answer.server,
        ),
    )
    if not answers:
        return None
    texts = "; ".join(_text_of(answer) for answer in answers[:SHOWN])
    more = f"; and {len(answers) - SHOWN} more" if len(answers) > SHOWN else ""
    hint = "promise more time (`slo` of the tier), ask for fewer tokens, or use a faster device"
    command = f"fleetctl explain adapter/{answers[0].adapter}@{answers[0].server}"
    if estimated := [answer.server for answer in answers if not answer.basis.is_measured]:
        hint = f"measure first, this is an estimate; then {hint}"
        command = f"fleetctl calibrate {estimated[0]}"
    warning = Diagnostic(
        "FC2011",
        "Answers come later than promised",
        f"{texts}{more}",
        hint=hint,
        command=command,
        severity="warning",
    )
    return warning if answers[0].promised else replace(warning, summary="Answers come late")


def _text_of(answer: LatencyAnswer) -> str:
    took = (
        f"{answer.tokens} tokens take {answer.seconds:.2g} s at {answer.hour:02}:00 UTC"
        if isfinite(answer.seconds)
        else f"more is asked at {answer.hour:02}:00 UTC than can be decoded"
    )
    due = "is promised" if answer.promised else "is due, as its latency class aims at,"
    return (
        f"{alias_of(answer.adapter)} {due} within {answer.due_s:g} s, "
        f"and on {answer.server} {took} ({answer.basis})"
    )


def too_slow(
    fleet: FleetSpec, item: Item, base: BaseSpec, devices: Sequence[DeviceSpec]
) -> Obstacle | None:
    """Return the obstacle of a server on these devices that misses a declared p95 even idle.

    None: no p95 is declared, nothing was measured, or the server is not ours.
    """
    adapter = fleet.adapters.get(item.alias)
    if adapter is None or adapter.demand is None or not adapter.promised or not devices:
        return None
    device = devices[0]
    tensor_parallel = len(devices)
    rank = base.max_lora_rank or rank_bucket(item.rank) or 0
    step, prompt = idle_speed(fleet.profiles, base, device.kind, device.vllm, tensor_parallel, rank)
    seconds = adapter.demand.output_tokens * step + adapter.demand.prompt_tokens * prompt
    if seconds <= adapter.slo_s:
        return None
    several = f"{tensor_parallel} x " if tensor_parallel > 1 else ""
    text = (
        f"{adapter.demand.output_tokens} tokens take {seconds:.2g} s on an idle server of "
        f"{several}`{device.kind}`, as measured, and its tier `{adapter.tier}` "
        f"promises {adapter.slo_s:g} s"
    )
    return Obstacle(Limit.LATENCY, device.name, text, seconds, adapter.slo_s)


@lru_cache(maxsize=4096)
def idle_speed(
    profiles: tuple[Profile, ...],
    base: BaseSpec,
    kind: str,
    vllm: str,
    tensor_parallel: int,
    rank: int,
) -> tuple[float, float]:
    """Return the seconds of a step, and of a prompt's token, for a request alone.

    0 where they were not measured.
    """
    device = DeviceSpec("", kind, 0, 0.0, 0, vllm=vllm)
    speed, basis = speed_of(profiles, base, device, tensor_parallel, rank, vllm=vllm)
    if speed is None or not basis.is_measured:
        return 0.0, 0.0
    return step_seconds(speed, 1, 1), prompt_seconds(speed)


def slowest(fleet: FleetSpec, accounts: Mapping[str, ServerAccount]) -> LatencyAnswer | None:
    """Return the answer that takes the most, compared with its promise or aim."""
    return max(
        answers_of(fleet, accounts.values()),
        key=lambda answer: (answer.seconds / answer.due_s if answer.due_s else inf, answer.adapter),
        default=None,
    )
