"""Checks addresses and ports of hosts and gateways: their forms, and that each is given once."""

from collections.abc import Iterator

from fleet.config.merge import Path
from fleet.config.scalars.texts import is_bind_address, is_loopback
from fleet.config.schema.machines import Host
from fleet.config.validate import Problem
from fleet.hardware import HostSpec
from fleet.names import SSH_DESTINATION

STARTING = {"local", "ssh", "ray"}
"""Engines that start vLLM."""
_ANY = {"0.0.0.0", "[::]", "localhost"}  # noqa: S104 (compared, never bound)
_OTHERS = (
    "A machine reached by SSH has `engine: ssh`, a node of a Ray cluster `ray`, servers that "
    "others start `attach`, and a machine that is only planned for `fake`."
)
_ANEW = (
    "Declare a machine once. If there are two: write one in another way, such as with its port or "
    "as an alias of ssh's configuration."
)


def port_faults(
    ports: dict[tuple[str, int], Path], taken: tuple[str, int], path: Path
) -> Iterator[Problem]:
    """Check that a port is given once; `ports` has those so far, by address and port."""
    where = "127.0.0.1" if taken[0] in _ANY else taken[0]
    if (first := ports.setdefault((where, taken[1]), path)) != path:
        shown = f"{taken[0]}:{taken[1]}" if taken[1] else taken[0]
        detail = f"`{shown}` is given to `{'.'.join(map(str, first[1:4]))}` as well."
        also = (("first given at", first),)
        yield Problem("FC1207", path, detail, hint="Choose another port.", also=also)


def address_faults(
    path: Path, host: Host, address: str, machines: dict[str, Path]
) -> Iterator[Problem]:
    """Check the address of a host, and that no other host is the same machine.

    `machines` has the hosts so far that start vLLM, by the address at which they are reached.
    """
    at = (*path, "node" if host.engine == "ray" else "address")
    is_local = host.engine == "local"
    if address and is_local and not is_loopback(address):
        detail = f"Servers of engine `local` listen on this machine alone, not on `{address}`."
        yield Problem("FC1267", at, detail, hint=f"Delete it. {_OTHERS}")
        return
    fits = SSH_DESTINATION.fullmatch if host.engine == "ssh" else is_bind_address
    if address and not fits(address):
        detail = f"`{address}` is no address for a host of engine `{host.engine}`."
        hint = "`ssh` takes `user@host:port` and `[IPv6]`; other engines a name or an IP address."
        yield Problem("FC1208", at, detail, hint=hint)
    elif host.engine in STARTING and (is_local or address):
        reached = (
            "" if is_local else HostSpec(str(path[1]), host.engine, address=address).reached_at
        )
        first = machines.setdefault(reached, path)
        if first != path:
            also = (("first given at", first),)
            detail = (
                f"`{first[1]}` and `{path[1]}` are both this machine, and would start servers on "
                "the same GPUs."
                if is_local
                else f"`{first[1]}` and `{path[1]}` would both be reached at {reached}."
            )
            code, hint = ("FC1267", _OTHERS) if is_local else ("FC1268", _ANEW)
            yield Problem(code, path, detail, hint=hint, at="key", also=also)
