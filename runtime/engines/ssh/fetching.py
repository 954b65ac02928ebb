"""Lets a host fetch files from their source, by its own `curl`."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Final

from runtime.engines.protocol import DirectFile
from runtime.engines.ssh.connection import SCRIPT_S, SshConnection
from runtime.engines.ssh.source_folder import SourceFolder

_SLOWEST: Final = 1e6
"""Lower bound of the speed of a fetch, for the deadline. Bytes a second."""
_NO_CURL: Final = 127
_FETCH: Final = f"""\
cd {{folder}} || exit
command -v curl >/dev/null || exit {_NO_CURL}
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


async def fetch(
    ssh: SshConnection, files: Sequence[DirectFile], source: SourceFolder, folder: str
) -> str:
    """Let a host fetch files into a folder; return the last complaint of `curl`; empty: none.

    The caller checks the files, as some may be missing. URLs and rights go to `curl` by its input:
    no command line there shows them. What has arrived already is kept.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    rights = dict.fromkeys(file.right for file in files)
    calls = "".join(
        _CALL.format(config=_config(right, [file for file in files if file.right == right]))
        for right in rights  # a store behind a registry refuses the registry's token
    )
    names = [file.name for file in files]
    script = _FETCH.format(
        folder=shlex.quote(folder), left_out=_left_out(source, names), calls=calls
    )
    ended = await ssh.run(script, timeout_s=SCRIPT_S + source.size / _SLOWEST)
    if ended.code == _NO_CURL:
        return "it has no curl"
    lines = [line.strip() for line in ended.stderr.splitlines() if line.startswith("curl: ")]
    return lines[-1].rstrip(".") if lines else ""


def _left_out(source: SourceFolder, names: Iterable[str]) -> str:
    digests = source.digests
    return "".join(
        f"leave_out {shlex.quote(name)} {(source.folder / name).stat().st_size} {digests[name]}\n"
        for name in names
    )


def _config(right: str, files: Iterable[DirectFile]) -> str:
    words = [*_OPTIONS, *([f"header = {_quoted(f'Authorization: {right}')}"] if right else [])]
    for file in files:
        words += [f"url = {_quoted(file.url)}", f"output = {_quoted(file.name)}"]
    return "".join(f"{word}\n" for word in words)


def _quoted(text: str) -> str:
    """Quote a value for a file of options of `curl`, without line ends."""
    plain = "".join(text.splitlines())
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
