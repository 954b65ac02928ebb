"""What may stand in the YAML files, as models. Their docstrings are the schema's texts."""

from fleet.declarations.clients import Adapter, Client, Demand, Slo, Tier
from fleet.declarations.evals import Evals, JudgeModel
from fleet.declarations.machines import AttachedServer, Base, Device, Gateway, Host
from fleet.declarations.notices import ClientNotify, Notify
from fleet.declarations.rollouts import Gate, Override, Rollout
from fleet.declarations.section import Section
from fleet.declarations.traffic import Limits, Shadow, Timeouts
from fleet.declarations.whole import Declarations, Defaults, Placement

__all__ = [
    "Adapter",
    "AttachedServer",
    "Base",
    "Client",
    "ClientNotify",
    "Declarations",
    "Defaults",
    "Demand",
    "Device",
    "Evals",
    "Gate",
    "Gateway",
    "Host",
    "JudgeModel",
    "Limits",
    "Notify",
    "Override",
    "Placement",
    "Rollout",
    "Section",
    "Shadow",
    "Slo",
    "Tier",
    "Timeouts",
]
