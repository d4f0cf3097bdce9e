"""The files of cluster/, checked with Ray, Kubernetes' schemas, shellcheck and hadolint."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from ray.autoscaler._private.kuberay import autoscaling_config
from ray.autoscaler._private.util import prepare_config, validate_config

import sign_ensemble
from sign_ensemble.core.command_line import config_of, parser_for

SOURCE = Path(sign_ensemble.__file__).parents[1]
CLUSTER = SOURCE / "cluster"
KUBERNETES = kubernetes_validate.latest_version()
CLOUD_FILES = sorted((CLUSTER / "cloud").glob("*.yaml"))
SCRIPTS = sorted(CLUSTER.rglob("*.sh"))
TOKEN = "RAY_AUTH_MODE=token"

# Fields of KubeRay's API reference (v1.6) that these files may use; its operator silently drops
# others. Everything below "template" is checked by Kubernetes' own schema.
CLUSTER_FIELDS = {
    "rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec",
    "workerGroupSpecs", "suspend",
}  # fmt: skip
HEAD_FIELDS = {"serviceType", "rayStartParams", "template"}
WORKER_FIELDS = {
    "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "rayStartParams",
    "template",
}  # fmt: skip
SCALER_FIELDS = {"idleTimeoutSeconds", "upscalingMode", "resources", "env"}
JOB_FIELDS = {
    "entrypoint", "runtimeEnvYAML", "backoffLimit", "activeDeadlineSeconds", "submissionMode",
    "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec",
}  # fmt: skip


def read(name: str) -> dict[str, Any]:
    """One file of cluster/."""
    content: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return content


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods of a cluster."""
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    name = {"metadata": {"name": "pod"}}
    return [{"apiVersion": "v1", "kind": "Pod", **name, **group["template"]} for group in groups]


def test_ray_cluster() -> None:
    found = read("kubernetes/cluster.yaml")
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayCluster")
    spec = found["spec"]
    assert set(spec) <= CLUSTER_FIELDS
    assert set(spec["headGroupSpec"]) <= HEAD_FIELDS
    assert all(set(group) <= WORKER_FIELDS for group in spec["workerGroupSpecs"])
    assert set(spec["autoscalerOptions"]) <= SCALER_FIELDS
    assert spec["authOptions"] == {"mode": "token"}
    assert f"ray=={spec['rayVersion']}\n" in (SOURCE / "constraints.txt").read_text()
    found["metadata"]["namespace"] = "default"
    scaling = autoscaling_config._derive_autoscaling_config_from_ray_cr(found)  # validates too
    assert scaling["max_workers"] == 8
    assert scaling["idle_timeout_minutes"] == 2
    assert scaling["available_node_types"]["workers"]["resources"]["CPU"] == 8


def test_pods_share_the_volume() -> None:
    claim = read("kubernetes/storage.yaml")
    kubernetes_validate.validate(claim, KUBERNETES, strict=True)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(read("kubernetes/cluster.yaml")["spec"]):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        [volume] = pod["spec"]["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        [container] = pod["spec"]["containers"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/shared"}]
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_a_misspelt_field_of_a_pod_is_found() -> None:
    [pod, *_] = pods(read("kubernetes/cluster.yaml")["spec"])
    pod["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_ray_job() -> None:
    found = read("kubernetes/job.yaml")
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", "RayJob")
    assert set(found["spec"]) <= JOB_FIELDS
    assert found["spec"]["rayClusterSpec"] == read("kubernetes/cluster.yaml")["spec"]
    assert set(yaml.safe_load(found["spec"]["runtimeEnvYAML"])) == {"env_vars"}


def test_settings_given_to_the_main_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every command of cluster/ they are known, valid and allowed in a Ray job."""
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.setenv("HOME", "/home/ray")
    texts = [path.read_text() for path in (*CLUSTER.rglob("*.md"), *CLUSTER.rglob("*.yaml"))]
    commands = [
        match[1].replace("\\\n", " ").split()
        for text in texts
        for match in re.finditer(r"sign_ensemble\.tune((?:\s+\\?\s*--\S+ [^\s#`]+)+)", text)
    ]
    assert len(commands) == 3
    for arguments in commands:
        parser = parser_for("tune", "")
        config_of(parser, parser.parse_args(arguments))


@pytest.mark.parametrize("path", CLOUD_FILES, ids=lambda path: path.stem)
def test_cloud(path: Path) -> None:
    config = prepare_config(yaml.safe_load(path.read_text()))
    validate_config(config)
    spot = config["available_node_types"]["spot"]
    assert (spot["min_workers"], spot["max_workers"], config["max_workers"]) == (0, 8, 8)
    expected = {"aws": {"MarketType": "spot"}, "gcp": [{"preemptible": True}]}
    node = spot["node_config"]
    assert node.get("InstanceMarketOptions", node.get("scheduling")) == expected[path.stem]
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]
    [head] = [line for line in config["head_start_ray_commands"] if "--head" in line]
    assert "--dashboard-host=127.0.0.1" in head and "0.0.0.0" not in head
    broken = yaml.safe_load(path.read_text()) | {"idle_timeout": 5}
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout"):
        validate_config(prepare_config(broken))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.parent.name)
def test_script(path: Path) -> None:
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
    checked = subprocess.run([tool("shellcheck"), path], capture_output=True, text=True)
    assert checked.stdout == "" and checked.returncode == 0


def test_image() -> None:
    path = CLUSTER / "Dockerfile"
    checked = subprocess.run([tool("hadolint"), path], capture_output=True, text=True)
    assert checked.stdout == "" and checked.returncode == 0
    text = path.read_text()
    assert f"ENV {TOKEN}" in text
    sent = (CLUSTER / "Dockerfile.dockerignore").read_text().split()
    for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (SOURCE / name).exists() and f"!{name}" in sent, name


def test_the_slurm_script_starts_the_search(tmp_path: Path) -> None:
    """With stubs of SLURM's commands; the one of srun prints its arguments."""
    stubs = {
        "scontrol": 'test "$*" = "show hostnames n[1-2]" && printf "n1\\nn2\\n"',
        "srun": 'printf "%s\\n" "$RAY_AUTH_MODE" "${#RAY_AUTH_TOKEN}" "$@"',
        "python": f'exec {sys.executable} "$@"',
    }
    for name, body in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    given = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": "123456", "SLURM_JOB_NUM_NODES": "2",
             "SLURM_CPUS_PER_TASK": "8", "PATH": f"{tmp_path}:{os.environ['PATH']}"}  # fmt: skip
    started = subprocess.run(
        [CLUSTER / "slurm/search.sh", "--data.root", "/shared/my photos"],
        env={**{k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}, **given},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert started[:2] == ["token", "64"]
    ray, entry = started[2 : started.index("--")], started[started.index("--") + 1 :]
    assert ray == ["--kill-on-bad-exit=1", "ray", "symmetric-run", "--address", "n1:23456",
                   "--min-nodes", "2", "--num-cpus=8", "--disable-usage-stats"]  # fmt: skip
    assert entry == ["env", "RAY_ADDRESS=n1:23456", "python", "-m", "sign_ensemble.tune",
                     "--data.root", "/shared/my photos"]  # fmt: skip


def tool(name: str) -> str:
    """The path of a program installed with a Python package."""
    return str(Path(sys.executable).parent / name)
