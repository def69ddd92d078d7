"""The stage with a model in its own actors: a tiny LLaVA whose weights are set by hand to give one answer (wiring)."""

import json

import pytest

from mimix_ray.captions import stage
from mimix_ray.vlm import VlmError
from tests.captions.test_stage import captions, make_clips
from tests.vlm.tiny_llava import build_scripted

SAYS = {
    "reasoning": "grey",
    "characters": [{"name": "Pip", "action": "hops"}],
    "setting": "a kitchen",
    "scene_style": "cartoon",
    "confidence": 0.5,
}


@pytest.mark.soak
def test_a_scripted_llava_captions_every_clip_once(ray_cluster, run_factory, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    model = build_scripted(tmp_path / "llava", json.dumps(SAYS))
    local = ("--captions.vlm.backend", "transformers", "--captions.gpus", 0, "--captions.vlm.batch_size", 2)
    run = make_clips(run_factory(*local, "--captions.vlm.model", model), 5)
    report = stage.run(run)
    assert (report.ok, report.failed, report.extra["calls"], report.extra["tokens_out"]) == (5, 0, 5, 10)
    for row in captions(run).values():
        assert (row["text"], row["model"]) == ("[Character: Pip], hops. [scene-style:cartoon]", str(model))
        assert row["tokens_in"] > 2000 and row["tokens_out"] == 2
    # The model need not even be there for a run that has nothing left to do.
    (model / "config.json").unlink()
    assert stage.run(run).reused == 5


def test_a_missing_model_is_told_before_any_work(run_factory, tmp_path):
    local = ("--captions.vlm.backend", "transformers", "--captions.vlm.model", tmp_path / "nowhere")
    with pytest.raises(VlmError, match=r"nowhere.*cannot be used by vlm\.backend transformers"):
        stage.run(make_clips(run_factory(*local), 1))
