"""Samples: which clips and composites the trainer gets, each with its caption in every format. No PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from mimix_ray import backbone, tables
from mimix_ray.config import RunConfig
from mimix_ray.prompts import Caption, render


@dataclass(frozen=True)
class Sample:
    """One sample to encode; plain data."""

    sample_id: str
    kind: str
    show: str
    video: str
    """Name of the mp4 on the run's storage."""
    size: tuple[int, int, int]
    """Frames, height and width that it must have."""
    texts: dict[str, str]
    """Caption by format."""
    recipe: str

    def row(self) -> tables.Row:
        """The columns of the table `latents` that are known before encoding."""
        values = asdict(self)
        return {key: values[key] for key in ("sample_id", "kind", "show", "recipe")}


def list_samples(
    clips: Iterable[tables.Row], captions: Iterable[tables.Row], composites: Iterable[tables.Row], config: RunConfig
) -> list[Sample]:
    """Every captioned clip and every composite, in the tables' order; only rows that are `ok` may be given."""
    clip_of = {clip["clip_id"]: clip for clip in clips}
    captioned = [(clip_of[row["clip_id"]], row) for row in captions if row["clip_id"] in clip_of]
    encoder = backbone.identity(config.backbone, "flow_shift")

    def sample(kind: str, key: str, clip: tables.Row, video: tables.Row, caption: tables.Row) -> Sample:
        said = Caption.from_rows(caption["characters"], caption["setting"], caption["scene_style"])
        texts: dict[str, str] = {name: render(said, name) for name in config.latents.formats}
        recipe = tables.recipe(config.latents, encoder, video["recipe"], *texts.values())
        size = (clip["frames"], clip["height"], clip["width"])
        return Sample(key, kind, clip["show"], video["video"], size, texts, recipe)

    return [
        *(sample("clip", clip["clip_id"], clip, clip, row) for clip, row in captioned),
        # A composite has show and size of its background.
        *(
            sample("composite", row["composite_id"], clip_of[row["background_clip"]], row, row)
            for row in composites
            if row["background_clip"] in clip_of
        ),
    ]
