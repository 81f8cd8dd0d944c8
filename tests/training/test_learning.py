"""A small network learns eight toy scenes, and predicts the same as a checkpoint and as a graph."""

import json
from argparse import ArgumentParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pem_training.dataset import find_inputs
from pem_training.distributed import World
from pem_training.loop import run
from pem_training.predict import served_labels
from pem_training.predictors import checkpoint_predictor, open_predictor
from pem_training.score import read_truth
from pem_training.settings import Settings
from pem_training.toy_scenes import toy_scene, write_dataset
from pemexport.onnx_export import write_served_graph
from pemexport.repository_steps import fit
from pemexport.segmentation_scores import find_pairs
from pemseg import Pem, PemConfig, load_network

SIDE = 160  # of the network's input in these tests


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run: 50 steps on eight scenes."""
    folder = tmp_path_factory.mktemp("learning")
    write_dataset(folder / "data", training=8, validation=0, seed=0)
    options = f"""--data {folder / "data"} --output {folder} --steps 50 --batch 4 --crop 64
        --scale 0.5 0.8 --short-side 0 --lr 3e-3 --points 512 --precision float32 --eval-every 0"""
    parser = ArgumentParser()
    Settings.add_options(parser)
    settings = Settings.from_options(parser.parse_args(options.split()))
    torch.manual_seed(0)
    small = {"queries": 20, "decoder_width": 64, "pixel_width": 32, "ffn_width": 128}
    network = Pem(PemConfig(**small, backbone_base=16, backbone_blocks=(2, 1, 1)))
    inputs = find_inputs(settings, network.config.classes, World())
    assert run(settings, network, inputs, torch.device("cpu")) == folder / "checkpoint.pth"
    return folder


def test_fifty_steps_halve_the_loss_and_most_pixels_are_right_then(trained: Path) -> None:
    history = (trained / "history.jsonl").read_text()
    losses = [json.loads(line)["loss"] for line in history.splitlines()]
    assert len(losses) == 50
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    # A constant prediction is not what halved it.
    network = load_network(trained / "checkpoint.pth")
    right, largest = [], []
    for pair in find_pairs(trained / "data", "training"):
        truth, predicted = read_truth(pair), served_labels(network, pair.image, SIDE)
        right.append((predicted == truth)[truth > 0].mean())
        largest.append(np.bincount(truth[truth > 0]).max() / (truth > 0).sum())
    assert np.mean(right) > np.mean(largest) + 0.1


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_checkpoint_and_exported_graph_predict_the_same(trained: Path, tmp_path: Path) -> None:
    checkpoint, graph = trained / "checkpoint.pth", tmp_path / "model.onnx"
    scenes = [tmp_path / f"{seed}.png" for seed in (900, 901)]
    for scene in scenes:
        Image.fromarray(toy_scene(int(scene.stem), 90, 120)[0]).save(scene)
    images = np.stack([fit(scene, SIDE)[0] for scene in scenes * 4])
    write_served_graph(load_network(checkpoint), graph, images)
    for scene in scenes:
        a = checkpoint_predictor(checkpoint, side=SIDE)(scene)["served"]
        b = open_predictor(str(graph))(scene)["served"]
        assert a.shape == b.shape == (90, 120)
        assert (a == b).mean() > 0.999
        assert len(np.unique(a)) > 2
