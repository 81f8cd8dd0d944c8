"""What is read from manifests: the project's own, and small ones written here."""

import shutil
from pathlib import Path

import pytest
import yaml

from pem_fleet.rehearsal import cluster_manifests as manifests
from pem_fleet.rehearsal.autoscaler import DEFAULT_UP, Policy
from pem_fleet.rehearsal.cluster_manifests import ManifestError, read_life, read_scaling

SCALED_OBJECT = """
kind: ScaledObject
spec:
  minReplicaCount: 2
  maxReplicaCount: 9
  advanced: {horizontalPodAutoscalerConfig: {behavior: {scaleDown: {
    stabilizationWindowSeconds: 120, selectPolicy: Min,
    policies: [{type: Percent, value: 10, periodSeconds: 60}]}}}}
  triggers:
    - {type: prometheus, metricType: AverageValue, metadata: {query: "a > b", threshold: "12.5"}}
"""


def test_a_scaled_object_gives_bounds_behavior_and_metric():
    scaling, trigger = read_scaling([yaml.safe_load(SCALED_OBJECT)])
    assert (scaling.minimum, scaling.maximum) == (2, 9)
    assert scaling.down.policies == (Policy("Percent", 10, 60.0),)
    assert (scaling.down.window_s, scaling.down.select) == (120.0, "Min")
    assert scaling.up == DEFAULT_UP  # what it does not say
    assert (trigger.query, trigger.threshold) == ("a > b", 12.5)


def test_what_the_formula_does_not_cover_is_refused():
    for old, new in (("ScaledO", "O"), ("AverageValue", "Value"), ("prometheus", "cron")):
        with pytest.raises(ManifestError, match="ScaledObject"):
            read_scaling([yaml.safe_load(SCALED_OBJECT.replace(old, new))])
    with pytest.raises(ManifestError, match="container triton"):
        read_life([{"kind": "Service"}])


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl, which renders, is not here")
@pytest.mark.parametrize("overlay", ["cpu", "gke-t4"])
def test_the_overlays_give_a_whole_life_and_a_threshold(root, tmp_path, overlay):
    objects = manifests.render(root / "deploy" / "overlays" / overlay)
    scaling, trigger = read_scaling(objects)
    assert trigger.threshold > 0
    assert 1 <= scaling.minimum < scaling.maximum
    assert scaling.down.window_s >= scaling.up.window_s
    life = read_life(objects)
    assert life.startup.path
    assert life.readiness.path
    assert (root / "deploy" / "hooks" / Path(life.pre_stop[1]).name).is_file()
    caps = [option for option in life.pre_stop if option.startswith("--cap=")]
    assert float(caps[0].removeprefix("--cap=")) < life.grace_s
    with pytest.raises(ManifestError, match=tmp_path.name):
        manifests.render(tmp_path)
