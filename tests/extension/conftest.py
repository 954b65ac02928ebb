"""The package of an extension has tests of its own, which run where the package is installed."""

collect_ignore = ["fleetctl-plain"]
