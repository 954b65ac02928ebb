"""Write the CI files of a forge: plans, applies, rounds, issues of drift."""

from collections.abc import Mapping
from enum import StrEnum

from fleet import __version__
from plans.templating import rendered


class Forge(StrEnum):
    """A place for repositories, whose CI runs fleetctl."""

    GITHUB = "github"
    GITLAB = "gitlab"
    ATLANTIS = "atlantis"


CI_FILES: Mapping[Forge, Mapping[str, str]] = {
    Forge.GITHUB: {
        ".github/workflows/fleetctl-{name}-plan.yml": "github_plan.yml.j2",
        ".github/workflows/fleetctl-{name}-apply.yml": "github_apply.yml.j2",
        ".github/workflows/fleetctl-{name}-watch.yml": "github_watch.yml.j2",
    },
    Forge.GITLAB: {".gitlab/fleetctl-{name}.yml": "gitlab.yml.j2"},
    Forge.ATLANTIS: {"atlantis.yaml": "atlantis.yaml.j2"},
}
"""Templates of `plans/templates/ci` by the file that is written, for every forge."""
_ACTIONS = {
    "checkout": "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1  # v7.0.1",
    "upload_artifact": (
        "actions/upload-artifact@bbbca2ddaa5d8feaa63e36b76fdaad77386f024f  # v7.0.0"
    ),
    "download_artifact": (
        "actions/download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c  # v8.0.1"
    ),
    "upload_sarif": (
        "github/codeql-action/upload-sarif@5d4e8d1aca955e8d8589aabd499c5cae939e33c7  # v4.31.9"
    ),
}
"""Actions of GitHub, pinned to the commits of their releases."""


def ci_files(forge: Forge, options: str, **values: str) -> dict[str, str]:
    """Return the files of a forge's CI by path in the repository.

    Args:
        forge: Where the repository lies.
        options: Global options of every command, such as `-C agency --env prod`.
        values: `name` of the environment, in file names, comments and labels; `branch` whose
            declarations are applied.
    """
    filled = {**values, **_ACTIONS, "options": options, "version": __version__}
    return {
        path.format(**values): rendered(f"ci/{template}", **filled)
        for path, template in CI_FILES[forge].items()
    }
