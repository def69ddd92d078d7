"""What is listed, and what makes a video or a text stale: each knows nothing of the other."""

import dataclasses

from mimix_ray import tables
from mimix_ray.config import RunConfig
from mimix_ray.latents.samples import Sample, Text, list_samples


def clip_row(clip_id: str, recipe: str = "c") -> tables.Row:
    size = {"frames": 5, "width": 48, "height": 32}
    return {"clip_id": clip_id, "show": "s", "video": f"clips/{clip_id}.mp4", "recipe": recipe, **size}


def caption_row(clip_id: str, action: str = "hops") -> tables.Row:
    return {
        "clip_id": clip_id,
        "characters": [{"name": "Pip", "action": action}],
        "setting": None,
        "scene_style": "cartoon",
    }


COMPOSITE = {**caption_row("", "bows"), **clip_row(""), "composite_id": "composites/00000000", "background_clip": "b"}


def config(formats: tuple[str, ...] = ("full",), **backbone: object) -> RunConfig:
    return RunConfig.model_validate({"latents": {"formats": formats}, "backbone": backbone})


def test_clips_and_composites_are_listed_alike_and_the_empty_prompt_once() -> None:
    clips = [clip_row("a"), clip_row("b"), clip_row("no caption")]
    captions = [caption_row("b"), caption_row("a"), caption_row("no clip")]
    samples, texts = list_samples(clips, captions, [COMPOSITE], config(("full", "plain")))
    assert [(s.sample_id, s.kind, s.show, s.size) for s in samples] == [
        ("b", "clip", "s", (5, 32, 48)),
        ("a", "clip", "s", (5, 32, 48)),
        ("composites/00000000", "composite", "s", (5, 32, 48)),
    ]
    assert [(t.text_id, t.sample_id, t.format, t.text) for t in texts] == [
        ("empty", None, None, ""),
        ("b/full", "b", "full", "[Character: Pip], hops. [scene-style:cartoon]"),
        ("b/plain", "b", "plain", "Pip hops."),
        ("a/full", "a", "full", "[Character: Pip], hops. [scene-style:cartoon]"),
        ("a/plain", "a", "plain", "Pip hops."),
        ("composites/00000000/full", "composites/00000000", "full", "[Character: Pip], bows. [scene-style:cartoon]"),
        ("composites/00000000/plain", "composites/00000000", "plain", "Pip bows."),
    ]
    for table, listed in ((tables.LATENTS, samples), (tables.TEXTS, texts)):
        tables.to_arrow(table, [{**one.row(), "status": "ok"} for one in listed])


def stale(config: RunConfig, clip: str = "c", action: str = "hops") -> set[str]:
    """Which of a listing's items do not hold against the plain one."""

    def listed(config: RunConfig, clip: str = "c", action: str = "hops") -> list[Sample | Text]:
        samples, texts = list_samples([clip_row("a", clip)], [caption_row("a", action)], [], config)
        return [*samples, *texts]

    def marks(items: list[Sample | Text]) -> dict[str, str]:
        return {next(iter(dataclasses.asdict(one).values())): one.recipe for one in items}

    before, now = marks(listed(RunConfig())), marks(listed(config, clip, action))
    return {key for key, recipe in now.items() if before.get(key) != recipe}


def test_each_change_makes_stale_what_it_touches_and_nothing_else() -> None:
    assert stale(RunConfig()) == set()
    assert stale(RunConfig(), action="sleeps") == {"a/full"}
    assert stale(RunConfig(), clip="cut again") == {"a"}
    assert stale(config(("full", "no_character"))) == {"a/no_character"}
    assert stale(config(path="other")) == {"a", "a/full", "empty"}
    assert stale(config(dtype="fp32")) == stale(config(text_tokens=64)) == {"a/full", "empty"}
    assert stale(config(flow_shift=8.0)) == set(), "the flow has no part in encoding"
