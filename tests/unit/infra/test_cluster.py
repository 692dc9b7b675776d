"""The manifests for KubeRay agree with the Serve config, with each other and with the job."""

import json
import shlex
from collections import Counter

import pytest
import yaml
from croniter import croniter

from deployments.settings import RouterSettings
from infra.cluster.serve_config import (
    CHANGES,
    FOLDER,
    MANIFEST,
    SERVE_CONFIG,
    cluster_config,
    with_config,
)

JOB = ["python", "training/retrain.py", "--promote", "auto"]
RAY_VERSION = "2.60.0"


def documents(name):
    """Return the documents of a manifest by kind."""
    found = yaml.safe_load_all((FOLDER / name).read_text())
    return {document["kind"]: document for document in found}


SERVICE = documents("rayservice.yaml")
CRON = documents("retrain-cron.yaml")
SCHEDULER = documents("scheduler.yaml")["Deployment"]
CLUSTERS = {
    "service": SERVICE["RayService"]["spec"]["rayClusterConfig"],
    "cron": CRON["RayCronJob"]["spec"]["jobTemplate"]["rayClusterSpec"],
}
SUBMIT = CRON["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
APPLICATIONS = {
    application["name"]: application
    for application in yaml.safe_load(SERVICE["RayService"]["spec"]["serveConfigV2"])[
        "applications"
    ]
}


def pods(cluster):
    """Return the pod specifications of a Ray cluster."""
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]
    return [group["template"]["spec"] for group in groups]


def all_pods():
    """Return the pod specifications of all manifests."""
    own = [SUBMIT, SCHEDULER["spec"]["template"]["spec"]]
    return [*own, *(pod for cluster in CLUSTERS.values() for pod in pods(cluster))]


def options(words):
    """Return what follows the job's script, by name."""
    rest = words[2:]
    return dict(zip(rest[::2], rest[1::2], strict=True))


def test_the_serve_config_is_that_of_the_gpu_hosts():
    """If this fails, run `python -m infra.cluster.serve_config`."""
    text = MANIFEST.read_text()
    assert with_config(text, cluster_config(SERVE_CONFIG.read_text())) == text


def test_a_serve_config_that_lost_a_line_is_refused():
    """Else the cluster would log to a folder that nobody reads."""
    with pytest.raises(ValueError, match="outcome_log"):
        cluster_config("applications: []\n")


def test_only_the_paths_of_the_cluster_differ():
    """All other lines are equal, so that a candidate is described once."""
    before = SERVE_CONFIG.read_text().splitlines()
    after = cluster_config("\n".join([*before, ""])).splitlines()
    gone = Counter(before) - Counter(after)
    assert {line for line in gone if line and not line.startswith("#")} == {
        line.rstrip("\n") for line in CHANGES
    }


def test_the_router_accepts_its_settings_and_shares_the_log_with_the_job():
    """Serving writes what learning reads; what it keeps on disk lies on the volume."""
    settings = RouterSettings(**APPLICATIONS["router"]["args"])
    environment = SERVICE["ConfigMap"]["data"]
    assert settings.outcome_log == environment["POINTSMAN_OUTCOME_LOG"]
    assert str(settings.encoders) == environment["POINTSMAN_ENCODERS"]
    volume = "/var/lib/pointsman/"
    kept = [settings.outcome_log_spool, settings.explore_state, settings.router_versions]
    kept.append(environment["POINTSMAN_TRAIN_STORAGE"])
    assert all(str(path).startswith(volume) for path in kept)


def test_schedules_are_valid():
    """Five fields each."""
    (cron,) = (
        word.removeprefix("--cron=")
        for word in SCHEDULER["spec"]["template"]["spec"]["containers"][0]["args"]
        if word.startswith("--cron=")
    )
    for schedule in (cron, *(document["spec"]["schedule"] for document in CRON.values())):
        assert len(schedule.split()) == 5
        assert croniter.is_valid(schedule)


def test_both_cron_jobs_run_the_documented_job():
    """With the registry of the Serve config, and the service that KubeRay gives the RayService."""
    submit = SUBMIT["containers"][0]["command"]
    split = submit.index("--")
    assert submit[:3] == ["ray", "job", "submit"]
    assert submit[submit.index("--working-dir") + 1] == "."
    (metadata,) = (word for word in submit if word.startswith("--metadata-json="))
    assert json.loads(metadata.partition("=")[2]) == {"pointsman": "retrain"}
    template = CRON["RayCronJob"]["spec"]["jobTemplate"]
    assert template["metadata"] == {"pointsman": "retrain"}
    name = SERVICE["RayService"]["metadata"]["name"]
    for words in (submit[split + 1 :], shlex.split(template["entrypoint"])):
        assert words[: len(JOB)] == JOB
        found = options(words)
        assert found["--registry-uri"] == APPLICATIONS["router"]["args"]["registry_uri"]
        assert found["--url"] == f"http://{name}-serve-svc:8000"
    assert f"--address=http://{name}-head-svc:8265" in submit


def test_the_scheduler_speaks_of_the_same_places():
    """Registry, system and Ray."""
    args = SCHEDULER["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--registry-uri={APPLICATIONS['router']['args']['registry_uri']}" in args
    assert "--url=http://pointsman-serve-svc:8000" in args
    assert "--ray-api=http://pointsman-head-svc:8265" in args


def test_two_runs_do_not_overlap():
    """The CronJob forbids it; the RayCronJob ends a run before the next day's."""
    assert CRON["CronJob"]["spec"]["concurrencyPolicy"] == "Forbid"
    assert CRON["RayCronJob"]["spec"]["jobTemplate"]["activeDeadlineSeconds"] < 86_400


def test_versions_images_and_volumes_are_one():
    """What is mounted exists, and every pod runs the same code."""
    assert {cluster["rayVersion"] for cluster in CLUSTERS.values()} == {RAY_VERSION}
    claim = SERVICE["PersistentVolumeClaim"]["metadata"]["name"]
    containers = [container for pod in all_pods() for container in pod["containers"]]
    assert len({container["image"] for container in containers}) == 1
    for pod in all_pods():
        volumes = {
            v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod.get("volumes", [])
        }
        mounts = {m["name"] for c in pod["containers"] for m in c.get("volumeMounts", [])}
        assert mounts == set(volumes)
        assert set(volumes.values()) <= {claim}
    for container in containers:
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])


def gpus_wanted(bound):
    """Return the GPUs that candidates want at their least or most, by accelerator."""
    wanted = Counter()
    for application in APPLICATIONS.values():
        args = application["args"]
        if "accelerator" in args:
            (deployment,) = application["deployments"]
            size = args["engine"].get("tensor_parallel_size", 1)
            wanted[args["accelerator"]] += deployment["autoscaling_config"][bound] * size
    return wanted


def gpus_offered(bound):
    """Return the GPUs of the worker groups at their least or most, by accelerator."""
    offered = Counter()
    for group in CLUSTERS["service"]["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        per_pod = int(pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu", 0))
        if per_pod:
            resources = json.loads(json.loads(group["rayStartParams"]["resources"]))
            (name,) = resources
            offered[name.removeprefix("accelerator_type:")] += group[bound] * per_pod
    return offered


@pytest.mark.parametrize(
    ("of_candidates", "of_groups"),
    [("min_replicas", "minReplicas"), ("max_replicas", "maxReplicas")],
)
def test_there_are_gpus_for_all_candidates(of_candidates, of_groups):
    """Of each accelerator, at the least and at the most."""
    wanted, offered = gpus_wanted(of_candidates), gpus_offered(of_groups)
    assert set(wanted) == set(offered)
    assert all(offered[name] >= number for name, number in wanted.items())
