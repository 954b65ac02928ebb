"""States the formats of fleetctl's files, and refuses the file of a later release.

Each kind of file states the rule of its own format in the docstring of the module that reads the
file. Common to all: a file without a format is of format 1 and is written so; what a release adds
so that earlier releases read past it needs no new format; a file of a later format is refused by
name, because acting on half of the file is unsafe.
"""

from fleet.errors import EngineError, FleetError, problem


class NewerFormatError(FleetError):
    """A file was written by a later release, in a format that this release does not read."""


def require_known(found: object, newest: int, file: str) -> None:
    """Refuse a file of a later format.

    Args:
        found: What the file gives as its format; None: nothing, which is format 1.
        newest: The newest format that this release reads.
        file: Name or path; with the number of the line, where that has the format.

    Raises:
        NewerFormatError: FC5007.
    """
    if type(found) is int and found > newest:
        raise NewerFormatError(
            problem(
                "FC5007",
                "File was written by a newer fleetctl",
                f"`{file}` has format {found}, and this fleetctl reads up to format {newest}. "
                "Acting on half of a file is unsafe, so nothing was read or changed.",
                hint="Upgrade fleetctl here to the release that wrote the file, or a later one.",
            )
        )


def newer_server(name: str, version: int, newest: int) -> EngineError:
    """Return the error of a server whose flags are of a later format than this release knows."""
    return EngineError(
        problem(
            "FC4023",
            "A server was started by a newer fleetctl",
            f"The flags of `{name}` are of format {version}, and this fleetctl knows up to format "
            f"{newest}. What it cannot compare it leaves alone.",
            hint="Upgrade fleetctl here to the release that started the server, or a later one.",
        )
    )
