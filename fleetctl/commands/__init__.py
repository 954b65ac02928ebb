"""The commands; `fleetctl.lazy_group` lists their modules."""
