"""The description of everything that the HTTP port serves: OpenAPI 3.1, as one dictionary."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .callable_models import CALLABLE, Contract
from .dispatcher import PATIENCE_S

ANSWER_SCHEMA = Path(__file__).with_name("answer_schema.json")
VERSION = "0.1.0"

Json = dict[str, Any]

FAULTS = {
    400: "The request cannot be used; the sentence says why",
    401: "A key is needed: Authorization: Bearer KEY",
    404: "Nothing has this name",
    406: "Accept allows nothing that is made here",
    413: "The body is too large",
    429: "Too many requests of this client",
    500: "The server failed; its log says why",
    501: "A part of the protocol that is not served",
    503: "Too busy, stopping or being restarted; try again after Retry-After seconds",
    504: "The answer took longer than the request allows",
}
INFERENCE_FAULTS = (400, 401, 413, 429, 500, 501, 503, 504)
MODEL = "/v2/models/{model}"
VERSIONED = MODEL + "/versions/{version}"


def describe(contract: Contract) -> Json:
    """The OpenAPI document of a gateway with this contract."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "PEM image segmentation",
            "version": VERSION,
            "description": "Finds what an image contains, and where: 150 classes of ADE20K.",
        },
        "tags": [
            {"name": "plain", "description": "An image in, JSON or a PNG out."},
            {"name": "kserve", "description": "The inference protocol of KServe and Triton."},
            {"name": "health", "description": "For load balancers and supervisors."},
        ],
        "paths": {**_plain(contract), **_kserve(), **_health()},
        "components": {"schemas": _schemas()},
    }


def _plain(contract: Contract) -> Json:
    images: Json = {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in ("image/jpeg", "image/png", "image/webp", "image/bmp")
    }
    file: Json = {"type": "string", "format": "binary"}
    images["multipart/form-data"] = {
        "schema": {"type": "object", "required": ["image"], "properties": {"image": file}}
    }
    segment = {
        "tags": ["plain"],
        "operationId": "segment",
        "summary": "Segment one image",
        "description": (
            "The body is a JPEG, PNG, WebP or BMP file of at most "
            f"{contract.max_image_bytes:,} bytes and {contract.max_image_pixels:,} pixels, "
            "whatever its Content-Type says, or a form with one file. JSON comes back, or, where "
            "Accept prefers image/png, the class map: class id + 1 of each pixel, 0 for nothing."
        ),
        "parameters": _segment_parameters(),
        "requestBody": {"required": True, "content": images},
        "responses": {
            "200": {
                "description": "What the image contains",
                "content": {
                    "application/json": {"schema": _ref("Detections")},
                    "image/png": {"schema": {"type": "string", "format": "binary"}},
                },
            },
            **_faults(406, *INFERENCE_FAULTS),
        },
    }
    classes = _get("plain", "listClasses", "Names and colors of the classes", _ref("Classes"))
    classes["responses"].update(_faults(401, 429))
    return {"/v1/segment": {"post": segment}, "/v1/classes": {"get": classes}}


def _segment_parameters() -> list[Json]:
    return [
        _query(
            "threshold",
            {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5},
            "Regions have a confidence greater than this",
        ),
        _query(
            "overlay",
            {"type": "boolean", "default": False},
            "true: a PNG of the image with its regions drawn over it, at most 16 megapixels",
        ),
        _query(
            "timeout",
            {"type": "number", "exclusiveMinimum": 0, "maximum": PATIENCE_S},
            "Seconds after which the answer is of no use",
        ),
    ]


def _kserve() -> Json:
    server = _get("kserve", "server", "The server and its extensions")
    every = _get("kserve", "statsOfAll", "Statistics of every model")
    for operation in (server, every):
        operation["responses"].update(_faults(401, 429, 503))
    paths: Json = {"/v2": {"get": server}, "/v2/models/stats": {"get": every}}
    for path, suffix in ((MODEL, ""), (VERSIONED, "Version")):
        parameters = [_path("model", CALLABLE)]
        if suffix:
            parameters.append(_path("version", ["1"]))
        operations = {
            "": _get("kserve", f"model{suffix}", "Names and types of a model's tensors"),
            "/config": _get("kserve", f"config{suffix}", "Configuration of a model"),
            "/stats": _get("kserve", f"stats{suffix}", "Statistics of a model"),
        }
        for name, operation in operations.items():
            operation["responses"].update(_faults(400, 401, 404, 429, 503))
            paths[path + name] = {"parameters": parameters, "get": operation}
        paths[path + "/ready"] = {
            "parameters": parameters,
            "get": _probe("kserve", f"modelReady{suffix}", "Whether a model is ready", 400),
        }
        paths[path + "/infer"] = {"parameters": parameters, "post": _infer(suffix)}
    return paths


def _infer(suffix: str) -> Json:
    binary = {"schema": {"type": "string", "format": "binary"}}
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "Bytes of the JSON, where binary tensors follow it",
        "schema": {"type": "integer", "minimum": 1},
    }
    return {
        "tags": ["kserve"],
        "operationId": f"infer{suffix}",
        "summary": "Infer with a model",
        "description": "Clients such as tritonclient make this request.",
        "parameters": [length],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("InferRequest")},
                "application/octet-stream": binary,
            },
        },
        "responses": {
            "200": {
                "description": "The outputs",
                "content": {
                    "application/json": {"schema": _ref("InferResponse")},
                    "application/octet-stream": binary,
                },
            },
            **_faults(404, *INFERENCE_FAULTS),
        },
    }


def _health() -> Json:
    return {
        path: {"get": _probe("health", name, summary, *faults)}
        for path, name, summary, faults in (
            ("/live", "live", "Whether the process runs", ()),
            ("/ready", "ready", "Whether images should be sent here", (503,)),
            ("/v2/health/live", "serverLive", "Whether the process runs, KServe's name", ()),
            ("/v2/health/ready", "serverReady", "Whether to send images, KServe's name", (503,)),
        )
    }


def _schemas() -> Json:
    tensor = {"name": {"type": "string"}, "datatype": {"type": "string"}, "shape": _integers()}
    inputs = {"type": "array", "minItems": 1, "items": _object(tensor)}
    outputs = {"type": "array", "items": _object({"name": {"type": "string"}})}
    color = {"type": "string", "pattern": "^#[0-9a-f]{6}$"}
    one = {"id": {"type": "integer", "minimum": 0}, "name": {"type": "string"}, "color": color}
    answered = {"type": "array", "items": _object(tensor)}
    name = {"type": "string"}
    request = _object({"inputs": inputs})
    request["properties"]["outputs"] = outputs
    return {
        "Detections": json.loads(ANSWER_SCHEMA.read_text(encoding="utf-8")),
        "Classes": _object({"classes": {"type": "array", "items": _object(one)}}),
        "InferRequest": request,
        "InferResponse": _object({"model_name": name, "model_version": name, "outputs": answered}),
        "Error": _object({"error": {"type": "string", "minLength": 1}}),
    }


def _object(properties: Mapping[str, Any]) -> Json:
    """An object that has all of these properties."""
    return {"type": "object", "required": list(properties), "properties": dict(properties)}


def _integers() -> Json:
    return {"type": "array", "items": {"type": "integer", "minimum": 0}}


def _get(tag: str, name: str, summary: str, schema: Json | None = None) -> Json:
    content = {"application/json": {"schema": schema or {"type": "object"}}}
    answers: Json = {"200": {"description": summary, "content": content}}
    return {"tags": [tag], "operationId": name, "summary": summary, "responses": answers}


def _probe(tag: str, name: str, summary: str, *statuses: int) -> Json:
    """An operation whose status says all."""
    answers = {"200": {"description": "Yes"}}
    answers.update({str(status): {"description": "No"} for status in statuses})
    return {"tags": [tag], "operationId": name, "summary": summary, "responses": answers}


def _faults(*statuses: int) -> Json:
    return {str(status): _fault(status) for status in sorted(statuses)}


def _fault(status: int) -> Json:
    fault: Json = {
        "description": FAULTS[status],
        "content": {"application/json": {"schema": _ref("Error")}},
    }
    if status == 503:
        fault["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    return fault


def _query(name: str, schema: Json, description: str) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _path(name: str, values: Sequence[str]) -> Json:
    schema = {"type": "string", "enum": list(values)}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
