"""Every data set and task that has a name. To add one, write its reader and add its entry here.

The table holds facts only, so importing it is quick; `lazy` names the reader that is imported when an entry is opened.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vitral.datasets.data_set import DataSet, Group, Task, lazy
from vitral.errors import UserError, did_you_mean

__all__ = ["DATA_SETS", "TASKS", "find", "tasks_of"]


def find(name: str) -> DataSet | Task:
    """The data set or task with a name.

    Raises:
        UserError: there is none; the sentence suggests the closest name.
    """
    entry = DATA_SETS.get(name) or TASKS.get(name)
    if entry is None:
        hint = did_you_mean(name, [*DATA_SETS, *TASKS])
        raise UserError(f"no data set is called {name!r}{hint}: `vitral data list` shows all of them")
    return entry


def tasks_of(suite: str) -> dict[str, Task]:
    """The tasks of a suite by name, in the order of tables."""
    return {name: task for name, task in TASKS.items() if task.suite == suite}


DATA_SETS = {
    "digits": DataSet(
        title="scikit-learn's digits",
        num_classes=10,
        num_images={"train": 1_797},
        reader=lazy("digits:open_digits"),
        remark="8x8 grey images that come with scikit-learn. It has no test split: --data.test-fraction of every class "
        "is held out.",
        renamable=True,
    ),
    "cifar10": DataSet(
        title="CIFAR-10",
        num_classes=10,
        num_images={"train": 50_000, "test": 10_000},
        files="data_batch_1.bin to data_batch_5.bin, test_batch.bin and batches.meta.txt (the binary version)",
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        reader=lazy("originals.cifar:open_cifar10"),
        hub="uoft-cs/cifar10",
        tables={"image_column": "img", "label_column": "label"},
        val_fraction=0.02,
    ),
    "cifar100": DataSet(
        title="CIFAR-100",
        num_classes=100,
        num_images={"train": 50_000, "test": 10_000},
        files="train.bin, test.bin and fine_label_names.txt (the binary version)",
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        reader=lazy("originals.cifar:open_cifar100"),
        hub="uoft-cs/cifar100",
        tables={"image_column": "img", "label_column": "fine_label"},
        val_fraction=0.02,
    ),
    "fashion-mnist": DataSet(
        title="Fashion-MNIST",
        num_classes=10,
        num_images={"train": 60_000, "test": 10_000},
        files="train-images-idx3-ubyte, train-labels-idx1-ubyte and the two of t10k, or each with .gz",
        origin="https://github.com/zalandoresearch/fashion-mnist",
        reader=lazy("originals.fashion_mnist:open_fashion_mnist"),
        hub="zalando-datasets/fashion_mnist",
        remark="Debian's package dataset-fashion-mnist installs it in /usr/share/datasets/fashion-mnist.",
    ),
    "flowers": DataSet(
        title="Oxford Flowers-102",
        num_classes=102,
        num_images={"train": 1_020, "val": 1_020, "test": 6_149},
        files="jpg/, imagelabels.mat and setid.mat",
        origin="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        reader=lazy("originals.flowers:open_flowers"),
        remark="The paper chose its learning rate on a tenth of the training images; here the authors' own validation "
        "images are used, ten of each class.",
    ),
    "imagenet1k": DataSet(
        title="ImageNet (ILSVRC-2012)",
        num_classes=1_000,
        num_images={"train": 1_281_167, "test": 50_000},
        files="train/ with one folder per class, and val/ in such folders or beside ILSVRC2012_devkit_t12/",
        origin="https://image-net.org/challenges/LSVRC/2012/",
        reader=lazy("originals.imagenet:open_imagenet1k"),
        hub="ILSVRC/imagenet-1k",
        tables={"image_column": "image", "label_column": "label", "splits": ("train=train", "test=validation")},
        val_fraction=0.01,
        remark="The official validation images are the test split, as in the paper.",
    ),
    "imagenet21k": DataSet(
        title="ImageNet-21k",
        num_classes=21_843,
        num_images={"train": 14_197_122},
        files="one folder per class, such as n00004475/",
        origin="https://image-net.org/download-images.php",
        reader=lazy("originals.imagenet:open_imagenet21k"),
        remark="It has no test split: --data.test-fraction of every class is held out. Read tar shards of it with "
        "--data.source tars.",
    ),
    "pets": DataSet(
        title="Oxford-IIIT Pets",
        num_classes=37,
        num_images={"train": 3_680, "test": 3_669},
        files="images/, annotations/trainval.txt and annotations/test.txt",
        origin="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        reader=lazy("originals.pets:open_pets"),
        hub="timm/oxford-iiit-pet",
        tables={"image_column": "image", "label_column": "label"},
        val_fraction=0.1,
    ),
}
"""Data sets by the name that `--data.source` takes."""


def _sizes(train: int, val: int, test: int) -> dict[str, int]:
    return {"train": train, "val": val, "test": test}


def _vtab(title: str, group: Group, folder: str, data: DataSet, *, crop: bool = True, flip: bool = True) -> Task:
    return Task(title=title, suite="vtab1k", group=group, data=data, folder=folder, crop=crop, flip=flip)


def _with_val(reader: str, fraction: float) -> Callable[..., Any]:
    """A reader that keeps this fraction of the training images; the others become the validation split."""
    return lazy("vtab.natural:open_with_val", reader=reader, fraction=fraction)


CALTECH101 = DataSet(
    title="Caltech-101",
    num_classes=102,
    num_images=_sizes(2_754, 306, 6_084),
    files="101_ObjectCategories/, its background included",
    origin="https://data.caltech.edu/records/mzrjq-6wc02",
    reader=_with_val("vtab.natural:open_caltech101", 0.9),
)
CIFAR100 = replace(
    DATA_SETS["cifar100"],
    num_images=_sizes(45_000, 5_000, 10_000),
    reader=_with_val("originals.cifar:open_cifar100", 0.9),
)
DTD = DataSet(
    title="the Describable Textures Dataset",
    num_classes=47,
    num_images=_sizes(1_880, 1_880, 1_880),
    files="images/ and labels/",
    origin="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    reader=lazy("vtab.natural:open_dtd"),
)
PETS = replace(
    DATA_SETS["pets"], num_images=_sizes(2_944, 736, 3_669), reader=_with_val("originals.pets:open_pets", 0.8)
)
SUN397 = DataSet(
    title="SUN397",
    num_classes=397,
    num_images=_sizes(76_128, 10_875, 21_750),
    files="SUN397/ (SUN397.tar.gz), and beside it sun397_tfds_tr.txt, sun397_tfds_va.txt and sun397_tfds_te.txt "
    "(tensorflow_datasets/image_classification/ of TensorFlow Datasets)",
    origin="https://vision.princeton.edu/projects/2010/SUN/ and https://github.com/tensorflow/datasets",
    reader=lazy("vtab.natural:open_sun397"),
)
SVHN = DataSet(
    title="SVHN",
    num_classes=10,
    num_images=_sizes(65_931, 7_326, 26_032),
    files="train_32x32.mat and test_32x32.mat",
    origin="http://ufldl.stanford.edu/housenumbers/",
    reader=_with_val("vtab.natural:open_svhn", 0.9),
)
CAMELYON = DataSet(
    title="PatchCamelyon",
    num_classes=2,
    num_images=_sizes(262_144, 32_768, 32_768),
    files="camelyonpatch_level_2_split_train_x.h5, _train_y.h5, and those of valid and test, unpacked",
    origin="https://github.com/basveeling/pcam",
    reader=lazy("vtab.specialized:open_camelyon"),
)
EUROSAT = DataSet(
    title="EuroSAT",
    num_classes=10,
    num_images=_sizes(16_200, 5_400, 5_400),
    files="2750/ or EuroSAT_RGB/, the images in colour",
    origin="https://github.com/phelber/EuroSAT",
    reader=lazy("vtab.specialized:open_eurosat"),
)
RESISC45 = DataSet(
    title="RESISC45",
    num_classes=45,
    num_images=_sizes(18_900, 6_300, 6_300),
    files="NWPU-RESISC45/",
    origin="https://gcheng-nwpu.github.io/",
    reader=lazy("vtab.specialized:open_resisc45"),
)
RETINOPATHY = DataSet(
    title="Diabetic Retinopathy Detection",
    num_classes=5,
    num_images=_sizes(35_126, 10_906, 42_670),
    files="train/, trainLabels.csv, test/ and retinopathy_solution.csv",
    origin="https://www.kaggle.com/c/diabetic-retinopathy-detection, the last from "
    "https://storage.googleapis.com/kaggle-forum-message-attachments/90528/2877/retinopathy_solution.csv",
    reader=lazy("vtab.specialized:open_retinopathy"),
)
CLEVR_COUNT = DataSet(
    title="CLEVR",
    num_classes=8,
    num_images=_sizes(63_000, 7_000, 15_000),
    files="CLEVR_v1.0/, with images/ and scenes/ (CLEVR_v1.0.zip)",
    origin="https://cs.stanford.edu/people/jcjohns/clevr/",
    reader=lazy("vtab.clevr:open_clevr", task="count"),
)
CLEVR_DISTANCE = replace(CLEVR_COUNT, num_classes=6, reader=lazy("vtab.clevr:open_clevr", task="distance"))
DMLAB = DataSet(
    title="DMLab",
    num_classes=6,
    num_images=_sizes(65_550, 22_628, 22_735),
    files="dmlab-train.tfrecord, dmlab-validation.tfrecord and dmlab-test.tfrecord, whole or in shards",
    origin="https://storage.googleapis.com/dmlab-vtab/dmlab.tar.gz",
    reader=lazy("vtab.dmlab:open_dmlab"),
)
DSPRITES_LOCATION = DataSet(
    title="dSprites",
    num_classes=16,
    num_images=_sizes(589_824, 73_728, 73_728),
    files="dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz",
    origin="https://github.com/google-deepmind/dsprites-dataset",
    reader=lazy("vtab.dsprites:open_dsprites", task="location"),
)
DSPRITES_ORIENTATION = replace(DSPRITES_LOCATION, reader=lazy("vtab.dsprites:open_dsprites", task="orientation"))
KITTI = DataSet(
    title="KITTI",
    num_classes=4,
    num_images=_sizes(6_347, 423, 711),
    files="training/image_2/ (data_object_image_2.zip), training/label_2/ (data_object_label_2.zip) and mapping/ "
    "(devkit_object.zip)",
    origin="https://www.cvlibs.net/datasets/kitti/eval_object.php?obj_benchmark=2d",
    reader=lazy("vtab.kitti:open_kitti"),
)
SMALL_NORB_AZIMUTH = DataSet(
    title="Small NORB",
    num_classes=18,
    num_images=_sizes(24_300, 12_150, 12_150),
    files="-dat.mat and -info.mat of smallnorb-5x46789x9x18x6x2x96x96-training and "
    "smallnorb-5x01235x9x18x6x2x96x96-testing, gzipped or not",
    origin="https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/",
    reader=lazy("vtab.small_norb:open_small_norb", task="azimuth"),
)
SMALL_NORB_ELEVATION = replace(
    SMALL_NORB_AZIMUTH, num_classes=9, reader=lazy("vtab.small_norb:open_small_norb", task="elevation")
)


def _mini(
    title: str,
    group: Group,
    num_classes: int,
    reader: str,
    *,
    num_test: int = 1_000,
    crop: bool = True,
    flip: bool = True,
) -> Task:
    sizes = _sizes(800, 200, num_test)
    data = DataSet(title=title, num_classes=num_classes, num_images=sizes, reader=lazy(f"mini.tasks:{reader}"))
    return Task(title=title, suite="vtab-mini", group=group, data=data, crop=crop, flip=flip)


TASKS = {
    # in the order of the paper's Table 9; `crop` and `flip` are BiT's rules for augmentation, which the paper uses
    "vtab-caltech101": _vtab("Caltech101", "natural", "caltech101", CALTECH101),
    "vtab-cifar100": _vtab("CIFAR-100", "natural", "cifar100", CIFAR100),
    "vtab-dtd": _vtab("DTD", "natural", "dtd", DTD),
    "vtab-flowers102": _vtab("Flowers102", "natural", "flowers102", DATA_SETS["flowers"]),
    "vtab-pets": _vtab("Pets", "natural", "pets", PETS),
    "vtab-sun397": _vtab("Sun397", "natural", "sun397", SUN397),
    "vtab-svhn": _vtab("SVHN", "natural", "svhn", SVHN),
    "vtab-camelyon": _vtab("Camelyon", "specialized", "camelyon", CAMELYON),
    "vtab-eurosat": _vtab("EuroSAT", "specialized", "eurosat", EUROSAT),
    "vtab-resisc45": _vtab("Resisc45", "specialized", "resisc45", RESISC45),
    "vtab-retinopathy": _vtab("Retinopathy", "specialized", "retinopathy", RETINOPATHY),
    "vtab-clevr-count": _vtab("Clevr-Count", "structured", "clevr", CLEVR_COUNT, crop=False),
    "vtab-clevr-distance": _vtab("Clevr-Dist", "structured", "clevr", CLEVR_DISTANCE, crop=False),
    "vtab-dmlab": _vtab("DMLab", "structured", "dmlab", DMLAB, crop=False),
    "vtab-dsprites-location": _vtab("dSpr-Loc", "structured", "dsprites", DSPRITES_LOCATION, crop=False, flip=False),
    "vtab-dsprites-orientation": _vtab("dSpr-Ori", "structured", "dsprites", DSPRITES_ORIENTATION, flip=False),
    "vtab-kitti-distance": _vtab("KITTI-Dist", "structured", "kitti", KITTI, crop=False),
    "vtab-smallnorb-azimuth": _vtab("sNORB-Azim", "structured", "smallnorb", SMALL_NORB_AZIMUTH, flip=False),
    "vtab-smallnorb-elevation": _vtab("sNORB-Elev", "structured", "smallnorb", SMALL_NORB_ELEVATION),
    "mini-digits": _mini("Digits", "natural", 10, "open_digits", num_test=797),
    "mini-fashion": _mini("Fashion-MNIST", "natural", 10, "open_fashion_mnist"),
    "mini-textures": _mini("Textures", "specialized", 10, "open_textures"),
    "mini-tissue": _mini("Tissue", "specialized", 2, "open_tissue"),
    "mini-count": _mini("Count", "structured", 8, "open_count", crop=False),
    "mini-distance": _mini("Distance", "structured", 6, "open_distance", crop=False),
    "mini-location": _mini("Location", "structured", 16, "open_location", crop=False, flip=False),
    "mini-orientation": _mini("Orientation", "structured", 16, "open_orientation", flip=False),
    "mini-azimuth": _mini("Azimuth", "structured", 18, "open_azimuth", flip=False),
    "mini-elevation": _mini("Elevation", "structured", 9, "open_elevation"),
}
"""Tasks by the name that `--data.source` takes; `tasks_of` gives those of a suite."""
