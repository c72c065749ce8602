"""Oxford Flowers-102."""

from pathlib import Path

import numpy as np

from vitral.data.sources.source import FileSource, Source
from vitral.datasets.originals.files import find_folder
from vitral.datasets.originals.matlab import load_matlab_array
from vitral.errors import UserError

__all__ = ["FLOWERS", "open_flowers"]


def open_flowers(root: Path) -> dict[str, Source]:
    """Oxford Flowers-102: `jpg/image_00001.jpg` on, `imagelabels.mat` and `setid.mat`; the classes are numbered.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = find_folder(root, "imagelabels.mat", "flowers-102")
    labels = load_matlab_array(folder / "imagelabels.mat", "labels").reshape(-1)
    splits = {split: load_matlab_array(folder / "setid.mat", key).reshape(-1) for split, key in FLOWERS_KEYS.items()}
    indices = np.concatenate(list(splits.values()))
    if not (np.isin(labels, NUMBERS).all() and np.isin(indices, np.arange(1, len(labels) + 1)).all()):
        raise UserError(f"{folder}/imagelabels.mat and setid.mat do not match: download them again")
    return {
        split: FileSource(
            root=folder,
            files=tuple(f"jpg/image_{number:05d}.jpg" for number in ids.tolist()),
            labels=labels[ids.astype(np.int64) - 1].astype(np.int64) - 1,
            classes=FLOWERS,
        )
        for split, ids in splits.items()
    }


FLOWERS_KEYS = {"train": "trnid", "val": "valid", "test": "tstid"}

FLOWERS = (
    "pink primrose",
    "hard-leaved pocket orchid",
    "canterbury bells",
    "sweet pea",
    "english marigold",
    "tiger lily",
    "moon orchid",
    "bird of paradise",
    "monkshood",
    "globe thistle",
    "snapdragon",
    "colt's foot",
    "king protea",
    "spear thistle",
    "yellow iris",
    "globe-flower",
    "purple coneflower",
    "peruvian lily",
    "balloon flower",
    "giant white arum lily",
    "fire lily",
    "pincushion flower",
    "fritillary",
    "red ginger",
    "grape hyacinth",
    "corn poppy",
    "prince of wales feathers",
    "stemless gentian",
    "artichoke",
    "sweet william",
    "carnation",
    "garden phlox",
    "love in the mist",
    "mexican aster",
    "alpine sea holly",
    "ruby-lipped cattleya",
    "cape flower",
    "great masterwort",
    "siam tulip",
    "lenten rose",
    "barbeton daisy",
    "daffodil",
    "sword lily",
    "poinsettia",
    "bolero deep blue",
    "wallflower",
    "marigold",
    "buttercup",
    "oxeye daisy",
    "common dandelion",
    "petunia",
    "wild pansy",
    "primula",
    "sunflower",
    "pelargonium",
    "bishop of llandaff",
    "gaura",
    "geranium",
    "orange dahlia",
    "pink-yellow dahlia?",
    "cautleya spicata",
    "japanese anemone",
    "black-eyed susan",
    "silverbush",
    "californian poppy",
    "osteospermum",
    "spring crocus",
    "bearded iris",
    "windflower",
    "tree poppy",
    "gazania",
    "azalea",
    "water lily",
    "rose",
    "thorn apple",
    "morning glory",
    "passion flower",
    "lotus",
    "toad lily",
    "anthurium",
    "frangipani",
    "clematis",
    "hibiscus",
    "columbine",
    "desert-rose",
    "tree mallow",
    "magnolia",
    "cyclamen",
    "watercress",
    "canna lily",
    "hippeastrum",
    "bee balm",
    "ball moss",
    "foxglove",
    "bougainvillea",
    "camellia",
    "mallow",
    "mexican petunia",
    "bromelia",
    "blanket flower",
    "trumpet creeper",
    "blackberry lily",
)
"""Names of classes 1 to 102, from the authors' page."""
NUMBERS = np.arange(1, len(FLOWERS) + 1)
