"""Lets a host fetch files from their source, by its own `curl`."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Final

from runtime.engines.protocol import DirectFile
from runtime.engines.ssh.connection import SCRIPT_S, SshConnection

_SLOWEST: Final = 1e6
"""Lower bound of the speed of a fetch, for the deadline. Bytes a second."""
_FETCH: Final = """\
cd {folder} && command -v curl >/dev/null || exit 3
{calls}"""
_CALL: Final = """\
curl --config - <<'end-of-fetch'
{config}end-of-fetch
"""
_OPTIONS: Final = (
    "silent", "show-error", "fail", "location", "retry = 2", "connect-timeout = 10",
    "speed-limit = 1000", "speed-time = 30", 'proto = "=https"', 'proto-redir = "=https"',
    'continue-at = "-"',
)  # fmt: skip


async def fetch(ssh: SshConnection, files: Sequence[DirectFile], folder: str, size: int) -> None:
    """Let a host fetch files into a folder; the caller checks the files, as some may be missing.

    URLs and rights go to `curl` by its input: no command line there shows them. What has arrived
    already is kept. `size`: the bytes of all files, for the deadline.

    Raises:
        EngineError: as `SshConnection.run`.
    """
    rights = dict.fromkeys(file.right for file in files)
    calls = "".join(
        _CALL.format(config=_config(right, [file for file in files if file.right == right]))
        for right in rights  # a store behind a registry refuses the registry's token
    )
    script = _FETCH.format(folder=shlex.quote(folder), calls=calls)
    await ssh.run(script, timeout_s=SCRIPT_S + size / _SLOWEST)


def _config(right: str, files: Iterable[DirectFile]) -> str:
    words = [*_OPTIONS, *([f"header = {_quoted(f'Authorization: {right}')}"] if right else [])]
    for file in files:
        words += [f"url = {_quoted(file.url)}", f"output = {_quoted(file.name)}"]
    return "".join(f"{word}\n" for word in words)


def _quoted(text: str) -> str:
    """Quote a value for a file of options of `curl`, without line ends."""
    plain = "".join(text.splitlines())
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
