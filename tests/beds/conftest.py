"""What tests on beds ask for."""

from tests.beds.boxes import bed

__all__ = ["bed"]
