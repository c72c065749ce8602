"""Settings of a run whose images have any number of channels, and are no pictures."""

from dataclasses import replace

from vitral.data.sources.source import Source
from vitral.data.tools.channel_statistics import channel_statistics
from vitral.distributed.world import World
from vitral.train.config import RunConfig

__all__ = ["measure_channels"]


def measure_channels(config: RunConfig, source: Source, world: World) -> tuple[RunConfig, list[str]]:
    """The configuration with the mean and deviation of each channel, if it needs them; all processes together.

    Args:
        config: from `RunConfig.resolved`.
        source: the training images.
        world: the processes, of which the main one reads the images.

    Returns:
        The configuration, and a sentence with the numbers if they were measured.

    Raises:
        UserError: an image cannot be read.
    """
    preprocessing, data = config.preprocessing, config.data
    if not preprocessing.bands or preprocessing.mean:
        return config, []
    statistics = world.run_on_main(
        lambda: channel_statistics(
            source, channels=preprocessing.channels, seed=data.split_seed, on_error=data.on_error
        )
    )
    measured = replace(preprocessing, mean=statistics.mean, std=statistics.std)
    return replace(config, preprocessing=measured), [statistics.describe()]
