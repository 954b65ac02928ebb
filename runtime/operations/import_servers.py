"""Read servers that run already, and bring their adapters into the library of a new fleet."""

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fleet.config import Imported, ImportedAdapter, LiveServer
from fleet.errors import ConfigError, Diagnostic, EngineError, EngineRejectedError, FleetError
from fleet.vllm import RANKS, rank_bucket
from runtime.engines.vllm_api import ServerSnapshot, observe_server, takes_adapters
from runtime.json_client import SERVER_KEYS, JsonClient
from runtime.library.add import add
from runtime.library.inspect import read_config
from runtime.project.facts import read_dimensions, read_shape
from runtime.project.known_base import known_base
from runtime.project.load import library_folder
from runtime.server_keys import attached_key
from runtime.trust import is_own, peer_of
from runtime.workspace import Workspace


def read_servers(
    urls: Collection[str], root: Path, keys: Mapping[str, str]
) -> tuple[LiveServer, ...]:
    """Return the answers of servers; nothing is changed on them.

    `keys`: references of keys by URL, which servers that ask for a key get. Files are relative to
    `root`.

    Raises:
        FleetError: with the problems of all of them: FC1113 an address is wrong, FC1270 a host is
            not trusted, FC4001 and FC4002 no answer, FC6096 not a vLLM server, FC6097 a
            key is asked for, FC1271, FC1272, FC4025 the key cannot be sent there.
    """

    async def all_servers() -> list[LiveServer | BaseException]:
        calls = (_read(url, root, keys.get(url, "")) for url in dict.fromkeys(urls))
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(all_servers())
    problems: list[Diagnostic] = []
    for answer in answers:
        if isinstance(answer, FleetError):
            problems += answer.diagnostics
        elif isinstance(answer, BaseException):
            raise answer
    if problems:
        raise FleetError(*problems)
    return tuple(answer for answer in answers if isinstance(answer, LiveServer))


async def _read(url: str, root: Path, reference: str) -> LiveServer:
    try:
        peer = peer_of(url)
    except ValueError as error:
        hint = "Write scheme, host and port alone: http://10.0.0.5:8000."
        raise FleetError.of("FC1113", "Invalid address", f"{error}.", hint=hint) from None
    async with JsonClient(url) as http:
        told = await _observed(http)
        if told is None and reference:
            SERVER_KEYS[http.url] = attached_key(root, url, url, reference)
            told = await _observed(http)
        if told is None:
            raise _keyed(url, reference)
        if not told.listing.names or not told.listing.root:
            raise _not_vllm(url, "Its list of models names no base with its path.")
        return LiveServer(
            url,
            "" if is_own(peer.host) else peer.host,
            peer.port,
            told.listing.names,
            told.listing.root,
            told.listing.adapters,
            told.listing.max_model_len,
            told.max_loras,
            await takes_adapters(http),
            reference if http.url in SERVER_KEYS else "",
        )


async def _observed(http: JsonClient) -> ServerSnapshot | None:
    """Return the answer of a server; None: it asks for another key, or for any."""
    try:
        return await observe_server(http)
    except EngineRejectedError as error:
        if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return None
        raise _not_vllm(http.url, error.diagnostics[0].detail) from None


def _keyed(url: str, reference: str) -> FleetError:
    why = f", and refuses that of `{reference}`" if reference else ""
    detail = f"`{url}` answers with a key alone{why}. Nothing was written."
    hint = "Put the key that it was started with (--api-key) into the environment or a file of "
    hint += f"yours, and name it: fleetctl import {url} --api-key env:NAME. A gateway of fleetctl "
    hint += "is asked with its clients' keys: name the servers behind it."
    return FleetError.of("FC6097", "Server asks for a key", detail, hint=hint)


def _not_vllm(url: str, why: str) -> FleetError:
    return FleetError.of(
        "FC6096",
        "Not a vLLM server",
        f"`{url}` does not answer as vLLM. {why}",
        hint="Name the server itself, not a proxy before it, without a path such as /v1.",
    )


def base_files(server: LiveServer) -> Mapping[str, str]:
    """Return the files that tell a base's dimensions, by name; none, where they are not here.

    The dimensions alone are written, as the path was chosen by the server.
    """
    folder = Path(server.root)
    if server.machine or not folder.is_absolute():
        return {}
    try:
        shape, numbers = read_shape(folder), read_dimensions(folder)
    except (ConfigError, OSError):
        return {}
    config = {"architectures": [shape.architecture], **numbers}
    index = {"metadata": {"total_size": shape.weight_bytes}, "weight_map": {}}
    files = {"config.json": config, "model.safetensors.index.json": index}
    return {name: json.dumps(document, indent=2) + "\n" for name, document in files.items()}


def adapter_settings(imported: Imported) -> tuple[dict[str, tuple[str, ...]], dict[str, int]]:
    """Return the names by which adapters name their base, by base; the largest rank, by base."""
    names: dict[str, dict[str, None]] = {server.base: {} for server in imported.servers}
    ranks = dict.fromkeys(names, 0)
    for adapter in imported.adapters:
        with suppress(FleetError, OSError):
            config: Mapping[str, Any] = read_config(_folder(adapter))
            named, rank = config.get("base_model_name_or_path"), config.get("r")
            if isinstance(named, str) and named:
                names[adapter.name.base][named] = None
            if type(rank) is int and rank <= RANKS[-1]:
                ranks[adapter.name.base] = max(ranks[adapter.name.base], rank_bucket(rank) or 0)
    return {base: tuple(found) for base, found in names.items()}, ranks


def add_versions(workspace: Workspace, imported: Imported) -> Iterator[tuple[ImportedAdapter, str]]:
    """Add the adapters whose folders are on this machine; yield the others with the reason."""
    root = workspace.root
    for adapter in imported.adapters:
        try:
            source = _folder(adapter)
            base = known_base(root, workspace.environment, workspace.variables, adapter.name.base)
            added = add(source, adapter.name, base, library_folder(root), root)
            for warning in added.warnings:
                workspace.warn(f"{adapter.name}: {warning.detail}")
        except FleetError as error:
            yield adapter, "; ".join(found.detail for found in error.diagnostics)
        except OSError as error:
            yield adapter, f"`{error.filename}`: {error.strerror or error}."


def _folder(adapter: ImportedAdapter) -> Path:
    """Return the folder of an adapter on this machine.

    Raises:
        EngineError: FC4009, the folder is another machine's, or not known.
    """
    folder = Path(adapter.folders[0])
    if adapter.is_here and folder.is_absolute() and folder.is_dir():
        return folder
    shown = ", ".join(f"`{folder}`" for folder in adapter.folders)
    raise EngineError.of(
        "FC4009", "A path is not visible to the servers", f"{shown} is not read on this machine."
    )
