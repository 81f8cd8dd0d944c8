"""A small network learns eight drawn scenes; what it has learnt is the same in every form."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pem_training.dataset import find_pairs, read_pair
from pem_training.geometry import fit
from pem_training.material import gather_material
from pem_training.readings import served_labels
from pem_training.scenes import draw_scene
from pem_training.segmenters import checkpoint_segmenter, open_segmenter
from pem_training.session import run
from pem_training.settings import Settings
from pem_training.world import World
from pemexport.onnx_export import write_served_graph
from pemseg import Pem, PemConfig, load_network

SIDE = 160  # of the network's input in these tests


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: 60 steps on eight scenes of 120 x 160."""
    folder = tmp_path_factory.mktemp("learning")
    for seed in range(8):
        for kind, pixels, suffix in zip(
            ("images", "annotations"), draw_scene(seed, 120, 160), ("jpg", "png"), strict=True
        ):
            place = folder / "data" / kind / "training"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{seed}.{suffix}")
    settings = Settings(
        data=folder / "data",
        output=folder,
        steps=60,
        batch=8,
        crop=64,
        scale=(0.5, 0.8),
        short_side=0,
        lr=3e-3,
        points=512,
        precision="float32",
        eval_every=0,
    )
    torch.manual_seed(0)
    network = Pem(
        PemConfig(
            queries=20,
            decoder_width=64,
            pixel_width=32,
            ffn_width=128,
            backbone_base=16,
            backbone_blocks=(2, 1, 1),
        )
    )
    material = gather_material(settings, network.config.classes, World())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for work this small, several only wait for each other
    try:
        assert run(settings, network, material, torch.device("cpu")) == folder / "checkpoint.pth"
    finally:
        torch.set_num_threads(threads)
    return folder


def test_sixty_steps_drive_the_loss_down_by_half(learnt: Path) -> None:
    lines = (learnt / "history.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == 60
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_what_was_learnt_is_seen_in_the_images(learnt: Path) -> None:
    """Most pixels of a scene are labelled right: it is no one-class answer that halved the loss."""
    network = load_network(learnt / "checkpoint.pth")
    right, largest = [], []
    for pair in find_pairs(learnt / "data", "training"):
        image, labels = read_pair(pair)
        truth, answer = np.asarray(labels), served_labels(network, image, SIDE)
        right.append((answer == truth)[truth > 0].mean())
        largest.append(np.bincount(truth[truth > 0]).max() / (truth > 0).sum())
    assert np.mean(right) > np.mean(largest) + 0.1


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_checkpoint_and_exported_graph_answer_alike_on_drawn_scenes(
    learnt: Path, tmp_path: Path
) -> None:
    checkpoint, graph = learnt / "checkpoint.pth", tmp_path / "model.onnx"
    scenes = [Image.fromarray(draw_scene(seed, 90, 120)[0]) for seed in (900, 901)]
    images = np.stack([fit(scene, SIDE)[0] for scene in scenes * 4])
    write_served_graph(load_network(checkpoint), graph, images)
    for number, scene in enumerate(scenes):
        path = tmp_path / f"{number}.png"
        scene.save(path)
        one = checkpoint_segmenter(checkpoint, side=SIDE)(path)["served"]
        other = open_segmenter(str(graph))(path)["served"]
        assert one.shape == other.shape == (90, 120)
        assert (one == other).mean() > 0.999
        assert len(np.unique(one)) > 2
