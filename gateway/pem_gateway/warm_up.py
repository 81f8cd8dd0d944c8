"""A few requests of our own after each start of tritonserver: the first times that admission has.

They pass through every step, so that no client pays for first allocations. Nothing of them counts
as offered, and a server that does not answer them is left to those who watch it.
"""

import asyncio
import contextlib
from pathlib import Path

import grpc
from tritonclient.grpc.service_pb2 import ModelInferRequest

from .admission import Admission
from .backend import Backend, BackendGone
from .callable_models import ENSEMBLE

# A photograph after its length, as a BYTES tensor packs it: the warm-up of Triton's own.
IMAGE = Path("pem_preprocess", "warmup", "street.jpg.bytes")
ROUNDS = 3
LONGEST_S = 10.0


async def warm_up(backend: Backend, admission: Admission, repository: Path, batch: int) -> None:
    """Have a few images answered, as many at a time as the network takes."""
    image = repository / IMAGE
    if not image.is_file():
        return
    raw = _request(image.read_bytes())
    task = asyncio.create_task(_rounds(backend, admission, raw, batch))
    # Not cancelled where it takes long: tritonserver must not see a cancellation.
    await asyncio.wait({task}, timeout=LONGEST_S)


async def _rounds(backend: Backend, admission: Admission, raw: bytes, batch: int) -> None:
    for _ in range(ROUNDS):
        await asyncio.gather(*(_ask(backend, admission, raw) for _ in range(batch)))


async def _ask(backend: Backend, admission: Admission, raw: bytes) -> None:
    sent, answered = admission.note_sent(1, 0.0), False
    with contextlib.suppress(BackendGone, grpc.aio.AioRpcError):
        await backend.infer(raw)
        answered = True
    admission.note_done(sent, answered=answered)


def _request(image: bytes) -> bytes:
    message = ModelInferRequest(model_name=ENSEMBLE)
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    message.outputs.add(name="detections")
    message.raw_input_contents.append(image)
    return bytes(message.SerializeToString())
