"""All tasks of VTAB-1k."""

from vitral.datasets.vtab.clevr import CLEVR
from vitral.datasets.vtab.dmlab import DMLAB
from vitral.datasets.vtab.dsprites import DSPRITES
from vitral.datasets.vtab.kitti import KITTI
from vitral.datasets.vtab.natural import NATURAL
from vitral.datasets.vtab.small_norb import SMALL_NORB
from vitral.datasets.vtab.specialized import SPECIALIZED

__all__ = ["VTAB1K"]

STRUCTURED = (*CLEVR, *DMLAB, *DSPRITES, *KITTI, *SMALL_NORB)

VTAB1K = {task.name: task for task in (*NATURAL, *SPECIALIZED, *STRUCTURED)}
"""The nineteen tasks by name, in the order of the paper's Table 9."""
