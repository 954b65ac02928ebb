"""The state of a fake server: its flags, adapters listed and in memory, running requests."""

import argparse
import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from http import HTTPStatus
from typing import Any, Literal

from fleet.vllm import FLAG_KINDS
from runtime.fake_vllm.weights import (
    FakeWeights,
    MissingAdapterError,
    UnloadableAdapterError,
    read_weights,
    trusted_folder,
)

MAX_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of `--max-lora-rank` that vLLM allows."""

_IGNORED: Mapping[str, Mapping[str, Any]] = {
    "bare": {"action": "store_true"},
    "switch": {"action": argparse.BooleanOptionalAction},
    "numbers": {"nargs": "+"},
    "texts": {"nargs": "+"},
}
"""How flags without an effect are read, by kind; other kinds have a single value."""
_NUMBERS = ("port", "max-loras", "max-cpu-loras", "max-model-len", "max-num-seqs",
            "shutdown-timeout", "ssl-cert-reqs")  # fmt: skip


@dataclass(frozen=True, slots=True)
class FakeConfig:
    """Settings of a fake server, with vLLM's names and defaults."""

    model: str
    served_model_names: tuple[str, ...] = ()
    """Empty: the model's path is its name, as in vLLM."""
    host: str = "127.0.0.1"
    port: int = 8000
    enable_lora: bool = False
    max_loras: int = 1
    max_lora_rank: int = 16
    max_cpu_loras: int | None = None
    max_model_len: int = 4096
    max_num_seqs: int = 256
    """Upper bound of requests that run at the same time; others wait in order of arrival."""
    fingerprint: str | None = None
    """Value of `--fingerprint-mode custom --fingerprint-value`; None: vLLM's own form."""
    shutdown_timeout: int = 0
    """Seconds that running requests get after SIGTERM; 0 aborts them."""
    runtime_updates: bool = True
    """VLLM_ALLOW_RUNTIME_LORA_UPDATING: without it the two LoRA routes do not exist."""
    adapters_file: str = ""
    """FLEETCTL_ADAPTERS, if VLLM_PLUGINS names the plug-in: the adapters loaded when asked for."""
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_ca_certs: str | None = None
    """Authorities of clients' certificates."""
    ssl_cert_reqs: int = 0
    """2: a client without a certificate is refused."""
    chat_template: str | None = None
    """None: that of the base's tokenizer."""
    token_seconds: float = 0.002
    """Time to generate a token."""

    @property
    def names(self) -> tuple[str, ...]:
        """Served names of the base; answers carry the first name."""
        return self.served_model_names or (self.model,)

    @property
    def cpu_loras(self) -> int:
        """Adapters kept in host memory."""
        return self.max_loras if self.max_cpu_loras is None else self.max_cpu_loras


_FIELDS = {field.name for field in fields(FakeConfig)}


def parse_flags(
    arguments: Sequence[str], *, runtime_updates: bool, adapters_file: str = ""
) -> FakeConfig:
    """Read a vLLM command line; exit with 2 and a message if wrong, as vLLM does."""
    parser = argparse.ArgumentParser(
        prog="runtime.fake_vllm.server",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        conflict_handler="resolve",  # flags with an effect take the place of the ignored
    )
    for name, kind in FLAG_KINDS.items():
        parser.add_argument(f"--{name}", **_IGNORED.get(kind, {}))
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name", dest="served_model_names", nargs="+")
    parser.add_argument("--host")
    parser.add_argument("--enable-lora", action=argparse.BooleanOptionalAction)
    parser.add_argument("--max-lora-rank", type=int, choices=MAX_LORA_RANKS)
    for name in _NUMBERS:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--fingerprint-mode", choices=["full", "hash", "custom", "none"])
    parser.add_argument("--fingerprint-value", dest="fingerprint")
    given = vars(parser.parse_args(arguments))
    values = {name: value for name, value in given.items() if name in _FIELDS}
    values["served_model_names"] = tuple(values.get("served_model_names", ()))
    config = FakeConfig(**values, runtime_updates=runtime_updates, adapters_file=adapters_file)
    if config.cpu_loras < config.max_loras:
        parser.error(
            f"max_cpu_loras ({config.cpu_loras}) must be >= max_loras ({config.max_loras})."
        )
    if (given.get("fingerprint_mode") == "custom") != (config.fingerprint is not None):
        parser.error("--fingerprint-value is needed with --fingerprint-mode custom, and only then.")
    return config


Call = Literal["load", "unload", "models", "generate", "version", "metrics", "health", "tokenize"]


@dataclass(eq=False)
class RefusedError(Exception):
    """The server answers with an error document."""

    status: HTTPStatus
    message: str
    kind: str
    parameter: str | None = None


@dataclass(slots=True)
class InjectedFaults:
    """Faults injected by tests; every fault is used once, in order. Not reachable over HTTP."""

    refusals: dict[Call, deque[HTTPStatus]] = field(default_factory=dict)
    lost: Counter[Call] = field(default_factory=Counter)
    down: bool = False
    """While true, every connection is answered with 503, as by a proxy before a dead server."""

    def refuse(self, call: Call, status: HTTPStatus = HTTPStatus.INTERNAL_SERVER_ERROR) -> None:
        """Make the next call of this kind fail without an effect."""
        self.refusals.setdefault(call, deque()).append(status)

    def lose_answer(self, call: Call) -> None:
        """Make the next call of this kind take effect and its answer get lost (as a 502)."""
        self.lost[call] += 1

    def check(self, call: Call) -> None:
        """Raise the refusal that is due for this call, if any."""
        if self.down:
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "down", "InternalServerError")
        due = self.refusals.get(call)
        if due:
            raise RefusedError(due.popleft(), "A fault on request.", "InternalServerError")

    def pop_lost(self, call: Call) -> bool:
        """Return whether the answer of this call gets lost."""
        if not self.lost[call]:
            return False
        self.lost[call] -= 1
        return True


@dataclass(slots=True)
class FakeModelServer:
    """The memory of a server, lost with the process like that of vLLM."""

    config: FakeConfig
    faults: InjectedFaults = field(default_factory=InjectedFaults)
    started: float = field(default_factory=time.time)
    """Seconds since the epoch; a new value shows others a restart."""
    listed: dict[str, str] = field(default_factory=dict)
    """Adapter name to its path as given."""
    cached: OrderedDict[str, FakeWeights] = field(default_factory=OrderedDict)
    """Adapters in host memory by name, least recently used first."""
    slots: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Adapters in a slot, least recently used first."""
    counts: Counter[str] = field(default_factory=Counter)
    running: Counter[str] = field(default_factory=Counter)
    """Requests that run, by the served name that answers them."""
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    """Requests that wait until fewer run, in order of arrival."""
    draining: bool = False
    dead: bool = False
    """True once the engine has died; the process is about to exit."""
    on_death: Callable[[], None] = lambda: None
    """Called when the engine dies."""

    def check(self, call: Call) -> None:
        """Raise the error of a dead engine, or a fault that is due."""
        if self.dead:
            status = HTTPStatus.SERVICE_UNAVAILABLE
            raise RefusedError(status, "EngineCore died.", "InternalServerError")
        self.faults.check(call)

    async def run(self, name: str) -> None:
        """Count a request as running, as soon as fewer than the upper bound run."""
        if self.waiting or self.running.total() >= self.config.max_num_seqs:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # the turn came just before
                    self.finish("")
                raise
            self.running[""] -= 1
        self.running[name] += 1

    def finish(self, name: str) -> None:
        """Count a request no longer; the request that waits longest runs."""
        self.running[name] -= 1
        while self.waiting and self.running.total() < self.config.max_num_seqs:
            turn = self.waiting.popleft()
            if not turn.cancelled():
                self.running[""] += 1  # in the name of the request that wakes up
                turn.set_result(None)

    def load(self, name: str, path: str) -> None:
        """List an adapter and put its weights into a slot.

        Raises:
            RefusedError: with vLLM's own status and text.
        """
        message = ""
        if not name or not path:
            message = "Both 'lora_name' and 'lora_path' must be provided."
        elif name in self.config.names:
            message = f"The lora adapter '{name}' conflicts with a served base model."
        elif name in self.listed:
            message = (
                f"The lora adapter '{name}' has already been loaded. If you want to load the "
                "adapter in place, set 'load_inplace' to True."
            )
        if message:
            raise RefusedError(HTTPStatus.BAD_REQUEST, message, "InvalidUserInput")
        try:
            weights = read_weights(path, self.config.max_lora_rank)
        except MissingAdapterError:
            message = f"Loading lora {name} failed: No adapter found for {path}"
            raise RefusedError(HTTPStatus.NOT_FOUND, message, "NotFoundError") from None
        except UnloadableAdapterError as error:
            message = f"Call to add_lora method failed: {error}"
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            raise RefusedError(status, message, "InternalServerError") from None
        self.listed[name] = path
        self._activate(name, weights)

    def unload(self, name: str) -> None:
        """Remove a name from the list; running requests go on.

        Raises:
            RefusedError: the name is not listed.
        """
        if name not in self.listed:
            message = f"The lora adapter '{name}' cannot be found."
            raise RefusedError(HTTPStatus.NOT_FOUND, message, "NotFoundError")
        del self.listed[name]

    def path_of(self, model: str | None) -> str | None:
        """Return the folder of an adapter as given; None: the base, or no model is named.

        Raises:
            RefusedError: no such model.
        """
        if not model or model in self.config.names:
            return None
        if model in self.listed or self._resolve(model):
            return self.listed[model]
        aliases = ", ".join(self.config.names)
        message = f"The model `{model}` does not exist. Valid aliases: {aliases}."
        raise RefusedError(HTTPStatus.NOT_FOUND, message, "NotFoundError", "model")

    def _resolve(self, name: str) -> bool:
        """Load an adapter in the way of vLLM's plug-in; return whether the name resolves.

        Raises:
            RefusedError: the bytes are those of the file, and the server cannot load them.
        """
        if not (self.config.adapters_file and self.config.runtime_updates):
            return False
        folder = trusted_folder(self.config.adapters_file, name)
        if folder is None:
            return False
        try:
            weights = read_weights(folder, self.config.max_lora_rank)
        except (MissingAdapterError, UnloadableAdapterError):
            message = f"LoRA adapter '{name}' was found but could not be loaded."
            raise RefusedError(HTTPStatus.BAD_REQUEST, message, "BadRequestError") from None
        self.listed[name] = folder
        self._activate(name, weights)
        return True

    def weights_for(self, model: str | None) -> tuple[str, str]:
        """Return the name of the model that answers, and the digest of its weights.

        A missing or empty model is the base, as in vLLM.

        Raises:
            RefusedError: no such model; or its folder is gone, which kills the engine.
        """
        path = self.path_of(model)
        if path is None or not model:
            return self.config.names[0], f"base {self.config.model}"
        weights = self.cached.get(model)
        if weights is None or weights.path != path:
            try:
                weights = read_weights(path, self.config.max_lora_rank)
            except (MissingAdapterError, UnloadableAdapterError):
                self.dead = True
                self.on_death()
                status = HTTPStatus.INTERNAL_SERVER_ERROR
                raise RefusedError(status, "EngineCore died.", "InternalServerError") from None
        self._activate(model, weights)
        return model, weights.digest

    def _activate(self, name: str, weights: FakeWeights) -> None:
        self.cached[name] = weights
        self.cached.move_to_end(name)
        self.slots[name] = None
        self.slots.move_to_end(name)
        while len(self.slots) > self.config.max_loras:
            self.slots.popitem(last=False)
        while len(self.cached) > self.config.cpu_loras:
            evicted, _ = self.cached.popitem(last=False)
            self.slots.pop(evicted, None)
