"""Dynamic batching in a thread."""

import time
from collections.abc import Iterator
from threading import Barrier, Event, current_thread

import pytest

from vitral.serve.batching import Batcher, BatchStats, DeadlinePassed

SOON = 60.0


class Doubling:
    """A task that notes its batches, and waits for `go` before the first."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go, self.began = Event(), Event()

    def __call__(self, items: list[int]) -> list[int]:
        self.began.set()
        assert self.go.wait(SOON)
        self.batches.append(items)
        return [2 * item for item in items]


@pytest.fixture
def task() -> Doubling:
    return Doubling()


@pytest.fixture
def stats() -> list[BatchStats]:
    return []


@pytest.fixture
def batcher(stats: list[BatchStats], task: Doubling) -> Iterator[Batcher]:
    batcher = Batcher(name="test", max_batch=4, max_wait=0.0, observe=stats.append)
    batcher.start()
    yield batcher
    task.go.set()
    batcher.close()


def later() -> float:
    return time.monotonic() + SOON


def occupy(batcher: Batcher, task: Doubling) -> None:
    """Lets the thread compute a first batch of the item 0, until `task.go` is set."""
    batcher.submit(task, 0, deadline=later())
    assert task.began.wait(SOON)


def test_items_that_wait_share_batches_in_order(batcher: Batcher, task: Doubling) -> None:
    occupy(batcher, task)
    futures = [batcher.submit(task, item, deadline=later()) for item in range(1, 7)]
    task.go.set()
    assert [future.result(SOON) for future in futures] == [2, 4, 6, 8, 10, 12]
    assert task.batches == [[0], [1, 2, 3, 4], [5, 6]]


def test_a_batch_waits_for_others_until_it_is_full(task: Doubling) -> None:
    task.go.set()
    batcher = Batcher(name="test", max_batch=3, max_wait=SOON)
    batcher.start()
    futures = [batcher.submit(task, item, deadline=later()) for item in range(3)]
    assert [future.result(SOON / 2) for future in futures] == [0, 2, 4]
    assert task.batches == [[0, 1, 2]]
    batcher.close()


def test_a_batch_that_does_not_fill_starts_after_the_wait(task: Doubling) -> None:
    task.go.set()
    batcher = Batcher(name="test", max_batch=3, max_wait=0.05)
    batcher.start()
    start = time.monotonic()
    assert batcher.submit(task, 1, deadline=later()).result(SOON) == 2
    assert time.monotonic() - start >= 0.05
    batcher.close()


def test_different_tasks_never_share_a_batch(batcher: Batcher, task: Doubling) -> None:
    other = Doubling()
    other.go.set()
    occupy(batcher, task)
    futures = [batcher.submit(which, item, deadline=later()) for item, which in enumerate([task, other, task], 1)]
    task.go.set()
    assert [future.result(SOON) for future in futures] == [2, 4, 6]
    assert (task.batches, other.batches) == ([[0], [1, 3]], [[2]])


def test_cancelled_items_are_not_computed_and_take_no_place(
    batcher: Batcher, task: Doubling, stats: list[BatchStats]
) -> None:
    occupy(batcher, task)
    futures = [batcher.submit(task, item, deadline=later()) for item in range(1, 7)]
    assert futures[0].cancel()
    assert futures[2].cancel()
    task.go.set()
    assert [futures[item].result(SOON) for item in (1, 3, 4, 5)] == [4, 8, 10, 12]
    batcher.close()
    assert task.batches == [[0], [2, 4, 5, 6]]
    assert [(batch.computed, batch.cancelled) for batch in stats] == [(1, 0), (4, 2)]


def test_items_past_their_deadline_are_not_computed(batcher: Batcher, task: Doubling, stats: list[BatchStats]) -> None:
    occupy(batcher, task)
    late = batcher.submit(task, 1, deadline=time.monotonic())
    timely = batcher.submit(task, 2, deadline=later())
    task.go.set()
    with pytest.raises(DeadlinePassed):
        late.result(SOON)
    assert timely.result(SOON) == 4
    batcher.close()
    assert task.batches == [[0], [2]]
    assert stats[1].expired == 1


def test_items_that_would_be_late_are_not_computed(stats: list[BatchStats]) -> None:
    """Without that, a queue as long as the deadlines would be computed in vain."""

    def slow(items: list[int]) -> list[int]:
        time.sleep(0.3)
        return items

    batcher = Batcher(name="test", max_batch=1, max_wait=0.0, observe=stats.append)
    batcher.start()
    assert batcher.submit(slow, 1, deadline=later()).result(SOON) == 1
    with pytest.raises(DeadlinePassed):
        batcher.submit(slow, 2, deadline=time.monotonic() + 0.1).result(SOON)
    # nothing was computed, so the time that it takes may have changed
    assert batcher.submit(slow, 3, deadline=time.monotonic() + 0.1).result(SOON) == 3
    batcher.close()
    assert [(batch.computed, batch.expired) for batch in stats] == [(1, 0), (0, 1), (1, 0)]


def test_a_batch_that_fails_does_not_end_the_thread(batcher: Batcher, task: Doubling) -> None:
    def broken(items: list[int]) -> list[int]:
        raise RuntimeError("no memory")

    task.go.set()
    with pytest.raises(RuntimeError, match="no memory"):
        batcher.submit(broken, 1, deadline=later()).result(SOON)
    assert batcher.submit(task, 1, deadline=later()).result(SOON) == 2


def test_closing_computes_what_is_queued(batcher: Batcher, task: Doubling) -> None:
    occupy(batcher, task)
    futures = [batcher.submit(task, item, deadline=later()) for item in range(1, 6)]
    task.go.set()
    batcher.close()
    assert [future.result(0) for future in futures] == [2, 4, 6, 8, 10]


def test_several_threads_compute_at_a_time() -> None:
    together, prepared = Barrier(2), set()

    def meet(items: list[int]) -> list[int]:
        together.wait(SOON)
        return items

    batcher = Batcher(
        name="test",
        max_batch=8,
        max_wait=0.0,
        num_threads=2,
        initializer=lambda: prepared.add(current_thread()),
    )
    batcher.start()
    futures = [batcher.submit(meet, item, deadline=later()) for item in range(2)]
    assert [future.result(SOON) for future in futures] == [0, 1]
    batcher.close()
    assert len(prepared) == 2


def test_several_threads_divide_what_waits(stats: list[BatchStats]) -> None:
    """A thread that took all would let the other one idle."""
    go, began = Event(), Barrier(3)

    def occupy_thread(items: list[int]) -> list[int]:
        began.wait(SOON)
        assert go.wait(SOON)
        return items

    batcher = Batcher(name="test", max_batch=4, max_wait=0.0, observe=stats.append, num_threads=2)
    batcher.start()
    # of two tasks, so that they do not share a batch
    first = [batcher.submit(task, 0, deadline=later()) for task in (occupy_thread, lambda items: occupy_thread(items))]
    began.wait(SOON)
    futures = [batcher.submit(list, item, deadline=later()) for item in range(6)]
    go.set()
    assert [future.result(SOON) for future in first + futures] == [0, 0, *range(6)]
    batcher.close()
    assert sorted(batch.computed for batch in stats) == [1, 1, 1, 2, 3]
    assert {batch.num_threads for batch in stats} == {2}


def test_small_batches_grow_with_the_queue_and_do_not_wait(task: Doubling) -> None:
    batcher = Batcher(name="test", max_batch=4, max_wait=SOON)
    batcher.prefer_small()
    batcher.start()
    occupy(batcher, task)
    futures = [batcher.submit(task, item, deadline=later()) for item in range(1, 38)]
    task.go.set()
    assert [future.result(SOON) for future in futures] == [2 * item for item in range(1, 38)]
    batcher.close()
    assert [len(batch) for batch in task.batches] == [1, 4, 4, 4, 4, 3, 3, 2, 2, 2, 2, *[1] * 7]
