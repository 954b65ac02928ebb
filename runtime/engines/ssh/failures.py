"""Words the failures of connections to hosts, from the messages of `ssh`."""

import re
import shlex
from collections.abc import Sequence

from fleet.errors import EngineTimedOutError, EngineUnreachableError

_UNKNOWN = re.compile(r"^No (\S+) host key is known for (\S+) and you", re.MULTILINE)
_FINGERPRINT = re.compile(r"^debug1: Server host key: \S+ (SHA256:\S+)", re.MULTILINE)
_CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"
_SENT = re.compile(r"key sent by the remote host is\n(SHA256:\S+?)\.?$", re.MULTILINE)
_REMOVAL = re.compile(r"^\s*(ssh-keygen (?:-f .+ )?-R .+)$", re.MULTILINE)
_DENIED = re.compile(r"Permission denied|Too many authentication failures", re.MULTILINE)
# Not `Connection closed by`, which may as well end a session.
_BEFORE_SESSION = re.compile(
    r"^(ssh: |kex_|banner |Host key verification failed|No \S+ host "
    r"key|command-line|.*: Permission denied \(|.*: Bad |.*Too many authentication|Unable to nego)",
    re.MULTILINE,
)


def is_unknown_key(complaint: str) -> bool:
    """Say whether `ssh` refused a host with an unknown key."""
    return _UNKNOWN.search(complaint) is not None


def fingerprint_in(debug: str) -> str:
    """Return the fingerprint of the host's key in the output of `ssh -v`; may be empty."""
    return next(reversed(_FINGERPRINT.findall(debug)), "")


def never_began(complaint: str) -> bool:
    """Say whether `ssh` failed before a command could begin on the host."""
    return _BEFORE_SESSION.search(complaint) is not None


def last_line(complaint: str) -> str:
    """Return the last line that `ssh` wrote, without its full stop."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "it gave no reason"


def connection_error(
    address: str, complaint: str, words: Sequence[str], fingerprint: str = ""
) -> EngineUnreachableError:
    """Return the error of a connection that was not made.

    `words` are the command line of `ssh` up to the host, for commands to paste.
    """
    ssh = shlex.join(words)
    if found := _UNKNOWN.search(complaint):
        return EngineUnreachableError.of(
            "FC4091",
            "Host key is unknown",
            f"`{address}` shows the {found[1]} key {fingerprint or 'of an unknown fingerprint'}, "
            "and no known_hosts file has it. Nothing was sent.",
            hint="Compare it with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the box's "
            "console; if it is the same, accept it.",
            command=f"{ssh} -o StrictHostKeyChecking=ask {address} true",
        )
    if _CHANGED in complaint:
        sent, removal = _SENT.search(complaint), _REMOVAL.search(complaint)
        return EngineUnreachableError.of(
            "FC4092",
            "Host key has changed",
            f"`{address}` shows the key {sent[1] if sent else 'of another host'}, and known_hosts "
            "has another: the box was installed anew, or another machine answers. Nothing was "
            "sent.",
            hint="If the box was installed anew, forget the old key and accept the new one.",
            command=removal[1] if removal else f"ssh-keygen -R {shlex.quote(address)}",
        )
    if _DENIED.search(complaint):
        return EngineUnreachableError.of(
            "FC4093",
            "Host refuses the key",
            f"`{address}`: {last_line(complaint)}. No key of this user's agent or ssh "
            "configuration opens it; a password is never asked for.",
            hint="Put the public key into the box's authorized_keys, or load the key: `ssh-add`.",
            command=f"{ssh} -o BatchMode=no {address} true",
        )
    return EngineUnreachableError.of(
        "FC4090",
        "Host cannot be reached by SSH",
        f"`{address}`: {last_line(complaint)}. What runs there is unknown.",
        hint="Servers go on without it. See whether the box is up and the network is there.",
        command=f"{ssh} -v {address} true",
    )


def unknown_outcome(address: str, why: str) -> EngineTimedOutError:
    """Return the error of a command that began on a host and whose end was not heard of."""
    return EngineTimedOutError.of(
        "FC4094",
        "Outcome on a host is unknown",
        f"`{address}`: {why}. The command may or may not have taken effect there, and may still "
        "run.",
        hint="Running the command again is safe.",
    )
