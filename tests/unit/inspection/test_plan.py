"""Plans follow the paper's own arithmetic."""

import pytest

from vitral.inspection.cost import Cost, Memory, cost
from vitral.inspection.devices import DATA, DEVICES
from vitral.inspection.plan import PAPER_CORE_DAYS, core_days, exaflops, footprint, throughput
from vitral.models import architecture


@pytest.mark.parametrize(
    ("name", "epochs", "published"),
    [
        ("ViT-B/32", 7, 55),
        ("ViT-B/16", 7, 224),
        ("ViT-L/32", 7, 196),
        ("ViT-L/16", 7, 783),
        ("ViT-L/16", 14, 1567),
        ("ViT-H/14", 14, 4262),
        ("BiT-R50x1", 7, 50),
        ("BiT-R50x2", 7, 199),
        ("BiT-R101x1", 7, 96),
        ("BiT-R152x1", 7, 141),
        ("BiT-R152x2", 7, 563),
        ("BiT-R152x2", 14, 1126),
        ("BiT-R200x3", 14, 3306),
        ("R50+ViT-B/32", 7, 106),
        ("R50+ViT-B/16", 7, 274),
        ("R50+ViT-L/32", 7, 246),
        ("R50+ViT-L/16", 7, 859),
        ("R50+ViT-L/16", 14, 1668),
    ],
)
def test_the_rule_gives_table_6(name: str, epochs: int, published: float) -> None:
    actual = exaflops(cost(architecture(name)).macs, images=epochs * DATA["jft300m"])
    assert actual == pytest.approx(published, rel=0.05)


def test_speed_is_peak_times_share_over_work() -> None:
    rate = throughput(10**9, device=DEVICES["a100"], devices=4, utilisation=0.5)
    assert rate == pytest.approx(4 * 312e12 * 0.5 / 6e9)


def test_the_papers_core_days_are_a_plausible_share_of_the_peak() -> None:
    """One core-day is 61.5 teraFLOP/s for 86,400 seconds."""
    assert core_days(5.3136, utilisation=1.0) == pytest.approx(1.0)
    for (name, data, epochs), stated in PAPER_CORE_DAYS.items():
        total = exaflops(cost(architecture(name)).macs, images=DATA[data] * epochs)
        assert 0.3 < core_days(total, utilisation=1.0) / stated < 0.45


def test_memory_is_state_and_activations() -> None:
    counts = Cost(parameters=1_000_000, tokens=10, macs=1)
    memory = Memory(fixed=5_000_000, per_image=2_000_000)
    shape = dict(cost=counts, memory=memory, batch_size=8, device=DEVICES["t4"])
    whole = footprint("whole", **shape, shards=1, average=False)
    assert (whole.state, whole.activations, whole.fits) == (16_000_000, 21_000_000, True)
    assert whole.largest_batch == (0.9 * 16e9 - 16e6 - 5e6) // 2e6
    assert footprint("average", **shape, shards=1, average=True).state == 20_000_000
    assert footprint("shared", **shape, shards=8, average=False).state == 2_000_000
    crowded = footprint("crowded", **{**shape, "batch_size": 10_000}, shards=1, average=False)
    assert not crowded.fits
