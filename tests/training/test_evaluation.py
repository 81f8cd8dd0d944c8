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
from pem_training.predictors import server_predictor
from pem_training.report import card_miou, card_rows
from pem_training.score import score
from pem_training.toy_scenes import toy_scene
from pemexport.contract import class_names
from pemexport.segmentation_scores import DataError, Scores, find_pairs
from pemseg import Pem
from pemseg.checkpoint import save_state

MakeFolder = Callable[..., Path]


def test_the_cards_table_has_its_150_classes_and_its_mean() -> None:
    assert [(row.class_id, row.name) for row in card_rows()] == list(enumerate(class_names()))
    assert card_miou() == pytest.approx(42.18, abs=0.005)


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
    network = tiny_network()
    for labels in served_labels(network, path, 64), semantic_labels(network, image, 48):
        assert (labels.shape, labels.dtype) == (size, np.uint8)
        assert 1 <= labels.min() <= labels.max() <= 7


def test_the_semantic_prediction_is_the_originals(tiny_network: Callable[..., Pem]) -> None:
    """Short side 64, zero padding after normalization, logits enlarged, cut, enlarged again."""
    network = tiny_network(seed=3)
    head = network.sem_seg_head
    with torch.no_grad():  # queries that differ enough to find several classes
        head.predictor.class_embed.weight.mul_(30)
        head.pixel_decoder.out.bn.bias.sub_(1)
        for layer in head.predictor.mask_embed.layers:
            torch.nn.init.orthogonal_(layer.weight)
            layer.bias.zero_()
    image = Image.fromarray(toy_scene(900, 40, 55)[0])
    scaled = np.asarray(image.resize((88, 64), Image.Resampling.BILINEAR))
    batch = torch.from_numpy(scaled.copy()).permute(2, 0, 1)[None].float()
    padded = torch.zeros(1, 3, 64, 96)
    padded[..., :88] = network.normalize(batch)
    with torch.inference_mode():
        prediction = head.predictor(*head.pixel_decoder(network.backbone(padded)))
        masks = F.interpolate(prediction.masks, (64, 96), mode="bilinear").sigmoid()[0]
        shares = prediction.logits[0].softmax(-1)[:, :-1]  # (Q, K)
        sums = torch.einsum("qc,qhw->chw", shares, masks)[None, :, :, :88]
        expected = F.interpolate(sums, (40, 55), mode="bilinear")[0].argmax(0) + 1
    labels = semantic_labels(network, image, short_side=64)
    assert (labels == expected.numpy()).mean() > 0.999
    assert len(np.unique(labels)) > 1


def test_a_predictor_is_scored_over_a_folder(make_folder: MakeFolder) -> None:
    folder = make_folder(validation=2)

    def perfect(path: Path) -> dict[str, np.ndarray]:
        labels = np.array(Image.open(folder / f"annotations/validation/{path.stem}.png"))
        return {"right": labels, "wrong": np.where(labels == 1, 2, labels)}

    counts = score(perfect, find_pairs(folder, "validation"))
    assert Scores.from_confusion(counts["right"]).miou == 1
    assert Scores.from_confusion(counts["wrong"]).iou[0] == 0
    assert counts["right"].sum() == counts["wrong"].sum()


@pytest.fixture
def options(make_folder: MakeFolder, tiny_network: Callable[..., Pem], tmp_path: Path) -> list[str]:
    """The command for a small network and two images."""
    save_state(tiny_network(seed=2), tmp_path / "tiny.safetensors")
    return ["--data", str(make_folder()), "--model", str(tmp_path / "tiny.safetensors")]


def test_the_command_writes_table_json_and_chart(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--json", str(tmp_path / "out" / "a.json"), "--chart", str(tmp_path / "new" / "a.png")]
    assert evaluate.main([*options, *files]) == 0
    table = capsys.readouterr().out
    assert "mean of 5 classes" in table
    content = json.loads((tmp_path / "out" / "a.json").read_text())
    assert content["images"] == 2
    assert content["readings"].keys() == {"served", "semantic"}
    served = content["readings"]["served"]
    sky = next(line for line in table.splitlines() if "sky" in line).split()
    assert (*sky[:2], sky[-1]) == ("2", "sky", "94.03")
    assert f"{served['classes'][2]['iou']:.2f}" in sky
    assert f" {served['miou']:.2f} " in table
    assert "curtain" not in table  # class 18 is not in the labels
    assert len(served["classes"]) == 150
    assert served["classes"][149]["iou"] is None  # no flag in the labels
    known = [each["iou"] for each in served["classes"] if each["iou"] is not None]
    assert served["miou"] == pytest.approx(np.mean(known))
    with Image.open(tmp_path / "new" / "a.png") as chart:
        pixels = np.asarray(chart.convert("RGB")).reshape(-1, 3)
    drawn = {bytes(pixel.tolist()).hex() for pixel in np.unique(pixels, axis=0)}
    assert {"1f6feb", "e3893b", "b8bec6"} < drawn  # bars of both predictions and of the card


@pytest.mark.parametrize("faulty", ["p0.png", "absent.onnx", "text.onnx"])
def test_the_command_names_what_is_wrong_in_one_line(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], faulty: str
) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    labels = tmp_path / "data/annotations/validation/p0.png"
    Image.fromarray(np.full((48, 64), 151, np.uint8)).save(labels)
    if faulty != "p0.png":
        options[-1] = str(tmp_path / faulty)
    assert evaluate.main(options) == 1
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("evaluate: ")
    assert f"{faulty} " in complaint


class StubClient:
    """Answers class 7 everywhere, and refuses what has "gif" in its name."""

    def segment(self, image: Path, threshold: float) -> np.ndarray:
        if "gif" in image.name:
            raise InvalidRequest("image must be a JPEG file")
        return np.full((2, 3), 7 if threshold == 0 else 0, np.uint8)


def test_a_servers_answer_counts_and_files_it_refuses_are_named(make_folder: MakeFolder) -> None:
    predict = server_predictor(StubClient())  # type: ignore[arg-type]
    assert (predict(Path("a.jpg"))["served"] == 7).all()
    with pytest.raises(DataError, match=r"^b/gif\.jpg"):
        predict(Path("b/gif.jpg"))
    pairs = find_pairs(make_folder(), "validation")
    with pytest.raises(DataError, match=f"^{pairs[0].image}: "):
        score(predict, pairs)
