"""The plan: every sample as often as promised, the same however the work is spread."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_ray.config import TrainingConfig
from mimix_ray.training.plan import Plan, PlanError, Source, mix, set_aside


def rows(clips: dict[str, int], composites: int = 0) -> list[dict[str, Any]]:
    """Rows of table `latents`: so many clips of each show."""
    made = [{"sample_id": f"{s}/{n}", "kind": "clip", "show": s} for s, count in clips.items() for n in range(count)]
    return made + [{"sample_id": f"c/{n}", "kind": "composite", "show": "-"} for n in range(composites)]


def config(**values: Any) -> TrainingConfig:
    return TrainingConfig(**values)


def names(count: int, of: str = "clip") -> tuple[str, ...]:
    return tuple(f"{of}{n}" for n in range(count))


sources = st.lists(
    st.builds(
        lambda n, share: (n, round(n * share)),
        st.integers(1, 20),
        st.floats(0, 2),
    ),
    min_size=1,
    max_size=4,
).map(lambda many: [Source(f"s{i}", names(n, f"s{i}-"), count) for i, (n, count) in enumerate(many)])


@given(sources, st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**32))
def test_every_epoch_deals_each_source_its_exact_share(
    sources: list[Source], epochs: int, batch_size: int, seed: int
) -> None:
    if not any(source.an_epoch for source in sources):
        return
    plan = Plan(sources, batch_size, seed)
    steps = plan.steps(epochs)
    seen = [name for step in range(steps) for unit in plan.batch(step) for name in unit]
    assert epochs * plan.epoch_size <= len(seen) < epochs * plan.epoch_size + batch_size
    for epoch in range(epochs):
        part = Counter(seen[epoch * plan.epoch_size : (epoch + 1) * plan.epoch_size])
        for source in sources:
            assert sum(part[name] for name in source.samples) == source.an_epoch
    total = Counter(seen[: epochs * plan.epoch_size])
    for source in sources:
        counts = [total[name] for name in source.samples]
        assert max(counts) - min(counts) <= 1, "none comes twice before all have come once"


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)
)
def test_units_have_one_shape_and_no_sample_is_dropped(
    shapes: list[str], unit: int, units_a_batch: int, world: int
) -> None:
    clips = names(len(shapes))
    shape_of = dict(zip(clips, shapes, strict=True))
    plan = Plan([Source("show", clips, len(clips))], unit * units_a_batch, 0, unit, shape_of)
    epochs = 6
    seen: Counter[str] = Counter()
    for step in range(plan.steps(epochs)):
        assert len(plan.batch(step)) == units_a_batch
        for members in plan.batch(step):
            assert len(members) == unit and len({shape_of[name] for name in members}) == 1
            seen.update(members)
    waiting = len(set(shapes)) * (unit - 1)
    # What waits for its unit at the end is less than a unit a shape; nothing else is behind.
    assert sum(max(0, epochs - seen[name]) for name in clips) <= waiting
    # The same units, whatever the number of workers, each once and in the same number of rounds.
    shares = [plan.share(1, rank, world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    worked = [part for share in shares for part in share if part.weight]
    assert sorted(part.samples for part in worked) == sorted(
        tuple(zip(range(n * unit, (n + 1) * unit), members, strict=True)) for n, members in enumerate(plan.batch(1))
    )
    rounds = len(shares[0])
    assert sum(part.weight for part in worked) == pytest.approx(rounds * world), "the mean over all stays the mean"


def test_samples_of_a_shape_too_rare_for_a_unit_are_named() -> None:
    clips = names(17)
    shape_of = {name: ("rare" if name == "clip3" else "usual") for name in clips}
    plan = Plan([Source("show", clips, 17)], 4, 0, 4, shape_of)
    assert plan.missed(10) == ["clip3"]
    assert plan.missed(20) == [], "four epochs fill its unit"


def test_any_step_can_be_found_alone_and_seeds_differ() -> None:
    clips = [Source("show", names(13), 13)]
    whole = [Plan(clips, 4, 7).batch(step) for step in range(12)]
    assert Plan(clips, 4, 7).batch(9) == whole[9]
    assert Plan(clips, 4, 8).batch(0) != whole[0]
    assert Plan(clips, 4, 7).epoch(0) != Plan(clips, 4, 7).epoch(1)


def test_workers_get_clips_of_one_shape_at_the_same_time() -> None:
    clips = names(8)
    shape_of = {name: ("long" if n % 2 else "short") for n, name in enumerate(clips)}
    plan = Plan([Source("show", clips, 8)], 8, 0, 1, shape_of)
    for left, right in zip(plan.share(0, 0, 2), plan.share(0, 1, 2), strict=True):
        assert shape_of[left.samples[0][1]] == shape_of[right.samples[0][1]]


def test_the_papers_mix_is_exact() -> None:
    """52k clips of four shows, 10 % composites, batch 64, 5 epochs (paper 3.3 and 4.3)."""
    table = rows({"tom_and_jerry": 20_000, "bears": 12_000, "bean": 9_000, "sheldon": 11_000}, 6_000)
    plan = Plan(mix(table, config(composite_ratio=0.10)), 64, 0)
    assert plan.steps(5) == 4_469 and plan.steps(5, most=100) == 100
    kinds = Counter(name.split("/")[0] for name in plan.epoch(0))
    assert kinds == {"tom_and_jerry": 20_000, "bears": 12_000, "bean": 9_000, "sheldon": 11_000, "c": 5_200}


def test_balanced_shows_get_equal_shares_of_an_epoch_of_the_same_size() -> None:
    shares = {s.name: s.an_epoch for s in mix(rows({"a": 90, "b": 5, "c": 5}, 10), config(shows="balanced"))}
    assert shares == {"a": 34, "b": 33, "c": 33, "composites": 10}


@pytest.mark.parametrize(("rehearsal", "old"), [(0.25, 10), (0.0, 0), (1.0, 40)])
def test_rehearsal_deals_old_shows_per_new_clip(rehearsal: float, old: int) -> None:
    shares = mix(rows({"old1": 300, "old2": 100, "new": 40}), config(rehearsal=rehearsal), learned=("old1", "old2"))
    assert {s.name: s.an_epoch for s in shares}["new"] == 40
    assert [s.an_epoch for s in shares[:2]] == [round(old * 0.75), old - round(old * 0.75)]


def test_rehearsal_deals_as_many_composites_per_clip_as_there_are() -> None:
    table = rows({"old": 400, "new": 40}, 44)
    (composites,) = (s for s in mix(table, config(rehearsal=0.25), learned=("old",)) if s.name == "composites")
    assert composites.an_epoch == 5, "a tenth of 40 new clips and 10 old ones"


def test_held_out_clips_are_never_dealt_and_stay_the_same_as_the_table_grows() -> None:
    table = rows({"a": 50, "b": 50}, 20)
    aside = {row["sample_id"] for row in set_aside(table, config(held_out=10))}
    assert len(aside) == 10 and not any(name.startswith("c/") for name in aside)
    assert {row["sample_id"] for row in set_aside(table[::-1], config(held_out=10))} == aside
    grown = {row["sample_id"] for row in set_aside(rows({"a": 55, "b": 50}), config(held_out=10))}
    assert len(grown & aside) >= 8
    assert {row["sample_id"] for row in set_aside(table, config(held_out=10, seed=1))} != aside


@pytest.mark.parametrize(
    ("table", "values", "learned", "message"),
    [
        (rows({"a": 2}), {"composite_ratio": 0.1}, (), "no composite"),
        (rows({}, 3), {"composite_ratio": 0.0}, (), "no clip"),
        (rows({"a": 2}), {"rehearsal": 0.5}, (), "none among those of training.warm_start"),
        (rows({"a": 2}), {"rehearsal": 0.5}, ("a",), "all among those of training.warm_start"),
        (rows({"a": 2}), {"micro_batch": 3, "batch_size": 4}, (), "no multiple of training.micro_batch"),
    ],
    ids=["ratio", "empty", "nothing old", "nothing new", "micro_batch"],
)
def test_a_mix_that_cannot_be_made_is_refused(
    table: list[dict[str, Any]], values: dict[str, Any], learned: tuple[str, ...], message: str
) -> None:
    given_config = config(**values)
    with pytest.raises(PlanError, match=message):
        Plan(mix(table, given_config, learned), given_config.batch_size, 0, given_config.micro_batch)


def test_holding_all_out_is_refused() -> None:
    with pytest.raises(PlanError, match="leave some to train on"):
        set_aside(rows({"a": 3}), config(held_out=3))
