"""Accuracy: the confusion matrix against counting pixel by pixel, and what is made of it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from pem_training import evaluate
from pem_training.card import card_miou, card_rows
from pem_training.chart import write_chart
from pem_training.confusion import Scores, count, no_counts, scores_of
from pem_training.dataset import find_pairs
from pem_training.geometry import fit, scale_back
from pem_training.measure import measure
from pem_training.readings import best_class, semantic_labels, served_labels
from pem_training.report import format_table
from pem_training.scenes import draw_scene
from pem_training.segmenters import ModelError, open_segmenter, server_segmenter
from pemexport.contract import class_names
from pemseg import Pem
from pemseg.checkpoint import save_state

MakeFolder = Callable[..., Path]


@pytest.fixture
def colourful_network(tiny_network: Callable[..., Pem]) -> Pem:
    """An untrained network whose queries differ enough to find several classes in an image."""
    network = tiny_network(seed=3)
    with torch.no_grad():
        network.sem_seg_head.predictor.class_embed.weight.mul_(30)
        network.sem_seg_head.pixel_decoder.out.bn.bias.sub_(1)
        for layer in network.sem_seg_head.predictor.mask_embed.layers:
            torch.nn.init.orthogonal_(layer.weight)
            layer.bias.zero_()
    return network


def scores_pixel_by_pixel(
    truths: list[np.ndarray], answers: list[np.ndarray], classes: int
) -> tuple[list[float], list[float], float]:
    """IoU and accuracy of each class, and pixel accuracy, from sets of places."""
    pixels = [
        (int(t), int(a))
        for truth, answer in zip(truths, answers, strict=True)
        for t, a in zip(truth.ravel(), answer.ravel(), strict=True)
        if t != 0
    ]
    ious, accuracies = [], []
    for label in range(1, classes + 1):
        is_it = {i for i, (t, _) in enumerate(pixels) if t == label}
        called = {i for i, (_, a) in enumerate(pixels) if a == label}
        ious.append(len(is_it & called) / len(is_it | called) if is_it else math.nan)
        accuracies.append(len(is_it & called) / len(is_it) if is_it else math.nan)
    return ious, accuracies, sum(t == a for t, a in pixels) / len(pixels)


def test_scores_are_those_of_counting_pixel_by_pixel() -> None:
    random = np.random.default_rng(0)
    truths = [random.integers(0, 5, size, dtype=np.uint8) for size in ((6, 9), (3, 4), (8, 8))]
    answers = [random.integers(0, 7, truth.shape, dtype=np.uint8) for truth in truths]
    for truth, answer in zip(truths, answers, strict=True):
        answer[random.random(truth.shape) < 0.5] = 1
        answer[truth == 2] = 2  # one class is perfect but for false alarms
    counts = sum((count(t, a, 6) for t, a in zip(truths, answers, strict=True)), no_counts(6))
    scores = scores_of(counts)
    ious, accuracies, pixel_accuracy = scores_pixel_by_pixel(truths, answers, 6)
    np.testing.assert_allclose(scores.iou, ious)
    np.testing.assert_allclose(scores.accuracy, accuracies)
    assert scores.pixel_accuracy == pytest.approx(pixel_accuracy)
    assert np.isnan(scores.iou[4:]).all()  # classes 5 and 6 are nowhere in the labels
    assert scores.miou == pytest.approx(np.mean(ious[:4]))
    assert scores.mean_accuracy == pytest.approx(np.mean(accuracies[:4]))


TRUTH = np.array([[0, 1, 1], [3, 3, 0]], np.uint8)


@pytest.mark.parametrize(
    ("answer", "miou", "pixel_accuracy"),
    [
        (TRUTH, 1.0, 1.0),
        (np.where(TRUTH == 0, 2, TRUTH), 1.0, 1.0),  # where no label is, anything goes
        (np.zeros_like(TRUTH), 0.0, 0.0),  # nothing found
        (np.full_like(TRUTH, 2), 0.0, 0.0),
        (np.full_like(TRUTH, 1), 0.25, 0.5),  # half of (2 / 4 and 0 / 2)
    ],
)
def test_perfect_empty_and_wrong_answers(
    answer: np.ndarray, miou: float, pixel_accuracy: float
) -> None:
    scores = scores_of(count(TRUTH, answer.astype(np.uint8), 3))
    assert (scores.miou, scores.pixel_accuracy) == (miou, pixel_accuracy)


def test_nothing_labelled_has_no_score() -> None:
    scores = scores_of(count(np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8), 3))
    assert math.isnan(scores.miou)
    assert math.isnan(scores.pixel_accuracy)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (np.zeros((2, 4), np.uint8), r"must be \(2, 3\), as its labels, got \(2, 4\)"),
        (np.full((2, 3), 9, np.uint8), "must be 0 to 3, got 9"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(answer: np.ndarray, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        count(TRUTH, answer, 3)


# The card.


def test_the_cards_table_has_its_150_classes_and_its_mean() -> None:
    assert [row.name for row in card_rows()] == class_names()
    assert [row.class_id for row in card_rows()] == list(range(150))
    assert card_miou() == pytest.approx(42.18, abs=0.005)


# The two readings.


@pytest.mark.parametrize("size", [(360, 480), (480, 360), (31, 1000), (700, 900), (640, 640)])
def test_images_are_fitted_and_scaled_back_as_by_the_server(
    root: Path, load_source: Callable[[Path], ModuleType], size: tuple[int, int]
) -> None:
    steps = root / "model_repository"
    preprocessing = load_source(steps / "pem_preprocess" / "1" / "preprocessing.py")
    rendering = load_source(steps / "pem_render" / "1" / "rendering.py")
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8))
    theirs = np.empty((640, 640, 3), np.uint8)
    geometry = np.array(preprocessing.fit(image, theirs), np.int32)
    ours, fitted = fit(image, 640)
    assert np.array_equal(ours, theirs)
    assert (*size, *fitted) == tuple(geometry)
    for side in (640, 320, 160):
        masks = random.integers(0, 100, (side, side), dtype=np.uint8)
        rows, columns = rendering.map_indices(masks, geometry, 10**9)
        back = scale_back(masks, 640, fitted, size)
        assert np.array_equal(back, masks[rows][:, columns])


def test_the_best_class_of_enlarged_shares_is_found_a_few_classes_at_a_time() -> None:
    shares = torch.rand(1, 23, 6, 8, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(shares, size=(31, 47), mode="bilinear", align_corners=False)
    assert torch.equal(best_class(shares, (31, 47)), whole[0].argmax(0))


def test_equal_shares_go_to_the_first_class() -> None:
    assert (best_class(torch.ones(1, 23, 2, 2), (4, 4)) == 0).all()


@pytest.mark.parametrize("size", [(50, 70), (70, 50), (300, 20)])
def test_both_readings_label_every_pixel_of_the_image(
    tiny_network: Callable[..., Pem], size: tuple[int, int]
) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8))
    for labels in (
        served_labels(tiny_network(), image, side=64),
        semantic_labels(tiny_network(), image, short_side=48),
    ):
        assert labels.shape == size
        assert labels.dtype == np.uint8
        assert labels.min() >= 1
        assert labels.max() <= 7


def test_the_semantic_reading_is_the_originals_step_by_step(colourful_network: Pem) -> None:
    """Short side 64, zero padding after normalisation, logits enlarged, cut, enlarged again."""
    network = colourful_network
    image = Image.fromarray(draw_scene(900, 40, 55)[0])
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


def test_a_segmenter_is_measured_over_a_folder(make_folder: MakeFolder) -> None:
    folder = make_folder(validation=2)

    def perfect(path: Path) -> dict[str, np.ndarray]:
        labels = np.array(Image.open(folder / f"annotations/validation/{path.stem}.png"))
        return {"right": labels, "wrong": np.where(labels == 1, 2, labels)}

    counts = measure(perfect, find_pairs(folder, "validation"))
    assert {name: matrix.shape for name, matrix in counts.items()} == {
        "right": (150, 151),
        "wrong": (150, 151),
    }
    assert scores_of(counts["right"]).miou == 1
    assert scores_of(counts["wrong"]).iou[0] == 0
    assert counts["right"].sum() == counts["wrong"].sum()


def make_scores(seed: int) -> Scores:
    counts = np.zeros((150, 151), np.int64)
    counts[:12, :13] = np.random.default_rng(seed).integers(0, 50, (12, 13))
    return scores_of(counts)


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


@pytest.mark.parametrize("readings", [1, 2])
def test_the_chart_is_an_image_taller_with_more_classes(tmp_path: Path, readings: int) -> None:
    few = {name: make_scores(0) for name in ("served", "semantic")[:readings]}
    write_chart(tmp_path / "new" / "few.png", "a title", few)
    all_classes = scores_of(np.ones((150, 151), np.int64))
    write_chart(tmp_path / "all.png", "a title", {"served": all_classes})
    with (
        Image.open(tmp_path / "new" / "few.png") as small,
        Image.open(tmp_path / "all.png") as tall,
    ):
        assert tall.height > 5 * small.height
        colours = {colour for _, colour in small.convert("RGB").getcolors(10**6) or []}
    assert {(31, 111, 235), (184, 190, 198)} <= colours  # served, and the card


def test_the_command_writes_table_json_and_chart(
    make_folder: MakeFolder,
    tiny_network: Callable[..., Pem],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, weights = make_folder(training=1, validation=2), tmp_path / "tiny.safetensors"
    save_state(tiny_network(seed=2), weights)
    files = ["--json", str(tmp_path / "out" / "a.json"), "--chart", str(tmp_path / "out" / "a.png")]
    status = evaluate.main(["--data", str(folder), "--model", str(weights), *files])
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
    assert (tmp_path / "out" / "a.png").read_bytes().startswith(b"\x89PNG")


def spoil_labels(folder: Path) -> str:
    path = folder / "annotations" / "validation" / "p0.png"
    Image.fromarray(np.full((48, 64), 151, np.uint8)).save(path)
    return f"{path} must hold labels from 0 to 150, got 151"


def spoil_nothing(folder: Path) -> str:
    return "but absent.onnx does not exist"


@pytest.mark.parametrize(("spoil", "model"), [(spoil_labels, None), (spoil_nothing, "absent.onnx")])
def test_the_command_says_in_one_line_what_is_wrong(
    make_folder: MakeFolder,
    tiny_network: Callable[..., Pem],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], str],
    model: str | None,
) -> None:
    folder = make_folder()
    sentence = spoil(folder)
    save_state(tiny_network(), tmp_path / "tiny.safetensors")
    model = model or str(tmp_path / "tiny.safetensors")
    assert evaluate.main(["--data", str(folder), "--model", model]) == 1
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith("evaluate: ")
    assert complaint.endswith(sentence)


# The forms of a model.


@pytest.mark.parametrize("content", [b"", b"no graph"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="must be an ONNX graph, but cannot be loaded"):
        open_segmenter(str(path))


def test_the_servers_whole_answer_is_asked_for(tmp_path: Path) -> None:
    asked: list[tuple[Path, float]] = []

    class Recorder:
        def segment(self, image: Path, threshold: float) -> np.ndarray:
            asked.append((image, threshold))
            return np.full((2, 3), 7, np.uint8)

    labels = server_segmenter(Recorder())(tmp_path / "a.jpg")["served"]  # type: ignore[arg-type]
    assert asked == [(tmp_path / "a.jpg", 0.0)]
    assert (labels == 7).all()
