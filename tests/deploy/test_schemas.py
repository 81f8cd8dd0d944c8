"""Every manifest against the schema of its kind: Kubernetes' own strictly and in three versions."""

import json
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from .conftest import ROOT, Documents

Document = dict[str, Any]
VERSIONS = ("1.32", "1.34", "1.37")
# Of the HTTP add-on: there is no schema at hand.
UNCHECKED = {"http.keda.sh/v1beta1"}


def is_custom(document: Document) -> bool:
    """Whether its group is one of those that operators add."""
    group = document["apiVersion"].rpartition("/")[0]
    return ("." in group and not group.endswith(".k8s.io")) or group.endswith("x-k8s.io")


def validate_custom(document: Document) -> None:
    """Against the schema of its maker; there must be one."""
    folder = ROOT.parent / "shared" / "schemas"
    if not folder.is_dir():
        pytest.skip("the schemas of custom resources lie in ../shared/schemas, which is not here")
    group, _, version = document["apiVersion"].rpartition("/")
    text = (folder / f"{document['kind'].lower()}-{group}-{version}.json").read_text()
    # Go's way to write a flag in a pattern, which Python refuses.
    jsonschema.validate(document, json.loads(text.replace("^(?i)", "(?i)^")))


@pytest.mark.parametrize("version", VERSIONS)
def test_core_manifests_are_valid(manifests: Documents, version: str) -> None:
    for document in manifests:
        if not is_custom(document):
            kubernetes_validate.validate(document, version, strict=True)


def test_custom_resources_are_valid(manifests: Documents) -> None:
    custom = [document for document in manifests if is_custom(document)]
    assert len(custom) >= 3
    for document in custom:
        if document["apiVersion"] not in UNCHECKED:
            validate_custom(document)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("apiVersion", "autoscaling/v2beta2", kubernetes_validate.SchemaNotFoundError),
        ("kind", "Deploiment", kubernetes_validate.SchemaNotFoundError),
        ("spec", {"selectors": {}}, kubernetes_validate.ValidationError),
    ],
)
def test_a_planted_error_is_found(
    key: str, value: object, error: type[Exception], version: str, gke: Documents
) -> None:
    document = next(item for item in gke if item["kind"] == "Deployment")
    with pytest.raises(error):
        kubernetes_validate.validate({**document, key: value}, version, strict=True)


def test_a_planted_error_in_a_custom_resource_is_found(gke: Documents) -> None:
    scaler = next(item for item in gke if item["kind"] == "ScaledObject")
    spec = {**scaler["spec"], "pollingIntervall": 3}
    with pytest.raises(jsonschema.ValidationError, match="pollingIntervall"):
        validate_custom({**scaler, "spec": spec})
    with pytest.raises(FileNotFoundError, match="scaledthing"):
        validate_custom({**scaler, "kind": "ScaledThing"})
