"""Calls the HTTP API of a vLLM server and reads the answers."""

import asyncio
import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fleet.errors import Diagnostic, EngineError, EngineRejectedError, problem
from fleet.names import Stamps
from runtime.engines.protocol import Completion
from runtime.json_client import READ_ATTEMPTS, SERVER_KEYS, JsonClient

_SERIES = re.compile(
    r"^(process_start_time_seconds|vllm:(?:num_requests_running|num_requests_waiting"
    r"|request_success_total|prompt_tokens_total|generation_tokens_total|cache_config_info"
    r"|kv_cache_usage_perc|num_preemptions_total|prefix_cache_hits_total"
    r"|prefix_cache_queries_total"
    r"|lora_requests_info|lora_adapter_loaded))(?:\{(.*)\})? (\S+)$",
    re.MULTILINE,
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_NUMBER = re.compile(r"[0-9.eE+]+")


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """The figures of a server at a moment; None: the server does not report the figure."""

    running: int | None = None
    """Requests that run right now."""
    waiting: int | None = None
    """Requests that wait right now."""
    finished: int | None = None
    """Requests answered since the server started."""
    kv_tokens: int | None = None
    """Tokens that the KV cache holds."""
    kv_used: float | None = None
    """Part of the KV cache in use, 0 to 1; of several engines the fullest."""
    prefix_hits: int | None = None
    """Tokens of prompts found in the prefix cache since the server started."""
    prefix_lookups: int | None = None
    """Tokens of prompts looked for in the prefix cache since the server started."""
    preemptions: int | None = None
    """Requests put off for lack of KV cache since the server started."""
    memory_share: float | None = None
    """Share of the memory of every device that the server may use."""
    max_loras: int | None = None
    """Slots; known once the server has had requests to adapters."""
    tokens: int | None = None
    """Tokens read and made since the server started."""
    resident: frozenset[str] | None = None
    """Adapters in LoRA slots of the GPU."""
    started: str = ""
    """Start time of the process, as spelled by the server; empty: not reported."""

    @property
    def in_flight(self) -> int | None:
        """Requests that run or wait right now."""
        return None if self.running is None else self.running + (self.waiting or 0)


def parse_metrics(text: str) -> ServerMetrics:
    """Parse Prometheus text; series that are missing, or not numbers, are None."""
    sums: defaultdict[str, float] = defaultdict(float)
    labels: dict[str, str] = {}
    loaded: list[tuple[str, bool]] = []
    started = ""
    for match in _SERIES.finditer(text):
        name, inside, value = match.groups()
        if name in {"vllm:cache_config_info", "vllm:lora_requests_info"}:
            labels |= dict(_LABEL.findall(inside or ""))
        elif name == "vllm:lora_adapter_loaded":
            its = dict(_LABEL.findall(inside or ""))
            in_slot = its.get("level") == "gpu" and (_number(value) or 0) > 0
            loaded.append((its.get("adapter_name", ""), in_slot))
        elif name == "process_start_time_seconds":
            started = started or (value if _NUMBER.fullmatch(value) else "")
        elif (number := _number(value)) is not None:
            is_part = name == "vllm:kv_cache_usage_perc"
            sums[name] = max(sums[name], number) if is_part else sums[name] + number
    return ServerMetrics(
        running=_count(sums, "vllm:num_requests_running"),
        waiting=_count(sums, "vllm:num_requests_waiting"),
        finished=_count(sums, "vllm:request_success_total"),
        tokens=_tokens(sums),
        kv_used=sums.get("vllm:kv_cache_usage_perc"),
        prefix_hits=_count(sums, "vllm:prefix_cache_hits_total"),
        prefix_lookups=_count(sums, "vllm:prefix_cache_queries_total"),
        preemptions=_count(sums, "vllm:num_preemptions_total"),
        kv_tokens=_whole(labels.get("kv_cache_size_tokens")),
        memory_share=_number(labels.get("gpu_memory_utilization")),
        max_loras=_whole(labels.get("max_lora")),
        resident=frozenset(name for name, in_slot in loaded if in_slot) if loaded else None,
        started=started,
    )


def _tokens(sums: dict[str, float]) -> int | None:
    found = [_count(sums, f"vllm:{kind}_tokens_total") for kind in ("prompt", "generation")]
    known = [count for count in found if count is not None]
    return sum(known) if known else None


def _count(sums: dict[str, float], name: str) -> int | None:
    return int(sums[name]) if name in sums else None


def _number(text: str | None) -> float | None:
    try:
        number = math.nan if text is None else float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


OBSERVE_DEADLINE_S = 5.0
LOAD_DEADLINE_S = 120.0
COMPLETION_DEADLINE_S = 120.0
MAX_LISTED = 10_000
"""Upper bound of the models that a server lists; servers hold a few hundred adapters at most."""
_WITHOUT_TEMPLATE = "must provide a chat template"
"""Words of vLLM's refusal of a chat where the base has no chat template."""


@dataclass(frozen=True, slots=True)
class ListedModels:
    """The answer of `/v1/models`."""

    names: tuple[str, ...]
    """Served names of the base, the main name first."""
    stamps: Stamps
    """Digest of the flags and launch, on a server with a command line of fleetctl's."""
    adapters: dict[str, str]
    """Path by adapter, as the server sees the path."""
    root: str = ""
    """Path or name of the base from the command line of the server."""
    max_model_len: int | None = None


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """The answers of a server to an observation."""

    listing: ListedModels
    version: str
    boot: str
    """Start time of the process; empty if the metrics lack it."""
    max_loras: int | None = None
    """Slots; None: not told, as before the first request to an adapter."""


def absolute(source: str) -> str:
    """Return a folder of this machine as an absolute path; servers have another working folder."""
    return str(Path(source).absolute())


async def observe_server(http: JsonClient) -> ServerSnapshot:
    """Return a snapshot of a server: three calls at the same time, 5 s at most.

    Version and metrics may be closed; `/v1/models` must answer.

    Raises:
        EngineError: the server did not answer or refused.
    """
    listing, version, metrics = await asyncio.gather(
        list_models(http, OBSERVE_DEADLINE_S),
        _version(http),
        read_metrics(http, OBSERVE_DEADLINE_S),
    )
    return ServerSnapshot(listing, version, metrics.started, metrics.max_loras)


async def takes_adapters(http: JsonClient) -> bool | None:
    """Say whether a server loads adapters at run time; None: not visible. Changes nothing.

    A server with runtime updates has the route for POST alone, and refuses another method (405).
    """
    try:
        await http.get("/v1/load_lora_adapter", timeout_s=OBSERVE_DEADLINE_S)
    except EngineRejectedError as error:
        known = {HTTPStatus.METHOD_NOT_ALLOWED: True, HTTPStatus.NOT_FOUND: False}
        return known.get(HTTPStatus(error.status))
    except EngineError:
        pass
    return None


async def read_metrics(
    http: JsonClient, timeout_s: float | None = None, attempts: int = READ_ATTEMPTS
) -> ServerMetrics:
    """Return the figures of a server; those of a server whose metrics are closed are all None."""
    try:
        text = await http.get_text("/metrics", timeout_s=timeout_s, attempts=attempts)
    except EngineError:
        return ServerMetrics()
    return parse_metrics(text)


async def list_models(http: JsonClient, timeout_s: float = OBSERVE_DEADLINE_S) -> ListedModels:
    """Return the served models of a server.

    Raises:
        EngineError: the server did not answer, or not with a list of at most `MAX_LISTED` models;
            FC4024, the server asks for another key.
    """
    try:
        document = await http.get("/v1/models", timeout_s=timeout_s)
    except EngineRejectedError as error:
        is_own = error.status == HTTPStatus.UNAUTHORIZED and http.url in SERVER_KEYS
        raise _key_refused(http, error) if is_own else error from None
    try:
        if len(document["data"]) <= MAX_LISTED:
            return _listing(document["data"])
        detail = f"{http.peer} lists more than {MAX_LISTED} models."
    except (KeyError, TypeError, AttributeError):
        detail = f"{http.peer} answered GET /v1/models with an unknown document."
    hint = "Check that the address is that of a vLLM server."
    raise EngineRejectedError.of("FC4004", "Answer not understood", detail, hint=hint)


def refuses_key(error: EngineError) -> bool:
    """Say whether a server of the fleet has refused its key: the server runs, with another."""
    return error.diagnostics[0].code == "FC4024"


def _key_refused(http: JsonClient, error: EngineRejectedError) -> EngineRejectedError:
    detail = f"{http.peer} runs and asks for another key than `servers_secret` gives (401)."
    hint = "With the secret of its start it answers again; a server that is stopped gets the new "
    hint += "key from the next apply: fleetctl server stop SERVER."
    fault = problem("FC4024", "A server refuses fleetctl's key", detail, hint=hint)
    return EngineRejectedError(replace(fault, command="fleetctl drift"), status=error.status)


def _listing(cards: list[dict[str, Any]]) -> ListedModels:
    names = tuple(str(card["id"]) for card in cards if card.get("parent") is None)
    adapters = {
        str(card["id"]): str(card.get("root") or "")
        for card in cards
        if card.get("parent") is not None
    }
    base = next((card for card in cards if card.get("parent") is None), {})
    length = base.get("max_model_len")
    return ListedModels(
        names,
        Stamps.among(names),
        adapters,
        str(base.get("root") or ""),
        length if type(length) is int else None,
    )


async def _version(http: JsonClient) -> str:
    try:
        return str((await http.get("/version", timeout_s=OBSERVE_DEADLINE_S))["version"])
    except (EngineError, KeyError, TypeError):
        return ""


async def load_adapter(http: JsonClient, adapter: str, path: str) -> None:
    """Load an adapter from `path` (as the server sees the path); a loaded adapter is fine.

    Never in place: vLLM replaces bytes under a live name non-atomically.

    Raises:
        EngineRejectedError: listed from another path (409), or the server cannot load it.
        EngineUnreachableError: no answer; calling again is safe.
    """
    if await _is_listed(http, adapter, path):
        return
    body = {"lora_name": adapter, "lora_path": path}
    try:
        await http.post("/v1/load_lora_adapter", body, timeout_s=LOAD_DEADLINE_S)
    except EngineRejectedError as error:
        # A call whose answer was lost, or another run, may have come first.
        if error.status == HTTPStatus.BAD_REQUEST and await _is_listed(http, adapter, path):
            return
        raise EngineRejectedError(
            _load_problem(adapter, path, error), status=error.status
        ) from None
    if not await _is_listed(http, adapter, path):
        raise _without_effect(f"{http.peer} accepted `{adapter}` and does not list it.")


async def _is_listed(http: JsonClient, adapter: str, path: str) -> bool:
    listed = (await list_models(http)).adapters.get(adapter)
    if listed is None:
        return False
    if listed != path:
        raise EngineRejectedError.of(
            "FC4005",
            "The name is taken by other bytes",
            f"{http.peer} lists `{adapter}` from `{listed}`, not from `{path}`. A name never "
            "changes its bytes in place, because clients would get mixed answers.",
            hint="Plan again: the plan de-routes and unloads it first.",
            command="fleetctl plan",
        )
    return True


def _load_problem(adapter: str, path: str, error: EngineRejectedError) -> Diagnostic:
    reason = "; ".join(diagnostic.detail for diagnostic in error.diagnostics)
    hint = "Check the adapter; a server is a poor judge of it."
    command = f"fleetctl adapter verify {adapter}"
    if error.status == HTTPStatus.NOT_FOUND and "No adapter found" not in reason:
        hint = (
            "Start the server with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, as "
            "`fleetctl compile` shows."
        )
        command = "fleetctl compile"
    detail = f"`{adapter}` from `{path}`: {reason}"
    return problem("FC4007", "A server cannot load an adapter", detail, hint=hint, command=command)


async def unload_adapter(http: JsonClient, adapter: str) -> None:
    """Unload an adapter and verify the list of models; an unknown adapter is fine.

    An adapter that is not listed is unloaded too: the server may be about to load it by itself.

    Raises:
        EngineError: the server did not answer, refused, or lists the adapter still.
    """
    try:
        await http.post(
            "/v1/unload_lora_adapter", {"lora_name": adapter}, timeout_s=LOAD_DEADLINE_S
        )
    except EngineRejectedError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
    if adapter in (await list_models(http)).adapters:
        raise _without_effect(f"{http.peer} was told to unload `{adapter}` and lists it still.")


def _without_effect(detail: str) -> EngineRejectedError:
    hint = "Is it a vLLM, with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1? Then again:"
    command = "fleetctl apply --auto"
    return EngineRejectedError.of(
        "FC4006", "A change did not take effect", detail, hint=hint, command=command
    )


async def request_completion(
    http: JsonClient, model: str, prompt: str, max_tokens: int
) -> Completion:
    """Return the greedy answer to a text; see `ask`.

    Raises:
        EngineError: no answer, unknown model, or an answer of another form.
    """
    document = await ask(http, model, prompt, max_tokens, COMPLETION_DEADLINE_S)
    try:
        return Completion(
            text=answer_text(document),
            model=str(document["model"]),
            fingerprint=str(document.get("system_fingerprint") or ""),
            completion_tokens=int((document.get("usage") or {}).get("completion_tokens") or 0),
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        raise EngineRejectedError.of(
            "FC4004", "Answer not understood", f"{http.peer} gave no text."
        ) from None


async def ask(
    http: JsonClient, model: str, text: str, max_tokens: int, timeout_s: float | None = None
) -> Any:
    """Return the greedy reply to a text, as a chat or as a bare prompt.

    Only a base without a chat template gets the bare prompt: its server refuses every chat.

    Raises:
        EngineError: no answer, or a refusal for any other reason.
    """
    usual = {"model": model, "temperature": 0, "max_tokens": max_tokens}
    chat = usual | {"messages": [{"role": "user", "content": text}]}
    try:
        return await http.post("/v1/chat/completions", chat, timeout_s=timeout_s)
    except EngineRejectedError as error:
        reason = error.diagnostics[0].detail
        if error.status != HTTPStatus.BAD_REQUEST or _WITHOUT_TEMPLATE not in reason:
            raise
    return await http.post("/v1/completions", usual | {"prompt": text}, timeout_s=timeout_s)


def answer_text(reply: Any) -> str:
    """Return the text of a reply of `ask`; empty: the reply has none.

    The text is the reasoning where a server with a reasoning parser reached the upper bound of
    tokens before the answer proper.

    Raises:
        KeyError, IndexError, TypeError, AttributeError: the reply has another form.
    """
    choice = reply["choices"][0]
    message = choice["message"] if "message" in choice else {"content": choice["text"]}
    texts = [str(message.get(part) or "") for part in ("content", "reasoning", "reasoning_content")]
    return next((text for text in texts if text.strip()), "")
