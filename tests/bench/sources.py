"""Brings a version from every kind of source, killed at ten points, and prints what it cost.

    python -m tests.bench.sources

Bytes that are sent again were on their way when the command was killed, headers are among them:
what had reached the disk is asked for by no later request (`test_faults.py`, ten kills).
Real commands, a real registry and a real object store (`make sources`); the Hub and the web server
are stand-ins, and so is the object store that commands are killed at: RADOS Gateway 18.2 on a
database (`dbstore`) sends other bytes where a part does not begin at the first. A proxy before each
counts the bytes that the source sent. A push is killed as often.
"""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import obstore
from obstore.store import S3Store

from runtime.library.layout import CONFIG, SERVED_FILES, WEIGHTS, folder_digest
from tests.bench.slow_proxy import SlowProxy, slowed
from tests.fleetctl.project_on_disk import QUICKSTART, REPOSITORY
from tests.runtime.sources.buckets import create_bucket
from tests.runtime.sources.conftest import serving_object_store, serving_registry
from tests.runtime.sources.stand_ins import BucketStandIn, StandIn, serving

NAME = "acme-support-tiny-v9.0.0"
FOLDER = "models/adapters/acme/support-v9.0.0"
KILLS = 10
RANK = 512  # the largest that vLLM serves: the most bytes
PAUSE_S = 0.004
MIB = 1 << 20


def make_version(folder: Path) -> None:
    """Write an adapter of the tiny base with random values."""
    like = QUICKSTART / "models/adapters/acme/support-v2.1.0"
    config = json.loads((like / CONFIG).read_text("utf-8")) | {"r": RANK}
    content = (like / WEIGHTS).read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    old = json.loads(content[8:begin])
    header: dict[str, Any] = {}
    at = 0
    for name, tensor in sorted(old.items()):
        if name == "__metadata__":
            continue
        shape = [*tensor["shape"]]
        shape[0 if ".lora_A." in name else 1] = RANK
        end = at + 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, end]}
        at = end
    values = np.random.default_rng(1).standard_normal(at // 4, dtype=np.float32)
    head = json.dumps(header).encode()
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps(config), "utf-8")
    (folder / WEIGHTS).write_bytes(len(head).to_bytes(8, "little") + head + values.tobytes())


def make_project(root: Path) -> Path:
    """Return a copy of the quickstart fleet."""
    shutil.copytree(QUICKSTART, root, ignore=shutil.ignore_patterns(".fleetctl", "training"))
    return root


def command(root: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "fleetctl", "-C", str(root), "adapter", *words]


def must(words: list[str], env: dict[str, str]) -> str:
    """Run a command, which must succeed; return what it prints."""
    done = subprocess.run(
        words, cwd=REPOSITORY, env=os.environ | env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)} -> {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def killed(words: list[str], env: dict[str, str], done: Callable[[], int], whole: int) -> int:
    """Start a command ten times and kill each as soon as more has been done; return the kills."""
    kills = 0
    for kill in range(KILLS):
        with subprocess.Popen(
            words,
            cwd=REPOSITORY,
            env=os.environ | env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as child:
            while done() < whole * (kill + 1) // (KILLS + 2) and child.poll() is None:
                time.sleep(0.0005)
            kills += child.poll() is None
            child.send_signal(signal.SIGKILL)
    return kills


def arrived(root: Path) -> int:
    """Return the bytes of the weights that are on the disk."""
    found = [*(root / "models/.incoming").rglob(f"{WEIGHTS}*")]
    return sum(path.stat().st_size for path in found)


def row(*cells: object) -> None:
    source, digest, *figures = cells
    print(f"{source:22}{digest:14}" + "".join(f"{its:>14}" for its in figures), flush=True)


def show(kind: str, root: Path, kills: int, sent: int, size: int) -> str:
    """Print a row, check the version; return its digest."""
    lock = json.loads((root / "fleet.lock").read_text("utf-8"))
    digest = str(lock["adapters"][NAME]["digest"])
    if folder_digest(root / FOLDER) != digest:
        sys.exit(f"{kind}: the library's bytes are not those of the lock")
    if not kills:
        row(kind, digest[:12], 0, "-", "-", "-")
        return digest
    again = sent - size
    row(kind, digest[:12], kills, f"{sent:,}", f"{again:,}", f"{again // kills:,}")
    if again // kills >= MIB:
        sys.exit(f"{kind}: {again // kills:,} bytes were sent again after a kill")
    return digest


def brought(kind: str, source: str, env: dict[str, str], size: int, proxy: SlowProxy) -> str:
    """Bring the version, killed ten times, and print what the source sent."""
    with tempfile.TemporaryDirectory() as folder:
        root = make_project(Path(folder, "project"))
        words = command(root, "add", source, "--as", NAME)
        before = proxy.down
        kills = killed(words, env, lambda: arrived(root), size)
        must(words, env)
        return show(kind, root, kills, proxy.down - before, size)


@contextmanager
def bucket(folder: Path, version: Path) -> Iterator[dict[str, str]]:
    """Put the version into an object store; yield the variables that lead to it."""
    with serving_object_store(folder) as env:
        before = dict(os.environ)
        os.environ.update(env)
        create_bucket(env["AWS_ENDPOINT_URL"])
        http: Any = {"allow_http": True}
        store = S3Store("models", endpoint=env["AWS_ENDPOINT_URL"], client_options=http)
        for name in SERVED_FILES:
            content = (version / name).read_bytes()
            obstore.put(store, f"acme/support/{name}", content, use_multipart=False)
        os.environ.clear()
        os.environ.update(before)
        yield env


def port(address: str) -> int:
    return int(address.rpartition(":")[2])


def pushed(version: Path, registry: str) -> None:
    """Push the version, killed ten times, then to the end; print the digest of its manifest."""
    with tempfile.TemporaryDirectory() as folder, slowed(port(registry), PAUSE_S) as proxy:
        root = make_project(Path(folder, "project"))
        must(command(root, "add", str(version), "--as", NAME), {})
        size = sum((version / name).stat().st_size for name in SERVED_FILES)

        def push(repository: str, address: str) -> list[str]:
            return command(root, "push", NAME, f"oci://{address}/acme/{repository}:1")

        kills = 0
        for kill in range(KILLS):
            begun = proxy.up
            with subprocess.Popen(
                push("killed", proxy.address),
                cwd=REPOSITORY,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as child:
                while proxy.up - begun < size * (kill + 1) // (KILLS + 2) and child.poll() is None:
                    time.sleep(0.0005)
                kills += child.poll() is None
                child.send_signal(signal.SIGKILL)
        last = must(push("killed", proxy.address), {}).strip().rpartition("@")[2]
        fresh = must(push("fresh", registry), {}).strip().rpartition("@")[2]
    if last != fresh:
        sys.exit(f"the push after the kills is {last}, another is {fresh}")
    if kills != KILLS:
        sys.exit(f"{kills} kills of {KILLS}: the others came too late")
    print(
        f"A push, killed {kills} times, then ended: manifest {last[:19]}, as of one without kills."
    )


def main() -> None:
    """Print the tables."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # clients are killed here
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        version = scratch / "version"
        make_version(version)
        size = sum((version / name).stat().st_size for name in SERVED_FILES)
        print(
            f"A version of {size:,} bytes, killed with SIGKILL at {KILLS} points, then brought.\n"
        )
        row("source", "store digest", "kills", "bytes sent", "again", "again, a kill")
        root = make_project(scratch / "by-path")
        must(command(root, "add", str(version), "--as", NAME), {})
        digests = {show("path", root, 0, 0, size)}
        (scratch / "registry").mkdir()
        with serving_registry(scratch / "registry") as registry:
            must(command(root, "push", NAME, f"oci://{registry}/acme/support:1"), {})
            with slowed(port(registry), PAUSE_S) as proxy:
                source = f"oci://{proxy.address}/acme/support:1"
                digests.add(brought("oci, docker-registry", source, {}, size, proxy))
            (scratch / "bucket").mkdir()
            source = "s3://models/acme/support"
            with bucket(scratch / "bucket", version) as env:
                root = make_project(scratch / "by-bucket")
                must(command(root, "add", source, "--as", NAME), env)
                digests.add(show("s3, RADOS Gateway", root, 0, 0, size))
            held = BucketStandIn(version)
            with serving(held), slowed(held.port, PAUSE_S) as proxy:
                env = env | {"AWS_ENDPOINT_URL": f"http://{proxy.address}"}
                digests.add(brought("s3, stand-in", source, env, size, proxy))
            with serving(StandIn(version)) as stand_in, slowed(stand_in.port, PAUSE_S) as proxy:
                env = {"HF_ENDPOINT": f"http://{proxy.address}"}
                source = "hf://acme/support@main"
                digests.add(brought("hf, stand-in", source, env, size, proxy))
                source = f"https://{proxy.address}/files/"
                digests.add(brought("https, stand-in", source, {}, size, proxy))
            print()
            pushed(version, registry)
        if len(digests) != 1:
            sys.exit(f"{len(digests)} digests")
        print("One store digest from all sources. Bytes sent again were on their way at the kill.")


if __name__ == "__main__":
    main()
