"""Tell whether a CI job runs on the branch of a fork, by the job's environment."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from fleet.codec import decode_json
from runtime.files import read_plain

_LARGEST: Final = 16 << 20
"""Upper bound of the file that describes the event. Bytes."""


def fork_of(environment: Mapping[str, str] = os.environ) -> str:
    """Return the words by which the job says that its branch is a fork's; empty: it does not.

    GitHub: the event's file names other repositories for head and base. GitLab: the merge request
    has another source project. Where a pull request's file cannot be read, a fork is assumed.
    """
    source = environment.get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "")
    if source and source != environment.get("CI_MERGE_REQUEST_PROJECT_ID", ""):
        return "CI_MERGE_REQUEST_SOURCE_PROJECT_ID is another project"
    event = environment.get("GITHUB_EVENT_NAME", "")
    if not event.startswith(("pull_request", "workflow_run")):
        return ""
    try:
        path = Path(environment.get("GITHUB_EVENT_PATH", ""))
        document = decode_json(read_plain(path, _LARGEST))
        if all(head == base for head, base in _repositories(document)):
            return ""
    except (OSError, ValueError, TypeError, KeyError):
        return f"GITHUB_EVENT_NAME is {event}, and GITHUB_EVENT_PATH does not name its repositories"
    return f"GITHUB_EVENT_NAME is {event}, from another repository"


def _repositories(event: dict[str, Any]) -> Iterator[tuple[int, int]]:
    """Yield the ids of head and base repository; raises where an id is missing."""
    if "workflow_run" in event:
        yield event["workflow_run"]["head_repository"]["id"], event["repository"]["id"]
    else:
        pull = event["pull_request"]
        yield pull["head"]["repo"]["id"], pull["base"]["repo"]["id"]
