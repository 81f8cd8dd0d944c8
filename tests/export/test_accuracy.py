"""mIoU on labeled images, and the share of pixels that keep their class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pemexport.accuracy import AccuracyReport, Evaluation, Example, images_in, labelled_in, spread
from pemexport.repository_steps import ImageError, fit, read_back
from pemexport.segmentation_scores import confusion_matrix


def evaluation(truth: list[int], answer: list[int]) -> Evaluation:
    labels = np.array([answer], np.uint8)
    return Evaluation([labels], confusion_matrix(np.array([truth], np.uint8), labels))


def test_a_report_has_the_loss_and_the_pixels_that_keep_their_class() -> None:
    report = AccuracyReport(
        evaluation([1, 1, 2, 2], [1, 1, 2, 2]), evaluation([1, 1, 2, 2], [1, 2, 2, 2])
    )
    assert report.agreement == 0.75
    assert report.loss == pytest.approx(100 * (1 - (0.5 + 2 / 3) / 2))
    assert "+41.67" in str(report)
    assert report.as_json()["classes"]["wall"]["iou"] == 50
    unlabeled = AccuracyReport(evaluation([0], [1]), evaluation([0], [2]))
    assert "classes" not in unlabeled.as_json()
    assert unlabeled.loss is None
    assert "no labels" in str(unlabeled)


def test_an_image_is_fitted_and_read_back_as_the_server_does(tmp_path: Path) -> None:
    pixels = np.zeros((30, 60, 3), np.uint8)
    pixels[:, 30:] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    fitted, geometry = fit(tmp_path / "wide.png", 64)
    assert geometry.tolist() == [30, 60, 32, 64]
    assert (fitted[32:] == (124, 116, 104)).all()
    masks = np.zeros((64, 64), np.uint8)
    masks[:, 32:] = 1
    labels = read_back(np.array([6, 149], np.int32), masks, geometry)
    assert labels.shape == (30, 60)
    assert np.unique(labels[:, :30]).tolist() == [7]
    assert np.unique(labels[:, 30:]).tolist() == [150]


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match=r"text\.png"):
        fit(tmp_path / "text.png", 64)
    with pytest.raises(ImageError, match="absent"):
        images_in(tmp_path / "absent", 5)


def test_examples_are_pairs_and_a_missing_label_is_named(tmp_path: Path) -> None:
    image = tmp_path / "images" / "validation" / "sub" / "a.jpg"
    labels = tmp_path / "annotations" / "validation" / "a.png"
    for path in (image, labels, labels.with_name("spare.png")):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(path)
    assert labelled_in(tmp_path, "validation", 9) == [Example(image, labels)]
    Image.new("L", (4, 4)).save(image.with_name("b.jpg"))
    with pytest.raises(ImageError, match=r"b\.png"):
        labelled_in(tmp_path, "validation", 9)


@pytest.mark.parametrize(
    ("count", "most", "chosen"),
    [(10, 3, [0, 3, 6]), (3, 10, [0, 1, 2]), (4, 4, [0, 1, 2, 3]), (5, 1, [0])],
)
def test_fewer_images_are_evenly_spread(count: int, most: int, chosen: list[int]) -> None:
    assert spread(range(count), most) == chosen
