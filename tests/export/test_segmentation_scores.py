"""Accuracy: the confusion matrix against counting pixel by pixel."""

import numpy as np
import pytest

from pemexport.contract import class_names
from pemexport.segmentation_scores import CLASSES, Scores, confusion_matrix, no_counts


def test_scores_are_those_of_counting_pixel_by_pixel() -> None:
    random = np.random.default_rng(0)
    truths = [random.integers(0, 5, size, dtype=np.uint8) for size in ((6, 9), (3, 4), (8, 8))]
    answers = [random.integers(0, 7, truth.shape, dtype=np.uint8) for truth in truths]
    for truth, answer in zip(truths, answers, strict=True):
        answer[random.random(truth.shape) < 0.5] = 1
        answer[truth == 2] = 2  # one class is perfect but for false alarms
    matrices = [confusion_matrix(t, a, 6) for t, a in zip(truths, answers, strict=True)]
    scores = Scores.from_confusion(sum(matrices, no_counts(6)))

    truth, answer = (np.concatenate([a.ravel() for a in each]) for each in (truths, answers))
    truth, answer = truth[truth != 0], answer[truth != 0]
    for label in range(1, 5):
        true, found = truth == label, answer == label
        assert scores.iou[label - 1] == (true & found).sum() / (true | found).sum()
        assert scores.accuracy[label - 1] == (true & found).sum() / true.sum()
    assert np.isnan(scores.iou[4:]).all()  # classes 5 and 6 are nowhere in the labels
    assert scores.pixel_accuracy == pytest.approx((truth == answer).mean())
    assert scores.miou == pytest.approx(scores.iou[:4].mean())
    assert scores.mean_accuracy == pytest.approx(scores.accuracy[:4].mean())


TRUTH = np.array([[0, 1, 1], [3, 3, 0]], np.uint8)


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        (np.zeros((2, 4), np.uint8), r"\(2, 3\).*\(2, 4\)"),
        (np.full((2, 3), 9, np.uint8), "0 to 3, got 9"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused(answer: np.ndarray, facts: str) -> None:
    with pytest.raises(ValueError, match=facts):
        confusion_matrix(TRUTH, answer, 3)


def test_the_protocol_has_the_classes_that_the_server_names() -> None:
    assert len(class_names()) == CLASSES
