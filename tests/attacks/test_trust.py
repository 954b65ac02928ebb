"""What the operator trusts is read from the operator's own file, and from no other."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.errors import FleetError
from runtime.operations.machines.trust import add_trust, parse_items
from runtime.trust import (
    UntrustedError,
    is_own,
    load_trust,
    parse_trust,
    peer_of,
    require_contact,
    trust_path,
)
from tests.attacks.conftest import Listener, call, declare
from tests.attacks.test_secrets import attached


def test_what_is_added_is_listed_and_can_be_removed(project: Path, trust_home: Path) -> None:
    done = call(project, "trust", "add", "https://gw.test", "http://10.0.0.5:8000", str(trust_home))
    assert done.code == 0
    call(project, "trust", "add", "https://judge.test", "--secret", "env:KEY")
    call(project, "trust", "add", "https://far.test:8443", "--no-secret")
    call(project, "trust", "add", "--code", "trust-remote-code", "--host", "box1")
    listed = json.loads(call(project, "trust", "list", "--format", "json").stdout)
    assert listed["hosts"] == {
        "10.0.0.5:8000": [],
        "far.test:8443": [],
        "gw.test:443": ["operator"],
        "judge.test:443": ["env:KEY"],
    }
    assert listed["roots"] == [str(trust_home)]
    assert listed["code"] == {"box1": ["trust-remote-code"]}
    path = Path(listed["file"])
    assert path == trust_home / "fleetctl" / "trust.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    removed = call(project, "trust", "remove", "https://gw.test", str(trust_home))
    assert "gw.test" not in removed.stdout
    assert "judge.test:443" in removed.stdout
    assert load_trust().roots == ()


@pytest.mark.parametrize(
    "text",
    [
        "hosts: [gw.test]",
        "hosts: {gw.test: []}",
        "hosts: {'gw.test:80': operator}",
        "hosts: {'gw.test:80': [literal]}",
        "hosts: {'gw.test:80': ['env:A B']}",
        "hosts: {'GW.test:80': []}",
        "hosts: {'a@gw.test:80': []}",
        'hosts: {"gw.test:80\\n": []}',
        "roots: [/]",
        "roots: [models]",
        "roots: [/models/../etc]",
        "code: {box1: trust-remote-code}",
        "code: {box1: ['--middleware']}",
        "everything: true",
        "- hosts",
        "just text",
        "hosts: {",
        "!!python/object/apply:os.system [id]",
        "[" * 100_000,
        "\x00",
    ],
)
def test_a_malformed_file_trusts_nothing_and_is_an_error(text: str) -> None:
    with pytest.raises(FleetError) as failed:
        parse_trust(text.encode(), Path("trust.yaml"))
    assert failed.value.diagnostics[0].code == "FC1275"


def _trust_file(home: Path) -> Path:
    path = home / "fleetctl" / "trust.yaml"
    path.parent.mkdir(mode=0o700)
    path.write_text("hosts: {'gw.test:443': [operator]}\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666, 0o644])
def test_a_file_that_others_read_or_write_is_refused(trust_home: Path, mode: int) -> None:
    _trust_file(trust_home).chmod(mode)
    with pytest.raises(FleetError, match="read or write"):
        load_trust()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_write_in_is_refused(trust_home: Path, mode: int) -> None:
    _trust_file(trust_home).parent.chmod(mode)
    with pytest.raises(FleetError, match="write in"):
        load_trust()


def test_a_link_is_refused(trust_home: Path, tmp_path: Path) -> None:
    path = _trust_file(trust_home)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FleetError, match="it is a link"):
        load_trust()


def test_a_pipe_and_a_folder_are_refused_without_a_wait(trust_home: Path) -> None:
    path = _trust_file(trust_home)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(FleetError, match="no regular file"):
        load_trust()
    path.unlink()
    path.mkdir(0o700)
    with pytest.raises(FleetError, match="no regular file"):
        load_trust()


@pytest.mark.needs("root")
def test_a_file_of_another_user_is_refused(trust_home: Path) -> None:
    os.chown(_trust_file(trust_home), 12345, 12345)
    with pytest.raises(FleetError, match="another user"):
        load_trust()


@pytest.mark.parametrize("variable", ["XDG_CONFIG_HOME", "HOME"])
@pytest.mark.parametrize("inside", ["", "deep/er"])
@pytest.mark.parametrize("command", ["validate", "plan", "trust list", "trust add /usr"])
def test_a_checkout_cannot_carry_its_own_trust(
    project: Path, monkeypatch: pytest.MonkeyPatch, variable: str, inside: str, command: str
) -> None:
    (project / ".git").mkdir()
    home = project / inside
    config = home if variable == "XDG_CONFIG_HOME" else home / ".config"
    config.mkdir(parents=True, exist_ok=True)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv(variable, str(home))
    _trust_file(config)
    fleet = project / "fleets" / "one"
    fleet.mkdir(parents=True)
    (project / "fleet.yaml").rename(fleet / "fleet.yaml")
    done = call(fleet, *command.split())
    assert (done.code, done.stdout) == (1, "")
    assert "FC1274" in done.stderr


def test_no_file_is_made_in_a_checkout(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(project))
    assert "FC1274" in call(project, "trust", "add", "/usr").stderr
    assert list(project.rglob("trust.yaml")) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1@gw.test/",
        "http://user:word@gw.test/",
        "http://127.0.0.1\\@gw.test/",
        "http://gw.test#@127.0.0.1/",
        "http://gw.test?@127.0.0.1/",
        "http://127.0.0.1 .gw.test/",
        "http://127.0.0.1\t/",
        "http://127.0.0.1\r\nHost: gw.test/",
        "http://gw.test:0/",
        "http://gw.test:99999/",
        "http://gw.test:8o80/",
        "http:///path",
        "http:gw.test",
        "//gw.test",
        "ftp://gw.test",
        "HTTP://gw.test",
        "file:///etc/passwd",
        "http://\uff47w.test/",
        "http://[::1",
        "http://[::1%25eth0]/",
        "",
    ],
)
def test_an_address_that_two_readers_read_differently_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"plain ASCII|out of range"):
        peer_of(url)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("[::1]", True),
        ("0.0.0.0", True),  # noqa: S104 (to be asked, not bound)
        ("169.254.169.254", False),
        ("10.255.255.254", False),
        ("8.8.8.8", False),
        ("[fd00:ec2::254]", False),
        ("[::ffff:169.254.169.254]", False),
        ("2130706433", False),
        ("0x7f000001", False),
        ("127.1", False),
        ("0177.0.0.1", False),
        ("localhost.test", False),
        ("127.0.0.1.test", False),
        ("metadata.google.internal", False),
    ],
)
def test_only_this_machine_needs_no_trust(host: str, own: bool) -> None:  # noqa: FBT001
    assert is_own(host) is own


def test_a_refused_trust_file_trusts_no_host(
    project: Path, trust_home: Path, listener: Listener
) -> None:
    path, url = _trust_file(trust_home), f"http://evil.test:{listener.port}"
    path.write_text(f"hosts: {{'evil.test:{listener.port}': []}}\n")
    require_contact(url)
    path.chmod(0o644)
    with pytest.raises(UntrustedError) as refused:  # as a server that does not answer: no rollback
        require_contact(url)  # and no repair elsewhere stops
    assert refused.value.diagnostics[0].code == "FC1274"
    declare(project, attached(url))
    assert call(project, "plan").code in {0, 1}
    assert f"chmod 600 {path}" in " ".join(call(project, "trust", "list").stderr.split())


def test_changes_at_the_same_time_are_all_kept(project: Path, trust_home: Path) -> None:
    names = [f"https://h{number}.test" for number in range(8)]
    with ThreadPoolExecutor() as pool:
        changes = [parse_items([name], adding=True) for name in names]
        [*pool.map(lambda change: add_trust(project, change, None, (), ""), changes)]
    assert sorted(load_trust().hosts) == [f"h{number}.test:443" for number in range(8)]
    assert [path.name for path in (trust_home / "fleetctl").iterdir()] == ["trust.yaml"]


@pytest.mark.parametrize(
    "words",
    ["", "gw.test:80", "nowhere", "/", "http://me:canary1@gw.test", "https://gw.test --secret x",
     "http://gw.test --secret operator", "https://gw.test --secret operator --no-secret",
     "/usr --no-secret", "--code trust-remote-code", "--host box1", "https://gw.test --host box1",
     "--code --middleware --host box1", "--code x --host ../box1"],
)  # fmt: skip
def test_what_cannot_be_trusted_is_refused_and_writes_nothing(
    words: str, project: Path, trust_home: Path
) -> None:
    done = call(project, "trust", "add", *words.split())
    assert done.code in {1, 64}
    assert "canary1" not in done.text
    assert not (trust_home / "fleetctl" / "trust.yaml").exists()


@pytest.mark.parametrize("home", ["", ".", "relative", "../up"])
def test_a_home_that_follows_the_caller_is_none(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("XDG_CONFIG_HOME", home)
    assert trust_path() == Path("/.config/fleetctl/trust.yaml")
