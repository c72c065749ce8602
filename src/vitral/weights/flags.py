"""Options of commands in sentences about other projects' files, for callers that call them otherwise or lack them."""

import re

__all__ = ["flags_of_convert", "flags_of_training"]

OPTION = re.compile(r"(?<![\w.-])--(checkpoint-key|prefix|num-heads|gelu|image-size)\b")
"""Options that `predict`, `eval`, `inspect`, `convert`, `push`, `export` and `serve` have."""


def flags_of_training(sentence: str) -> str:
    """The sentence with the options as `vitral train` has them, such as `--model.prefix`."""
    return OPTION.sub(r"--model.\1", sentence)


def flags_of_convert(sentence: str) -> str:
    """The sentence with the advice to convert the file first, where a caller has no such options."""
    return f"{sentence} (an option of vitral convert: convert the file first)" if OPTION.search(sentence) else sentence
