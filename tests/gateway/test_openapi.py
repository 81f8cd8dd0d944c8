"""The description of the API: valid, complete, and true as far as schemathesis can find out."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate
from starlette.routing import Route

from pem_client import Detections
from pem_gateway.callable_models import Contract
from pem_gateway.http_server import HttpProtocol
from pem_gateway.openapi import ANSWER_SCHEMA, describe
from pem_gateway.rest import Rest

# What random bytes are worth as an image no schema says, so a refusal of valid data is no fault;
# and refusals for what is not served (501), overload and deadlines have statuses of the server's.
SCHEMATHESIS = """
[checks]
positive_data_acceptance.enabled = false
not_a_server_error.expected-statuses = ["2xx", "4xx", "501", "503", "504"]
"""


def test_the_document_is_valid(contract: Contract) -> None:
    validate(describe(contract))


def test_every_route_is_described(contract: Contract) -> None:
    class FakeFront:
        pass

    front: Any = FakeFront()
    front.contract = contract
    app = HttpProtocol(front).app(Rest(front).routes())
    served = {
        (route.path, method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD"
    }
    described = {(path, method) for path, item in describe(contract)["paths"].items()
                 for method in item if method != "parameters"}  # fmt: skip
    assert served - {("/openapi.json", "get")} == described


def test_the_answer_schema_is_one_and_agrees_with_the_client() -> None:
    schema = json.loads(ANSWER_SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    found = {"bbox": [0, 0, 1, 1], "conf": 0.5, "cls_id": 2, "label": "sky", "mask": "aQ=="}
    latency = {"preprocess": 0.1, "inference": 0.2, "postprocess": 0.3}
    answer = {"detections": [found], "latency": latency}
    jsonschema.validate(answer, schema)
    assert Detections.from_json(json.dumps(answer)).to_dict() == answer
    for name in found:
        less = {key: value for key, value in found.items() if key != name}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"detections": [less], "latency": latency}, schema)


@pytest.mark.slow
def test_schemathesis_finds_nothing(gateway_url: str, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(SCHEMATHESIS)
    program = Path(sys.executable).with_name("schemathesis")
    command = [program, "--config-file", config, "run", f"{gateway_url}/openapi.json"]
    options = ["--max-examples", "30", "--seed", "1", "--no-color"]
    found = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
