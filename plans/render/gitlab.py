"""Render the counts of a plan as GitLab's terraform report, which a merge request shows."""

import json

from fleet.plan import Action, Plan

_COUNTED = {
    Action.CREATE: ("create",),
    Action.UPDATE: ("update",),
    Action.MOVE: ("update",),
    Action.DELETE: ("delete",),
    Action.REPLACE: ("create", "delete"),
}
"""Words of the report by action; as Terraform's own report counts a replacement, twice."""


def render(plan: Plan) -> str:
    """Return the numbers of resources to create, update and delete.

    Source:
        https://docs.gitlab.com/ci/yaml/artifacts_reports/#artifactsreportsterraform
    """
    counts = {"create": 0, "update": 0, "delete": 0}
    for change in plan.changes:
        for word in _COUNTED[change.action]:
            counts[word] += 1
    return json.dumps(counts) + "\n"
