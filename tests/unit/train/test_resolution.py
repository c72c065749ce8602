"""Image sizes by step: stages, the images that each step has, resuming, and arithmetic."""

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tiny import ARCHITECTURE, tiny_run
from vitral.datasets.opening import open_data
from vitral.errors import UserError
from vitral.inspection.cost import cost
from vitral.runs.run import Run
from vitral.train.config import RunConfig
from vitral.train.fit import fit
from vitral.train.plan import Plan
from vitral.train.resolution import ResolutionConfig, mean_macs
from vitral.train.session import Session
from vitral.train.steps import train_steps

GROWING = ResolutionConfig(sizes=(2, 4), until=("5steps", "75percent"))


def growing(out: Path | None = None, resolution: ResolutionConfig = GROWING) -> RunConfig:
    """Twelve steps on images of 2, 4 and 8 pixels, in patches of 2."""
    config = tiny_run(out)
    model = replace(config.model, architecture=replace(ARCHITECTURE, patch_size=2))
    return replace(config, model=model, resolution=resolution)


def sizes_of(resolution: ResolutionConfig) -> list[tuple[int, int | None]]:
    """The number of steps at each size."""
    plan = Plan.of(growing(resolution=resolution), samples=1000)
    return [(len(stage.steps), stage.size) for stage in plan.stages]


def test_stages_cover_the_run() -> None:
    assert sizes_of(GROWING) == [(5, 2), (4, 4), (3, None)]
    assert sizes_of(ResolutionConfig()) == [(12, None)]
    assert sizes_of(ResolutionConfig(sizes=(4,), until=("100percent",))) == [(12, 4)], "evaluated at another size"
    assert sizes_of(ResolutionConfig(sizes=(2, 4), until=("8steps", "20steps"))) == [(8, 2), (4, 4)]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_step_has_the_images_of_the_order_at_its_size(workers: int) -> None:
    labels = []
    for resolution in (GROWING, ResolutionConfig()):
        config = growing(resolution=resolution)
        config = replace(config, data=replace(config.data, workers=workers))
        source = open_data(config.data)["train"]
        config = config.resolved(num_classes=len(source.classes))
        session = Session(config, classes=source.classes)
        shapes = []
        session.model.patch_embed.register_forward_pre_hook(lambda _, inputs, to=shapes: to.append(inputs[0].shape[2:]))
        steps = list(train_steps(session, source, Plan.of(config, samples=len(source))))
        labels.append([step.batch.labels.tolist() for step in steps])
        if resolution is GROWING:
            assert shapes == [*[(2, 2)] * 5, *[(4, 4)] * 4, *[(8, 8)] * 3]
            assert all(step.metrics["loss"].isfinite() for step in steps)
    assert labels[0] == labels[1]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """From step 8, with images of 4 pixels."""
    config = growing(tmp_path / "run")
    with closing(Run.create(config.out, recipe="tiny")) as run:
        expected = fit(run, config)
    saved = (tmp_path / "run" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step_000000012")
    with closing(Run.open(config.out)) as run:
        assert fit(run, config) == expected
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == saved


def test_arithmetic_is_the_mean_over_the_steps() -> None:
    config = growing()
    plan = Plan.of(config, samples=1000)
    vit = config.model.architecture
    by_size = [cost(replace(vit, image_size=size)).macs for size in (2, 4, 8)]
    assert by_size[0] < by_size[1] < by_size[2]
    expected = sum(steps * macs for steps, macs in zip((5, 4, 3), by_size, strict=True)) / 12
    assert mean_macs(vit, plan.stages) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sizes", "until", "message"),
    [
        ((4,), (), "must have the same length"),
        ((4,), ("10min",), "resolution.until must be in steps"),
        ((4,), ("120percent",), "at most 100percent"),
        ((2, 4), ("5steps", "5steps"), "must increase"),
        ((8,), ("5steps",), "smaller than the model's 8x8, not 8"),
        ((3,), ("5steps",), "3"),
        ((0,), ("5steps",), "not 0"),
    ],
)
def test_wrong_settings(sizes: tuple[int, ...], until: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sizes_of(ResolutionConfig(sizes=sizes, until=until))
