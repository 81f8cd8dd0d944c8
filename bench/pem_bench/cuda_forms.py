"""The network in PyTorch on an NVIDIA GPU: FP16, each batch size recorded once as a CUDA graph."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pemexport import contract
from pemexport.serving import ServingPem
from pemseg import load_network

from .forms import Absent, Answers, Form, Images, Network, Sources
from .half_precision import HalfPem

NAME = "PyTorch FP16, CUDA graph"
DEVICE = "cuda"
Launch = Callable[[], tuple[Tensor, ...]]


def forms(sources: Sources) -> list[Form | Absent]:
    if not torch.cuda.is_available():
        return [Absent(NAME, why_no_gpu())]
    return [Form(NAME, lambda: half_precision(sources))]


def why_no_gpu() -> str:
    if torch.version.cuda is None:
        return "needs an NVIDIA GPU and PyTorch with CUDA, and this PyTorch is without"
    return "needs an NVIDIA GPU, and PyTorch sees none"


def half_precision(sources: Sources) -> Network:
    torch.backends.cudnn.benchmark = True  # the sizes stay, so its search pays
    torch.backends.cudnn.allow_tf32 = False  # what is to be FP32 is not to be TF32
    size = contract.IMAGE_SIZE
    serving = ServingPem(load_network(sources.weights), size, size).eval()
    network = HalfPem(serving).cuda().eval()

    def prepare(image: Tensor) -> Launch:
        with torch.inference_mode():
            return recorded(lambda: network(image))

    return for_each_size(prepare)


def recorded(launch: Launch) -> Launch:
    """The same work as one CUDA graph, after a few plain runs that let libraries choose kernels."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            launch()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = launch()

    def replay() -> tuple[Tensor, ...]:
        graph.replay()
        return outputs

    return replay


def for_each_size(prepare: Callable[[Tensor], Launch]) -> Network:
    """A network that is prepared at the first batch of each size, with buffers that stay.

    `prepare` gets the images' place on the GPU and returns what computes from there.
    """
    ready: dict[int, tuple[Tensor, Tensor, Launch]] = {}

    def answer(images: Images) -> Answers:
        if len(images) not in ready:
            pinned = DEVICE == "cuda"  # only then does copying not wait
            waiting = torch.empty(images.shape, dtype=torch.uint8, pin_memory=pinned)
            image = torch.zeros(images.shape, dtype=torch.uint8, device=DEVICE)
            ready[len(images)] = waiting, image, prepare(image)
        waiting, image, launch = ready[len(images)]
        np.copyto(waiting.numpy(), images)
        image.copy_(waiting, non_blocking=True)
        class_ids, scores, masks = (output.cpu().numpy() for output in launch())  # waits
        return class_ids, scores, masks

    return answer
