"""From request bodies to parameters."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mimix_ray.serving.requests import BadRequest, nest, settle


@pytest.fixture
def run(run_factory):
    return run_factory()


def test_what_a_request_leaves_out_is_the_runs_own(run):
    made = settle({"prompt": "A quiet street."}, run).parameters
    config = run.config.generation
    assert made.prompt == "A quiet street."
    assert (made.frames, made.fps, made.width, made.height) == (config.frames, config.fps, config.width, config.height)
    assert (made.steps, made.guidance, made.negative_prompt) == (config.steps, config.guidance, "")
    assert made.seed != settle({"prompt": "A quiet street."}, run).parameters.seed, "a new seed is drawn"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"size": "192x112"}, {"width": 192, "height": 112}),
        ({"size": "190X100"}, {"width": 192, "height": 96}),
        ({"size": "1x7"}, {"width": 16, "height": 16}),
        ({"num_frames": 80}, {"frames": 77}),
        ({"num_frames": 81}, {"frames": 81}),
        ({"num_frames": "1"}, {"frames": 1}),
        ({"seconds": "5"}, {"frames": 81}),
        ({"seconds": "4", "num_frames": "9"}, {"frames": 9}),
        ({"steps": "3"}, {"steps": 3}),
        ({"num_inference_steps": 3}, {"steps": 3}),
        ({"guidance_scale": "1.5"}, {"guidance": 1.5}),
        ({"guidance": 0}, {"guidance": 0.0}),
        ({"seed": 0}, {"seed": 0}),
        ({"negative_prompt": "blurred\x00 \ud800"}, {"negative_prompt": "blurred"}),
        ({"extra_body": {"seed": 4}}, {"seed": 4}),
        ({"model": "miniature", "seed": None, "size": ""}, {"width": 192}),
    ],
)
def test_fields_are_read_and_snapped(run, body: dict[str, Any], expected: dict[str, Any]):
    made = settle({"prompt": "A street.", **body}, run).parameters
    assert {name: getattr(made, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({}, "prompt", "empty"),
        ({"prompt": " \n "}, "prompt", "empty"),
        ({"prompt": 7}, "prompt", "string"),
        ({"prompt": "[Character: Pip"}, "prompt", "not whole"),
        ({"prompt": "[Character: Pip]"}, "prompt", "does nothing"),
        ({"prompt": "[Character: Pipp], hops."}, "prompt", "'Pipp'.*Pip"),
        ({"prompt": "[scene-style:gothic]"}, "prompt", "gothic"),
        ({"prompt": "x" * 4001}, "prompt", "4000"),
        ({"prompt": "x", "negative_prompt": "x" * 4001}, "negative_prompt", "4000"),
        ({"prompt": "[Character: Pip], hops.", "cast": [{"character": "Momo", "action": "sits"}]}, "cast", "both"),
        ({"cast": [{"character": "Tom", "action": "sits"}]}, "cast", "'Tom'"),
        ({"cast": [{"character": "Pip"}]}, "cast", "action"),
        ({"cast": [{"character": "Pip", "action": " "}]}, "cast", "does nothing"),
        ({"cast": "Pip hops"}, "cast", "list of"),
        ({"prompt": "x [scene-style:cartoon]", "scene_style": "realistic"}, "scene_style", "different styles"),
        ({"prompt": "x", "scene_style": "gothic"}, "scene_style", "cartoon"),
        ({"prompt": "x", "model": "sora-2"}, "model", "known: miniature"),
        ({"prompt": "x", "size": "large"}, "size", "WIDTHxHEIGHT"),
        ({"prompt": "x", "size": "-16x16"}, "size", "WIDTHxHEIGHT"),
        ({"prompt": "x", "size": "٣x٣"}, "size", "WIDTHxHEIGHT"),
        ({"prompt": "x", "size": "99999x99999"}, "size", "limit of 36864"),
        ({"prompt": "x", "num_frames": 10_000}, "num_frames", "limit of 81"),
        ({"prompt": "x", "num_frames": 0}, "num_frames", "greater"),
        ({"prompt": "x", "seconds": "1e300"}, "num_frames", "limit"),
        ({"prompt": "x", "seconds": "-4"}, "seconds", "greater"),
        ({"prompt": "x", "seconds": "soon"}, "seconds", "number"),
        ({"prompt": "x", "steps": 51}, "steps", "limit of 50"),
        ({"prompt": "x", "steps": 2.5}, "steps", "integer"),
        ({"prompt": "x", "guidance": math.nan}, "guidance", "finite"),
        ({"prompt": "x", "guidance": math.inf}, "guidance", "finite"),
        ({"prompt": "x", "guidance_scale": 31}, "guidance_scale", "30"),
        ({"prompt": "x", "seed": -1}, "seed", "greater"),
        ({"prompt": "x", "seed": 2**63}, "seed", "less"),
        ([], None, "JSON object"),
        ("text", None, "JSON object"),
        (None, None, "JSON object"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(run, body: Any, param: str | None, says: str):
    with pytest.raises(BadRequest, match=says) as caught:
        settle(body, run)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "prompt"),
    [
        (
            {"prompt": "[character: the chick] hops. [Character: plum], waddles. [scene-style: Cartoon]"},
            "[Character: Pip], hops. [Character: Mr. Plum], waddles. [scene-style:cartoon]",
        ),
        (
            {"cast": [{"character": "momo", "action": "sneaks."}], "scene_style": "realistic"},
            "[Character: Momo], sneaks. [scene-style:realistic]",
        ),
        (
            {"cast": '[{"character": "Momo", "action": "sneaks"}]', "prompt": "In the park at night."},
            "In the park at night. [Character: Momo], sneaks.",
        ),
        ({"prompt": "In the park. [Character: Pip], hops."}, "In the park. [Character: Pip], hops."),
        ({"prompt": "A park at night", "scene_style": "cartoon"}, "A park at night. [scene-style:cartoon]"),
    ],
)
def test_prompts_reach_the_model_in_the_grammar_with_known_names(run, body: dict[str, Any], prompt: str):
    assert settle(body, run).parameters.prompt == prompt


def test_the_prompt_has_the_format_that_the_model_was_taught_in(run_factory):
    run = run_factory("--training.caption_format", "plain")
    body = {"cast": [{"character": "pip", "action": "hops"}], "scene_style": "cartoon"}
    assert settle(body, run).parameters.prompt == "Pip hops."


def test_fields_that_mean_nothing_are_told(run):
    assert settle({"prompt": "x", "num_step": 4, "user": "me"}, run).ignored == ("num_step", "user")


@pytest.mark.parametrize(
    ("items", "body"),
    [
        ([], {}),
        ([("a", "1"), ("a", "2")], {"a": "2"}),
        ([("a[]", "1"), ("a[]", "2")], {"a": ["1", "2"]}),
        ([("a[b]", "1"), ("a[c]", "2")], {"a": {"b": "1", "c": "2"}}),
        (
            [("a[][b]", "1"), ("a[][c]", "2"), ("a[][b]", "3"), ("a[][c]", "4")],
            {"a": [{"b": "1", "c": "2"}, {"b": "3", "c": "4"}]},
        ),
        ([("a[", "1"), ("[b]", "2"), ("]", "3")], {"a[": "1", "": {"b": "2"}, "]": "3"}),
    ],
)
def test_forms_are_nested_as_they_were_made(items: list[tuple[str, str]], body: dict[str, Any]):
    assert nest(items) == body


@pytest.mark.parametrize(
    "items",
    [
        [("cast[][character]", "Pip"), ("cast[][character]", "Momo"), ("cast[][action]", "hops")],
        [("a[b][c][d]", "1")],
        [("a", "1"), ("a[b]", "2")],
    ],
)
def test_forms_that_cannot_be_put_together_are_refused(items: list[tuple[str, str]]):
    with pytest.raises(BadRequest, match="send JSON"):
        nest(items)
