"""The model card of an adapter: what it is, how it was trained, how to load it; and the curve of its losses."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from mimix_ray import prompts
from mimix_ray.config import BackboneConfig, RunConfig, TrainingConfig
from mimix_ray.prompts import Caption, CharacterAction
from mimix_ray.report.curve import moving_average

History = Sequence[Mapping[str, Any]]
"""One record an optimiser step: step (from 1), epoch, loss, lr, seconds, and held_out where that was measured."""


def render(about: Mapping[str, str], history: History, config: RunConfig) -> str:
    """The card as Markdown, with the YAML head that model hubs read.

    The licence is left to the user (`other`): it follows from the base model's and from the footage.

    Args:
        about: The adapter's header: universe, shows and characters (comma-separated), grammar, base, rank, alpha,
            targets, steps, recipe.
        history: One record or more.
        config: The run's.
    """
    environment = Environment(
        loader=PackageLoader("mimix_ray", "training"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["literal"] = partial(json.dumps, ensure_ascii=False)
    environment.filters["cell"] = lambda text: text.replace("|", "\\|")
    held_out = [(record["held_out"], record["step"]) for record in _measured(history)]
    window = _window(history)
    losses = [record["loss"] for record in history]
    return environment.get_template("card.md.j2").render(
        head=yaml.safe_dump(_head(about, config), sort_keys=False, allow_unicode=True),
        about=about,
        shows=_listed(about["shows"]),
        characters=_listed(about["characters"]),
        config=config,
        dtype={"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[config.backbone.dtype],
        example=example(about),
        settings=list(_settings(config)),
        duration=timedelta(seconds=round(sum(record["seconds"] for record in history))),
        epochs=history[-1]["epoch"],
        window=window,
        first=sum(losses[:window]) / window,
        last=sum(losses[-window:]) / window,
        held_out=held_out,
    )


def example(about: Mapping[str, str]) -> str:
    """A prompt in the grammar that the adapter was trained on, for the first and the last of its cast."""
    cast = _listed(about["characters"])
    actors = dict.fromkeys([*cast[:1], *cast[-1:]])
    actions = ("waves hello across the table", "laughs and waves back")
    caption = Caption(tuple(map(CharacterAction, actors, actions)), "An empty kitchen", "cartoon")
    return prompts.render(caption, about["grammar"])  # type: ignore[arg-type]  # it is checked there


def loss_png(history: History) -> bytes:
    """The losses as a PNG, 1600 x 900: each step's faint, their moving average, held-out points where there are any,
    and the learning rate on an axis of its own where it changes. The same history gives the same bytes."""
    steps = [record["step"] for record in history]
    losses = [record["loss"] for record in history]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    smooth = moving_average(losses, max(1, _window(history) // 2))
    axes.plot(steps, losses, ".-", color="tab:blue", alpha=0.25, markersize=3, linewidth=0.8, label="each step")
    axes.plot(steps, smooth, color="tab:blue", label="moving average")
    if measured := _measured(history):
        points = [record["step"] for record in measured], [record["held_out"] for record in measured]
        axes.plot(*points, "o-", color="tab:orange", markersize=4, linewidth=1, label="held out")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    axes.locator_params(axis="x", integer=True)
    rates = [record["lr"] for record in history]
    if len(set(rates)) > 1:
        right = axes.twinx()
        right.plot(steps, rates, "--", color="tab:green", linewidth=1)
        right.set_ylabel("learning rate", color="tab:green")
        right.set_ylim(bottom=0)
        right.ticklabel_format(axis="y", scilimits=(0, 0))
        right.spines[["top", "left"]].set_visible(False)
        axes.plot([], [], "--", color="tab:green", linewidth=1, label="learning rate")
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()


def _head(about: Mapping[str, str], config: RunConfig) -> dict[str, Any]:
    # A hub would look for a base model that is a folder of this machine, and not find it.
    base = {} if Path(about["base"]).is_dir() else {"base_model": about["base"], "base_model_relation": "adapter"}
    tags = ["lora", "text-to-video", "video", config.backbone.name, "mimix"]
    return {"license": "other", **base, "library_name": "diffusers", "pipeline_tag": "text-to-video", "tags": tags}


def _settings(config: RunConfig) -> Iterator[tuple[str, str, str]]:
    """Name, value and meaning of each field of base model and training that shapes the weights."""
    parts: list[tuple[str, BackboneConfig | TrainingConfig]]
    parts = [("backbone", config.backbone), ("training", config.training)]
    for part, values in parts:
        for name, value in values.identity().items():
            meaning = type(values).model_fields[name].description or ""
            yield f"{part}.{name}", "not set" if value is None else str(value), meaning


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _measured(history: History) -> list[Mapping[str, Any]]:
    return [record for record in history if record.get("held_out") is not None]


def _window(history: History) -> int:
    """Steps over which losses are averaged: a tenth of all, as single steps differ by the flow times drawn."""
    return max(1, len(history) // 10)
