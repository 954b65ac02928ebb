"""Change the operator's trust: network hosts, folders, flags that run code."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from fleet.errors import FleetError
from runtime.files import PRIVATE_FOLDER, locked_folder
from runtime.trust import OPERATOR, Trust, dump_trust, load_trust, peer_of
from runtime.trust_file import require_outside, trust_path, write_trust


@dataclass(frozen=True, slots=True)
class TrustChange:
    """Hosts and folders of a command line."""

    hosts: tuple[str, ...]
    """Hosts and ports."""
    encrypted: frozenset[str]
    """The hosts of `https` addresses."""
    roots: tuple[Path, ...]


def parse_items(items: Iterable[str], *, adding: bool) -> TrustChange:
    """Return addresses and folders apart; `adding`: folders must be there.

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
    return TrustChange(tuple(hosts), frozenset(encrypted), tuple(roots))


def add_trust(
    root: Path, change: TrustChange, secrets: Collection[str] | None, code: Collection[str], on: str
) -> Trust:
    """Add hosts, folders and flags; return all trust.

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
        return _write(root, hosts, {*trust.roots, *change.roots}, flags)


def remove_trust(root: Path, change: TrustChange, code: Collection[str], on: str) -> Trust:
    """Remove hosts with their secrets, folders and flags; return what is left.

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
        return _write(root, hosts, {*trust.roots} - {*change.roots}, left)


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
    root: Path, hosts: dict[str, set[str]], roots: set[Path], flags: dict[str, set[str]]
) -> Trust:
    try:
        trust = Trust(
            hosts={name: tuple(sorted(hosts[name])) for name in sorted(hosts)},
            roots=tuple(sorted(roots)),
            code={name: tuple(sorted(flags[name])) for name in sorted(flags)},
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _neither(f"`{first['input']}`: {first['msg']}.") from None
    write_trust(trust_path(), dump_trust(trust), root)
    return trust


def _folder(item: str, *, adding: bool) -> Path:
    path = Path(item).resolve()
    if adding and not path.is_dir():
        raise _neither(f"`{item!r:.80}` is no folder.")
    return path


def _neither(detail: str) -> FleetError:
    hint = "Name an address, `https://host:port`, or a folder; with --code a flag and --host."
    return FleetError.of("FC1277", "Neither an address nor a folder", detail, hint=hint)
