"""What the steps report to Prometheus: every image once by its outcome; never an error."""

import io

import numpy as np
import pytest
import triton_python_backend_utils as pb_utils
from PIL import Image

MODELS = ("pem_preprocess", "pem_postprocess", "pem_render")


def test_every_image_is_counted_by_the_reason_of_its_refusal(
    start_model, request_of, outcomes, png, strings
):
    model = start_model("pem_preprocess")

    for data in (b"", b"no image", b"\0" * 20_971_521, png(70_000, 1), png(40, 30)):
        model.execute([request_of(image=strings(data))])

    assert outcomes("preprocess") == {"bad_image": 2, "too_large": 2, "ok": 1}


def test_too_many_scans_are_too_large(start_model, request_of, outcomes, strings):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    whole = file.getvalue()
    many = whole[:-2] + b"\xff\xda\x00\x02" * 101 + whole[-2:]
    model = start_model("pem_preprocess")

    model.execute([request_of(image=strings(many))])

    assert outcomes("preprocess") == {"too_large": 1}


def test_all_images_of_a_request_share_its_outcome(start_model, request_of, outcomes, png, strings):
    model = start_model("pem_preprocess")

    model.execute(
        [
            request_of(image=strings(png(4, 3), png(4, 3))),
            request_of(image=strings(png(4, 3), png(4, 3), png(70_000, 1))),
            request_of(image=strings(png(4, 3)), cancelled=True),
        ]
    )

    assert outcomes("preprocess") == {"ok": 2, "too_large": 3, "cancelled": 1}


def test_sizes_and_decoding_times_are_those_of_the_good_images(
    start_model, request_of, series, png, strings
):
    model = start_model("pem_preprocess")

    model.execute(
        [
            request_of(image=strings(png(40, 30), png(10, 20))),
            request_of(image=strings(b"no image")),
        ]
    )

    assert series("pem_image_pixels").observed == [1200, 200]
    first, second = series("pem_decode_seconds").observed
    assert first == second  # the images of a request share its time


@pytest.mark.parametrize("name", MODELS)
def test_what_was_sent_is_not_sent_again(start_model, request_of, outcomes, good_inputs, name):
    model = start_model(name)

    for _ in range(3):
        model.execute([request_of(**good_inputs[name])])
    model.execute([])

    assert outcomes(name.removeprefix("pem_")) == {"ok": 3}
    histograms = [
        each
        for family in pb_utils.MetricFamily.registry.values()
        for each in family.values()
        if each.buckets
    ]
    assert all(len(each.observed) == 3 for each in histograms)


def test_detections_are_counted_for_each_image(
    start_model, request_of, series, outcomes, network_outputs, clock
):
    model = start_model("pem_postprocess")

    model.execute(
        [
            request_of(**network_outputs(0.9, 0.1), clock=clock(2)),
            request_of(
                **network_outputs(0.9), clock=clock(1), threshold=np.array([[2.0]], np.float32)
            ),
        ]
    )

    assert series("pem_detections_per_image").observed == [1, 0]
    assert len(series("pem_postprocess_seconds").observed) == 2
    assert outcomes("postprocess") == {"ok": 2, "bad_request": 1}


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
    assert model.metrics.enabled


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_of_one_model_add_up(start_model, request_of, outcomes, good_inputs, name):
    for process in (start_model(name), start_model(name)):
        process.execute([request_of(**good_inputs[name])])

    assert outcomes(name.removeprefix("pem_")) == {"ok": 2}


@pytest.mark.parametrize("name", MODELS)
def test_a_server_without_metrics_answers_all_the_same(
    start_model, request_of, arrays_of, monkeypatch, logged_warnings, good_inputs, name
):
    monkeypatch.delattr(pb_utils, "MetricFamily")
    model = start_model(name)

    for response in model.execute([request_of(**good_inputs[name])] * 2):
        assert arrays_of(response)
    assert [
        warning for warning in logged_warnings if f"{name} continues without its metrics" in warning
    ]


@pytest.mark.parametrize("name", MODELS)
def test_a_metric_that_breaks_costs_no_answer_and_one_warning(
    start_model, request_of, arrays_of, monkeypatch, logged_warnings, good_inputs, name
):
    model = start_model(name)

    def fail(*_arguments):
        raise pb_utils.TritonModelException("Failed to increment metric value")

    monkeypatch.setattr(pb_utils.Series, "increment", fail)

    for _ in range(2):
        [response] = model.execute([request_of(**good_inputs[name])])
        assert arrays_of(response)
    assert len([warning for warning in logged_warnings if "without its metrics" in warning]) == 1
