"""What is to be encoded: the videos of captioned clips and composites, their captions in every format. No PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from mimix_ray import backbone, tables
from mimix_ray.config import RunConfig
from mimix_ray.prompts import Caption, render


@dataclass(frozen=True)
class Sample:
    """One video to encode; plain data."""

    sample_id: str
    kind: str
    show: str
    video: str
    """Name of the mp4 on the run's storage."""
    size: tuple[int, int, int]
    """Frames, height and width that it must have."""
    recipe: str

    def row(self) -> tables.Row:
        """The columns of the table `latents` that are known before encoding."""
        return {"sample_id": self.sample_id, "kind": self.kind, "show": self.show, "recipe": self.recipe}


@dataclass(frozen=True)
class Text:
    """One text to encode; plain data."""

    text_id: str
    sample_id: str | None
    format: str | None
    text: str
    recipe: str

    def row(self) -> tables.Row:
        """The columns of the table `texts` that are known before encoding."""
        return asdict(self)


def list_samples(
    clips: Iterable[tables.Row], captions: Iterable[tables.Row], composites: Iterable[tables.Row], config: RunConfig
) -> tuple[list[Sample], list[Text]]:
    """Every captioned clip and every composite, in the tables' order; and the texts of all, the empty prompt first.

    A video's recipe knows nothing of its texts, nor theirs of it, so that a new caption, another format or a video that
    was made anew leaves the other half as it is. Only rows that are `ok` may be given.
    """
    clip_of = {clip["clip_id"]: clip for clip in clips}
    encoding = config.latents.model_copy(update={"formats": ()})  # which texts there are shapes none of them
    vae = backbone.identity(config.backbone, "flow_shift", "text_tokens", "dtype")  # it is fp32 always
    text_encoder = backbone.identity(config.backbone, "flow_shift")

    def sample(kind: str, key: str, clip: tables.Row, video: tables.Row) -> Sample:
        size = (clip["frames"], clip["height"], clip["width"])
        return Sample(key, kind, clip["show"], video["video"], size, tables.recipe(encoding, vae, video["recipe"]))

    def text(key: str, sample_id: str | None, format: str | None, said: str) -> Text:
        return Text(key, sample_id, format, said, tables.recipe(encoding, text_encoder, said))

    def texts(key: str, caption: tables.Row) -> list[Text]:
        said = Caption.from_rows(caption["characters"], caption["setting"], caption["scene_style"])
        return [text(f"{key}/{format}", key, format, render(said, format)) for format in config.latents.formats]

    captioned = {row["clip_id"]: row for row in captions if row["clip_id"] in clip_of}
    # A composite has show and size of its background.
    placed = {row["composite_id"]: row for row in composites if row["background_clip"] in clip_of}
    return (
        [
            *(sample("clip", key, clip_of[key], clip_of[key]) for key in captioned),
            *(sample("composite", key, clip_of[row["background_clip"]], row) for key, row in placed.items()),
        ],
        [
            text("empty", None, None, ""),  # for caption dropout
            *(one for key, caption in (captioned | placed).items() for one in texts(key, caption)),
        ],
    )
