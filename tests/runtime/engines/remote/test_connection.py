"""Scripts between two marks, and errors in the words of `ssh`."""

import subprocess
from pathlib import Path

import pytest

from fleet.errors import EngineError
from runtime.engines.remote.connection import (
    ScriptResult,
    SshConnection,
    connection_error,
    fingerprint_in,
    framed,
    has_begun,
    has_ended,
    never_began,
    unframed,
)

MARK = "fleetctl-0123456789abcdef01234567"


def run(given: bytes) -> bytes:
    return subprocess.run(["/bin/sh", "-s"], input=given, capture_output=True, check=False).stdout


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("echo hello", ScriptResult(0, "hello\n")),
        ("printf hello", ScriptResult(0, "hello")),
        ("", ScriptResult(0, "")),
        ("echo before; exit 255", ScriptResult(255, "before\n")),
        ("false  # a comment at the end", ScriptResult(1, "")),
        ("sh -c 'kill -9 $$'", ScriptResult(137, "")),
        ("cat", ScriptResult(0, "")),
        ('case a in a) echo "(";; esac', ScriptResult(0, "(\n")),
        ("cat <<'END'\na $HOME `x`\nEND", ScriptResult(0, "a $HOME `x`\n")),
        (r"printf '\377\n'", ScriptResult(0, "\ufffd\n")),
        ("echo $LC_ALL", ScriptResult(0, "C\n")),
    ],
)
def test_a_script_between_marks_gives_its_output_and_status(
    script: str, result: ScriptResult
) -> None:
    output = b"what a login shell prints\n" + run(framed(script, MARK))
    assert has_begun(output, MARK)
    assert has_ended(output, MARK)
    assert unframed(output, MARK) == result


@pytest.mark.parametrize("script", ["kill -9 $$", "echo 'unbalanced", "echo )", "cat <<END"])
def test_a_script_that_ends_the_shell_around_it_has_no_end(script: str) -> None:
    output = run(framed(script, MARK))
    assert not has_ended(output, MARK)
    assert unframed(output, MARK) is None


def test_an_end_that_is_not_whole_is_none() -> None:
    output = run(framed("echo out; exit 13", MARK))
    for cut in range(1, len(output)):
        assert unframed(output[:cut], MARK) is None


def test_of_a_script_that_arrives_cut_off_nothing_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    script = f"echo a >>{trace}\necho b >>{trace}"
    given = framed(script, MARK)
    for cut in range(given.index(b"\n) </dev/null") + 2):
        run(given[:cut])
        assert not trace.exists(), given[:cut]
    run(given)
    assert trace.read_text(encoding="ascii") == "a\nb\n"


CHANGED = """\
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
The fingerprint for the ED25519 key sent by the remote host is
SHA256:tVA/AKlBDpKrXAfZ0oxIiy10t+eU2nsHAN+vv38yPUE.
Please contact your system administrator.
Offending ED25519 key in /home/ann/.ssh/known_hosts:1
  remove with:
  ssh-keygen -f '/home/ann/.ssh/known_hosts' -R '10.77.0.11'
Host key for 10.77.0.11 has changed and you have requested strict checking.
Host key verification failed.
"""
UNKNOWN = """\
No ED25519 host key is known for 10.77.0.11 and you have requested strict checking.
Host key verification failed.
"""
DEBUG = """\
debug1: kex: algorithm: mlkem768x25519-sha256
debug1: Server host key: ssh-ed25519 SHA256:tVA/AKlBDpKrXAfZ0oxIiy10t+eU2nsHAN+vv38yPUE
"""
FINGERPRINT = "SHA256:tVA/AKlBDpKrXAfZ0oxIiy10t+eU2nsHAN+vv38yPUE"
SSH = ("ssh", "-p", "2222")


@pytest.mark.parametrize(
    ("complaint", "code", "part", "command"),
    [
        (UNKNOWN, "FC4091", f"ED25519 key {FINGERPRINT}",
         "ssh -p 2222 -o StrictHostKeyChecking=ask box1 true"),
        (CHANGED, "FC4092", f"key {FINGERPRINT},",
         "ssh-keygen -f '/home/ann/.ssh/known_hosts' -R '10.77.0.11'"),
        ("ann@box1: Permission denied (publickey,password).\n", "FC4093",
         "Permission denied (publickey,password)", "ssh -p 2222 -o BatchMode=no box1 true"),
        ("ssh: connect to host box1 port 22: Connection refused\n", "FC4090", "Connection refused",
         "ssh -p 2222 -v box1 true"),
        ("ssh: Could not resolve hostname box1: Name or service not known\n", "FC4090",
         "Name or service not known", "ssh -p 2222 -v box1 true"),
        ("", "FC4090", "it gave no reason", "ssh -p 2222 -v box1 true"),
    ],
)  # fmt: skip
def test_what_ssh_says_becomes_an_error_with_a_command(
    complaint: str, code: str, part: str, command: str
) -> None:
    fingerprint = fingerprint_in(DEBUG)
    (told,) = connection_error("box1", complaint, SSH, fingerprint).diagnostics
    assert (told.code, told.command) == (code, command)
    assert part in told.detail


@pytest.mark.parametrize(
    ("complaint", "nothing_run"),
    [
        (UNKNOWN, True),
        (CHANGED, True),
        ("ssh: connect to host 10.77.0.99 port 22: Connection timed out\n", True),
        ("kex_exchange_identification: read: Connection reset by peer\n", True),
        ("Connection closed by 10.77.0.11 port 22\n", False),
        ("ann@box1: Permission denied (publickey).\n", True),
        ("client_loop: send disconnect: Broken pipe\n", False),
        ("Timeout, server 10.77.0.11 not responding.\n", False),
        ("cp: cannot create regular file: Permission denied\n", False),
        ("", False),
    ],
)
def test_only_a_failure_before_the_session_means_that_nothing_was_run(
    *, complaint: str, nothing_run: bool
) -> None:
    assert never_began(complaint) == nothing_run


@pytest.mark.parametrize(
    ("address", "target", "trusted"),
    [
        ("box1", "box1", "ssh://box1:22"),
        ("fleet@10.0.0.5", "fleet@10.0.0.5", "ssh://10.0.0.5:22"),
        ("fleet@[fd00::5]:2222", "fleet@fd00::5", "ssh://[fd00::5]:2222"),
        ("box-1.example:2222", "box-1.example", "ssh://box-1.example:2222"),
    ],
)
def test_an_address_is_taken_apart(address: str, target: str, trusted: str) -> None:
    ssh = SshConnection(address)
    assert (ssh._target, ssh._trusted_as) == (target, trusted)


@pytest.mark.parametrize(
    "address",
    ["", "-oProxyCommand=x", "a@-oProxyCommand=x", "a b", "a;b", "a@b@c", "a:b", "a:1:2", "$(x)",
     "box1\n", "a/b", "ssh://box1", "%h"],
)  # fmt: skip
def test_an_address_that_could_be_more_than_an_address_is_refused(address: str) -> None:
    with pytest.raises(EngineError, match="is not `user@host:port`"):
        SshConnection(address)
