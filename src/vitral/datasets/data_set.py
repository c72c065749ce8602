"""The facts about a named data set or task, and where its reader is. Nothing heavy is imported before one is opened."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from vitral.errors import UserError

__all__ = ["DataSet", "Group", "Task", "lazy"]

Splits = dict[str, Any]
"""A `vitral.data.sources.source.Source` for each split; importing its type here would import NumPy and Pillow."""

Group = Literal["natural", "specialized", "structured"]


def lazy(place: str, /, **keywords: Any) -> Callable[..., Any]:
    """The function `module:name` inside `vitral.datasets`, imported when it is first called.

    Args:
        place: such as `originals.cifar:open_cifar10`.
        keywords: arguments of every call.
    """
    return partial(_call, place, **keywords)


def _call(place: str, /, *arguments: Any, **keywords: Any) -> Any:
    module, name = place.split(":")
    return getattr(import_module(f"vitral.datasets.{module}"), name)(*arguments, **keywords)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set in the files that its authors publish."""

    title: str
    num_classes: int
    num_images: dict[str, int]
    """Images of each split of the complete data set."""
    reader: Callable[[Any], Splits]
    """From the folder of the files (None where there are none) to the splits; raises `UserError` for wrong files."""
    files: str = ""
    """The files that the folder must contain; empty: it needs none."""
    origin: str = ""
    """Where the authors publish them."""
    hub: str | None = None
    """Its name on the Hugging Face Hub, if it is there with the same splits."""
    tables: dict[str, Any] = field(default_factory=dict)
    """How to read it from there: fields of a `DataConfig`."""
    val_fraction: float | None = None
    """Fraction of the training images that the paper held out to choose the learning rate."""
    remark: str = ""
    renamable: bool = False
    """Whether `--data.class-names` may replace the names of the classes."""

    @property
    def requirements(self) -> str:
        """What its folder must contain and where to get it, in words."""
        return f"{self.title} needs {self.files}, from {self.origin}"

    def read(self, root: Path) -> Splits:
        """The complete splits.

        Raises:
            UserError: files are missing or damaged; the sentence ends with the requirements.
        """
        try:
            return self.reader(root)
        except UserError as error:
            raise UserError(f"{error}; {self.requirements}") from None


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a transfer suite: 800 images to train on, 200 to validate, and a test set."""

    title: str
    """Its name in tables, such as `dSpr-Loc`."""
    suite: Literal["vtab1k", "vtab-mini"]
    group: Group
    data: DataSet
    """The data set whose images it uses; of vtab-mini, the images themselves."""
    folder: str = ""
    """The data set's folder inside `--data.root`, of VTAB-1k."""
    crop: bool = True
    """Whether part of a training image has the same class as the whole."""
    flip: bool = True
    """Whether the mirrored training image has the same class."""

    def open(self, root: Path | None) -> Splits:
        """The splits train, val and test.

        Args:
            root: the folder with a folder for each data set; None for tasks that need no files.

        Raises:
            UserError: files are missing or damaged; the sentence says which, and where they come from.
        """
        return _call("vtab.sampling:open_task", self, root) if self.suite == "vtab1k" else self.data.reader(root)
