"""Declares the whole of the files, with the settings that hold for all of them."""

from typing import Annotated

from pydantic import Field

from fleet.config.scalars.quantities import Amount, Kept, Share, Spare, Switch
from fleet.config.scalars.texts import Id, Package, Requirement, SecretRef, Word
from fleet.config.schema.clients import Client, Tier
from fleet.config.schema.extensions import Extension
from fleet.config.schema.machines import Base, Gateway, Host
from fleet.config.schema.rollouts import Evals, Gate, Override, PlanRule, Rollout, SigningKey
from fleet.config.schema.section import Section
from fleet.config.schema.traffic import Notify
from fleet.policies import IdleRule
from fleet.spec import LEAST_KEPT, CompiledFor, LatencyClass


class Defaults(Section):
    """The settings of clients and adapters that declare no others."""

    tier: Id = "standard"
    """Tier of clients. A tier `standard` exists even when none is declared."""
    rollout: Id = "standard"
    """Rollout of adapters. `standard` exists even when none is declared."""
    latency: LatencyClass = "short_generation"
    """Latency class of adapters."""
    keep_versions: Kept = LEAST_KEPT
    """Earlier versions of an adapter that stay in the library. Least: 3. Unit: versions."""
    retrain: tuple[Word, ...] = ()
    """The command that trains a new version, see `retrain` of an adapter."""


class Placement(Section):
    """The settings of every placement of adapters on servers."""

    utilization: Share = 70
    """Part of a server's throughput that its busiest hour may take. Unit: percent."""
    canary_slots: Spare = 2
    """LoRA slots kept free on every server, so that a new version needs no restart. Unit: slots."""
    share_devices: Switch = False
    """Whether servers of several bases may share a device."""


class Costs(Section):
    """The terms of costs that hold for the whole fleet."""

    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "EUR"
    """Currency of all prices and fees, as three capital letters; nothing is converted."""
    timezone: Word = "UTC"
    """Time zone in which months begin, such as `Europe/Paris`."""
    idle: IdleRule = IdleRule.RESERVED
    """How clients share the idle part of a server's hour.

    `reserved`: by slots, times the load declared for the hour. `usage`: by the work of the hour.
    `even`: evenly. `platform`: not at all, the platform pays.
    """
    storage_per_gib_month: Amount = 0.0
    """Price of a GiB of adapter versions in the library, a month.

    Unit: currency per GiB and month.
    """


class StateHome(Section):
    """The home of the ledger for all checkouts: a database or a folder.

    `fleet.yaml` or an overlay declares it. Default: the state folder, `.fleetctl` beside the files.
    """

    postgresql: SecretRef | None = None
    """Where the URI of a PostgreSQL database is kept, such as `env:FLEET_DB`."""
    file: Word | None = None
    """A folder, relative to the project, such as a share that all machines have mounted."""
    evidence_key: SecretRef | None = None
    """Where the secret is kept that signs verdicts in the ledger, the same for all checkouts.

    Default: a file of the state folder where that is the home, else none is signed.
    """


class Declarations(Section):
    """A fleet, merged from `fleet.yaml`, `clients/*.yaml` and an overlay."""

    fleet: Id
    """The fleet's name."""
    required_version: Requirement | None = None
    """Releases of fleetctl that may read this fleet, such as `>=0.1,<2`. Default: any.

    Operators are `==`, `!=`, `>=`, `<=`, `>`, `<` and `~=`. Any other release refuses the fleet
    before it reads anything else.
    """
    state: StateHome = StateHome()
    """Home of ledger and leases."""
    library: Word = "models"
    """Folder of base models and adapter versions, relative to the project."""
    extensions: dict[Package, Extension] = {}
    """Installed packages that add engines, targets, sources or receivers, by package name."""
    servers_secret: SecretRef | None = None
    """The secret that the API keys of all servers are derived from, such as `env:FLEET_SERVERS`.

    Default: servers have no key, and answer all users of their machine.
    """
    defaults: Defaults = Defaults()
    """Settings of clients and adapters that declare no others."""
    placement: Placement = Placement()
    """Upper bounds of the load of servers, and whether servers share devices."""
    evals: Evals = Evals()
    """How golden sets are asked, and how often."""
    costs: Costs = Costs()
    """Currency, billing zone, idle rule and price of storage."""
    tiers: dict[Id, Tier] = {}
    """Classes of service, by name."""
    bases: dict[Id, Base] = {}
    """Base models, by name."""
    hosts: dict[Id, Host] = {}
    """Machines and attached servers, by name."""
    gateways: dict[Id, Gateway] = {}
    """Gateways, by name."""
    compiled_for: tuple[CompiledFor, ...] = ()
    """Gateways elsewhere that `fleetctl compile --target` writes for: plans say what they lose."""
    rollouts: dict[Id, Rollout] = {}
    """Paces at which new versions take over, by name."""
    gates: dict[Id, Gate] = {}
    """Conditions that rollouts ask for, by name."""
    notify: Notify | None = None
    """Where operators are notified of events that no operator started."""
    overrides: dict[Id, Override] = {}
    """Versions that people accept although a gate rejects them, by name."""
    plan_rules: dict[Id, PlanRule] = {}
    """Limits of plans, by name; `apply` judges by them, too."""
    signatures: dict[Id, SigningKey] = {}
    """Public keys by name: a version that such a key has signed counts as signed."""
    clients: dict[Id, Client] = {}
    """Tenants with their adapters, by name."""
