"""The plan: every sample as often as promised, the same however the work is spread."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_ray.training.plan import Plan, PlanError, share

plans = st.builds(
    Plan,
    clips=st.integers(1, 40).map(lambda n: tuple(f"clip{i}" for i in range(n))),
    composites=st.integers(1, 12).map(lambda n: tuple(f"composite{i}" for i in range(n))),
    ratio=st.none() | st.floats(0, 1),
    batch_size=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)


def stream(plan: Plan, steps: int) -> list[str]:
    return [name for step in range(steps) for name in plan.batch(step)]


@given(plans, st.integers(1, 4))
def test_every_epoch_holds_each_clip_once_and_composites_in_the_exact_ratio(plan: Plan, epochs: int) -> None:
    seen = stream(plan, plan.steps(epochs))
    assert epochs * plan.epoch_size <= len(seen) < epochs * plan.epoch_size + plan.batch_size
    for epoch in range(epochs):
        counts = Counter(seen[epoch * plan.epoch_size : (epoch + 1) * plan.epoch_size])
        assert {counts[clip] for clip in plan.clips} == {1}
        wanted = len(plan.composites) if plan.ratio is None else round(plan.ratio * len(plan.clips))
        assert sum(counts[name] for name in plan.composites) == wanted


@given(plans, st.integers(1, 6))
def test_composites_come_about_equally_often(plan: Plan, epochs: int) -> None:
    seen = Counter(stream(plan, plan.steps(epochs))[: epochs * plan.epoch_size])
    counts = [seen[name] for name in plan.composites]
    assert max(counts) - min(counts) <= 1


@given(plans, st.integers(0, 30), st.sampled_from([(1, 1), (2, 1), (1, 3), (2, 2), (4, 1), (3, 2)]))
def test_workers_split_a_batch_without_loss(plan: Plan, step: int, spread: tuple[int, int]) -> None:
    world, micro = spread
    batch = plan.batch(step)
    if len(batch) % (world * micro):
        with pytest.raises(PlanError, match="batch_size"):
            share(batch, 0, world, micro)
        return
    shares = [share(batch, rank, world, micro) for rank in range(world)]
    assert len({len(part) for part in shares}) == 1, "all workers take the same number of micro-batches"
    assert all(len(micro_batch) == micro for part in shares for micro_batch in part)
    assert [pair for part in shares for micro_batch in part for pair in micro_batch] == list(enumerate(batch))


def test_seed_and_epoch_shuffle() -> None:
    clips = tuple(map(str, range(20)))
    one, again, other = (Plan(clips, (), None, 20, seed) for seed in (0, 0, 1))
    assert one.batch(0) == again.batch(0) != one.batch(1)
    assert one.batch(0) != other.batch(0)


def test_a_mix_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(PlanError, match="no composite"):
        Plan(("a",), (), 0.1, 1, 0)
    with pytest.raises(PlanError, match="no clip"):
        Plan((), ("c",), None, 1, 0)
    assert Plan(("a",), (), 0.0, 1, 0).epoch_size == 1


def test_the_papers_numbers() -> None:
    """52k clips, 10 % composites, batch 64, 5 epochs (paper 3.3 and 4.3)."""
    plan = Plan(tuple(map(str, range(52_000))), tuple(f"c{i}" for i in range(6_000)), 0.10, 64, 0)
    assert plan.composites_an_epoch == 5_200
    assert plan.steps(5) == 4_469
    assert plan.steps(5, most=100) == 100
