"""Defines the text that remembers the names of the values filled in from the environment."""


class Filled(str):
    """A text in which values of the environment were filled."""

    __slots__ = ("written",)
    written: str
    """The text as in the file, with `${env:NAME}` in the place of the values."""

    @classmethod
    def of(cls, text: str, written: str) -> str:
        """Return a text with its written form, where values of the environment are in the text."""
        if "${env:" not in written:
            return text
        made = cls(text)
        made.written = written
        return made
