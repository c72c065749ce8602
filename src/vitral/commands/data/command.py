"""`vitral data`: data sets by name, packing, checking, near-duplicates."""

from importlib import import_module

from vitral.errors import unknown_name

__all__ = ["main"]

ACTIONS = {
    "list": "vitral.commands.data.list",
    "pack": "vitral.commands.data.pack",
    "check": "vitral.commands.data.check",
    "near": "vitral.commands.data.near",
}
"""Module of each action; it has `main(arguments) -> None`."""

USAGE = """usage: vitral data list [NAME] [--json]
       vitral data pack DATA FOLDER [--short-side PIXELS] [--quality Q] [--workers N] [--json]
       vitral data check DATA [--smallest PIXELS] [--largest PIXELS] [--write FILE] [--strict] [--workers N] [--json]
       vitral data near DATA [--against OTHER] [--threshold T] [--model MODEL] [--write FILE] [--out FILE.png] [--json]

list   shows the named data sets and tasks: their splits, the files they need, and where to get them
pack   copies data into memory-mapped Arrow files, with large images downsized; resumes an interrupted copy
check  reads every image; reports damaged files, duplicates, images in two classes or splits, unusual sizes
near   finds training images that are near-duplicates of test images, by perceptual hash or embeddings

DATA is a folder of images, tar shards, Parquet, Arrow or IDX files; a pattern shards/train-{000..146}.tar; a data
set's name; or OWNER/NAME on the Hugging Face Hub. Add --data.KEY VALUE as in training:
  vitral data pack cifar10 packed --data.root cifar-10-batches-bin

vitral data ACTION --help lists every key with its value."""


def main(arguments: list[str]) -> None:
    """Runs the action that the arguments begin with."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if arguments else 2)
    if arguments[0] not in ACTIONS:
        raise unknown_name("action", arguments[0], ACTIONS)
    import_module(ACTIONS[arguments[0]]).main(arguments[1:])
