"""Cluster files against Ray's own validation and against the lock."""

import re
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).parents[1]
RAY = re.search(r"^ray(?:\[.*?\])?==(\S+)", (REPO / "requirements.lock").read_text(), re.MULTILINE)[1]


def test_aws_passes_rays_own_validation():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((REPO / "cluster/aws.yaml").read_text()))
    validate_config(config)
    assert set(config["available_node_types"]) == {"head", "cpu", "a100"}
    assert config["available_node_types"]["a100"]["resources"]["GPU"] == 8


def test_aws_validation_would_notice_a_misspelt_key():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((REPO / "cluster/aws.yaml").read_text()) | {"max_wrokers": 3}
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config(prepare_config(config))


def test_versions_equal_the_lock():
    cluster = yaml.safe_load((REPO / "cluster/kuberay/raycluster.yaml").read_text())
    assert cluster["spec"]["rayVersion"] == RAY
    assert f"rayproject/ray:{RAY}-py311" in (REPO / "cluster/Dockerfile").read_text()
    assert f"ray[default,data,train,serve]=={RAY}" in (REPO / "pyproject.toml").read_text()


def test_all_nodes_run_one_image():
    package = re.search(r'^version = "(.+)"', (REPO / "pyproject.toml").read_text(), re.MULTILINE)[1]
    found = set()
    for path in ("cluster/aws.yaml", "cluster/kuberay/raycluster.yaml"):
        found |= set(re.findall(r"image: (\S+)", (REPO / path).read_text()))
    assert found == {f"REGISTRY/mimix_ray:{package}"}


def test_kuberay_pods_are_whole():
    cluster = yaml.safe_load((REPO / "cluster/kuberay/raycluster.yaml").read_text())
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    for group in groups[1:]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_docker_copies_files_that_exist():
    for line in (REPO / "cluster/Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            for source in [part for part in line.split()[1:-1] if not part.startswith("--")]:
                assert (REPO / source).exists(), source
