"""Training on smaller images first (progressive resizing): the image size of each step."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from vitral.errors import UserError
from vitral.inspection.cost import cost
from vitral.models import Architecture
from vitral.train.duration import Duration, check_length

__all__ = ["ResolutionConfig", "Stage", "mean_macs", "stages"]


@dataclass(frozen=True, kw_only=True)
class ResolutionConfig:
    """The image size of training steps; evaluation has the model's. Positions are interpolated in each step.

    Raises:
        UserError: a value is out of range, or a length is a time.
    """

    sizes: tuple[int, ...] = ()
    """Heights and widths of images in pixels before the model's image size, in order, such as 128 160."""
    until: tuple[str, ...] = ()
    """Times since the start of the run at which each of them ends, such as 50percent 80percent."""

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.until):
            raise UserError(
                "--resolution.sizes and --resolution.until must have the same length, not "
                f"{len(self.sizes)} and {len(self.until)}"
            )
        for length in self.until:
            check_length("resolution.until", length)

    def check(self, architecture: Architecture) -> None:
        """Checks that a model can be trained at these sizes.

        Raises:
            UserError: a size is not below the model's, or patches do not fill it.
        """
        for size in self.sizes:
            h, w = architecture.image_hw
            if h != w or not 0 < size < h:
                raise UserError(
                    f"--resolution.sizes are of square images smaller than the model's {h}x{w}, not {size}: "
                    "leave it out, or choose another --model.image-size"
                )
            replace(architecture, image_size=size)  # checks the patches


class Stage(NamedTuple):
    """Steps with images of one size."""

    steps: range
    size: int | None
    """Height and width in pixels; None: the model's."""

    def __str__(self) -> str:
        return f"{self.size} pixels to step {self.steps.stop}"


def stages(config: ResolutionConfig, *, total: int, batch_size: int, samples: int) -> tuple[Stage, ...]:
    """The stages of a run of `total` steps, without empty ones.

    Raises:
        UserError: their ends are not in order.
    """
    ends = [
        Duration.parse(length).in_steps(total=total, batch_size=batch_size, samples=samples) for length in config.until
    ]
    if any(after <= before for before, after in pairwise(ends)):
        raise UserError(f"--resolution.until must increase, and they are at steps {', '.join(map(str, ends))}")
    bounds = [0, *(min(end, total) for end in ends), total]
    every = (Stage(range(*steps), size) for steps, size in zip(pairwise(bounds), (*config.sizes, None), strict=True))
    return tuple(stage for stage in every if stage.steps)


def mean_macs(architecture: Architecture, plan: tuple[Stage, ...]) -> float:
    """Multiply-accumulates of one image's forward pass, the mean over all steps of a run."""
    total = sum(len(stage.steps) for stage in plan)
    at_size = (
        cost(architecture if stage.size is None else replace(architecture, image_size=stage.size)).macs
        for stage in plan
    )
    return sum(len(stage.steps) * macs for stage, macs in zip(plan, at_size, strict=True)) / total
