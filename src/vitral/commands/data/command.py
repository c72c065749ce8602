"""`vitral data`: data sets by name, packing, checking, near-duplicates."""

from importlib import import_module

from vitral.errors import UserError

__all__ = ["main"]

ACTIONS = {
    "list": "vitral.commands.data.list",
    "pack": "vitral.commands.data.pack",
    "check": "vitral.commands.data.check",
    "near": "vitral.commands.data.near",
}
"""Module of each action, which has `main(arguments) -> None`."""

USAGE = """usage: vitral data list [NAME] [--json]
       vitral data pack DATA FOLDER [--short-side PIXELS] [--quality Q] [--workers N] [--json]
       vitral data check DATA [--smallest PIXELS] [--largest PIXELS] [--write FILE] [--strict] [--workers N] [--json]
       vitral data near DATA [--against OTHER] [--threshold T] [--model MODEL] [--write FILE] [--out FILE.png] [--json]

list   the data sets that are known by name: their splits, what they need, where they come from
pack   copies data into memory-mapped Arrow files, large images shrunk; goes on where it was interrupted
check  reads every image: files that are damaged, copies, one picture in two classes or splits, odd sizes
near   training images that are nearly test images, by perceptual hash or by a model's embeddings

DATA is a folder of images, of tar shards, of Parquet or Arrow or of IDX files; a pattern shards/train-{000..146}.tar; a
data set's name; or OWNER/NAME on the Hugging Face Hub. --data.KEY VALUE says more, as in training:
  vitral data pack cifar10 packed --data.root cifar-10-batches-bin

vitral data ACTION --help lists every key with its value."""


def main(arguments: list[str]) -> None:
    """Hands the arguments to the action that they begin with."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if arguments else 2)
    if arguments[0] not in ACTIONS:
        raise UserError(f"unknown action {arguments[0]!r}: choose one of {', '.join(ACTIONS)}")
    import_module(ACTIONS[arguments[0]]).main(arguments[1:])
