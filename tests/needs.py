"""The parts that tests need and that a machine may lack: how to tell, and what brings them.

A test says so by the mark of its part (`live`, `browser`, ...), or by `needs("rsync")` for a part
without a mark of its own. Where the part is missing, the test is skipped, and the run's last line
says so; `FLEETCTL_REQUIRE_LIVE=1` fails it instead. Some parts come from registries that may lack
them for a machine (`TRIED`): once `make` tried to install such a part, its tests are skipped too.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

import pytest

from tests import postgres
from tests.beds import boxes, rays
from tests.quadlets import GENERATOR

ROOT: Final = Path(__file__).parent.parent
LEFT_OUT: Final = "left out"
"""Property of a skipped test: the part that it needs. Reports of workers carry it."""
ALL: Final = "make test SYSTEM_PACKAGES=1"
"""The command that brings all parts, as root."""
PROMETHEUS: Final = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
SOURCES: Final = ("docker-registry", "radosgw", "radosgw-admin")
PACKAGES: Final = {
    "curl": "curl",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "jq": "jq",
    "nft": "nftables",
    "ps": "procps",
    "rsync": "rsync",
    "ssh": "openssh-client",
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
}
"""Debian's packages by the program that a test needs; `make programs` installs them."""
# `find_spec` looks without importing: 20 ms instead of 5 s.
_PROBE: Final = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"


@dataclass(frozen=True, slots=True)
class Need:
    """A part that tests need."""

    name: str
    remedy: str
    missing: Callable[[], str | None]
    """Returns why the part cannot be used; None: it can."""


def vllm_python() -> Path:
    """Return the interpreter that runs vLLM, which may not be installed."""
    named = os.environ.get("FLEETCTL_VLLM_PYTHON")
    return Path(named) if named else ROOT / ".venv-vllm" / "bin" / "python"


def chromium() -> str | None:
    """Return the path of Chromium; None: it, or Playwright, is not installed."""
    return shutil.which("chromium") if importlib.util.find_spec("playwright") else None


def _without_vllm() -> str | None:
    python = vllm_python()
    try:
        probe = subprocess.run([python, "-c", _PROBE], check=False, capture_output=True, timeout=60)
    except OSError as error:
        return f"no real vLLM: {python}: {error.strerror}"
    return f"no real vLLM: {python} has no package `vllm`" if probe.returncode else None


def _absent(*programs: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        absent = [name for name in programs if shutil.which(name) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    return missing


def _no_file(file: str | Path) -> Callable[[], str | None]:
    return lambda: None if (ROOT / file).exists() else f"not installed: there is no {file}"


def _said(reason: str, look: Callable[[], object]) -> Callable[[], str | None]:
    return lambda: None if look() else reason


def _program(name: str) -> Need:
    return Need(name, "make programs SYSTEM_PACKAGES=1", _absent(name))


NEEDS: Final = {
    "live": Need("a real vLLM", "make vllm SYSTEM_PACKAGES=1", _without_vllm),
    "browser": Need(
        "Chromium",
        "make browser SYSTEM_PACKAGES=1",
        _said("no Chromium that Playwright can start", chromium),
    ),
    "prometheus": Need("Prometheus", "make prometheus SYSTEM_PACKAGES=1", _absent(*PROMETHEUS)),
    "haproxy": Need("HAProxy", "make haproxy SYSTEM_PACKAGES=1", _absent("haproxy")),
    "sources": Need(
        "a registry and an object store", "make sources SYSTEM_PACKAGES=1", _absent(*SOURCES)
    ),
    "postgresql": Need(
        "PostgreSQL",
        "make postgresql SYSTEM_PACKAGES=1",
        _said("not installed: PostgreSQL or PgBouncer", postgres.programs),
    ),
    "boxes": Need("boxes", "make proof-boxes", boxes.missing),
    "ray": Need("Ray", "make ray SYSTEM_PACKAGES=1", rays.missing),
    "root": Need("root", ALL, _said("only root may do this", lambda: os.geteuid() == 0)),
    "inspect": Need("inspect-ai", "make engines", _no_file(".venv-inspect/bin/python")),
    "lmeval": Need("lm-eval", "make engines", _no_file(".venv-lmeval/bin/python")),
    "litellm": Need("LiteLLM", "make litellm", _no_file(".venv-peer-litellm/bin/litellm")),
    "javascript": Need(
        "the SDKs of JavaScript",
        "make javascript SYSTEM_PACKAGES=1",
        _no_file(".venv-javascript/.installed"),
    ),
    "podman": Need("podman 4.4", "make podman SYSTEM_PACKAGES=1", _no_file(GENERATOR)),
    "second-python": Need(
        "a second Python", "make second-python", _no_file(".venv-second/bin/python")
    ),
    **{name: _program(name) for name in PACKAGES},
}
"""All parts, by the name in a mark."""
TRIED: Final = {
    "litellm": ".venv-peer-litellm",
    "javascript": ".venv-javascript",
    "podman": "/usr/bin/podman",  # an older one has no generator
    "second-python": ".venv-second/.tried",
}
"""What an installation that was tried leaves behind, by the name of its part."""


@cache
def missing(part: str) -> str | None:
    """Return why a part cannot be used here; None: it can."""
    return NEEDS[part].missing()


def parts_of(item: pytest.Item) -> list[str]:
    """Return the parts that the marks of a test name."""
    named = [part for mark in item.iter_markers("needs") for part in mark.args]
    return [mark.name for mark in item.iter_markers() if mark.name in NEEDS] + named


def demand(item: pytest.Item, part: str) -> None:
    """Skip a test, or fail it, where a part is missing."""
    reason = missing(part)
    if reason is None:
        return
    text = f"{reason}; run `{NEEDS[part].remedy}`"
    if os.environ.get("FLEETCTL_REQUIRE_LIVE") == "1" and not _was_tried(part):
        pytest.fail(text, pytrace=False)
    _leave_out(item, part, text)


def _was_tried(part: str) -> bool:
    return part in TRIED and (ROOT / TRIED[part]).exists()


def _leave_out(item: pytest.Item, part: str, text: str) -> NoReturn:
    item.user_properties.append((LEFT_OUT, part))
    pytest.skip(text)


def last_line(counts: dict[str, int], parts: Counter[str]) -> str:
    """Return the line that closes a run: what passed, what was skipped and why, and the remedy."""
    words = [f"{counts[kind]} {kind}" for kind in ("failed", "error") if counts.get(kind)]
    text = ", ".join([*words, f"{counts.get('passed', 0)} passed"])
    skipped = counts.get("skipped", 0)
    if not skipped:
        return f"Tests: {text}, none skipped."
    refused = {part for part in parts if _was_tried(part)}
    reasons = [
        f"{number} for want of {NEEDS[part].name}{' (not to be had here)' * (part in refused)}"
        for part, number in parts.most_common()
    ]
    if others := skipped - parts.total():
        reasons.append(f"{others} for reasons above")
    line = f"Tests: {text}, {skipped} skipped: {', '.join(reasons)}."
    return line if parts.keys() <= refused else f"{line} To run them, as root: {ALL}"


if __name__ == "__main__":
    absent = [program for program in PACKAGES if missing(program)]
    sys.exit(f"Programs that tests start are not installed: {', '.join(absent)}" if absent else 0)
