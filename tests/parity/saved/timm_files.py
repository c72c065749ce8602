"""Files of timm, as they are saved."""

from parity.saved.case import Saved

__all__ = ["CASES"]

CASES: dict[str, Saved] = {}
