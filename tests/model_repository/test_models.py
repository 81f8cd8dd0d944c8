"""The adapters: always several requests at once, and one bad one never touches the others."""

import io
import json

import numpy as np
import pytest
import step_requests
import triton_python_backend_utils as pb_utils
from PIL import Image
from step_requests import clock, good_request, image_request, network_outputs, outputs, png, request


def code_of(response):
    return response.error().code()


@pytest.fixture
def network(load_model):
    """A stub that returns the first pixel's red value as the class of every query."""

    def compute(images):
        model.batches.append(len(images))
        class_ids = np.repeat(images[:, 0, 0, :1].astype(np.int32), 100, axis=1)
        return class_ids, class_ids.astype(np.float32), np.zeros(images.shape[:3], np.uint8)

    model = load_model("pem_network").TritonPythonModel()
    model.network, model.batches = compute, []
    return model


def network_request(*reds, cancelled=False):
    images = np.stack([np.full((640, 640, 3), red, np.uint8) for red in reds])
    return request(cancelled, image=images)


def test_preprocess_answers_good_requests_beside_bad_ones(start_model):
    model = start_model("pem_preprocess", max_image_pixels="1200")
    files = [(png(40, 30),), (b"no image",), (png(40, 31),), [png(10, 20)] * 3]
    first, bad, large, second = model.execute([image_request(*several) for several in files])
    assert code_of(bad) == code_of(large) == pb_utils.TritonError.INVALID_ARG
    assert "1,200 pixels" in large.error().message()
    assert outputs(first)["geometry"].tolist() == [[30, 40, 480, 640]]
    several = outputs(second)
    assert {name: (array.dtype, array.shape) for name, array in several.items()} == {
        "fitted_image": (np.uint8, (3, 640, 640, 3)),
        "geometry": (np.int32, (3, 4)),
        "clock": (np.float64, (3, 2)),
    }
    assert several["geometry"].tolist() == [[20, 10, 640, 320]] * 3
    assert (several["clock"][:, 0] <= several["clock"][:, 1]).all()


def test_postprocess_answers_good_requests_beside_bad_ones(start_model):
    one, two = {**network_outputs(0.9), "clock": clock(1)}, network_outputs(0.9, 0.9)
    each = np.array([[0.1], [0.95]], np.float32)
    requests = [request(**one), request(**one, threshold=np.full((1, 1), np.nan))]
    requests += [request(**two, clock=clock(2), threshold=each)]
    first, bad, second = start_model("pem_postprocess").execute(requests)
    assert code_of(bad) == pb_utils.TritonError.INVALID_ARG
    assert "threshold" in bad.error().message()
    [[answer]] = outputs(first)["detections"]
    [detection] = json.loads(answer)["detections"]
    assert (detection["label"], detection["bbox"]) == ("car", [0, 0, 40, 30])
    assert json.loads(answer)["latency"]["preprocess"] == 0.5
    both = outputs(second)["detections"]
    assert both.shape == (2, 1)
    assert [len(json.loads(item)["detections"]) for item in both[:, 0]] == [1, 0]


def test_render_answers_good_requests_beside_bad_ones(start_model, outcomes):
    one, two = network_outputs(0.9), network_outputs(0.9, 0.9)
    requests = [request(**one), request(**one, threshold=np.full((1, 1), 2.0)), request(**two)]
    first, bad, second = start_model("pem_render").execute(requests)
    assert code_of(bad) == pb_utils.TritonError.INVALID_ARG
    [[encoded]] = outputs(first)["segmentation"]
    image = Image.open(io.BytesIO(encoded))
    assert (image.size, image.getextrema()) == ((40, 30), (21, 21))
    assert outputs(second)["segmentation"].shape == (2, 1)
    assert outcomes("render") == {"ok": 3, "bad_request": 1}


def test_the_network_runs_once_for_all_requests(network):
    requests = [network_request(1), network_request(2, 3, 4), network_request(5)]
    answers = [outputs(response) for response in network.execute(requests)]
    assert network.batches == [5]
    assert [answer["class_ids"][:, 0].tolist() for answer in answers] == [[1], [2, 3, 4], [5]]
    assert answers[1]["scores"].shape == (3, 100)
    assert answers[1]["masks"].shape == (3, 640, 640)


def test_the_network_leaves_out_cancelled_requests(network):
    cancelled = network_request(2, cancelled=True)
    first, refused, second = network.execute([network_request(1), cancelled, network_request(3)])
    assert code_of(refused) == pb_utils.TritonError.CANCELLED
    assert [outputs(response)["class_ids"][0, 0] for response in (first, second)] == [1, 3]
    alone = network.execute([cancelled] * 2)
    assert [code_of(response) for response in alone] == [pb_utils.TritonError.CANCELLED] * 2
    assert network.batches == [2]
    assert pb_utils.Logger.errors == []


def fail(*_arguments, **_options):
    raise RuntimeError("a bug in /secret/path")


def assert_internal(response, name):
    assert code_of(response) == pb_utils.TritonError.INTERNAL
    assert name in response.error().message()
    assert "secret" not in response.error().message()
    assert "/secret/path" in pb_utils.Logger.errors[0]
    assert "Traceback" in pb_utils.Logger.errors[0]


def test_a_failing_network_answers_every_request_without_a_traceback(network):
    network.network = fail
    for response in network.execute([network_request(1), network_request(2)]):
        assert_internal(response, "pem_network")


@pytest.mark.parametrize(
    ("name", "function"),
    [("pem_preprocess", "prepare"), ("pem_postprocess", "detect"), ("pem_render", "render")],
)
def test_a_failure_of_ours_is_logged_and_answered_without_a_traceback(
    start_model, monkeypatch, outcomes, name, function
):
    model = start_model(name)
    with monkeypatch.context() as broken:
        broken.setitem(model.execute.__globals__, function, fail)
        [failed] = model.execute([good_request(name)])
    assert_internal(failed, name)
    cancelled, other = model.execute([good_request(name, cancelled=True), good_request(name)])
    assert code_of(cancelled) == pb_utils.TritonError.CANCELLED
    assert outputs(other)
    assert outcomes(name.removeprefix("pem_")) == {"ok": 1, "failed": 1, "cancelled": 1}


def test_a_missing_graph_is_an_error_with_its_path(load_model, monkeypatch, tmp_path):
    module = load_model("pem_network")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "model.py"))
    with pytest.raises(pb_utils.TritonModelException, match=r"model\.onnx.*\./run export"):
        module.TritonPythonModel().initialize(step_requests.model_arguments("pem_network"))
