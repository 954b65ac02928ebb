"""Change the operator's trust: network hosts, folders, flags and packages that run code."""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fleet.errors import FleetError
from runtime.files import PRIVATE_FOLDER, locked_folder
from runtime.trust import (
    OPERATOR,
    Trust,
    dump_trust,
    load_trust,
    peer_of,
    require_outside,
    trust_path,
    write_trust,
)


@dataclass(frozen=True, slots=True)
class TrustChange:
    """Hosts, folders and packages of a command line."""

    hosts: tuple[str, ...]
    """Hosts and ports."""
    encrypted: frozenset[str]
    """The hosts of `https` addresses."""
    roots: tuple[Path, ...]
    packages: tuple[str, ...] = ()
    """`NAME` or `NAME==VERSION`."""


def parse_items(items: Iterable[str], packages: Iterable[str] = (), *, adding: bool) -> TrustChange:
    """Return addresses and folders apart, with packages; `adding`: folders must be there.

    Raises:
        FleetError: FC1277, an item is neither.
    """
    hosts, encrypted, roots = list[str](), set[str](), list[Path]()
    for item in items:
        if "://" not in item:
            roots.append(_folder(item, adding=adding))
            continue
        try:
            peer = peer_of(item, ssh=True)
        except ValueError as error:
            raise _neither(f"An address is not used: {error}.") from None  # it may hold a password
        hosts.append(peer.netloc)
        if peer.scheme == "https":
            encrypted.add(peer.netloc)
    named = tuple(_normal(package) for package in packages)
    return TrustChange(tuple(hosts), frozenset(encrypted), tuple(roots), named)


def add_trust(
    root: Path, change: TrustChange, secrets: Collection[str] | None, code: Collection[str], on: str
) -> Trust:
    """Add hosts, folders, packages and flags; return all trust.

    `secrets`: references bound to the hosts; None: the operator's secret to hosts that are reached
    over TLS. `code`: flags that may run code on the declared host `on`.

    Raises:
        FleetError: FC1272, a secret for a plain address; FC1274, FC1275, as `load_trust`.
    """
    if secrets and (plain := sorted({*change.hosts} - change.encrypted)):
        detail = f"`{plain[0]}` was named over plain HTTP, which carries no secret."
        raise FleetError.of(
            "FC1272", "Secret would travel in the clear", detail, hint="Put TLS in front: https://."
        )
    with _changing(root) as trust:
        hosts = {name: {*references} for name, references in trust.hosts.items()}
        for name in change.hosts:
            usual = [OPERATOR] if name in change.encrypted else []
            hosts.setdefault(name, set()).update(usual if secrets is None else secrets)
        flags = {name: {*known} for name, known in trust.code.items()}
        if code:
            flags.setdefault(on, set()).update(code)
        packages = {*trust.packages, *change.packages}
        return _write(root, hosts, {*trust.roots, *change.roots}, flags, packages)


def remove_trust(root: Path, change: TrustChange, code: Collection[str], on: str) -> Trust:
    """Remove hosts with their secrets, folders, packages and flags; return what is left.

    A package without a version is removed with all its versions.

    Raises:
        FleetError: FC1274, FC1275, as `load_trust`.
    """
    with _changing(root) as trust:
        hosts = {name: {*refs} for name, refs in trust.hosts.items() if name not in change.hosts}
        flags = {
            name: {*known} - ({*code} if name == on else set())
            for name, known in trust.code.items()
        }
        left = {name: known for name, known in flags.items() if known}
        packages = {
            name
            for name in trust.packages
            if not {name, name.partition("==")[0]} & {*change.packages}
        }
        return _write(root, hosts, {*trust.roots} - {*change.roots}, left, packages)


@contextmanager
def _changing(root: Path) -> Iterator[Trust]:
    """Give the present trust; no other change is made meanwhile.

    Raises:
        FleetError: FC1274, FC1275, as `load_trust`.
    """
    require_outside(root, writing=True)
    folder = trust_path().parent
    folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    with locked_folder(folder):
        yield load_trust()


def _write(
    root: Path,
    hosts: dict[str, set[str]],
    roots: set[Path],
    flags: dict[str, set[str]],
    packages: set[str],
) -> Trust:
    try:
        trust = Trust(
            hosts={name: tuple(sorted(hosts[name])) for name in sorted(hosts)},
            roots=tuple(sorted(roots)),
            code={name: tuple(sorted(flags[name])) for name in sorted(flags)},
            packages=tuple(sorted(packages)),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _neither(f"`{first['input']}`: {first['msg']}.") from None
    write_trust(trust_path(), dump_trust(trust), root)
    return trust


def _normal(package: str) -> str:
    """Return a package with its name in normal form, as in `Trust.packages`."""
    name, pinned, version = package.partition("==")
    return re.sub(r"[-_.]+", "-", name).lower() + pinned + version


def _folder(item: str, *, adding: bool) -> Path:
    path = Path(item).resolve()
    if adding and not path.is_dir():
        raise _neither(f"`{item!r:.80}` is no folder.")
    return path


def _neither(detail: str) -> FleetError:
    hint = (
        "Name an address, `https://host:port`, or a folder; with --code a flag and --host; with "
        "--package a package, or `NAME==VERSION`."
    )
    return FleetError.of("FC1277", "Neither an address nor a folder", detail, hint=hint)
