"""Turn a drawing of the packing into the document of a page: hosts, devices, servers, adapters."""

from collections.abc import Iterable, Mapping
from typing import Any

from fleet.placement import PlacementResult
from fleet.spec import FleetSpec
from plans.drawing import drawing_of
from plans.drawing.content import DeviceBox, ServerPanel


def hosts(
    fleet: FleetSpec,
    placement: PlacementResult,
    silent: Iterable[str],
    shares: Mapping[str, int],
) -> list[Mapping[str, Any]]:
    """Return the devices by host, as they are once the placement is applied.

    `silent`: servers that do not answer. `shares`: live percent by full adapter name.
    """
    return [
        {
            "host": row.host,
            "idle": list(row.idle),
            "silent": list(row.silent),
            "groups": [
                {
                    "boxes": [_box(box) for box in group.boxes],
                    "panels": [_panel(panel, shares) for panel in group.panels],
                }
                for group in row.groups
            ],
        }
        for row in drawing_of(fleet, placement, silent).rows
    ]


def _box(box: DeviceBox) -> Mapping[str, Any]:
    return {
        "device": box.device,
        "kind": box.kind,
        "memory_bytes": box.memory_bytes,
        "free_bytes": box.free_bytes,
        "price_per_hour": box.price_per_hour,
        "parts": [
            {"name": part.name, "server": part.server, "bytes": part.bytes} for part in box.parts
        ],
    }


def _panel(panel: ServerPanel, shares: Mapping[str, int]) -> Mapping[str, Any]:
    return {
        "server": panel.server,
        "base": panel.base,
        "slots": panel.slots,
        "empty": panel.empty,
        "others": list(panel.others),
        "requests": panel.requests,
        "hours": [round(part, 4) for part in panel.hours],
        "limit": panel.limit,
        "worst_hour": panel.worst_hour,
        "basis": panel.basis,
        "blocks": [
            {
                "alias": block.alias,
                "client": block.client,
                "version": block.version,
                "cached": block.cached,
                "percent": shares.get(block.adapter),
            }
            for block in panel.blocks
        ],
    }
