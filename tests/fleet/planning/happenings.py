"""What may happen to a fleet in memory between two plans; `index` counts what is live."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Declare:
    alias: str
    base: str
    version: str
    replicas: int


@dataclass(frozen=True)
class Remove:
    alias: str


@dataclass(frozen=True)
class Slots:
    base: str
    slots: int | None
    whole: bool


@dataclass(frozen=True)
class Pass:
    days: int


@dataclass(frozen=True)
class Break:
    index: int
    process: bool


@dataclass(frozen=True)
class Relaunch:
    index: int


@dataclass(frozen=True)
class Silence:
    index: int
    silent: bool


@dataclass(frozen=True)
class RollBack:
    alias: str


@dataclass(frozen=True)
class Release:
    alias: str


@dataclass(frozen=True)
class Tamper:
    index: int


Event = Declare | Remove | Slots | Pass | Break | Relaunch | Silence | RollBack | Release | Tamper
