"""Decides which network hosts are contacted, and which secrets go there.

Declarations come from anybody who may open a pull request; what they name is contacted, and secrets
are sent, only where the operator's own file says so. Loopback, the machine's own addresses and Unix
sockets need no trust.
"""

import os
import re
import shlex
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from fleet.errors import EngineUnreachableError, FleetError
from runtime.files import PRIVATE_FOLDER, replace_file

LARGEST: Final = 1 << 20
"""Upper bound of the file's size. Bytes."""


def trust_path() -> Path:
    """Return the path of the file; a relative `XDG_CONFIG_HOME` counts as none, by the standard."""
    given = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (given if given.is_absolute() else _home() / ".config") / "fleetctl" / "trust.yaml"


def _home() -> Path:
    """Return the user's home; `/` where the user has none, or `HOME` would follow the caller."""
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor the user database names one
        return Path("/")
    return home if home.is_absolute() else Path("/")


def require_outside(root: Path, *, writing: bool = False) -> None:
    """Refuse a file of trust that the project, or the checkout around the project, could carry.

    `writing`: also where there is no file yet.

    Raises:
        FleetError: FC1274.
    """
    path, project = trust_path(), root.resolve()
    parents = (folder for folder in (project, *project.parents) if (folder / ".git").exists())
    checkout = next(parents, project)
    if (writing or os.path.lexists(path)) and _absolute(path).is_relative_to(checkout):
        detail = f"it lies in `{checkout}`, so a branch could bring its own."
        raise _refused(path, detail, "Set HOME or XDG_CONFIG_HOME to a folder outside.")


def read_trust(path: Path) -> bytes:
    """Return the content of the file; empty where there is none.

    Raises:
        FleetError: FC1274, another user or the target of a link could have written it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        detail = "it is a link." if path.is_symlink() else f"{error.strerror}."
        raise _refused(path, detail, "Put a file in its place.") from None
    try:
        _require_private(path, os.fstat(handle), folder=False)
        _require_private(path.parent, path.parent.stat(), folder=True)
        content = os.read(handle, LARGEST + 1)
    finally:
        os.close(handle)
    if len(content) > LARGEST:
        raise _refused(path, f"it is larger than {LARGEST} bytes.", "Remove what is not needed.")
    return content


def write_trust(path: Path, content: bytes, root: Path) -> None:
    """Replace the file whole, readable by its owner alone.

    Raises:
        FleetError: FC1274, as `read_trust`, or it would lie in the checkout of `root`.
    """
    require_outside(root, writing=True)
    path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    read_trust(path)
    replace_file(path, content)


def _absolute(path: Path) -> Path:
    """Return a path whose folder has no links; the file itself is never followed."""
    return path.parent.resolve() / path.name


def _require_private(path: Path, status: os.stat_result, *, folder: bool) -> None:
    kind, theirs = (stat.S_ISDIR, 0o022) if folder else (stat.S_ISREG, 0o077)
    if not kind(status.st_mode):
        raise _refused(path, f"it is no {'folder' if folder else 'regular file'}.", "Remove it.")
    if status.st_uid != os.geteuid():
        raise _refused(path, "it belongs to another user.", "Make your own: `fleetctl trust add`.")
    if status.st_mode & theirs:
        mode = "700" if folder else "600"
        detail = f"other users may {'write in' if folder else 'read or write'} it."
        raise _refused(path, detail, f"Look at its content, then: chmod {mode} {path}")


def _refused(path: Path, detail: str, hint: str) -> FleetError:
    text = f"`{path}` says which hosts get secrets and which code may run, and {detail}"
    return FleetError.of("FC1274", "Trust file is not its owner's alone", text, hint=hint)


OPERATOR: Final = "operator"
"""Reference of the operator's secret that fleetctl makes in a state folder."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ssh": 22}
_LARGEST_PORT: Final = 65535
_URL: Final = re.compile(
    r"(https?|ssh)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?(/[!-~]*)?", re.ASCII
)
"""Addresses that two readers cannot read differently: no user, no backslash, no fragment first."""
_SECRET: Final = re.compile(r"[!-~]{1,4096}")
"""A secret that can stand in a header: visible ASCII."""


def _root(path: Path) -> Path:
    if not path.is_absolute() or path == Path("/") or ".." in path.parts:
        raise ValueError("a root is the absolute path of a folder below /")
    return path


_Host = Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-f:.]+\]|[a-z0-9._-]+):[0-9]{1,5}$")]
_Reference = Annotated[
    str, StringConstraints(pattern=r"^(operator|env:[A-Za-z_][A-Za-z0-9_]*|file:[^\s\x00]+)$")
]
_Flag = Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9-]*|[A-Z_][A-Z0-9_]*)$")]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
_Package = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*(==[0-9A-Za-z][0-9A-Za-z.+!_-]{0,63})?$"),
]
_Root = Annotated[Path, AfterValidator(_root)]


class Trust(BaseModel):
    """Hosts, folders and code that the operator confirms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hosts: Mapping[_Host, tuple[_Reference, ...]] = {}
    """Network host, `name:port`, to references of the secrets that may go there."""
    roots: tuple[_Root, ...] = ()
    """Folders outside the project that declared paths may lie in."""
    code: Mapping[_Name, tuple[_Flag, ...]] = {}
    """Declared host to flags of vLLM that run code there, and variables that servers inherit."""
    packages: tuple[_Package, ...] = ()
    """Packages whose code fleetctl may load: `NAME`, or `NAME==VERSION` for one version alone."""


class UntrustedError(EngineUnreachableError):
    """Trust is lacking: nothing was sent."""


class Peer(NamedTuple):
    """The other side of a connection."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """Host and port, as `Trust.hosts` has them."""
        return f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """Return the address to write after `fleetctl trust add`."""
        return f"{self.scheme}://{self.netloc}"


def peer_of(url: str, *, ssh: bool = False) -> Peer:
    """Return the other side that a URL means; `ssh`: also that of `ssh://host`.

    Raises:
        ValueError: the URL is none, or readers may differ on what it means; the text has no value.
    """
    match = _URL.fullmatch(url)
    if match is None or "\\" in url or "#" in url or (match[1] == "ssh" and not ssh):
        raise ValueError("it is not `http://host:port/path` in plain ASCII")
    port = int(match[3] or _DEFAULT_PORTS[match[1]])
    if not 0 < port <= _LARGEST_PORT:
        raise ValueError("its port is out of range")
    return Peer(match[1], match[2].lower(), port)


def is_own(host: str) -> bool:
    """Return whether a host is this machine, by its address. Looks up no name, sends nothing."""
    if host == "localhost":
        return True
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 (IPv4)
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))  # a datagram socket: this asks the routing table alone
        return ip_address(probe.getsockname()[0]) == address
    return False


def load_trust() -> Trust:
    """Return the operator's trust; nothing is trusted where there is no file.

    Raises:
        FleetError: FC1274, the file is not its owner's alone; FC1275, a field of it is wrong.
    """
    path = trust_path()
    return parse_trust(read_trust(path), path)


@lru_cache(maxsize=4)
def parse_trust(content: bytes, path: Path) -> Trust:
    """Return the trust in a file's content.

    Raises:
        FleetError: FC1275.
    """
    try:
        return Trust.model_validate(yaml.safe_load(content) or {})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        detail = f"`{path}`, {where}: {first['msg']}."
    except (yaml.YAMLError, ValueError, RecursionError):
        detail = f"`{path}` is not YAML."
    hint = "Nothing is trusted until it is right. Mend the line, or remove the file and add anew."
    raise FleetError.of("FC1275", "Trust file is malformed", detail, hint=hint)


def dump_trust(trust: Trust) -> bytes:
    """Return the content of the file of a trust."""
    document = {key: value for key, value in trust.model_dump(mode="json").items() if value}
    return yaml.safe_dump(document, sort_keys=True).encode()


def require_contact(url: str, *, ssh: bool = False) -> None:
    """Refuse to contact a network host that is not trusted. Nothing is sent.

    `ssh`: the URL may be `ssh://host`, of a host that commands are run on.

    Raises:
        UntrustedError: FC1270, the host is not trusted, or the address is not plain; or as
            `load_trust`.
    """
    peer = _peer(url, ssh=ssh)
    if is_own(peer.host) or peer.netloc in _hosts():
        return
    secret = " --no-secret" if peer.scheme == "https" else ""
    raise _untrusted(
        "FC1270",
        "Network host is not trusted",
        f"`{peer.netloc}` is named by the declarations alone, so nothing was sent there",
        f"fleetctl trust add {peer}{secret}",
    )


def may_contact(url: str) -> bool:
    """Return whether `require_contact` refuses nothing."""
    try:
        require_contact(url)
    except UntrustedError:
        return False
    return True


def authorization(url: str, reference: str, secret: str) -> dict[str, str]:
    """Return the header that shows a secret to a host, or refuse.

    The only maker of such headers. `reference` is `operator`, `env:NAME` or `file:path`. No error
    holds the secret.

    Raises:
        UntrustedError: FC1270 to FC1272, as `require_bound`; FC1273, no header can hold the secret.
    """
    require_bound(url, reference)
    if _SECRET.fullmatch(secret) is None:
        detail = f"The value of `{reference}` has blanks, control characters or no ASCII"
        raise _untrusted("FC1273", "Secret cannot stand in a header", f"{detail}; it was not sent")
    return {"Authorization": f"Bearer {secret}"}


def require_bound(url: str, reference: str) -> None:
    """Refuse to send a secret to a host that the operator did not confirm for the secret.

    Raises:
        UntrustedError: FC1271, host and reference are not bound; FC1272, the connection is neither
            encrypted nor within this machine; as `load_trust`.
    """
    peer = _peer(url)
    if is_own(peer.host):
        return
    if peer.scheme != "https":
        raise _untrusted(
            "FC1272",
            "Secret would travel in the clear",
            f"`{peer.netloc}` is reached over plain HTTP, and `{reference}` was not sent: "
            "any hop would read it. Put TLS in front and write https://, or reach it through a "
            "forward that ends on 127.0.0.1",
        )
    if reference not in _hosts().get(peer.netloc, ()):
        named = "" if reference == OPERATOR else f" --secret {shlex.quote(reference)}"
        raise _untrusted(
            "FC1271",
            "Secret is not for this host",
            f"`{reference}` was not sent to `{peer.netloc}`: only declarations say that it is for "
            "that host",
            f"fleetctl trust add {peer}{named}",
        )


def require_package(name: str, version: str) -> None:
    """Refuse to load the code of an installed package that the operator did not confirm.

    Raises:
        UntrustedError: FC1342, neither the package nor this version of it is trusted; or as
            `load_trust`.
    """
    try:
        trusted = load_trust().packages
    except FleetError as error:
        raise UntrustedError(*error.diagnostics) from None
    if not {name, f"{name}=={version}"} & {*trusted}:
        detail = f"Declarations name `{name}`, whose code nobody here has confirmed; none was run"
        command = f"fleetctl trust add --package {name}=={version}"
        raise _untrusted("FC1342", "Extension is not trusted", detail, command)


def may_hold(url: str, references: Iterable[str]) -> bool:
    """Return whether an address may hold values of the environment.

    Its host is this machine, or trusted; with `references`, trusted with all of them over TLS.
    """
    try:
        peer = peer_of(url)
    except ValueError:
        return False
    if is_own(peer.host):
        return True
    bound = load_trust().hosts.get(peer.netloc)
    wanted = {*references}
    return bound is not None and (not wanted or (peer.scheme == "https" and wanted <= {*bound}))


def untrusted_addresses(urls: Iterable[str]) -> list[Peer]:
    """Return the hosts of addresses that would not be contacted, sorted."""
    found = set[Peer]()
    for url in urls:
        with suppress(ValueError, UntrustedError):
            peer = peer_of(url)
            if not is_own(peer.host) and peer.netloc not in _hosts():
                found.add(peer)
    return sorted(found)


def untrusted_notes(urls: Iterable[str]) -> Iterator[str]:
    """Yield a note with the command that confirms all hosts of servers that are not trusted."""
    if peers := untrusted_addresses(urls):
        secret = " --no-secret" if any(peer.scheme == "https" for peer in peers) else ""
        command = f"fleetctl trust add {' '.join(map(str, peers))}{secret}"
        yield f"hosts of servers are not trusted and were not contacted; all of them: {command}"


def _hosts() -> Mapping[str, tuple[str, ...]]:
    """Return the trusted hosts; a file that is refused trusts none, and stops nothing else."""
    try:
        return load_trust().hosts
    except FleetError as error:
        raise UntrustedError(*error.diagnostics) from None


def _peer(url: str, *, ssh: bool = False) -> Peer:
    try:
        return peer_of(url, ssh=ssh)
    except ValueError as error:
        detail = f"An address cannot be contacted: {error}"
        raise _untrusted("FC1270", "Network host is not trusted", detail) from None


def _untrusted(code: str, summary: str, detail: str, command: str = "") -> UntrustedError:
    confirm = f". If you know it: `{command}`." if command else "."
    return UntrustedError.of(code, summary, detail + confirm, command=command)
