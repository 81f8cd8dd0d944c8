"""Every manifest against the schema of its kind: Kubernetes' own strictly and in three versions."""

import json
from pathlib import Path
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


def core_problem(document: Document, version: str) -> str | None:
    """What Kubernetes would not accept; a kind that it does not know is one."""
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return f"Kubernetes {version} has no {document['kind']} in {document['apiVersion']}"
    except kubernetes_validate.ValidationError as error:
        return f"{document['kind']} {document['metadata']['name']}, {version}: {error}"
    return None


def custom_problem(document: Document, schemas: Path) -> str | None:
    """What the custom resource's own schema would not accept; without one, that."""
    group, _, version = document["apiVersion"].rpartition("/")
    file = schemas / f"{document['kind'].lower()}-{group}-{version}.json"
    if not file.is_file():
        return f"there is no schema {file.name}"
    # Go's way to write a flag in a pattern, which Python refuses.
    schema = json.loads(file.read_text().replace("^(?i)", "(?i)^"))
    error = next(jsonschema.validators.validator_for(schema)(schema).iter_errors(document), None)
    return error and f"{document['kind']}: {error.message}"


@pytest.fixture
def schemas() -> Path:
    """The makers' folder of schemas."""
    folder = ROOT.parent / "shared" / "schemas"
    if not folder.is_dir():
        pytest.skip("the schemas of custom resources lie in ../shared/schemas, which is not here")
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_core_manifests_are_valid(manifests: Documents, version: str) -> None:
    core = [document for document in manifests if not is_custom(document)]
    assert [problem for each in core if (problem := core_problem(each, version))] == []


def test_custom_resources_are_valid(manifests: Documents, schemas: Path) -> None:
    custom = [document for document in manifests if is_custom(document)]
    assert len(custom) >= 3
    for document in custom:
        assert document["apiVersion"] in UNCHECKED or custom_problem(document, schemas) is None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("apiVersion", "autoscaling/v2beta2", "v2beta2"),
        ("kind", "Deploiment", "Deploiment"),
        ("spec", {"selectors": {}}, "selectors"),
    ],
)
def test_a_planted_error_is_found(
    key: str, value: object, found: str, version: str, gke: Documents
) -> None:
    document = next(item for item in gke if item["kind"] == "Deployment")
    assert found in core_problem({**document, key: value}, version)


def test_a_planted_error_in_a_custom_resource_is_found(gke: Documents, schemas: Path) -> None:
    scaler = next(item for item in gke if item["kind"] == "ScaledObject")
    spec = {**scaler["spec"], "pollingIntervall": 3}
    assert "pollingIntervall" in custom_problem({**scaler, "spec": spec}, schemas)
    assert "no schema" in custom_problem({**scaler, "kind": "ScaledThing"}, schemas)
