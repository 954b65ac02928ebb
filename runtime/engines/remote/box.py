"""Reads the servers of a host of engine `ssh` by a script; keeps their files of adapters."""

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fleet.codec import decode_json
from fleet.environment import SERVER_KEY
from fleet.errors import EngineRejectedError, NewerFormatError
from runtime.engines.adapters_file import FILE, AdapterEntry, dump_entries, parse_entries
from runtime.engines.launch_records import LaunchRecord, parse_record
from runtime.engines.remote.connection import SshConnection
from runtime.engines.remote.units import LIST, ServerUnit, done, parse_units
from runtime.files import make_private, read_plain, replace_file

MEMORIES: Final = "hosts"
"""Folder of the files of `BoxMemory` in the state folder."""
SERVERS: Final = ".local/share/fleetctl/servers"
"""Folder of the files of adapters on a host, relative to the user's home."""
_END: Final = "----"
_LOOK: Final = f"""\
echo "$HOME"; (cd {{store}} 2>/dev/null && pwd -P || echo)
for file in {SERVERS}/*/{FILE}; do
  test -f "$file" && printf '%s\\t' "$file" && tr -d '\\n' <"$file" && echo
done
echo {_END}
"""
_WRITE: Final = f"""\
mkdir -p {SERVERS}/{{server}} && cd {SERVERS}/{{server}} || exit
cat >.{FILE}.$$ <<'END_OF_FILE'
{{text}}
END_OF_FILE
test $? = 0 && sync .{FILE}.$$ && mv .{FILE}.$$ {FILE} && sync .
"""
KEY: Final = "key"
"""File with the server's key, for its unit."""
_WRITE_KEY: Final = f"""\
umask 077; mkdir -p {SERVERS}/{{server}} && cd {SERVERS}/{{server}} && rm -f .{KEY}.new || exit
cat >.{KEY}.new <<'END_OF_FILE'
{SERVER_KEY}={{key}}
END_OF_FILE
test $? = 0 && sync .{KEY}.new && mv .{KEY}.new {KEY} && sync .
"""


@dataclass(frozen=True, slots=True)
class BoxView:
    """The units of a host with their files of adapters."""

    home: str
    """Home folder of the user there."""
    store: str
    """Folder of the copies there, free of links; empty: there is none yet."""
    adapters: dict[str, dict[str, AdapterEntry]]
    """Entries of the files of adapters, by server."""
    units: dict[str, ServerUnit]


async def look(ssh: SshConnection, store: str) -> BoxView:
    """Return the units of a host with their files; changes nothing there.

    Raises:
        EngineError: as `list_units`.
    """
    script = _LOOK.format(store=shlex.quote(store)) + LIST
    return parse_view(done(ssh, "cannot list its units", await ssh.run(script)).stdout)


def parse_view(shown: str) -> BoxView:
    """Return the view in the output of the script of `look`."""
    head, _, listed = shown.partition(f"\n{_END}\n")
    home, store, *files = head.split("\n")
    pairs = (line.partition("\t")[::2] for line in files)
    adapters = {path.split("/")[-2]: parse_entries(text) for path, text in pairs}
    return BoxView(home, store, adapters, parse_units(listed))


async def write_entries(
    ssh: SshConnection, server: str, entries: Mapping[str, AdapterEntry]
) -> None:
    """Make these the entries of a server's file of adapters; whole or not at all.

    Raises:
        EngineError: FC4080, the file cannot be written; or as `SshConnection.run`.
    """
    ended = await ssh.run(_WRITE.format(server=server, text=dump_entries(entries)))
    if ended.code:
        raise EngineRejectedError.of(
            "FC4080",
            "A server's file of adapters cannot be written",
            f"{SERVERS}/{server}/{FILE} of `{ssh.address}`: {ended.stderr.strip()}. The server "
            "would answer by it after a restart, for an adapter that was unloaded or not for one "
            "that was loaded.",
            hint="Make room or see to the permissions, then apply again.",
            command="fleetctl apply --auto",
        )


def files_of_launch(server: str, key: str) -> str:
    """Return the script that writes the files of a new launch: no adapters, and its key.

    The key is the user's alone, and in no argument of a program.
    """
    scripts = [_WRITE.format(server=server, text=dump_entries({}))]
    scripts += [_WRITE_KEY.format(server=server, key=key)] if key else []
    return "".join(f"(cd; {script}) || exit\n" for script in scripts)


@dataclass(frozen=True, slots=True)
class BoxMemory:
    """The servers of a host at the last observation that reached the host.

    Names the servers of a host that is not reached, and tells a server that has fallen silent from
    a server that still starts. Nothing else depends on it: without it, a second checkout sees the
    same servers.
    """

    store: str = ""
    """As in `BoxView`."""
    records: dict[str, LaunchRecord] = field(default_factory=dict)
    """By server, with the invocation of its unit as start of the process; `ready`: this invocation
    has answered."""
    is_reached: bool = True
    """Whether the last observation reached the host."""

    @classmethod
    def read(cls, path: Path) -> "BoxMemory":
        """Return the memory in a file; an empty one if it is missing or cannot be read."""
        with suppress(OSError, ValueError, AttributeError, KeyError, TypeError, NewerFormatError):
            document = decode_json(read_plain(path))
            records = (parse_record(json.dumps(text), str(path)) for text in document["records"])
            known = {record.name: record for record in records}
            return cls(str(document["store"]), known, document.get("reached") is not False)
        return cls()

    def write(self, path: Path) -> None:
        """Write the memory; a full disk keeps the memory of before."""
        records = [record.model_dump(mode="json") for _, record in sorted(self.records.items())]
        with suppress(OSError):
            make_private(path.parent)
            document = {"store": self.store, "reached": self.is_reached, "records": records}
            replace_file(path, json.dumps(document, indent=1).encode())
