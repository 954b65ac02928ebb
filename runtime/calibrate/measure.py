"""Chooses batches that show every constant of the throughput law, and measures their step times.

A measurement is valid on an idle server that has adapters, without foreign traffic.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from fleet.errors import EngineError, did_you_mean
from fleet.hardware import BaseSpec, DeviceSpec, is_cpu
from fleet.resources import State
from fleet.spec import FleetSpec
from runtime.engines.vllm_api import ServerMetrics

SHORT_TOKENS = 8
"""Output of the short batch of a pair. Common parts of a pair cancel out. Unit: tokens."""
PROMPT_TOKENS = 16
LONG_PROMPT = 256
PROMPT_BATCH = 8

ReportProgress = Callable[[str], None]
BatchSeconds = Callable[[Sequence[str], int, int], Awaitable[float]]
"""Sends a request per model name with the given prompt and output tokens; returns the seconds."""


@dataclass(frozen=True, slots=True)
class CalibrationTarget:
    """A running server of the fleet."""

    server: str
    url: str
    base: BaseSpec
    device: DeviceSpec | None
    """A device of the server; None on an attached server."""
    kind: str
    """Kind of the devices, such as `h100_80g`."""
    tensor_parallel: int
    max_loras: int
    max_lora_rank: int
    memory_share: float | None = None
    """Share of the memory of every device; None: vLLM's own default."""

    @property
    def usable_slots(self) -> int:
        """Upper bound of adapters that run at the same time without waiting.

        vLLM's CPU build computes requests to the base with the last slot, which stays empty.
        """
        return self.max_loras - (1 if is_cpu(self.kind) else 0)


def target_of(
    fleet: FleetSpec, state: State, name: str, url: str | None, kind: str | None, *, kept: bool
) -> CalibrationTarget:
    """Return a running server with the facts of its declaration.

    `url`, `kind` of its devices: None: as observed, as declared. `kept`: planning will read the
    profile.

    Raises:
        EngineError: the server does not run, is a fake server, or its kind or flags are unknown.
    """
    server = state.servers().get(name)
    if server is None:
        why = state.unknown_servers.get(name, "no server of this name was seen").rstrip(".")
        hint = did_you_mean(name, sorted(state.servers()))
        detail = f"`{name}` cannot be measured: {why}."
        hint = hint or "Start it with the fleet, or see which servers there are."
        raise EngineError.of(
            "FC4060", "No such server runs", detail, hint=hint, command="fleetctl status"
        )
    host = fleet.hosts[server.host]
    if host.engine == "fake" and kept:
        detail = f"`{name}` runs on the fake engine, and plans would rely on its speed."
        hint = "Measure a real server, or pass --out FILE to see what would be written."
        raise EngineError.of("FC4065", "A fake server has no speed of its own", detail, hint=hint)
    device = next((device for device in host.devices if device.name in server.devices), None)
    flags = server.flags
    limits = flags or next((attached for attached in host.attached if attached.name == name), None)
    if kind is None and device is not None:
        kind = device.kind
    if kind is None or limits is None:
        unknown = "kind of device is" if kind is None else "flags are"
        raise EngineError.of(
            "FC4064",
            "Too little is known of a server",
            f"The {unknown} not known of `{name}`, and a profile needs both.",
            hint="Pass --kind, such as `--kind h100_80g`."
            if kind is None
            else "Bring it back to its declared flags first.",
            command="fleetctl plan" if kind else "",
        )
    return CalibrationTarget(
        server=name,
        url=url or state.urls[name],
        base=fleet.bases[server.base],
        device=device,
        kind=kind,
        tensor_parallel=flags.tensor_parallel if flags else 1,
        max_loras=limits.max_loras,
        max_lora_rank=limits.max_lora_rank,
        memory_share=flags.memory_share if flags else None,
    )


@dataclass(frozen=True, slots=True)
class CalibrationBudget:
    """Upper bounds of the cost of a calibration."""

    rounds: int = 5
    """Measurements of every batch; the shortest time counts."""
    tokens: int = 136
    """Output of the long batch of a pair. Unit: tokens."""
    largest_batch: int = 64
    minutes: float = 20.0
    """No round begins after this time; the first round always ends."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A batch to be measured."""

    batch: int
    """Requests at the same time."""
    adapters: int
    """Different adapters that the requests name; 0: all requests go to the base."""


def batch_plans(largest: int, adapters: int) -> tuple[BatchPlan, ...]:
    """Return the batches to measure, cheapest first.

    The base alone at three sizes shows the cost of a step and of a request, and whether the cost
    grows in a line; an adapter at the same sizes shows both costs with LoRA; more adapters in the
    largest batch show the cost of a further adapter. `largest` and `adapters` are upper bounds of
    requests and of adapters at the same time.
    """
    sizes = sorted({max(largest // 8, 1), max(largest // 2, 1), largest})
    most = min(adapters, largest)
    several = sorted({count for count in (-(-most // 4), -(-most // 2), most) if count > 1})
    return (
        *(BatchPlan(size, 0) for size in sizes),
        *(BatchPlan(size, 1) for size in sizes if most),
        *(BatchPlan(largest, count) for count in several),
    )


def largest_batch(wanted: int, kv_tokens: int | None, tokens_per_request: int) -> int:
    """Return the largest batch that the KV cache holds whole, up to `wanted`; at least 1."""
    if kv_tokens is None:
        return max(wanted, 1)
    return max(min(wanted, kv_tokens // max(tokens_per_request, 1)), 1)


@dataclass(frozen=True, slots=True)
class ServedNames:
    """Served names of the base and of its adapters."""

    base: str
    adapters: tuple[str, ...]

    def of(self, batch_plan: BatchPlan) -> list[str]:
        """Return the names of the requests of a batch, adapters in turn."""
        if not batch_plan.adapters:
            return [self.base] * batch_plan.batch
        return [self.adapters[at % batch_plan.adapters] for at in range(batch_plan.batch)]


@dataclass(slots=True)
class BatchMeter:
    """Measures a server; keeps the shortest time of every batch over the rounds.

    The shortest, because other work of the machine can only add to a time.
    """

    batch_seconds: BatchSeconds
    names: ServedNames
    tokens: int
    """Output of the long batch of a pair; more than `SHORT_TOKENS`."""
    report: ReportProgress
    _least: dict[tuple[BatchPlan, int], float] = field(default_factory=dict, init=False)
    _prompts: dict[int, float] = field(default_factory=dict, init=False)

    async def warm_up(self, plan: Sequence[BatchPlan]) -> None:
        """Run every batch once: adapters come into their slots, kernels are compiled."""
        for batch_plan in plan:
            self.report(f"warming up: {words(batch_plan)}")
            await self.batch_seconds(self.names.of(batch_plan), PROMPT_TOKENS, SHORT_TOKENS)

    async def round(self, plan: Sequence[BatchPlan], label: str) -> None:
        """Measure every batch once, so that a slow minute does not spoil a single batch."""
        for batch_plan in plan:
            models = self.names.of(batch_plan)
            for tokens in (SHORT_TOKENS, self.tokens):
                seconds = await self.batch_seconds(models, PROMPT_TOKENS, tokens)
                self._least[batch_plan, tokens] = min(
                    seconds, self._least.get((batch_plan, tokens), seconds)
                )
            step = self.step_seconds(batch_plan)
            result = f"{1000 * step:.2f} ms per step" if step > 0 else "too short to tell"
            self.report(f"{label}: {words(batch_plan)}: {result}")

    async def prompts(self, batch: int, longest: int) -> None:
        """Measure the cost of prompts, unless the server takes no prompt longer than usual."""
        if (length := min(LONG_PROMPT, longest)) <= PROMPT_TOKENS:
            return
        for tokens in (PROMPT_TOKENS, length):
            seconds = await self.batch_seconds([self.names.base] * batch, tokens, 1)
            self._prompts[tokens] = min(seconds, self._prompts.get(tokens, seconds))

    def step_seconds(self, batch_plan: BatchPlan) -> float:
        """Return the seconds between two tokens of a request of such a batch.

        The difference of a long and a short batch leaves the steps alone: prompts, network and
        the wait for the first token cancel out. 0 or less if the short batch took as long as the
        long batch, on a busy machine.
        """
        longer = self._least[batch_plan, self.tokens] - self._least[batch_plan, SHORT_TOKENS]
        return longer / (self.tokens - SHORT_TOKENS)

    def steps(self, plan: Sequence[BatchPlan]) -> dict[BatchPlan, float]:
        """Return the seconds of a step by batch."""
        return {batch_plan: self.step_seconds(batch_plan) for batch_plan in plan}

    def prompt_seconds(self, batch: int) -> float | None:
        """Return the seconds that a prompt token costs; None: not measured."""
        if not self._prompts:
            return None
        short, long = min(self._prompts), max(self._prompts)
        return max(self._prompts[long] - self._prompts[short], 0.0) / (batch * (long - short))


def words(batch_plan: BatchPlan) -> str:
    """Return the description of a batch for people."""
    many = f"{batch_plan.batch} request{'s' if batch_plan.batch > 1 else ''} at a time"
    match batch_plan.adapters:
        case 0:
            return f"base alone, {many}"
        case 1:
            return f"1 adapter, {many}"
        case more:
            return f"{more} adapters, {many}"


def require_idle(target: CalibrationTarget, in_flight: int | None) -> None:
    """Refuse a server that has requests of clients.

    Raises:
        EngineError: requests run or wait.
    """
    if in_flight:
        many = f"{in_flight} request{'s' if in_flight > 1 else ''}"
        raise _busy(f"Server `{target.server}` has {many} of its clients right now.")


def require_adapters(target: CalibrationTarget, listed: Collection[str]) -> None:
    """Refuse a server on which LoRA cannot be measured.

    Raises:
        EngineError: the server lists no adapter, or has no slot.
    """
    if listed and target.usable_slots > 0:
        return
    fault = "has no LoRA slot that requests may use" if listed else "lists no adapter"
    detail = f"Server `{target.server}` {fault}, so the cost of LoRA cannot be measured."
    hint = "Load at least one adapter, better as many as it has slots."
    raise EngineError.of(
        "FC4062", "Nothing to measure LoRA with", detail, hint=hint, command="fleetctl apply --auto"
    )


def require_times(target: CalibrationTarget, steps: Iterable[float]) -> None:
    """Refuse times from which no step can be told.

    Raises:
        EngineError: a long batch took no longer than a short one, even at best.
    """
    if all(step > 0 for step in steps):
        return
    detail = (
        f"Server `{target.server}`: a batch of long answers took no longer than one of short "
        "ones, so other work on the machine took more time than the answers; nothing is kept."
    )
    hint = "Measure in a quieter hour, with longer answers (--tokens) and more rounds."
    command = f"fleetctl calibrate {target.server} --tokens 400 --rounds 10"
    raise EngineError.of("FC4066", "Too noisy to measure", detail, hint=hint, command=command)


def foreign_traffic(
    target: CalibrationTarget,
    before: ServerMetrics,
    after: ServerMetrics,
    sent: int,
    *,
    force: bool,
) -> tuple[str, ...]:
    """Return a note if requests of clients ran meanwhile, by the server's own counters.

    `after` is read while no request of the calibration runs; `sent` are the calibration's requests
    since `before`, all of them answered.

    Raises:
        EngineError: requests of clients ran, and `force` is not given.
    """
    if before.finished is None or after.finished is None:
        return ("The server's metrics are closed: whether clients used it is not known.",)
    others = after.finished - before.finished - sent + (after.in_flight or 0)
    if others <= 0:
        return ()
    text = f"{others} request{'s' if others > 1 else ''} of clients ran during the measurement"
    if not force:
        raise _busy(f"Server `{target.server}`: {text}.")
    return (f"{text}; the figures are too slow by their time.",)


def _busy(text: str) -> EngineError:
    detail = f"{text} Measuring would slow them down, and they would spoil the measurement."
    hint = "Take a quiet hour, or say --force; the profile then says so."
    return EngineError.of("FC4061", "The server is in use", detail, hint=hint)
