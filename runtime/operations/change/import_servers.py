"""Read servers that run already, write their declarations, add their adapters to the library."""

import asyncio
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from itertools import chain, count
from pathlib import Path
from typing import Any

from fleet.config import Imported, ImportedAdapter, LiveServer, json_schema
from fleet.errors import ConfigError, Diagnostic, EngineError, EngineRejectedError, FleetError
from fleet.names import suggest_id
from fleet.vllm import RANKS, rank_bucket
from runtime.engines.vllm_api import ServerSnapshot, observe_server, takes_adapters
from runtime.files import write_text
from runtime.json_client import SERVER_KEYS, JsonClient
from runtime.library.add import add
from runtime.library.inspect import read_config
from runtime.library.layout import base_folder
from runtime.operations.change.scaffold import NOT_IN_LOCK, SCHEMA_FILE, with_entry, write_files
from runtime.project.declaration_files import MAIN
from runtime.project.facts import read_dimensions, read_shape
from runtime.project.known_base import known_base
from runtime.project.load import library_folder, read_files, read_tree
from runtime.server_tls import attached_key
from runtime.trust import is_own, peer_of
from runtime.workspace import Call, Workspace

RenderTemplate = Callable[..., str]
"""Makes a text of a template from the template's name and the values by name."""


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


def write_import(
    workspace: Workspace, imported: Imported, render: RenderTemplate
) -> tuple[list[Path], list[Path]]:
    """Write the declarations into a project; return the new files, and those with new entries.

    What stands in files stays: a client that is declared already gets entries in its file.

    Raises:
        FleetError: FC6030, a file of a client exists and declares others; FC6033, a file has no
            place for entries. Nothing was written.
        ConfigError: the declarations would be invalid. Nothing is left behind.
    """
    root = workspace.root
    is_new = not (root / MAIN).exists()
    before = {} if is_new else read_files(root, workspace.environment)
    new, edited = _clients(workspace, imported, before, render)
    texts = _texts(workspace, imported, render, is_new=is_new) | new
    present = [name for name in texts if (root / name).exists()]
    for name in {SCHEMA_FILE, ".gitignore", *_base_files(workspace, imported)} & {*present}:
        del texts[name]
    written = write_files(root, texts)
    for name, text in edited.items():
        write_text(root / name, text)
    try:
        workspace.project.load()
    except ConfigError as error:
        wrong = [found for found in error.diagnostics if found.code != NOT_IN_LOCK]
        if wrong:
            for path in written:
                path.unlink()
            for name in edited:
                write_text(root / name, before[name])
            raise ConfigError(*wrong) from None
    return written, [root / name for name in edited]


def _base_files(call: Call, imported: Imported) -> dict[str, str]:
    library = _library(call)
    return {
        str(base_folder(library, base) / name): text
        for base, server in imported.bases.items()
        for name, text in base_files(server).items()
    }


def _library(call: Call) -> Path:
    """Return the library's folder, relative to the project."""
    return library_folder(call.root).relative_to(call.root)


def _texts(
    call: Call, imported: Imported, render: RenderTemplate, *, is_new: bool
) -> dict[str, str]:
    files = _base_files(call, imported)
    names, ranks = adapter_settings(imported)
    bases = [
        {
            "name": base,
            "folder": (folder := base_folder(_library(call), base)).as_posix(),
            "root": server.root,
            "known_as": tuple(
                dict.fromkeys(
                    name for name in (server.root, *server.names, *names[base]) if name != base
                )
            ),
            "max_model_len": server.max_model_len,
            "is_read": str(folder / "config.json") in files,
        }
        for base, server in imported.bases.items()
    ]
    hosts: dict[str, list[object]] = {}
    for server in imported.servers:
        hosts.setdefault(server.host, []).append(server)
    name = suggest_id(call.root.resolve().name) or "fleet"
    shown = {"bases": bases, "hosts": hosts, "ranks": ranks}
    fleet = render("imported_fleet.yaml.j2", fleet=name if is_new else "", **shown)
    numbered = (f"imported_{number}.yaml" for number in count(2))
    free = (file for file in chain(["imported.yaml"], numbered) if not (call.root / file).exists())
    texts = {MAIN if is_new else next(free): fleet, **files}
    if is_new:
        texts |= {SCHEMA_FILE: json_schema(), ".gitignore": ".fleetctl/\n"}
    return texts


def _clients(
    call: Call, imported: Imported, before: Mapping[str, str], render: RenderTemplate
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the new files of clients, and those with new entries; `before` has the texts there."""
    tree = read_tree(before, None, call.variables) if before else None
    new, texts = dict[str, str](), dict(before)
    for client, adapters in imported.clients.items():
        path = ("clients", client)
        declared = tree.place(path, of_key=True) if tree and tree.get(".".join(path)) else None
        entries = [render("imported_adapter.yaml.j2", adapter=adapter) for adapter in adapters]
        if tree is None or declared is None:
            shown = {"client": client, "entries": [entry.rstrip("\n") for entry in entries]}
            new[f"clients/{client}.yaml"] = render("imported_client.yaml.j2", **shown)
            continue
        spot = tree.place((*path, "adapters"), of_key=True) or declared
        written = tree.called.get(".".join(path), client)
        for entry in entries:
            texts[spot.file] = with_entry(texts, spot, written, entry)
    return new, {name: text for name, text in texts.items() if before[name] != text}


def add_versions(call: Call, imported: Imported) -> Iterator[tuple[ImportedAdapter, str]]:
    """Add the adapters whose folders are on this machine; yield the others with the reason."""
    root = call.root
    for adapter in imported.adapters:
        try:
            source = _folder(adapter)
            base = known_base(root, call.environment, call.variables, adapter.name.base)
            added = add(source, adapter.name, base, library_folder(root), root)
            for warning in added.warnings:
                call.warn(f"{adapter.name}: {warning.detail}")
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
