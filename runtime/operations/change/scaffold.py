"""Writing scaffolds into a project: nothing is overwritten, nothing invalid is left behind."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fleet.config import add_entry, json_schema
from fleet.errors import ConfigError, Diagnostic, FleetError, Position
from fleet.names import AdapterName
from runtime.files import write_text
from runtime.project.load import read_files, read_tree
from runtime.workspace import ProjectContext, Workspace

SCHEMA_FILE = "fleet.schema.json"
"""File of the JSON schema that the first line of a scaffold names for editors."""
NOT_IN_LOCK = "FC1210"
"""Error code of an adapter without a version in the lock, until `fleetctl adapter add`."""


def new_fleet(folder: Path, text: str) -> list[Path]:
    """Write a fleet with the text of its `fleet.yaml` into a folder, and return the written files.

    Raises:
        FleetError: the folder holds a fleet, or cannot be written.
    """
    if (folder / "fleet.yaml").exists():
        raise _exists(folder / "fleet.yaml")
    texts = {
        "fleet.yaml": text,
        SCHEMA_FILE: json_schema(),
        ".gitignore": "# what fleetctl keeps beside the declarations\n.fleetctl/\n",
    }
    new = {path: text for path, text in texts.items() if not (folder / path).exists()}
    written = write_files(folder, new)
    make_folder(folder / "clients")
    return written


def new_client(workspace: Workspace, name: str, text: str) -> Path:
    """Write `clients/NAME.yaml` with a text, and return its path.

    Raises:
        FleetError: there is such a file.
        ConfigError: the client is declared elsewhere, or there is no such tier.
    """
    path = workspace.root / "clients" / f"{name}.yaml"
    if path.exists():
        raise _exists(path)
    _write_if_valid(workspace.project, path, text)
    return path


def new_adapter(
    workspace: Workspace, name: AdapterName, entry: str, golden_set: str
) -> tuple[list[Path], bool]:
    """Add an adapter to its client's declaration, and a golden set where the task has none.

    Args:
        workspace: The project.
        name: Full name of the version.
        entry: Text of the entry in the client's file.
        golden_set: Text of the golden set.

    Returns:
        The changed and written files, and whether the version is locked.

    Raises:
        FleetError: there is no such client, or its file has no place for it.
        ConfigError: there is such an adapter, or no such base.
    """
    texts = read_files(workspace.root, workspace.environment)
    tree = read_tree(texts, None, workspace.variables)
    client, task = ("clients", name.client), ("clients", name.client, "adapters", name.task)
    there, declared = tree.place(task, of_key=True), tree.place(client, of_key=True)
    if there is not None and tree.get(".".join(task)):
        detail = f"`{name.alias}` is declared at {there}; a new version is an edit of that entry."
        raise FleetError.of("FC6031", "Already declared", detail)
    if declared is None or not tree.get(".".join(client)):
        detail = f"No client is called `{name.client}`."
        command = f"fleetctl scaffold client {name.client}"
        raise FleetError.of("FC6032", "No such client", detail, command=command)
    spot = tree.place((*client, "adapters"), of_key=True) or declared
    path, golden = workspace.root / spot.file, f"golden/{name.task}.jsonl"
    written = tree.called.get(f"clients.{name.client}", name.client)
    text = with_entry(texts, spot, written, entry)
    new = [] if (workspace.root / golden).exists() else [golden]
    made = write_files(workspace.root, dict.fromkeys(new, golden_set))
    try:
        locked = _write_if_valid(workspace.project, path, text)
    except ConfigError:
        for file in made:
            file.unlink()
        raise
    return [path, *made], locked


def with_entry(texts: Mapping[str, str], spot: Position, client: str, entry: str) -> str:
    """Return the text of the file of a place with an entry in the adapters of a client.

    Raises:
        FleetError: FC6033, the file has no place for it.
    """
    text = add_entry(texts[spot.file], spot.file, ("clients", client, "adapters"), entry)
    if text is None:
        detail = (
            f"The adapters of `{client}` at {spot} are written in a form that lines cannot be "
            f"added to. Write them on lines of their own, and add:\n\n{entry}"
        )
        raise FleetError.of("FC6033", "No place for the entry", detail)
    return text


def _write_if_valid(project: ProjectContext, path: Path, text: str) -> bool:
    """Write a file, or restore the file if declarations become invalid.

    Returns:
        Whether the lock has every new version.

    Raises:
        ConfigError: the declarations were invalid before, or would be with the file.
    """
    before = _problems(project)
    if _wrong(before):
        raise ConfigError(*_wrong(before))
    old = path.read_text(encoding="utf-8") if path.exists() else None
    make_folder(path.parent)
    write_text(path, text)
    after = _problems(project)
    if _wrong(after):
        if old is None:
            path.unlink()
        else:
            write_text(path, old)
        raise ConfigError(*_wrong(after))
    return len(after) == len(before)


def _wrong(problems: Sequence[Diagnostic]) -> list[Diagnostic]:
    return [problem for problem in problems if problem.code != NOT_IN_LOCK]


def _problems(project: ProjectContext) -> tuple[Diagnostic, ...]:
    try:
        project.load()
    except ConfigError as error:
        return error.diagnostics
    return ()


def write_files(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write new files by path relative to `folder`, making folders as needed.

    Raises:
        FleetError: a file exists, or cannot be written.
    """
    if taken := [name for name in texts if (folder / name).exists()]:
        raise _exists(folder / taken[0])
    written = []
    for parent in sorted({(folder / name).parent for name in texts}):
        make_folder(parent)
    for name, text in texts.items():
        path = folder / name
        try:
            with path.open("x", encoding="utf-8", newline="") as file:
                file.write(text)
        except FileExistsError:
            raise _exists(path) from None
        except OSError as error:
            raise _unwritable(path, error) from error
        written.append(path)
    return written


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        FleetError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: OSError) -> FleetError:
    detail = f"{path}: {error.strerror or error}."
    hint = "choose a folder that exists and that you may write to"
    return FleetError.of("FC5021", "File cannot be written", detail, hint=hint)


def _exists(path: Path) -> FleetError:
    detail = f"`{path}` exists, and a scaffold never overwrites."
    hint = "Move it away, or run the command in another folder."
    return FleetError.of("FC6030", "File exists", detail, hint=hint)
