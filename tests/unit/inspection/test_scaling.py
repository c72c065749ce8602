"""The exchange of gradients follows the ring all-reduce; a step is bound by its slowest part."""

import pytest

from vitral.inspection.devices import DEVICES
from vitral.inspection.scaling import BUCKET, EFFICIENCY, all_reduce_seconds, bus, step_time


def ring_bytes(size: int, devices: int) -> float:
    """Bytes that each device sends in a ring all-reduce, chunk by chunk: reduce-scatter, then all-gather."""
    chunk = size / devices
    return sum(chunk for phase in range(2) for _ in range(devices - 1))


@pytest.mark.parametrize("devices", [2, 3, 8, 1024])
def test_a_ring_sends_each_chunk_around_twice(devices: int) -> None:
    size = 10 * BUCKET
    seconds = all_reduce_seconds(size, devices=devices, bandwidth=1e9, latency=0.0)
    assert seconds == pytest.approx(ring_bytes(size, devices) / 1e9)


def test_one_device_exchanges_nothing() -> None:
    assert all_reduce_seconds(10**9, devices=1, bandwidth=1e9) == 0


def test_latency_grows_with_the_hops_and_the_buckets() -> None:
    def latency(devices: int, buckets: int) -> float:
        size = buckets * BUCKET
        with_hops, without = (
            all_reduce_seconds(size, devices=devices, bandwidth=1e9, latency=each) for each in (1e-3, 0.0)
        )
        return with_hops - without

    assert latency(64, 3) == pytest.approx(2 * latency(8, 3)) == pytest.approx(6 * latency(8, 1))


def test_a_ring_over_nodes_shares_all_their_adapters() -> None:
    h100, v100 = DEVICES["h100"], DEVICES["v100"]
    assert bus(h100, 8) == EFFICIENCY * 450e9
    assert bus(h100, 16) == EFFICIENCY * 400e9
    assert bus(v100, 16) == EFFICIENCY * 50e9
    assert bus(DEVICES["t4"], 8) is None


def test_a_short_exchange_hides_behind_the_backward_pass_but_for_its_last_bucket() -> None:
    step = step_time(compute=3.0, exchange=1.0, gradients=10 * BUCKET)
    assert (step.total, step.bound) == (pytest.approx(3.1), "arithmetic")
    alone = step_time(compute=3.0, exchange=1.0, gradients=10 * BUCKET, overlap=0.0)
    assert (alone.total, alone.bound) == (4.0, "gradients")


def test_the_slowest_part_bounds_a_step() -> None:
    long = step_time(compute=3.0, exchange=5.0, gradients=10 * BUCKET)
    assert (long.total, long.bound) == (pytest.approx(6.0), "gradients")
    hungry = step_time(compute=3.0, exchange=5.0, gradients=10 * BUCKET, reading=7.0)
    assert (hungry.total, hungry.bound) == (7.0, "reading")
