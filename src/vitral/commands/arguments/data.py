"""Arguments of `vitral data` that are common to its actions: the action's name, and the data."""

import argparse

from vitral.errors import unknown_name

__all__ = ["ACTIONS", "parse"]

ACTIONS = ("list", "show", "pack", "check", "near")

USAGE = """usage: vitral data list [NAME] [--json]
       vitral data show DATA [--like RECIPE|RUN] [--split S] [--count N] [--seed N] [--out FILE.png] [--json]
       vitral data pack DATA FOLDER [--short-side PIXELS] [--quality Q] [--workers N] [--json]
       vitral data check DATA [--smallest PIXELS] [--largest PIXELS] [--write FILE] [--page FILE.html] [--strict]
                         [--model MODEL [--csv FILE.csv] [--sheet FILE.png]] [--json]
       vitral data near DATA [--against OTHER] [--threshold T] [--model MODEL] [--write FILE] [--out FILE.png] [--json]

list   list the data sets that have a name: their splits, the files they need, and where to get them
show   draw the model's input: images as stored, preprocessed for evaluation, and augmented for training
pack   copy data to memory-mapped Arrow files, large images shrunk; the same command continues an interrupted copy
check  read every image: report formats, sizes and classes, unreadable files, duplicates, one image in two classes;
       with a model, likely wrong labels, outliers and ambiguous images
near   find training images that nearly duplicate test images, by perceptual hash or by a model's features

DATA is a folder of images, of tar shards, of Parquet or Arrow or of IDX files; a pattern shards/train-{000..146}.tar; a
data set's name; or OWNER/NAME on the Hugging Face Hub. --data.KEY VALUE describes it further, as in training:
  vitral data pack cifar10 packed --data.root cifar-10-batches-bin

vitral data ACTION --help lists every key with its value."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The action's name, and its arguments.

    Raises:
        UserError: there is no such action, or no such data.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if arguments else 2)
    action, *rest = arguments
    if action not in ACTIONS:
        raise unknown_name("action", action, ACTIONS)
    if action != "list" and rest and not rest[0].startswith("-") and not {"-h", "--help"} & set(rest):
        from vitral.datasets.infer import infer_source  # only here, as the overview needs no data sets

        infer_source(rest[0])
    return argparse.Namespace(action=action, rest=rest)
