"""All tasks of VTAB-1k."""

from vitral.data.vtab.clevr import CLEVR
from vitral.data.vtab.dmlab import DMLAB
from vitral.data.vtab.dsprites import DSPRITES
from vitral.data.vtab.kitti import KITTI
from vitral.data.vtab.natural import NATURAL
from vitral.data.vtab.small_norb import SMALL_NORB
from vitral.data.vtab.specialized import SPECIALIZED

__all__ = ["VTAB1K"]

STRUCTURED = (*CLEVR, *DMLAB, *DSPRITES, *KITTI, *SMALL_NORB)

VTAB1K = {task.name: task for task in (*NATURAL, *SPECIALIZED, *STRUCTURED)}
"""The nineteen tasks by name, in the order of the paper's Table 9."""
