"""Opening the data that a configuration names."""

from vitral.data.config import DataConfig
from vitral.data.sources.exclude import without
from vitral.data.sources.files import open_folder, open_idx, open_images
from vitral.data.sources.source import Joined, Source, Subset
from vitral.data.sources.splits import stratified
from vitral.data.sources.tables import open_tables
from vitral.data.sources.tars import open_tars
from vitral.datasets.digits import open_digits
from vitral.datasets.registry import PRESETS, open_preset
from vitral.errors import UserError

__all__ = ["open_data", "open_stored"]


def open_data(config: DataConfig) -> dict[str, Source]:
    """Opens the data: "train", and "val" or "test" or both; a held-out share is called "test".

    Images to leave out go last, so that a list of them never moves another image from one split to another.

    Raises:
        UserError: the data is not there, not of the promised form, or has fewer than two classes.
    """
    splits = open_stored(config)
    train = splits["train"]
    if len(train.classes) < 2 and config.source != "images":
        only = ", ".join(train.classes)
        raise UserError(f"{config.root} has only one class, {only!r}: a classifier needs at least two to tell apart")
    if len(splits) == 1:
        splits = _held_out(train, "test", share=config.held_out, seed=config.split_seed)
    if config.val_share is not None:
        if "val" in splits:
            raise UserError(f"{config.root} has a validation split of its own: give --data.val-share None")
        splits |= _held_out(splits["train"], "val", share=config.val_share, seed=config.split_seed)
    if config.train_on_val:
        splits = _with_val(splits, config)
    if config.exclude is not None:
        splits = without(splits, config.exclude, root=config.root)
    if config.limit is not None and config.limit < len(splits["train"]):
        share = config.limit / len(splits["train"])
        splits |= {"train": _held_out(splits["train"], "kept", share=share, seed=config.split_seed)["kept"]}
    return splits


def open_stored(config: DataConfig) -> dict[str, Source]:
    """The splits that the data has of its own, "train" among them.

    Raises:
        UserError: the data is not there, or not of the promised form.
    """
    return _OPENERS[config.source](config)


def _held_out(train: Source, name: str, *, share: float, seed: int) -> dict[str, Source]:
    """The training images in two: those that stay, and a share of every class under another name."""
    kept, held_out = stratified(train.labels, train.classes, share=share, seed=seed)
    return {"train": Subset(source=train, indices=kept), name: Subset(source=train, indices=held_out)}


def _with_val(splits: dict[str, Source], config: DataConfig) -> dict[str, Source]:
    """The validation images among the training images, and the test images."""
    if splits.keys() != {"train", "val", "test"}:
        raise UserError(
            f"{config.root or config.source} has no {'test' if 'val' in splits else 'validation'} split of its own, "
            "which --data.train-on-val needs: leave it out"
        )
    return {"train": Joined(first=splits["train"], second=splits["val"]), "test": splits["test"]}


_OPENERS = {
    "digits": open_digits,
    "idx": open_idx,
    "folder": open_folder,
    "images": open_images,
    "hub": open_tables,
    "tars": open_tars,
    **dict.fromkeys(PRESETS, open_preset),
}
