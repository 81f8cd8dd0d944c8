"""What the adapters tell Prometheus: every image once, by its outcome, at no answer's cost."""

import io

import numpy as np
import pytest
import triton_python_backend_utils as pb_utils
from PIL import Image

MODELS = ("pem_preprocess", "pem_postprocess", "pem_render")


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def strings(*items: bytes) -> np.ndarray:
    """(N, 1), as the backend gives TYPE_STRING."""
    return np.array([[item] for item in items], dtype=object)


def found_of(*scores: float) -> dict[str, np.ndarray]:
    """What comes to the last steps for N images: one query that fills each, with these scores."""
    count = len(scores)
    every = np.zeros((count, 100), np.float32)
    every[:, 0] = scores
    return {
        "class_ids": np.full((count, 100), 20, np.int32),
        "scores": every,
        "masks": np.zeros((count, 640, 640), np.uint8),
        "geometry": np.array([[30, 40, 480, 640]] * count, np.int32),
    }


def clock(count: int) -> np.ndarray:
    return np.array([[1.0, 1.5]] * count)


GOOD = {
    "pem_preprocess": {"image": strings(png(40, 30))},
    "pem_postprocess": found_of(0.9) | {"clock": clock(1)},
    "pem_render": found_of(0.9),
}


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (png(40, 30), "ok"),
        (b"", "bad_image"),
        (b"no image", "bad_image"),
        (b"\0" * 20_971_521, "too_large"),  # bytes
        (png(70_000, 1), "too_large"),  # a side
    ],
)
def test_every_image_has_the_outcome_that_its_sentence_means(
    start_model, request_of, outcomes, data, outcome
):
    model = start_model("pem_preprocess")

    model.execute([request_of(image=strings(data))])

    assert outcomes("preprocess") == {outcome: 1}


def test_too_many_scans_are_too_large(start_model, request_of, outcomes):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    whole = file.getvalue()
    many = whole[:-2] + b"\xff\xda\x00\x02" * 101 + whole[-2:]
    model = start_model("pem_preprocess")

    model.execute([request_of(image=strings(many))])

    assert outcomes("preprocess") == {"too_large": 1}


def test_all_images_of_a_request_share_its_outcome(start_model, request_of, outcomes):
    model = start_model("pem_preprocess")

    model.execute(
        [
            request_of(image=strings(png(4, 3), png(4, 3))),
            request_of(image=strings(png(4, 3), png(4, 3), png(70_000, 1))),
            request_of(image=strings(png(4, 3)), cancelled=True),
        ]
    )

    assert outcomes("preprocess") == {"ok": 2, "too_large": 3, "cancelled": 1}


def test_sizes_and_decoding_times_are_those_of_the_good_images(start_model, request_of, series):
    model = start_model("pem_preprocess")

    model.execute(
        [
            request_of(image=strings(png(40, 30), png(10, 20))),
            request_of(image=strings(b"no image")),
        ]
    )

    assert series("pem_image_pixels").observed == [1200, 200]
    assert len(series("pem_decode_seconds").observed) == 2


def test_the_images_of_a_request_share_its_time(load_model, series):
    images = load_model("pem_preprocess", "image_measures").ImageMeasures()
    found = load_model("pem_postprocess", "detection_measures").DetectionMeasures()

    images.add_prepared(np.ones((2, 4), np.int32), seconds=3.0)
    found.add_found([[], [1, 2], []], seconds=3.0)
    images.send()
    found.send()

    assert series("pem_decode_seconds").observed == [1.5, 1.5]
    assert series("pem_postprocess_seconds").observed == [1, 1, 1]
    assert series("pem_detections_per_image").observed == [0, 2, 0]


@pytest.mark.parametrize("name", MODELS)
def test_what_was_sent_is_not_sent_again(start_model, request_of, outcomes, name):
    model = start_model(name)

    for _ in range(3):
        model.execute([request_of(**GOOD[name])])
    model.execute([])

    assert outcomes(name.removeprefix("pem_")) == {"ok": 3}
    histograms = [
        each
        for family in pb_utils.MetricFamily.registry.values()
        for each in family.values()
        if each.buckets
    ]
    assert all(len(each.observed) == 3 for each in histograms)


def test_detections_are_counted_for_each_image(start_model, request_of, series, outcomes):
    model = start_model("pem_postprocess")

    model.execute(
        [
            request_of(**found_of(0.9, 0.1), clock=clock(2)),
            request_of(**found_of(0.9), clock=clock(1), threshold=np.array([[2.0]], np.float32)),
        ]
    )

    assert series("pem_detections_per_image").observed == [1, 0]
    assert len(series("pem_postprocess_seconds").observed) == 2
    assert outcomes("postprocess") == {"ok": 2, "bad_request": 1}


def test_rendered_images_are_counted_by_outcome(start_model, request_of, outcomes):
    model = start_model("pem_render")

    model.execute(
        [
            request_of(**found_of(0.9, 0.9)),
            request_of(**found_of(0.9), threshold=np.array([[np.nan]], np.float32)),
        ]
    )

    assert outcomes("render") == {"ok": 2, "bad_request": 1}


@pytest.mark.parametrize("name", MODELS)
def test_a_failure_of_ours_is_counted_once(
    start_model, request_of, outcomes, monkeypatch, logged_errors, name
):
    model = start_model(name)

    def fail(*_arguments, **_options):
        raise MemoryError("no room for the answer")

    with monkeypatch.context() as patch:
        patch.setattr(pb_utils, "Tensor", fail)
        good = pb_utils.InferenceRequest([])
        good._inputs = [Plain(name_, array) for name_, array in GOOD[name].items()]
        model.execute([good])

    assert outcomes(name.removeprefix("pem_")) == {"failed": 1}
    assert logged_errors


class Plain:
    """An input tensor that outlives a broken pb_utils.Tensor."""

    def __init__(self, name, array):
        self._name, self._array = name, array

    def name(self):
        return self._name

    def as_numpy(self):
        return self._array


@pytest.mark.parametrize("name", MODELS)
def test_every_series_is_there_before_its_first_event(start_model, name):
    model = start_model(name)

    labels = {dict(key)["outcome"] for key in pb_utils.MetricFamily.registry["pem_images_total"]}

    assert labels >= {"ok", "cancelled", "failed"}
    assert all(
        each.total == 0 and not each.observed
        for family in pb_utils.MetricFamily.registry.values()
        for each in family.values()
    )
    assert model.measures


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_of_one_model_add_up(start_model, request_of, outcomes, name):
    for process in (start_model(name), start_model(name)):
        process.execute([request_of(**GOOD[name])])

    assert outcomes(name.removeprefix("pem_")) == {"ok": 2}


@pytest.mark.parametrize("name", MODELS)
def test_a_server_without_metrics_answers_all_the_same(
    start_model, request_of, arrays_of, monkeypatch, logged_warnings, name
):
    monkeypatch.delattr(pb_utils, "MetricFamily")
    model = start_model(name)

    for response in model.execute([request_of(**GOOD[name])] * 2):
        assert arrays_of(response)
    [warning] = [each for each in logged_warnings if "without its metrics" in each]
    assert f"{name} goes on" in warning


@pytest.mark.parametrize("name", MODELS)
def test_a_metric_that_breaks_costs_no_answer_and_one_warning(
    start_model, request_of, arrays_of, monkeypatch, logged_warnings, name
):
    model = start_model(name)

    def fail(*_arguments):
        raise pb_utils.TritonModelException("Failed to increment metric value")

    monkeypatch.setattr(pb_utils.Series, "increment", fail)

    for _ in range(2):
        [response] = model.execute([request_of(**GOOD[name])])
        assert arrays_of(response)
    assert len([each for each in logged_warnings if "without its metrics" in each]) == 1
