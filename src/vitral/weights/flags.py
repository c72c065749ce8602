"""Options of commands in sentences about other projects' files, for callers that call them otherwise or lack them."""

import re

__all__ = ["flags_of_teacher", "flags_of_training"]

OPTION = re.compile(r"(?<![\w.-])--(checkpoint-key|prefix|num-heads|gelu|image-size)\b")
"""Options that `predict`, `eval`, `inspect`, `convert`, `push`, `export`, `serve`, `bench` and `data near` have."""


def flags_of_training(sentence: str) -> str:
    """The sentence with the options as `vitral train` has them, such as `--model.prefix`."""
    return OPTION.sub(r"--model.\1", sentence)


def flags_of_teacher(sentence: str) -> str:
    """The sentence with the options as `vitral train` has them for a teacher, such as `--objective.teacher-prefix`."""
    return OPTION.sub(r"--objective.teacher-\1", sentence)
