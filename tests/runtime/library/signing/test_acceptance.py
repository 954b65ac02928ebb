"""Signed versions, from `adapter add` to `apply`, with the real library of OpenSSF."""

import json
import shutil
import sys

import pytest

from tests.runtime.library.signing.conftest import FOLDER, NAME, SigningProject
from tests.runtime.library.signing.keys import sign
from tests.runtime.sources.stand_ins import StandIn, serving

STATES = {
    "verified": ("", ""),
    "unsigned": ("FC1293", f"`{NAME}` is not signed"),
    "wrong key": ("FC1294", f"no key of `signatures` made the signature of `{NAME}`"),
    "changed": ("FC1295", f"`{NAME}` has other bytes than `release` signed"),
    "expired": ("FC1299", f"`{NAME}` is signed by `former`, whose last day was 2026-01-31"),
}


def bring(signing: SigningProject, state: str) -> None:
    """Add the version in a state."""
    key = {"unsigned": "", "wrong key": "stranger", "expired": "former"}.get(state, "release")
    if state == "changed":
        sign(signing.folder, signing.keys / "release.pem")
        config = signing.folder / "adapter_config.json"
        config.chmod(0o644)
        config.write_bytes(config.read_bytes() + b" ")
        key = ""
    done = signing.add(key=key)
    assert done.returncode == 0, done.stderr
    code = STATES[state][0]
    assert ("Signed by `release`." in done.stderr) is (state == "verified")
    assert (code in done.stderr) is (state != "unsigned")


@pytest.mark.parametrize("state", STATES)
def test_a_version_is_warned_of_or_denied_by_the_worth_of_its_signature(
    signing: SigningProject, state: str
) -> None:
    bring(signing, state)
    code, said = STATES[state]
    checked = signing.call("validate")
    assert checked.returncode == 0
    found = [known for known, _ in STATES.values() if known and known in checked.stderr]
    assert found == [code] * bool(code)
    shown = json.loads(signing.call("plan", "--format", "json").stdout)
    (rule,) = shown["observations"]["rules"]
    assert rule["broken"] is bool(code)
    assert said in rule["text"]
    if not code:
        assert rule["text"] == f"tier `guarded`: {NAME} signed"
        return
    refused = signing.call("apply", "--auto", "--yes")
    assert refused.returncode == 1
    assert "FC5127" in refused.stderr
    assert said in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (", level: warn", 0),
        (", exceptions: {launch: {client: acme, until: 2999-01-01, reason: launch}}", 0),
        (", exceptions: {launch: {client: acme, until: 2026-01-01, reason: launch}}", 1),
    ],
)
def test_a_rule_warns_or_makes_an_exception_until_a_day(
    signing: SigningProject, more: str, code: int
) -> None:
    bring(signing, "unsigned")
    signing.declare(more)
    assert signing.call("plan").returncode == code
    assert ("FC1293" in signing.call("validate").stderr) is ("2999" not in more)


def test_results_may_be_added_beside_a_signed_version(signing: SigningProject) -> None:
    bring(signing, "verified")
    (signing.root / FOLDER / "evals").mkdir(exist_ok=True)
    (signing.root / FOLDER / "evals" / "later.json").write_text("{}", "utf-8")
    (signing.root / FOLDER / "training.json").write_text("{}", "utf-8")
    done = signing.call("adapter", "verify", NAME)
    assert (done.returncode, done.stdout) == (0, "1 as pinned\n")


def test_a_version_may_be_signed_after_it_was_added(signing: SigningProject) -> None:
    bring(signing, "unsigned")
    assert "signature" not in signing.locked()
    assert signing.add(key="release").returncode == 0
    assert signing.locked()["signature"]["matches"] is True  # type: ignore[index]
    assert (signing.root / FOLDER / "model.sig").is_file()
    assert signing.call("adapter", "verify", NAME).returncode == 0


@pytest.mark.parametrize("forged", ["no signature", "another key", "other bytes"])
def test_a_lock_that_claims_a_signature_is_found_out(signing: SigningProject, forged: str) -> None:
    bring(signing, "verified")
    signature = signing.locked()["signature"]
    own = signing.root / FOLDER
    match forged:
        case "no signature":
            (own / "model.sig").unlink()
        case "another key":
            sign(own, signing.keys / "stranger.pem")
        case _:
            config = own / "adapter_config.json"
            config.chmod(0o644)
            config.write_bytes(config.read_bytes() + b" ")
            (own / "model.sig").rename(own / "kept")
            added = signing.call("adapter", "add", str(own), "--as", NAME.replace("2.1.0", "2.9.0"))
            assert added.returncode == 0, added.stderr
            lock = json.loads((signing.root / "fleet.lock").read_text("utf-8"))
            other = lock["adapters"][NAME.replace("2.1.0", "2.9.0")]["digest"]
            signing.write_lock(digest=other, signature=signature)
            (own / "kept").rename(own / "model.sig")
    done = signing.call("adapter", "verify", NAME)
    assert done.returncode == 1
    assert done.stdout.startswith(f"unproven  {NAME}: fleet.lock says that `release` signed it")
    assert done.stdout.endswith("1 as pinned, 1 not signed as the lock says\n")


def test_a_source_without_the_signature_that_the_lock_claims_brings_nothing(
    signing: SigningProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(StandIn(signing.folder)) as web:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(signing.root.parent / "config"))
        assert signing.call("trust", "add", web.url).returncode == 0
        sign(signing.folder, signing.keys / "release.pem")
        source = web.url.replace("http:", "https:") + "/files/"
        assert signing.call("adapter", "add", source, "--as", NAME).returncode == 0
        shutil.rmtree(signing.root / FOLDER)
        (signing.folder / "model.sig").rename(signing.folder / "hidden")
        refused = signing.call("adapter", "pull")
        assert refused.returncode == 1
        assert "FC3058" in refused.stderr
        assert not (signing.root / FOLDER).exists()
        (signing.folder / "hidden").rename(signing.folder / "model.sig")
        assert signing.call("adapter", "pull").returncode == 0
    assert signing.locked()["signature"]["matches"] is True  # type: ignore[index]


@pytest.mark.sources
def test_a_registry_carries_the_signature(signing: SigningProject, registry: str) -> None:
    bring(signing, "verified")
    pushed = signing.call("adapter", "push", NAME, f"oci://{registry}/acme/support:2.1.0")
    assert pushed.returncode == 0, pushed.stderr
    shutil.rmtree(signing.root / FOLDER)
    lock = signing.root / "fleet.lock"
    document = json.loads(lock.read_text("utf-8"))
    del document["adapters"][NAME]
    lock.write_text(json.dumps(document), encoding="utf-8")
    done = signing.call("adapter", "add", pushed.stdout.strip(), "--as", NAME)
    assert done.returncode == 0, done.stderr
    assert "Signed by `release`." in done.stderr


def test_a_key_that_is_removed_makes_nothing_count(signing: SigningProject) -> None:
    bring(signing, "verified")
    file = signing.root / "fleet.yaml"
    text = file.read_text("utf-8")
    file.write_text(text.replace("  release: {file: keys/release.pub}\n", ""), "utf-8")
    assert "FC1294" in signing.call("validate").stderr
    assert signing.call("plan").returncode == 1


def test_without_the_package_the_error_says_how_to_install_it(
    signing: SigningProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign(signing.folder, signing.keys / "release.pem")
    monkeypatch.setitem(sys.modules, "model_signing", None)
    done = signing.add()
    assert done.returncode == 1
    assert "FC3057" in done.stderr
    assert "pip install 'model-signing>=1.1.1' 'pyopenssl>=25'" in done.stderr
    (signing.folder / "model.sig").unlink()
    assert signing.add().returncode == 0
    assert signing.call("plan", "--offline").returncode in (0, 1)
