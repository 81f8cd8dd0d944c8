"""Every manifest against the schema of its kind: Kubernetes' own strictly and in three versions."""

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

Document = dict[str, Any]
VERSIONS = ("1.32", "1.34", "1.37")
# Of the HTTP add-on: there is no schema at hand.
UNCHECKED = {"http.keda.sh/v1beta1"}


def is_custom(document: Document) -> bool:
    """Whether its group is one of those that operators add."""
    group = document["apiVersion"].rpartition("/")[0]
    return ("." in group and not group.endswith(".k8s.io")) or group.endswith("x-k8s.io")


def is_unchecked(document: Document) -> bool:
    """Whether its kind is one of those that no schema is at hand for."""
    return document["apiVersion"] in UNCHECKED


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
    try:
        # Go's way to write a flag in a pattern, which Python refuses.
        schema = json.loads(file.read_text().replace("^(?i)", "(?i)^"))
        jsonschema.validate(document, schema)
    except jsonschema.ValidationError as error:
        return f"{document['kind']}: {error.message}"
    return None


@pytest.fixture(scope="session")
def schemas(root: Path) -> Path:
    """The makers' folder of schemas."""
    folder = root.parent / "shared" / "schemas"
    if not folder.is_dir():
        pytest.skip("the schemas of custom resources lie in ../shared/schemas, which is not here")
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_core_manifests_are_valid(overlay: list[Document], version: str) -> None:
    core = [document for document in overlay if not is_custom(document)]
    assert len(core) > 10
    assert [problem for item in core if (problem := core_problem(item, version))] == []


def test_custom_resources_are_valid(overlay: list[Document], schemas: Path) -> None:
    custom = [document for document in overlay if is_custom(document)]
    assert len(custom) >= 4
    assert [problem for item in custom if (problem := custom_problem(item, schemas))] == []


def test_the_other_components_are_valid(combination: list[Document], schemas: Path) -> None:
    for document in combination:
        if is_custom(document):
            assert custom_problem(document, schemas) is None or is_unchecked(document)
        else:
            assert [p for version in VERSIONS if (p := core_problem(document, version))] == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"apiVersion": "autoscaling/v2beta2", "kind": "HorizontalPodAutoscaler"}, "v2beta2"),
        ({"kind": "Deploiment"}, "deploiment"),
        ({"spec": {"replicas": "two"}}, "two"),
        ({"spec": {"selectors": {}}}, "selectors"),
    ],
)
def test_a_planted_error_is_found(
    changes: Document, found: str, version: str, gke: list[Document]
) -> None:
    document = next(item for item in gke if item["kind"] == "Deployment")
    problem = core_problem({**copy.deepcopy(document), **changes}, version)
    assert found in (problem or "").lower()


def test_a_misspelt_field_of_a_custom_resource_is_found(gke: list[Document], schemas: Path) -> None:
    scaler = copy.deepcopy(next(item for item in gke if item["kind"] == "ScaledObject"))
    scaler["spec"]["fallback"]["failureTreshold"] = scaler["spec"]["fallback"]["failureThreshold"]
    assert "failureTreshold" in (custom_problem(scaler, schemas) or "")


def test_a_custom_resource_without_a_schema_is_no_success(
    gke: list[Document], schemas: Path
) -> None:
    scaler = next(item for item in gke if item["kind"] == "ScaledObject")
    assert custom_problem({**scaler, "kind": "ScaledThing"}, schemas) is not None
