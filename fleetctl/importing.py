"""Writes the declarations of servers that run already; what stands in files stays."""

from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path

from fleet.config import Imported, json_schema
from fleet.errors import ConfigError
from fleet.names import suggest_id
from fleetctl.scaffolding import NOT_IN_LOCK, SCHEMA_FILE, with_entry, write_files
from plans.templating import rendered
from runtime.files import write_text
from runtime.library.layout import base_folder
from runtime.operations.import_servers import adapter_settings, base_files
from runtime.project.declaration_files import MAIN
from runtime.project.load import library_folder, read_files, read_tree
from runtime.workspace import Workspace


def write_import(workspace: Workspace, imported: Imported) -> tuple[list[Path], list[Path]]:
    """Write the declarations into a project; return the new files, and those with new entries.

    A client that is declared already gets entries in its file, of which all else stays.

    Raises:
        FleetError: FC6030, a file of a client exists and declares others; FC6033, a file has no
            place for entries. Nothing was written.
        ConfigError: the declarations would be invalid. Nothing is left behind.
    """
    root = workspace.root
    is_new = not (root / MAIN).exists()
    before = {} if is_new else read_files(root, workspace.environment)
    new, edited = _clients(workspace, imported, before)
    texts = _texts(workspace, imported, is_new=is_new) | new
    present = [name for name in texts if (root / name).exists()]
    for name in {SCHEMA_FILE, ".gitignore", *_base_files(workspace, imported)} & {*present}:
        del texts[name]
    written = write_files(root, texts)
    for name, text in edited.items():
        write_text(root / name, text)
    try:
        workspace.project()
    except ConfigError as error:
        wrong = [found for found in error.diagnostics if found.code != NOT_IN_LOCK]
        if wrong:
            for path in written:
                path.unlink()
            for name in edited:
                write_text(root / name, before[name])
            raise ConfigError(*wrong) from None
    return written, [root / name for name in edited]


def _base_files(workspace: Workspace, imported: Imported) -> dict[str, str]:
    library = _library(workspace)
    return {
        str(base_folder(library, base) / name): text
        for base, server in imported.bases.items()
        for name, text in base_files(server).items()
    }


def _library(workspace: Workspace) -> Path:
    """Return the library's folder, relative to the project."""
    return library_folder(workspace.root).relative_to(workspace.root)


def _texts(workspace: Workspace, imported: Imported, *, is_new: bool) -> dict[str, str]:
    files = _base_files(workspace, imported)
    names, ranks = adapter_settings(imported)
    bases = [
        {
            "name": base,
            "folder": (folder := base_folder(_library(workspace), base)).as_posix(),
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
    name = suggest_id(workspace.root.resolve().name) or "fleet"
    shown = {"bases": bases, "hosts": hosts, "ranks": ranks}
    fleet = rendered("imported_fleet.yaml.j2", fleet=name if is_new else "", **shown)
    numbered = (f"imported_{number}.yaml" for number in count(2))
    free = (
        file for file in chain(["imported.yaml"], numbered) if not (workspace.root / file).exists()
    )
    texts = {MAIN if is_new else next(free): fleet, **files}
    if is_new:
        texts |= {SCHEMA_FILE: json_schema(), ".gitignore": ".fleetctl/\n"}
    return texts


def _clients(
    workspace: Workspace, imported: Imported, before: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the new files of clients, and those with new entries; `before` has the texts there."""
    tree = read_tree(before, None, workspace.variables) if before else None
    new, texts = dict[str, str](), dict(before)
    for client, adapters in imported.clients.items():
        path = ("clients", client)
        declared = tree.place(path, of_key=True) if tree and tree.get(".".join(path)) else None
        entries = [rendered("imported_adapter.yaml.j2", adapter=adapter) for adapter in adapters]
        if tree is None or declared is None:
            shown = {"client": client, "entries": [entry.rstrip("\n") for entry in entries]}
            new[f"clients/{client}.yaml"] = rendered("imported_client.yaml.j2", **shown)
            continue
        spot = tree.place((*path, "adapters"), of_key=True) or declared
        written = tree.called.get(".".join(path), client)
        for entry in entries:
            texts[spot.file] = with_entry(texts, spot, written, entry)
    return new, {name: text for name, text in texts.items() if before[name] != text}
