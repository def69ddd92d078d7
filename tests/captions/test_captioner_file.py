"""serve/captioner.yaml by the schemas that can be had without vLLM: Serve's own, not Serve LLM's."""

import yaml
from ray.serve.config import AutoscalingConfig
from ray.serve.schema import DeploymentSchema, ServeDeploySchema
from ray.util import accelerators

from mimix_ray.config import CaptionsConfig
from tests.conftest import REPO


def test_the_captioner_passes_serves_schemas_and_takes_what_the_stage_sends():
    schema = ServeDeploySchema.model_validate(yaml.safe_load((REPO / "serve/captioner.yaml").read_text()))
    [application] = schema.applications
    assert (application.import_path, application.route_prefix) == ("ray.serve.llm:build_openai_app", "/")
    [model] = application.args["llm_configs"]
    deployment = DeploymentSchema.model_validate({"name": "captioner", **model["deployment_config"]})
    scaling = AutoscalingConfig.model_validate(deployment.autoscaling_config)
    assert 1 <= scaling.min_replicas < scaling.max_replicas
    assert scaling.target_ongoing_requests < deployment.max_ongoing_requests
    assert model["accelerator_type"] in vars(accelerators).values()
    engine = model["engine_kwargs"]
    assert engine["limit_mm_per_prompt"]["image"] >= CaptionsConfig().frames
    assert engine["max_model_len"] >= 512 * CaptionsConfig().frames + 3000 + CaptionsConfig().vlm.max_tokens
