"""The network in PyTorch on an NVIDIA GPU: FP16, each batch size captured once as a CUDA graph.

Backbone and pixel decoder run in FP16, the decoder in FP32: a rounded similarity can select another
prototype, which changes every other query. The decoder is small beside the convolutions.

TensorRT engines are timed by `trtexec --loadEngine=model.plan`, which is in the engine image.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from pemexport import contract
from pemexport.fuse_batchnorm import CompactLinear, FoldedConv
from pemexport.serving import ServingPem
from pemseg import load_network

from .backends import Answers, Backend, Images, Network, Sources, Unavailable

NAME = "PyTorch FP16, CUDA graph"
DEVICE = "cuda"
Launch = Callable[[], tuple[Tensor, ...]]


def backends(sources: Sources) -> list[Backend | Unavailable]:
    if torch.cuda.is_available():
        return [Backend(NAME, lambda: open_pytorch(sources))]
    lacks = "sees none" if torch.version.cuda else "is built without CUDA"
    return [Unavailable(NAME, f"needs an NVIDIA GPU, and this PyTorch {lacks}")]


def open_pytorch(sources: Sources) -> Network:
    torch.backends.cudnn.benchmark = True  # shapes never change, so its search pays
    torch.backends.cudnn.allow_tf32 = False  # FP32 means FP32 here
    size = contract.IMAGE_SIZE
    serving = ServingPem(load_network(sources.weights), size, size).eval()
    network = half_precision(serving).cuda().eval()

    def prepare(image: Tensor) -> Launch:
        with torch.inference_mode():
            return captured(lambda: network(image))

    return for_each_batch_size(prepare)


def captured(launch: Launch) -> Launch:
    """The same work as one CUDA graph, after a few eager runs in which libraries pick kernels."""
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


def for_each_batch_size(prepare: Callable[[Tensor], Launch]) -> Network:
    """A network that is prepared at the first batch of each size, with buffers that stay.

    `prepare` gets the input buffer on the GPU and returns what computes from there.
    """
    ready: dict[int, tuple[Tensor, Tensor, Launch]] = {}

    def infer(images: Images) -> Answers:
        if len(images) not in ready:
            pinned = DEVICE == "cuda"  # copies are asynchronous only then
            host = torch.empty(images.shape, dtype=torch.uint8, pin_memory=pinned)
            device = torch.zeros(images.shape, dtype=torch.uint8, device=DEVICE)
            ready[len(images)] = host, device, prepare(device)
        host, device, launch = ready[len(images)]
        np.copyto(host.numpy(), images)
        device.copy_(host, non_blocking=True)
        class_ids, scores, masks = (output.cpu().numpy() for output in launch())  # waits
        return class_ids, scores, masks

    return infer


def half_precision(network: ServingPem) -> ServingPem:
    """A copy with its backbone and its pixel decoder in FP16, channels last."""
    network = copy.deepcopy(network)
    convert(network.backbone, torch.float16)
    convert(network.pixel_decoder, torch.float16)
    convert(network.decoder, torch.float32)
    network.backbone.register_forward_pre_hook(lambda module, inputs: inputs[0].half())
    network.pixel_decoder.register_forward_hook(
        lambda module, inputs, outputs: (outputs[0].float(), [x.float() for x in outputs[1]])
    )
    return network


def convert(part: nn.Module, dtype: torch.dtype) -> None:
    """Multiply the scales in, cast and lay out once, which the stored module does at each call."""
    for module in part.modules():
        if isinstance(module, FoldedConv):
            weight = module.weight.float()
            weight = weight if module.scale is None else weight * module.scale
            module.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
            module.scale = None
        elif isinstance(module, CompactLinear):
            module.weight = module.weight.to(dtype)
    part.to(dtype)
