"""Latency: which answers come later than promised, by the law of throughput.

A declared p95 of a tier keeps an adapter off a kind of server that, as measured, misses the p95
even while idle. Late answers warn where the promise is declared or the speed measured.

- An estimated speed keeps no adapter off: an estimate is no measurement.
- The usual p95 of a latency class is no promise; `explain` alone shows such answers.
- Under load the planner already fills servers by their deadlines.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite

from fleet.capacity import prompt_seconds, speed_of, step_seconds
from fleet.errors import Diagnostic
from fleet.hardware import BaseSpec, DeviceSpec, Profile
from fleet.names import alias_of
from fleet.placement.accounts import AdapterAccount, ServerAccount
from fleet.placement.causes import Limit, Obstacle
from fleet.spec import AdapterSpec, FleetSpec

SHOWN = 3
"""Upper bound of the answers that a warning names."""


@dataclass(frozen=True, slots=True)
class LatencyAnswer:
    """How long an adapter's answers take in the worst hour of those in which it is asked."""

    adapter: str
    server: str
    hour: int
    tokens: int
    """Decoded for an answer."""
    seconds: float
    """Infinite: its server is asked for more than it can decode."""
    promised_s: float
    declared: bool
    """Whether a tier declares it; else it is the usual p95 of the latency class."""
    basis: str

    @property
    def late(self) -> bool:
        """Whether it takes longer than promised."""
        return self.seconds > self.promised_s


def answer_of(
    own: AdapterAccount, declared: AdapterSpec | None, account: ServerAccount
) -> LatencyAnswer | None:
    """Return how long an adapter's answers take on its server; None: not known, or not asked.

    As in `fleet.capacity.decode_law.step_within`: the step under way, the prompt, a step a token.
    """
    asked = [hour for hour, tokens in enumerate(own.load.tokens) if tokens]
    if declared is None or declared.demand is None or not asked or not account.step_s:
        return None
    hour = max(asked, key=lambda hour: (account.step_s[hour], -hour))
    tokens, prompt = declared.demand.output_tokens, declared.demand.prompt_tokens
    return LatencyAnswer(
        adapter=own.adapter,
        server=account.server,
        hour=hour,
        tokens=tokens,
        seconds=(tokens + 1) * account.step_s[hour] + prompt * account.prompt_s,
        promised_s=declared.slo_s,
        declared=declared.promised,
        basis=account.basis,
    )


def answers_of(fleet: FleetSpec, accounts: Iterable[ServerAccount]) -> Iterator[LatencyAnswer]:
    """Yield how long the answers of every adapter take, by server and name."""
    for account in accounts:
        for own in account.residents:
            found = answer_of(own, fleet.adapters.get(alias_of(own.adapter)), account)
            if found is not None:
                yield found


def late(fleet: FleetSpec, accounts: Iterable[ServerAccount]) -> Diagnostic | None:
    """Return a warning that names the answers that come later than promised; None: all in time.

    Answers that are neither declared nor measured are left to `explain`: a warning in every plan
    is no warning.
    """
    answers = answers_of(fleet, accounts)
    late_answers = (
        answer for answer in answers if answer.late and (answer.declared or measured(answer.basis))
    )
    found = sorted(late_answers, key=_worst_first)
    if not found:
        return None
    texts = "; ".join(_text_of(answer) for answer in found[:SHOWN])
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    ways = "promise more time (`slo` of the tier), ask for fewer tokens, or use a faster device"
    hint, command = ways, f"fleetctl explain adapter/{found[0].adapter}@{found[0].server}"
    guessed = next((answer.server for answer in found if not measured(answer.basis)), None)
    if guessed is not None:
        hint = f"measure first, this is an estimate; then {ways}"
        command = f"fleetctl calibrate {guessed}"
    return Diagnostic(
        "FC2011",
        "Answers come later than promised",
        f"{texts}{more}",
        hint=hint,
        command=command,
        severity="warning",
    )


def _worst_first(latency_answer: LatencyAnswer) -> tuple[bool, float, str, str]:
    return (
        not latency_answer.declared,
        -latency_answer.seconds / latency_answer.promised_s,
        latency_answer.adapter,
        latency_answer.server,
    )


def _text_of(answer: LatencyAnswer) -> str:
    took = (
        f"{answer.tokens} tokens take {answer.seconds:.2g} s at {answer.hour:02}:00 UTC"
        if isfinite(answer.seconds)
        else f"more is asked at {answer.hour:02}:00 UTC than can be decoded"
    )
    due = "is promised" if answer.declared else "is due, by its latency class,"
    return (
        f"{alias_of(answer.adapter)} {due} within {answer.promised_s:g} s, "
        f"and on {answer.server} {took} ({answer.basis})"
    )


def measured(basis: str) -> bool:
    """Say whether a figure rests on a measurement."""
    return basis.startswith("calibrated")


def too_slow(
    fleet: FleetSpec,
    adapter: AdapterSpec | None,
    base: BaseSpec,
    device: DeviceSpec,
    tensor_parallel: int,
    rank: int,
) -> Obstacle | None:
    """Return what keeps an adapter off a kind of server: even idle, it misses a declared p95.

    Args:
        fleet: With the measurements.
        adapter: None: not declared.
        base: What the server serves.
        device: One of its devices.
        tensor_parallel: Number of its devices.
        rank: The least `max_lora_rank` that a server for the adapter may have.
    """
    if adapter is None or adapter.demand is None or not adapter.promised:
        return None
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
    """Return the seconds of a step, and of a prompt's token, for one request alone.

    0 where they were not measured.
    """
    device = DeviceSpec("", kind, 0, 0.0, 0, vllm=vllm)
    speed, basis = speed_of(profiles, base, device, tensor_parallel, rank, vllm=vllm)
    if speed is None or not measured(basis):
        return 0.0, 0.0
    return step_seconds(speed, 1, 1), prompt_seconds(speed)


def slowest(fleet: FleetSpec, accounts: Mapping[str, ServerAccount]) -> LatencyAnswer | None:
    """Return the answer that takes the largest part of what is promised."""
    return max(
        answers_of(fleet, accounts.values()),
        key=lambda answer: (
            answer.seconds / answer.promised_s if answer.promised_s else inf,
            answer.adapter,
        ),
        default=None,
    )
