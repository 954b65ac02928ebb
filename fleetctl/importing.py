"""Writes the declarations of servers that run already; no file is overwritten."""

from pathlib import Path

from fleet.config import Imported, json_schema
from fleet.errors import ConfigError
from fleet.names import suggest_id
from fleetctl.scaffolding import NOT_IN_LOCK, SCHEMA_FILE, write_files
from plans.templating import rendered
from runtime.library.layout import base_folder
from runtime.operations.import_servers import adapter_settings, base_files
from runtime.project.declaration_files import MAIN
from runtime.project.load import library_folder
from runtime.workspace import Workspace


def write_import(workspace: Workspace, imported: Imported) -> list[Path]:
    """Write the declarations into a project, new or not, and return the files.

    Raises:
        FleetError: FC6030, a file exists. Nothing was written.
        ConfigError: the declarations would be invalid. Nothing is left behind.
    """
    root = workspace.root
    is_new = not (root / MAIN).exists()
    texts = _texts(workspace, imported, is_new=is_new)
    present = [name for name in texts if (root / name).exists()]
    for name in {SCHEMA_FILE, ".gitignore", *_base_files(workspace, imported)} & {*present}:
        del texts[name]
    written = write_files(root, texts)
    try:
        workspace.project()
    except ConfigError as error:
        wrong = [found for found in error.diagnostics if found.code != NOT_IN_LOCK]
        if wrong:
            for path in written:
                path.unlink()
            raise ConfigError(*wrong) from None
    return written


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
    texts = {MAIN if is_new else "imported.yaml": fleet, **files}
    if is_new:
        texts |= {SCHEMA_FILE: json_schema(), ".gitignore": ".fleetctl/\n"}
    return texts | _clients(imported)


def _clients(imported: Imported) -> dict[str, str]:
    return {
        f"clients/{client}.yaml": rendered(
            "imported_client.yaml.j2", client=client, adapters=adapters
        )
        for client, adapters in imported.clients.items()
    }
