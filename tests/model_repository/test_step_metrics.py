"""What the steps report to Prometheus: every image once by its outcome; never an error."""

import numpy as np
import pytest
import triton_python_backend_utils as pb_utils
from step_requests import clock, good_request, image_request, network_outputs, outputs, png, request

each_model = pytest.mark.parametrize("name", ["pem_preprocess", "pem_postprocess", "pem_render"])


def test_every_image_is_counted_by_the_reason_of_its_refusal(start_model, outcomes):
    files = (b"", b"no image", b"\0" * 20_971_521, png(70_000, 1), png(40, 30))
    start_model("pem_preprocess").execute([image_request(data) for data in files])
    assert outcomes("preprocess") == {"bad_image": 2, "too_large": 2, "ok": 1}


def test_all_images_of_a_request_share_its_outcome_and_its_time(start_model, series, outcomes):
    good, bad = (png(40, 30), png(10, 20)), (png(4, 3), png(4, 3), png(70_000, 1))
    start_model("pem_preprocess").execute([image_request(*good), image_request(*bad)])
    assert outcomes("preprocess") == {"ok": 2, "too_large": 3}
    assert series("pem_image_pixels").observed == [1200, 200]
    first, second = series("pem_decode_seconds").observed
    assert first == second


def test_detections_are_counted_for_each_image(start_model, series, outcomes):
    good = request(**network_outputs(0.9, 0.1), clock=clock(2))
    wrong = np.array([[2.0]], np.float32)
    bad = request(**network_outputs(0.9), clock=clock(1), threshold=wrong)
    start_model("pem_postprocess").execute([good, bad])
    assert series("pem_detections_per_image").observed == [1, 0]
    assert len(series("pem_postprocess_seconds").observed) == 2
    assert outcomes("postprocess") == {"ok": 2, "bad_request": 1}


@each_model
def test_every_series_starts_at_zero_and_nothing_is_sent_twice(start_model, outcomes, name):
    model = start_model(name)
    registry = pb_utils.MetricFamily.registry
    labels = {dict(key)["outcome"] for key in registry["pem_images_total"]}
    assert labels >= {"ok", "cancelled", "failed"}
    series = [each for family in registry.values() for each in family.values()]
    assert all(each.total == 0 and not each.observed for each in series)
    for requests in ([good_request(name)], [good_request(name)], []):
        model.execute(requests)
    assert outcomes(name.removeprefix("pem_")) == {"ok": 2}
    assert all(len(each.observed) == 2 for each in series if each.buckets)


@each_model
@pytest.mark.parametrize("broken", ["registration", "report"])
def test_metrics_that_fail_cost_no_answer_and_one_warning(start_model, monkeypatch, name, broken):
    def fail(*_arguments):
        raise pb_utils.TritonModelException("Failed to increment metric value")

    if broken == "registration":  # as with --allow-metrics=false
        monkeypatch.delattr(pb_utils, "MetricFamily")
    else:
        monkeypatch.setattr(pb_utils.Series, "increment", fail)
    model = start_model(name)
    for _ in range(2):
        assert all(map(outputs, model.execute([good_request(name)])))
    own = [warning for warning in pb_utils.Logger.warnings if f"{name} continues" in warning]
    assert len([warning for warning in own if "without its metrics" in warning]) == 1
