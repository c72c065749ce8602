"""Files of wrapped, as they are saved."""

from parity.saved.case import Saved

__all__ = ["CASES"]

CASES: dict[str, Saved] = {}
