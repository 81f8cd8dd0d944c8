"""Evaluation: both kinds of prediction, scores over a folder, table and the command."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from pem_client import InvalidRequest
from pem_training import evaluate
from pem_training.predict import semantic_labels, served_labels, upsampled_argmax
from pem_training.predictors import ModelError, open_predictor, server_predictor
from pem_training.report import card_miou, card_rows, format_table
from pem_training.score import score
from pem_training.toy_scenes import toy_scene
from pemexport.contract import class_names
from pemexport.segmentation_scores import DataError, Scores, find_pairs
from pemseg import Pem
from pemseg.checkpoint import save_state

MakeFolder = Callable[..., Path]


@pytest.fixture
def colorful_network(tiny_network: Callable[..., Pem]) -> Pem:
    """An untrained network whose queries differ enough to find several classes in an image."""
    network = tiny_network(seed=3)
    with torch.no_grad():
        network.sem_seg_head.predictor.class_embed.weight.mul_(30)
        network.sem_seg_head.pixel_decoder.out.bn.bias.sub_(1)
        for layer in network.sem_seg_head.predictor.mask_embed.layers:
            torch.nn.init.orthogonal_(layer.weight)
            layer.bias.zero_()
    return network


# The card.


def test_the_cards_table_has_its_150_classes_and_its_mean() -> None:
    assert [row.name for row in card_rows()] == class_names()
    assert [row.class_id for row in card_rows()] == list(range(150))
    assert card_miou() == pytest.approx(42.18, abs=0.005)


# The two kinds of prediction.


def test_the_argmax_of_upsampled_maps_is_found_a_few_classes_at_a_time() -> None:
    maps = torch.rand(1, 23, 6, 8, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(maps, size=(31, 47), mode="bilinear", align_corners=False)
    assert torch.equal(upsampled_argmax(maps, (31, 47)), whole[0].argmax(0))


@pytest.mark.parametrize("size", [(50, 70), (300, 20)])
def test_both_predictions_label_every_pixel_of_the_upright_image(
    tiny_network: Callable[..., Pem], tmp_path: Path, size: tuple[int, int]
) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise"
    path = tmp_path / "rotated.png"
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    for labels in (
        served_labels(tiny_network(), path, side=64),
        semantic_labels(tiny_network(), image, short_side=48),
    ):
        assert labels.shape == size
        assert labels.dtype == np.uint8
        assert labels.min() >= 1
        assert labels.max() <= 7


def test_the_semantic_prediction_is_the_originals_step_by_step(colorful_network: Pem) -> None:
    """Short side 64, zero padding after normalisation, logits enlarged, cut, enlarged again."""
    network = colorful_network
    image = Image.fromarray(toy_scene(900, 40, 55)[0])
    scaled = np.asarray(image.resize((88, 64), Image.Resampling.BILINEAR))
    batch = torch.from_numpy(scaled.copy()).permute(2, 0, 1)[None].float()
    padded = torch.zeros(1, 3, 64, 96)
    padded[..., :88] = network.normalize(batch)
    with torch.inference_mode():
        features = network.backbone(padded)
        mask_features, maps = network.sem_seg_head.pixel_decoder(features)
        prediction = network.sem_seg_head.predictor(mask_features, maps)
        masks = F.interpolate(prediction.masks, (64, 96), mode="bilinear").sigmoid()[0]
        shares = prediction.logits[0].softmax(-1)[:, :-1]  # (Q, K)
        sums = torch.einsum("qc,qhw->chw", shares, masks)[None, :, :, :88]
        expected = F.interpolate(sums, (40, 55), mode="bilinear")[0].argmax(0) + 1
    labels = semantic_labels(network, image, short_side=64)
    assert (labels == expected.numpy()).mean() > 0.999
    assert len(np.unique(labels)) > 1


# Whole folders.


def test_a_predictor_is_scored_over_a_folder(make_folder: MakeFolder) -> None:
    folder = make_folder(validation=2)

    def perfect(path: Path) -> dict[str, np.ndarray]:
        labels = np.array(Image.open(folder / f"annotations/validation/{path.stem}.png"))
        return {"right": labels, "wrong": np.where(labels == 1, 2, labels)}

    counts = score(perfect, find_pairs(folder, "validation"))
    assert {name: matrix.shape for name, matrix in counts.items()} == {
        "right": (150, 151),
        "wrong": (150, 151),
    }
    assert Scores.from_confusion(counts["right"]).miou == 1
    assert Scores.from_confusion(counts["wrong"]).iou[0] == 0
    assert counts["right"].sum() == counts["wrong"].sum()


def make_scores(seed: int) -> Scores:
    counts = np.zeros((150, 151), np.int64)
    counts[:12, :13] = np.random.default_rng(seed).integers(0, 50, (12, 13))
    return Scores.from_confusion(counts)


def test_the_table_holds_each_class_in_the_labels_and_the_cards_number() -> None:
    served = make_scores(0)
    table = format_table({"served": served, "semantic": make_scores(1)})
    sky = next(line for line in table.splitlines() if "sky" in line)
    assert sky.split()[:2] == ["2", "sky"]
    assert f"{100 * served.iou[2]:.2f}" in sky
    assert sky.endswith("94.03")
    assert "curtain" not in table  # class 18 is not in the labels
    assert f"{100 * served.miou:.2f}" in table
    assert "mean of 12 classes" in table


def test_the_command_writes_table_and_json(
    make_folder: MakeFolder,
    tiny_network: Callable[..., Pem],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, weights = make_folder(training=1, validation=2), tmp_path / "tiny.safetensors"
    save_state(tiny_network(seed=2), weights)
    file = ["--json", str(tmp_path / "out" / "a.json")]
    status = evaluate.main(["--data", str(folder), "--model", str(weights), *file])
    output = capsys.readouterr()
    assert status == 0
    assert "mean of 5 classes" in output.out
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    assert content["images"] == 2
    assert content["readings"].keys() == {"served", "semantic"}
    served = content["readings"]["served"]
    assert f" {served['miou']:.2f} " in output.out
    assert len(served["classes"]) == 150
    assert served["classes"][149]["iou"] is None  # no flag in the labels
    known = [each["iou"] for each in served["classes"] if each["iou"] is not None]
    assert served["miou"] == pytest.approx(np.mean(known))
    assert served["classes"][2]["card_iou"] == pytest.approx(94.03, abs=0.01)


@pytest.mark.parametrize("faulty", ["p0.png", "absent.onnx"])
def test_the_command_names_what_is_wrong_in_one_line(
    make_folder: MakeFolder,
    tiny_network: Callable[..., Pem],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    faulty: str,
) -> None:
    folder, weights = make_folder(), tmp_path / "tiny.safetensors"
    save_state(tiny_network(), weights)
    labels = folder / "annotations" / "validation" / "p0.png"
    Image.fromarray(np.full((48, 64), 151, np.uint8)).save(labels)
    model = str(weights) if faulty == "p0.png" else faulty
    assert evaluate.main(["--data", str(folder), "--model", model]) == 1
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("evaluate: ")
    assert f"{faulty} " in complaint


# The kinds of model.


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"model\.onnx must be an ONNX graph"):
        open_predictor(str(path))


class StubClient:
    """Answers class 7 everywhere, and refuses what has "gif" in its name."""

    def segment(self, image: Path, threshold: float) -> np.ndarray:
        if "gif" in image.name:
            raise InvalidRequest("image must be a JPEG file")
        return np.full((2, 3), 7 if threshold == 0 else 0, np.uint8)


def test_the_servers_answer_is_requested_at_threshold_0() -> None:
    labels = server_predictor(StubClient())(Path("a.jpg"))["served"]  # type: ignore[arg-type]
    assert (labels == 7).all()


def test_a_file_that_the_server_refuses_or_sizes_otherwise_is_named(
    make_folder: MakeFolder,
) -> None:
    predict = server_predictor(StubClient())  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"^b/gif\.jpg"):
        predict(Path("b/gif.jpg"))
    pairs = find_pairs(make_folder(), "validation")
    with pytest.raises(DataError, match=f"^{pairs[0].image}: "):
        score(predict, pairs)
