"""Malformed requests of both protocols, each wrong in one thing, none deadly to tritonserver."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.service_pb2 import ModelInferRequest

ENSEMBLE = "fai-pem-m-ade"
INFER = f"/v2/models/{ENSEMBLE}/infer"
LENGTH = "Inference-Header-Content-Length"
METHOD = "/inference.GRPCInferenceService/"

Http = tuple[str, str, dict[str, str], bytes]  # method, path, headers, body


def packed(*elements: bytes) -> bytes:
    return b"".join(len(each).to_bytes(4, "little") + each for each in elements)


def body(
    image: bytes, *, raw: bytes | None = None, question: dict[str, Any] | None = None, **tensor: Any
) -> tuple[dict[str, str], bytes]:
    """Headers and body of a good binary request but for what is given."""
    raw = packed(image) if raw is None else raw
    told = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1, 1],
        "parameters": {"binary_data_size": len(raw)},
        **tensor,
    }
    told = {name: value for name, value in told.items() if value is not None}
    head = json.dumps({"inputs": [told], **(question or {})}).encode()
    return {LENGTH: str(len(head))}, head + raw


def http_cases(image: bytes) -> Iterator[tuple[str, Http]]:
    def case(
        label: str, /, path: str = INFER, header: str | None = None, **changes: Any
    ) -> tuple[str, Http]:
        headers, content = body(image, **changes)
        if header is not None:
            headers = {LENGTH: header}
        return label, ("POST", path, headers, content)

    def text(label: str, content: bytes, **headers: str) -> tuple[str, Http]:
        return label, ("POST", INFER, headers, content)

    yield case("good")
    yield case("unknown model", "/v2/models/nothing/infer")
    yield case("version 2", f"/v2/models/{ENSEMBLE}/versions/2/infer")
    yield case("version x", f"/v2/models/{ENSEMBLE}/versions/x/infer")
    yield case("version 1", f"/v2/models/{ENSEMBLE}/versions/1/infer")
    yield case("unknown path", "/v2/nothing")
    yield "GET of infer", ("GET", INFER, {}, b"")
    yield "PUT of infer", ("PUT", INFER, *body(image))
    for shape in ([1], [1, 1, 1], [0, 1], [-1, 1], [2, 1], [1, 2], [9, 1], ["1", 1], [1.5, 1]):
        yield case(f"shape {shape}", shape=shape)
    yield case("no shape", shape=None)
    yield case("no datatype", datatype=None)
    yield case("no name", name=None)
    yield case("datatype FP32", datatype="FP32")
    yield case("datatype X", datatype="X")
    yield case("input x", name="x")
    yield case("no inputs", question={"inputs": []})
    yield case("inputs a number", question={"inputs": 1})
    yield case("empty tensor", raw=b"")
    yield case("length prefix too long", raw=b"\xff\0\0\0abc")
    yield case("size too large", parameters={"binary_data_size": 10**9})
    yield case("size negative", parameters={"binary_data_size": -1})
    yield case("size a string", parameters={"binary_data_size": "7"})
    yield case("output x", question={"outputs": [{"name": "x"}]})
    yield case("output without a name", question={"outputs": [{}]})
    yield case("outputs a string", question={"outputs": "detections"})
    yield case("output twice", question={"outputs": [{"name": "detections"}] * 2})
    yield case("timeout 0", question={"parameters": {"timeout": 0}})
    yield case("timeout a string", question={"parameters": {"timeout": "1"}})
    yield case("timeout negative", question={"parameters": {"timeout": -1}})
    yield case("priority", question={"parameters": {"priority": 1}})
    yield case("priority negative", question={"parameters": {"priority": -1}})
    yield case("sequence_id", question={"parameters": {"sequence_id": 1}})
    yield case("parameter x", question={"parameters": {"x": "y"}})
    yield case("parameter triton_x", question={"parameters": {"triton_x": "y"}})
    yield case("parameter a list", question={"parameters": {"x": [1]}})
    yield case("parameter a double", question={"parameters": {"x": 0.5}})
    yield case("id a number", question={"id": 7})
    yield case("id null", question={"id": None})
    for header in ("0", "-1", "x", "99999999"):
        yield case(f"header length {header}", header=header)
    for name, content in (
        ("empty", b""),
        ("null", b"null"),
        ("list", b"[]"),
        ("object", b"{}"),
        ("open", b"{"),
        ("image", image),
        ("NaN", b'{"inputs":[NaN]}'),
        ("not utf-8", b'{"inputs":"\xff\xfe"}'),
        ("no image", body(b"no image")[1]),
    ):
        yield text(f"body {name}", content)
    yield "image that is none", ("POST", INFER, *body(b"no image"))
    yield text("gzip that is none", b"abc", **{"Content-Encoding": "gzip"})
    yield text("gzip cut off", gzip.compress(b"{}" * 99)[:-9], **{"Content-Encoding": "gzip"})
    headers, content = body(image)
    good = gzip.compress(content)
    yield "gzip", ("POST", INFER, {**headers, "Content-Encoding": "gzip"}, good)
    yield "encoding br", ("POST", INFER, {**headers, "Content-Encoding": "br"}, content)
    for path in ("", "/config", "/ready", "/stats", "/versions/1", "/versions/1/config",
                 "/versions/1/ready", "/versions/1/stats", "/versions/2/ready"):  # fmt: skip
        yield f"GET model{path}", ("GET", f"/v2/models/{ENSEMBLE}{path}", {}, b"")
        yield f"GET unknown{path}", ("GET", f"/v2/models/nothing{path}", {}, b"")
    for path in ("/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models/stats"):
        yield f"GET {path}", ("GET", path, {}, b"")


def grpc_cases(image: bytes) -> Iterator[tuple[str, tuple[str, bytes]]]:
    def request(*raw: bytes, **tensor: Any) -> ModelInferRequest:
        message = ModelInferRequest(model_name=ENSEMBLE)
        message.inputs.add(**{"name": "image", "datatype": "BYTES", "shape": [1, 1], **tensor})
        message.raw_input_contents.extend(raw or (packed(image),))
        return message

    def case(name: str, message: ModelInferRequest, **fields: Any) -> Any:
        for field, value in fields.items():
            setattr(message, field, value)
        return name, (METHOD + "ModelInfer", message.SerializeToString())

    yield case("good", request())
    yield case("unknown model", request(), model_name="nothing")
    yield case("no model", request(), model_name="")
    for version in ("1", "2", "0", "x", "-1"):
        yield case(f"version {version}", request(), model_version=version)
    for shape in ([], [1], [1, 1, 1], [0, 1], [-1, 1], [2, 1], [1, 2], [9, 1]):
        yield case(f"shape {shape}", request(shape=shape))
    for datatype in ("", "FP32", "X"):
        yield case(f"datatype '{datatype}'", request(datatype=datatype))
    yield case("input x", request(name="x"))
    for name, raw in (
        ("empty", [b""]),
        ("cut", [packed(image)[:-1]]),
        ("one more byte", [packed(image) + b"x"]),
        ("twice", [packed(image)] * 2),
        ("two elements", [packed(image, image)]),
        ("no image", [packed(b"no image")]),
    ):
        yield case(f"raw {name}", request(*raw))
    message = ModelInferRequest(model_name=ENSEMBLE)
    yield case("nothing", message)
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    yield case("no contents", message)
    message.inputs[0].contents.bytes_contents.append(image)
    yield case("typed contents", message)
    both = request()
    both.inputs[0].contents.bytes_contents.append(image)
    yield case("typed and raw", both)
    ints = ModelInferRequest(model_name=ENSEMBLE)
    ints.inputs.add(name="image", datatype="BYTES", shape=[1, 1]).contents.int_contents.append(1)
    yield case("contents of ints", ints)
    for output in ("x", "detections"):
        message = request()
        message.outputs.add(name=output)
        message.outputs.add(name=output)
        yield case(f"output {output} twice", message)
    for key, kind, value in (
        ("timeout", "int64_param", -1),
        ("timeout", "string_param", "x"),
        ("timeout", "bool_param", True),
        ("priority", "uint64_param", 1),
        ("sequence_id", "int64_param", 7),
        ("sequence_start", "bool_param", True),
        ("x", "double_param", 0.5),
        ("x", "string_param", "y"),
        ("triton_x", "string_param", "y"),
    ):
        message = request()
        setattr(message.parameters[key], kind, value)
        yield case(f"parameter {key} {kind} {value}", message)
    message = request()
    message.inputs[0].parameters["shared_memory_region"].string_param = "nope"
    yield case("shared memory", message)
    message = request()
    message.inputs[0].parameters["binary_data_size"].int64_param = 5
    yield case("input parameter binary_data_size", message)
    for name in ("ModelInfer", "ServerMetadata", "ModelMetadata", "ModelConfig", "ModelReady",
                 "ModelStatistics", "ServerLive", "ServerReady", "RepositoryIndex", "Nothing",
                 "SystemSharedMemoryStatus", "CudaSharedMemoryStatus", "TraceSetting",
                 "LogSettings", "ModelStreamInfer"):  # fmt: skip
        if name != "ModelStreamInfer":
            yield f"garbage to {name}", (METHOD + name, b"\xff" * 50)
            yield f"nothing to {name}", (METHOD + name, b"")
    for name in ("ModelMetadata", "ModelConfig", "ModelReady", "ModelStatistics"):
        for model in (ENSEMBLE, "nothing"):
            yield (
                f"{name} of {model}",
                (METHOD + name, b"\x0a" + bytes([len(model)]) + model.encode()),
            )
