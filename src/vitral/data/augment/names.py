"""The integer by which each kind of augmentation names its draws: a new kind changes no draw of an old one."""

__all__ = ["CROP", "ERASE", "FLIP", "MIX", "PIXELS", "RAND", "THREE", "WARP"]

FLIP, WARP, CROP = 0, 1, 5
MIX, ERASE, RAND, THREE, PIXELS = 1000, 1100, 1200, 1300, 1400
"""First of a range: what needs several numbers counts on from it."""
