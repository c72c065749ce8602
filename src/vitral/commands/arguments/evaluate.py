"""Arguments of `vitral eval` that are common to all suites: the model, and the suite's name."""

import argparse
from pathlib import Path

from vitral.commands.arguments.checks import check_model, image_size, token_merging
from vitral.commands.arguments.flags import pop_option
from vitral.commands.arguments.weights import pop_source_options
from vitral.errors import UserError, unknown_name

__all__ = ["FEATURE_SUITES", "SUITES", "TASK_SUITES", "parse"]

TASK_SUITES = ("vtab-mini", "vtab1k")
"""Suites of many tasks, each with its own data."""

FEATURE_SUITES = ("knn", "linear", "fewshot", "finetune", "retrieval", *TASK_SUITES)
"""Suites that evaluate a model's features or fine-tune it."""

SUITES = ("accuracy", *FEATURE_SUITES, "imagenet", "imagenet-c", "segmentation")

USAGE = """usage: vitral eval RUN [--split test|val|train|all] [--data.KEY VALUE ...] [--out FILE] [--json]

Evaluate a trained model on held-out images: top-1 and top-5 accuracy, loss, expected calibration error (ECE) and the
accuracy of every class. Draw the confusion matrix to RUN/confusion.png and the reliability diagram to
RUN/reliability.png. --out names another picture (.png), or a file for the table (.md, .csv, .json).

--tta flip|five-crop|ten-crop averages the probabilities over views of each image (test-time augmentation).
--image-size PIXELS evaluates at another size than the model's own: positions are interpolated once.
--token-merging N merges N pairs of similar patches in every block: faster, less exact (ToMe).
--checkpoint-key KEY, --prefix PREFIX, --num-heads N and --gelu FORM help to read another library's file, as in vitral
convert.

By default the images are those that the run held out. Other images, one folder per class:
  vitral eval RUN --data.source folder --data.root photos --split all
Evaluate the features of the frozen model instead of its classifier, or fine-tune it:
  vitral eval RUN --suite knn|linear|fewshot|finetune|retrieval [--data.KEY VALUE ...] [--baselines] [--out TABLE.md]
  vitral eval RUN --suite vtab-mini [--finetune light|paper]     ten small tasks that need no download
  vitral eval RUN --suite segmentation --data.root DIR     train/ and test/, images/ and masks/ in each
  vitral eval RUN --suite imagenet --data.root DIR     validation images, ReaL, V2, ObjectNet, A, R, Sketch
  vitral eval RUN --suite imagenet-c --data.root DIR     fifteen corruptions at five severities
  vitral eval RUN --suite vtab1k --data.root DIR [--finetune light|paper]     the nineteen tasks of VTAB

A model without a run's configuration (run.json), another library's file or folder, or hf-hub:OWNER/NAME needs
--data.root, and is evaluated on all images there. Folders are matched to classes by name; ImageNet's may have WordNet
identifiers such as n01440764.

vitral eval RUN --help lists every key with its value."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The model's path, the suite's name, and the arguments after the path.

    Raises:
        UserError: there is no such model or suite.
    """
    if not arguments or arguments[0].startswith("-"):
        help_only = arguments[:1] in (["-h"], ["--help"])
        if arguments and not help_only:
            raise UserError(f"name the model's folder before {arguments[0]}: vitral eval RUN {arguments[0]} ...")
        print(USAGE)
        raise SystemExit(0 if help_only else 2)
    if not arguments[0].strip():
        raise UserError("the name of the model is empty: vitral eval RUN ...")
    if "://" in arguments[0]:
        check_model(arguments[0])
    run, rest = Path(arguments[0]), arguments[1:]
    suite, _ = pop_option(rest, "--suite", "vitral eval")
    if suite is not None and suite not in SUITES:
        raise unknown_name("suite", suite, SUITES)
    if rest[-1:] in (["-h"], ["--help"]) and not run.exists():  # the values of the keys are the run's
        print(USAGE)
        raise SystemExit(0)
    size, rest = pop_option(rest, "--image-size", "vitral eval")
    merging, rest = pop_option(rest, "--token-merging", "vitral eval")
    source, rest = pop_source_options(rest, "vitral eval")
    check_model(run)
    chosen, pairs = suite or "accuracy", token_merging(merging)
    if pairs is not None and chosen in FEATURE_SUITES:
        raise UserError(f"--token-merging is for a model's predictions, not for --suite {chosen}: leave it out")
    return argparse.Namespace(
        run=run, suite=chosen, image_size=image_size(size), token_merging=pairs, rest=rest, **vars(source)
    )
