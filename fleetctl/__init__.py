"""Wires. Click commands that parse options, call, print and exit; they decide nothing."""

from pathlib import Path

from fleetctl.import_names import check_import_names

check_import_names(Path(__file__).parent.parent)

from fleet import __version__ as __version__  # noqa: E402 (another project's would fail here)
