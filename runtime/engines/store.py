"""Brings folders whole under their digests into the stores of servers, by a transport.

The transports are `rsync` and `curl` on a host (`remote/copies.py`) and a copy into the folder that
this machine shares with nodes (`ray/shared_folder.py`). The scripts that both run on other machines
are written here.
"""

import asyncio
import hashlib
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import ClassVar, Final, Protocol, Self

from fleet.errors import EngineError
from runtime.engines.protocol import DirectFile, Report
from runtime.state_folder import manifest_of


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """The files of a folder of this machine, to be brought to hosts."""

    folder: Path
    manifest: str
    """The files with their digests, in the format of `sha256sum`."""
    size: int
    """Sum of the files. Bytes."""

    @classmethod
    def of(cls, folder: Path, names: Iterable[str] | None = None, *, links: bool = False) -> Self:
        """Hash the files of these names, or all of the folder; `links` are followed if allowed.

        Raises:
            OSError: as `manifest_of`.
        """
        if names is None:
            names = (path.name for path in folder.iterdir() if path.is_file())
        chosen = sorted(names)
        size = sum((folder / name).stat().st_size for name in chosen)
        return cls(folder, manifest_of(folder, chosen, links=links), size)

    @property
    def digest(self) -> str:
        """Digest of the folder; an adapter version's is that of `fleet.lock`."""
        return hashlib.sha256(self.manifest.encode()).hexdigest()

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the files by name."""
        rows = (line.partition("  ") for line in self.manifest.splitlines())
        return {name: digest for digest, _, name in rows}

    @property
    def names(self) -> list[str]:
        """Names of the files."""
        return [*self.digests]


async def source_of(folder: Path, *, links: bool = False) -> SourceFolder:
    """Hash the files of a folder, without its folders; `links`: as `SourceFolder.of`.

    Raises:
        EngineError: FC4097, a file cannot be read.
    """
    try:
        return await asyncio.to_thread(SourceFolder.of, folder, links=links)
    except OSError as error:
        detail = f"`{error.filename or folder}` cannot be read: {error.strerror or error}."
        hint = "Let your user read the folder and its files, then run the command again."
        raise EngineError.of(
            "FC4097", "Files did not arrive on a host", detail, hint=hint
        ) from None


PATHS: Final = 3
"""Upper bound of the paths that are tried for a folder whose copies are damaged."""


class Transport(Protocol):
    """A way by which folders get into a store, of another machine or shared with others."""

    suspects: ClassVar[str]
    """The parts that may be faulty where other bytes arrive again and again."""

    @property
    def place(self) -> str:
        """The machine of the store, as the end of a copy's path in texts; empty: not needed."""
        ...

    async def bring(self, source: SourceFolder, number: int) -> str:
        """Bring a folder unless a copy is there, hashed or not; return the path of the copy.

        The copy is complete or absent: what an interruption leaves has another name.
        """
        ...

    async def fault(self, source: SourceFolder, path: str) -> tuple[str, Sequence[str]]:
        """Hash a copy; return its fault as `fault_of`, and the files that have the fault."""
        ...


async def bring_good(
    transport: Transport, source: SourceFolder, first: int, tell: Callable[[str], None]
) -> str:
    """Bring a folder, hash the copy even if present, and return the path of the good copy.

    A copy with other bytes is left to the servers that may read it: the next path is taken.
    `first`: number of the path that is tried first. `tell`: called with the fault of a copy.

    Raises:
        EngineError: FC4099, other bytes at every path; or as the transport.
    """
    for number in range(first, first + PATHS):
        path = await transport.bring(source, number)
        fault, faulty = await transport.fault(source, path)
        if not fault:
            return path
        tell(f"the copy at `{path}`{transport.place} {fault}")
    raise other_bytes(transport, source, path, faulty)


def other_bytes(
    transport: Transport, source: SourceFolder, path: str, files: Sequence[str]
) -> EngineError:
    """Return the error of a copy with other bytes, in the named files."""
    where = f" in {listed(files)}" if files else ""
    return EngineError.of(
        "FC4099",
        "Files on a host have other bytes",
        f"The copy of `{source.folder}` at `{path}`{transport.place} has other bytes than its "
        f"digest{where}, again and again: files change here, or {transport.suspects} is faulty.",
        hint="See that no training writes into the folder, and check the library:",
        command="fleetctl adapter verify",
    )


OTHER_BYTES: Final = 5
"""Status of a check of files that are not those of the source."""
_SLOWEST: Final = 1e6
"""Lower bound of the speed of a fetch, for the deadline. Bytes a second."""
_HASHED: Final = 50e6
"""Lower bound of the speed of a check, for the deadline. Bytes a second."""
_SHOWN: Final = 3
"""Upper bound of the files that a text names."""
_FAULTY: Final = re.compile(r"^(.+): FAILED(?: open or read)?$", re.MULTILINE)
_CURL: Final = "curl: "
"""Beginning of the complaints of `curl`."""

_FETCH: Final = f"""\
cd {{folder}} || exit
command -v curl >/dev/null || {{{{ echo '{_CURL}it is not installed' >&2; exit 127; }}}}
leave_out() {{{{
    test "$(stat -c %s "$1" 2>/dev/null || echo 0)" -lt "$2" ||
        printf '%s  %s\\n' "$3" "$1" | sha256sum --check --status || rm -f "$1"
}}}}
{{left_out}}{{calls}}"""
"""A whole file with other bytes goes first: `curl` would go on behind its end for ever."""
_CALL: Final = """\
curl --config - <<'end-of-fetch'
{config}end-of-fetch
"""
_OPTIONS: Final = (
    "silent", "show-error", "fail", "location", "retry = 2", "connect-timeout = 10",
    "speed-limit = 1000", "speed-time = 30", 'proto = "=https"', 'proto-redir = "=https"',
    'continue-at = "-"',
)  # fmt: skip
_CHECK: Final = """\
cd {folder} || exit
sha256sum --check --quiet --strict <<'{digest}' || exit {other}
{manifest}{digest}
test "$(find . -type f | wc -l)" -eq {count} || exit {other}
"""
_FINISH: Final = """\
find . -type f -exec chmod 444 {{}} + -exec sync {{}} + &&
find . -type d -exec chmod 555 {{}} + -exec sync {{}} + && cd .. || exit
mv -T {name}.part {name} || {{ chmod -R u+w {name}.part; rm -rf {name}.part; test -d {name}; }} &&
sync .
"""
"""Another run may have brought the same folder meanwhile."""


def fetch_script(files: Sequence[DirectFile], source: SourceFolder, folder: str) -> str:
    """Return the script that fetches files into a folder, by the machine's own `curl`.

    The caller checks the files, as some may be missing. URLs and rights go to `curl` by its input:
    no command line there shows them. What has arrived already is kept.
    """
    rights = dict.fromkeys(file.right for file in files)
    calls = "".join(
        _CALL.format(config=_config(right, [file for file in files if file.right == right]))
        for right in rights  # a store behind a registry refuses the registry's token
    )
    left_out = "".join(
        f"leave_out {shlex.quote(file.name)} {(source.folder / file.name).stat().st_size} "
        f"{source.digests[file.name]}\n"
        for file in files
    )
    return _FETCH.format(folder=shlex.quote(folder), left_out=left_out, calls=calls)


def fetch_limit_s(source: SourceFolder) -> float:
    """Return the upper bound of the time of a fetch."""
    return source.size / _SLOWEST


def check_script(source: SourceFolder, folder: str) -> str:
    """Return the script that ends with `OTHER_BYTES` where a folder has other files."""
    return _CHECK.format(
        folder=shlex.quote(folder),
        digest=source.digest,
        manifest=source.manifest,
        count=len(source.names),
        other=OTHER_BYTES,
    )


def check_limit_s(source: SourceFolder) -> float:
    """Return the upper bound of the time of a check."""
    return source.size / _HASHED


def finish_script(name: str) -> str:
    """Return the script, for after the check of `<name>.part`, that gives the copy its name."""
    return _FINISH.format(name=name)


def faulty_files(stdout: str) -> list[str]:
    """Return the files that a check found to be others."""
    return _FAULTY.findall(stdout)


def listed(files: Sequence[str]) -> str:
    """Return names of files for a sentence."""
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return ", ".join(f"`{name}`" for name in files[:_SHOWN]) + more


def fault_of(code: int, stdout: str) -> str:
    """Return the fault of a copy by its check, as the end of a sentence; empty: it is good."""
    if code not in (0, OTHER_BYTES):
        return "is gone, or cannot be read"
    faulty = faulty_files(stdout)
    where = f" in {listed(faulty)}" if faulty else ", or more files"
    return f"has other bytes than its digest{where}" if code else ""


def not_fetched(machine: str, stdout: str, stderr: str) -> str:
    """Return why a machine has not fetched the files, by fetch and check, as a sentence's end."""
    lines = [line.strip() for line in stderr.splitlines() if line.startswith(_CURL)]
    why = f" ({lines[-1].rstrip('.')})" if lines else ""
    what = listed(faulty_files(stdout)) or "its files"
    return f"`{machine}` did not fetch {what} as its digest says{why}"


def _config(right: str, files: Iterable[DirectFile]) -> str:
    words = [*_OPTIONS, *([f"header = {_quoted(f'Authorization: {right}')}"] if right else [])]
    for file in files:
        words += [f"url = {_quoted(file.url)}", f"output = {_quoted(file.name)}"]
    return "".join(f"{word}\n" for word in words)


def _quoted(text: str) -> str:
    """Quote a value for a file of options of `curl`, without line ends."""
    plain = "".join(text.splitlines())
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


_REPORT_S: Final = 5.0
"""Time between two reports of a transfer. Seconds."""


@dataclass(slots=True)
class TransferReport:
    """Tells of a folder on its way to a host every `_REPORT_S` seconds, and of faults at once."""

    host: str
    source: SourceFolder
    report: Report
    _told: float = field(default_factory=monotonic)

    def __call__(self, done: int, size: int) -> None:
        """Take the bytes that are there, and those of the folder."""
        if monotonic() - self._told >= _REPORT_S:
            self._told = monotonic()
            self.report(f"{self.source.folder.name} to {self.host}", done, size)

    def begun_anew(self, why: str) -> None:
        """Tell why the folder is brought once more."""
        what = f"{self.source.folder.name} to {self.host} once more, as {why}"
        self.report(what, 0, self.source.size)
