"""A coverage-guided fuzzer of what reads requests; it runs for as long as it is told to.

    pip install atheris
    python tests/fuzz/request_fuzzer.py http artifacts/fuzz/http -max_total_time=600
    python tests/fuzz/request_fuzzer.py grpc artifacts/fuzz/grpc -max_total_time=600
    python tests/fuzz/request_fuzzer.py image artifacts/fuzz/image -max_total_time=600

The folder keeps the inputs that reached new code; further arguments are libFuzzer's. Outside the
default suite: what it found is a test of its own in tests/gateway.
"""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
import bad_inputs

with atheris.instrument_imports(include=["pem_gateway", "pem_server.image_header", "json"]):
    from tritonclient.grpc.service_pb2 import ModelInferRequest

    from pem_gateway.callable_models import ENSEMBLE, Contract, load_contract
    from pem_gateway.grpc_server import parse
    from pem_gateway.infer_request import check
    from pem_gateway.kserve_http import decompress, parse_request
    from pem_gateway.refusal import Refusal
    from pem_server.checkout import MODEL_REPOSITORY

LIMIT = 1 << 20
WORDS = (
    '"inputs"', '"outputs"', '"parameters"', '"binary_data"', '"binary_data_output"', '"data"',
    '"shape"', '"datatype"', '"id"', '"name"', "binary_data_size", "classification", "timeout",
    "shared_memory_region", "sequence_id", "image", "threshold", "detections", "segmentation",
    "BYTES", "FP32", "UINT8", "FP16", "BOOL", "INT64", "1e400", "NaN", "-1", "[[", "]]",
    "18446744073709551616", "\\\\ud800",
)  # fmt: skip
OPTIONS = ["-max_len=4096", "-rss_limit_mb=1024", "-timeout=5"]


def http_target(contract: Contract) -> Callable[[bytes], None]:
    """A body: its first byte says how it is packed and announced."""

    def run(data: bytes) -> None:
        how, body = (data[0], data[1:]) if data else (0, b"")
        try:
            if how & 1:
                body = decompress(body, "deflate" if how & 2 else "gzip", LIMIT)
            brace = body.rfind(b"}") + 1
            length = str(brace) if how & 4 else None
            asked = parse_request(ENSEMBLE, "1" if how & 8 else "", body, length)
            check(asked.message, contract)
            asked.message.SerializeToString()
        except Refusal as refusal:
            _checked(refusal)

    return run


def grpc_target(contract: Contract) -> Callable[[bytes], None]:
    """A message of gRPC, as it came."""

    def run(data: bytes) -> None:
        try:
            check(parse(ModelInferRequest, data), contract)
        except Refusal as refusal:
            _checked(refusal)

    return run


def image_target(contract: Contract) -> Callable[[bytes], None]:
    """A file of an image: only its header is read, and what it costs is bounded."""
    from pem_gateway.decode_cost import images_seconds  # where the gateway estimates it

    def run(data: bytes) -> None:
        try:
            assert 0 < images_seconds([memoryview(data)], contract.limits) < 1e5
        except Refusal as refusal:
            _checked(refusal)

    return run


def _checked(refusal: Refusal) -> None:
    """What a client is told must fit into a header of gRPC, and be valid UTF-8."""
    assert len(refusal.sentence.encode()) < 2000, refusal.sentence


def seeds() -> dict[str, list[bytes]]:
    """Good requests to start from."""
    image = b"\x03\0\0\0abc"
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1, 1]}
    binary = {**tensor, "parameters": {"binary_data_size": len(image)}}
    threshold = {"name": "threshold", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}
    outputs = [{"name": "detections", "parameters": {"binary_data": True}}]
    texts = [
        json.dumps({"inputs": [{**tensor, "data": ["abc"]}, threshold], "id": "7"}).encode(),
        json.dumps({"inputs": [{**tensor, "data": [["abc"]]}], "outputs": outputs}).encode(),
        json.dumps({"inputs": [binary], "parameters": {"timeout": 5, "priority": 1}}).encode()
        + image,
    ]
    message = ModelInferRequest(model_name=ENSEMBLE, id="7", raw_input_contents=[image])
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    message.outputs.add(name="detections").parameters["binary_data"].bool_param = True
    typed = ModelInferRequest(model_name=ENSEMBLE, model_version="1")
    typed.inputs.add(name="image", datatype="BYTES", shape=[1, 1]).contents.bytes_contents.append(
        b"x"
    )
    typed.inputs.add(name="threshold", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(
        0.5
    )
    typed.parameters["timeout"].int64_param = 5
    return {
        "http": [
            *(b"\x04" + text for text in texts),
            b"\0" + texts[0],
            b"\x05" + gzip.compress(texts[2]),
        ],
        "image": bad_inputs.seeds(),
        "grpc": [message.SerializeToString(), typed.SerializeToString()],
    }


TARGETS = {"http": http_target, "grpc": grpc_target, "image": image_target}


def main() -> None:
    """Run one target until a fault is found or the time is over."""
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(__doc__)
    name, corpus = sys.argv[1], Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds()[name]):
        (corpus / f"seed-{index}").write_bytes(seed)
    dictionary = corpus.with_suffix(".dict")
    quoted = (word.replace('"', '\\"') for word in WORDS)
    dictionary.write_text("".join(f'"{word}"\n' for word in quoted))
    target = TARGETS[name](load_contract(MODEL_REPOSITORY))
    atheris.Setup(
        [sys.argv[0], *OPTIONS, f"-dict={dictionary}", str(corpus), *sys.argv[3:]], target
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
