"""Defines the contract between evaluations, engines and the project, and the server to ask."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from fleet.errors import EngineError, EvalError, problem
from fleet.evals import EvalTarget, GoldenSet, Sample
from fleet.spec import EvalSpec, GatewaySpec
from runtime.engines.vllm_api import ask
from runtime.evals.store import EvalStore
from runtime.gateway.admin.state_dir import operator_secret
from runtime.json_client import JsonClient
from runtime.trust import OPERATOR, authorization, require_bound

ReportProgress = Callable[[int, int], None]
"""Takes the number of answers so far and the number of all; must not block."""


Enough = Callable[[tuple[Sample, ...]], bool]
"""Takes the samples so far; says whether they decide, so that no further item is asked."""
PARTS = 5
"""Parts in which items are asked where a verdict may be sure before the last."""


def report_nothing(_done: int, _total: int) -> None:
    """Report nothing: the default."""


@dataclass(frozen=True, slots=True)
class EvalContext:
    """Store, clock, ids, secrets and policies of a project's evaluations."""

    store: EvalStore
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    root: Path = Path()
    """The project; the engine `command` runs here."""
    secret: Callable[[str], str | None] = lambda _reference: None
    """Return the secret behind a reference; None where the secret cannot be read."""
    judge_objection: Callable[[str], str] = lambda client: (
        f"it was never compared with people's labels for {client}"
    )
    """Return why the judge decides no gate of a client; empty: the judge may decide."""
    resolve_target: Callable[[EvalTarget], EvalTarget] = lambda target: target
    """Return the target that requests go to, such as a gateway with the operator's secret."""
    packages: Mapping[str, str] = field(default_factory=dict)
    """Package by engine that fleetctl does not ship."""

    @property
    def state_dir(self) -> Path:
        """The state folder, which holds the runs."""
        return self.store.folder.parent


@dataclass(frozen=True, slots=True)
class EngineJob:
    """The task of an engine: ask a golden set of a target, and score the answers."""

    target: EvalTarget
    golden: GoldenSet
    spec: EvalSpec
    context: EvalContext
    folder: Path
    """An empty folder for work files."""
    report: ReportProgress
    enough: Enough | None = None
    """A test of the samples so far, after every part of the items; None: all items are asked."""

    @property
    def total(self) -> int:
        """Number of the wanted answers."""
        return len(self.golden.items) * self.spec.samples


EngineAnswers = tuple[tuple[Sample, ...], str]
"""Samples of a run; name and version of the engine that made them, such as `inspect-ai 0.3.285`."""
EvalEngine = Callable[[EngineJob], Awaitable[EngineAnswers]]
"""Asks every item of a golden set and scores the answers.

An engine never guesses: an item without an answer has a sample with its `error`, or no sample.
Failures of the whole are `EvalError`s that name a remedy.
"""


PROBE_S = 30.0
"""Upper bound of the time of a probe, in seconds."""
PURPOSE_HEADER = "X-Fleetctl-Purpose"
"""Marks requests through a gateway, so that no live gate counts them."""
VERSION_HEADER = "X-Fleetctl-Version"


@dataclass(frozen=True, slots=True)
class EngineProbe:
    """The engine that answered."""

    model: str
    fingerprint: str


def client_for(target: EvalTarget, timeout_s: float) -> JsonClient:
    """Return a client whose requests are marked as requests of an evaluation."""
    marked = {PURPOSE_HEADER: "eval", **target.headers}
    return JsonClient(target.url, timeout_s=timeout_s, headers=marked)


async def probe(target: EvalTarget) -> EngineProbe:
    """Request a single token and return the engine that answered.

    Raises:
        EvalError: FC4501, no server answers under that name.
    """
    try:
        async with client_for(target, PROBE_S) as client:
            reply = await ask(client, target.model, "Hello", 1)
    except EngineError as error:
        detail = f"`{target.model}` cannot be evaluated: {error.diagnostics[0].detail}"
        hint = "An evaluation asks a version that is loaded and ready."
        fault = problem("FC4501", "No server answers under this name", detail, hint=hint)
        raise EvalError(replace(fault, command="fleetctl status")) from None
    if not isinstance(reply, dict):
        reply = {}
    return EngineProbe(str(reply.get("model", "")), str(reply.get("system_fingerprint") or ""))


def through_gateway(
    gateways: Iterable[GatewaySpec], state_dir: Path
) -> Callable[[EvalTarget], EvalTarget]:
    """Return a function from a server's target to the same version behind a gateway.

    The operator's secret is read once and written into no file. A gateway drops the header that
    names a version from requests with a client's key.

    Raises:
        EvalError: FC4534, no gateway of our own is declared.
        FleetError: FC6015, the operator's secret cannot be read.
        UntrustedError: the gateway's host may not get the operator's secret.
    """
    ours = [gateway for gateway in gateways if gateway.kind == "fleetctl"]
    if not ours:
        detail = "Evaluations are to go through a gateway, and none of fleetctl's own is declared."
        hint = "Declare one under `gateways`, or ask the servers: `--through server`."
        raise EvalError.of("FC4534", "No gateway to ask through", detail, hint=hint)
    host, _, port = ours[0].listen.rpartition(":")
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "[::1]", "": "127.0.0.1"}  # noqa: S104 (to be asked)
    url = f"http://{reachable.get(host, host)}:{port}"
    reference = ours[0].secret or OPERATOR
    require_bound(url, reference)  # before the secret is read
    shown = authorization(url, reference, operator_secret(state_dir, ours[0]))

    def resolve(target: EvalTarget) -> EvalTarget:
        headers = {**shown, VERSION_HEADER: target.adapter}
        return replace(target, url=url, model=target.alias, headers=headers, server=target.url)

    return resolve
