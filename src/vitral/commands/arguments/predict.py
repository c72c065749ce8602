"""Arguments of `vitral predict`."""

import argparse

from vitral.commands.arguments.checks import TOKEN_MERGING_HELP, check_model, image_size, model_path, token_merging
from vitral.commands.arguments.flags import ArgumentParser
from vitral.commands.arguments.weights import add_source_options

__all__ = ["DEVICE_HELP", "ISOLATE_HELP", "MEMORY_HELP", "PRECISION_HELP", "parse"]

DEVICE_HELP = "cpu, cuda, cuda:1, mps or xpu; auto: a GPU if there is one (default)"

PRECISION_HELP = "auto: bfloat16 on a GPU, float32 on a CPU and on mps (default: auto)"

TTA_HELP = (
    "test-time augmentation: average the probabilities over an image and its mirror image (flip), the centre and the "
    "corners (five-crop), or these and their mirror images (ten-crop)"
)

MEMORY_HELP = "for decoding images, all together, such as 500MB (default: VITRAL_MEMORY, or 2GiB)"

ISOLATE_HELP = (
    "decode images in processes with limits and without access to files and network, because you do not trust them "
    "(Linux; the extra 'isolate' adds the filter of system calls)"
)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: the model does not exist.
    """
    parser = ArgumentParser(
        prog="vitral predict",
        description="Classify image files with a trained model. A file that cannot be read is reported and skipped.",
    )
    parser.add_argument(
        "run",
        type=model_path,
        metavar="RUN",
        help="folder of a trained model, another library's file, or hf-hub:OWNER/NAME",
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image files, folders (searched recursively), or - to read paths from standard input, one per line",
    )
    parser.add_argument(
        "--top",
        type=int,
        metavar="K",
        help="number of classes to print per image (default: up to 3, or all labels above their thresholds)",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--csv", action="store_true", help="print comma-separated values, one image per line")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images per batch (default: 64)")
    parser.add_argument(
        "--image-size",
        metavar="PIXELS",
        help="height and width of images, if not the model's own: positions are interpolated once",
    )
    parser.add_argument("--token-merging", metavar="N", help=TOKEN_MERGING_HELP)
    parser.add_argument("--tta", default="none", choices=("none", "flip", "five-crop", "ten-crop"), help=TTA_HELP)
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"), help=PRECISION_HELP)
    parser.add_argument("--memory", metavar="SIZE", help=MEMORY_HELP)
    parser.add_argument("--isolate", action="store_true", help=ISOLATE_HELP)
    add_source_options(parser)
    options = parser.parse_args(arguments)
    options.image_size = image_size(options.image_size)
    options.token_merging = token_merging(options.token_merging)
    check_model(options.run)
    return options
