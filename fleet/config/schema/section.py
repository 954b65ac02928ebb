"""Declares the base class of every map of the YAML files."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A map with known keys; keys that begin with `x-` are left to the reader."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
