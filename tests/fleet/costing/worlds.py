"""Terms and cells of small fleets; amounts are millionths, a unit of work a decoded token."""

from datetime import UTC, datetime
from typing import Any

from fleet.costing import (
    ClientTerms,
    CostLine,
    DeviceTerms,
    FleetTerms,
    HourSplitter,
    ResidentTerms,
    Role,
    ServerTerms,
    Terms,
    WorkCell,
    WorkNames,
    lines_of,
)
from fleet.policies import MICRO, IdleRule

NOON = datetime(2026, 11, 14, 12, tzinfo=UTC)
DAY = 24


def fleet(idle: IdleRule = IdleRule.RESERVED, storage: int = 0) -> FleetTerms:
    return FleetTerms("EUR", "UTC", idle, storage)


def resident(
    client: str, load: int = 0, role: Role = Role.STABLE, slots: int = 1, version: str = "1.0.0"
) -> ResidentTerms:
    percent = 100 if role is Role.STABLE else 0
    return ResidentTerms(f"{client}-x-tiny-v{version}", role, slots, percent, (load,) * DAY)


def server(
    *residents: ResidentTerms, devices: tuple[str, ...] = ("h/g",), capacity: int = 1000
) -> ServerTerms:
    hours = (capacity,) * DAY if capacity else ()
    return ServerTerms(devices, "tiny", 4, MICRO // 4, hours, True, residents)


def client(fee: int | None = None, **more: Any) -> ClientTerms:
    usual = {"staff": 0, "staff_rate": 0, "storage_bytes": 0, "included": 0, "overage": 0}
    return ClientTerms(fee, **{**usual, **more}, bill_evals=False)


def cell(
    client: str, tokens: int, server: str = "s", prompt: int = 0, cached: int = 0,
    purpose: str = "live", version: str = "1.0.0", unknown: int = 0, requests: int = 1,
) -> WorkCell:  # fmt: skip
    names = WorkNames(client, f"{client}-x", f"{client}-x-tiny-v{version}", server, purpose)
    return WorkCell(names, requests, prompt, tokens, cached, requests - unknown, unknown)


def leases(price: int, *names: str, always: bool = True) -> dict[str, DeviceTerms]:
    return {name: DeviceTerms(price, always) for name in names or ("h/g",)}


def lines(terms: Terms, *cells: WorkCell, is_known: bool = True) -> list[CostLine]:
    parts = HourSplitter(terms).split(NOON, cells if is_known else None)
    return [CostLine(*line) for found in parts.values() for line in lines_of(found)]


def bill(terms: Terms, *cells: WorkCell, is_known: bool = True) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines(terms, *cells, is_known=is_known):
        key = f"{line.client or 'platform'} {line.kind}"
        found[key] = found.get(key, 0) + line.micro
    return found
