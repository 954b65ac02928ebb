"""Conditions of a valid measurement: idle server, adapters present, no foreign traffic."""

from collections.abc import Collection, Iterable

from fleet.errors import EngineError
from runtime.calibrate.measure import CalibrationTarget
from runtime.engines.vllm_metrics import ServerMetrics


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
    raise EngineError.of(
        "FC4066",
        "Too noisy to measure",
        f"Server `{target.server}`: a batch of long answers took no longer than one of short "
        "ones, so other work on the machine took more time than the answers; nothing is kept.",
        hint="Measure in a quieter hour, with longer answers (--tokens) and more rounds.",
        command=f"fleetctl calibrate {target.server} --tokens 400 --rounds 10",
    )


def foreign_traffic(
    target: CalibrationTarget,
    before: ServerMetrics,
    after: ServerMetrics,
    sent: int,
    *,
    force: bool,
) -> tuple[str, ...]:
    """Return a note if requests of clients ran meanwhile, by the server's own counters.

    Args:
        target: The server.
        before: The server's figures at the beginning of the measurement.
        after: The figures now, while no request of the calibration runs.
        sent: Requests of the calibration since then, all of them answered.
        force: Note requests of clients instead of refusing them.

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
