"""Scripts between marks, run by the shell of this machine."""

import subprocess
from pathlib import Path

import pytest

from runtime.engines.ssh.framing import ScriptResult, framed, has_begun, has_ended, unframed

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
