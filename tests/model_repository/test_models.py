"""The adapters: always several requests at once, and one bad one never touches the others."""

import io
import json

import numpy as np
import pytest
import triton_python_backend_utils as pb_utils
from PIL import Image


def code_of(response):
    return response.error().code()


class StubNetwork:
    """Returns the first pixel's red value as the class of every query; records its batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, images):
        self.batches.append(len(images))
        class_ids = np.repeat(images[:, 0, 0, :1].astype(np.int32), 100, axis=1)
        masks = np.zeros(images.shape[:3], np.uint8)
        return class_ids, np.ones(class_ids.shape, np.float32), masks


@pytest.fixture
def network(load_model):
    model = load_model("pem_network").TritonPythonModel()
    model.network = StubNetwork()
    return model


def images(*reds: int) -> np.ndarray:
    return np.stack([np.full((640, 640, 3), red, np.uint8) for red in reds])


def test_preprocess_answers_good_requests_beside_bad_ones(
    start_model, request_of, arrays_of, png, strings
):
    model = start_model("pem_preprocess")

    first, bad, second = model.execute(
        [
            request_of(image=strings(png(40, 30))),
            request_of(image=strings(b"no image")),
            request_of(image=strings(png(10, 20))),
        ]
    )

    assert code_of(bad) == pb_utils.TritonError.INVALID_ARG
    assert arrays_of(first)["geometry"].tolist() == [[30, 40, 480, 640]]
    assert arrays_of(second)["geometry"].tolist() == [[20, 10, 640, 320]]


def test_preprocess_answers_a_batch_in_one_request(
    start_model, request_of, arrays_of, png, strings
):
    model = start_model("pem_preprocess")

    outputs, alone = (
        arrays_of(response)
        for response in model.execute(
            [
                request_of(image=strings(png(40, 30), png(10, 20), png(5, 5))),
                request_of(image=strings(png(10, 20))),
            ]
        )
    )

    assert {name: (array.dtype, array.shape) for name, array in outputs.items()} == {
        "fitted_image": (np.uint8, (3, 640, 640, 3)),
        "geometry": (np.int32, (3, 4)),
        "clock": (np.float64, (3, 2)),
    }
    assert (outputs["fitted_image"][1] == alone["fitted_image"][0]).all()
    assert (outputs["clock"][:, 0] <= outputs["clock"][:, 1]).all()


def test_preprocess_takes_its_limits_from_the_configuration(
    load_model, model_config, request_of, arrays_of, png, strings
):
    config = model_config("pem_preprocess")
    config["parameters"]["max_image_pixels"]["string_value"] = "100"
    model = load_model("pem_preprocess").TritonPythonModel()
    model.initialize({"model_config": json.dumps(config)})

    small, large = model.execute(
        [request_of(image=strings(png(10, 10))), request_of(image=strings(png(11, 10)))]
    )

    assert arrays_of(small)["geometry"].tolist() == [[10, 10, 640, 640]]
    assert "100 pixels" in large.error().message()


def test_postprocess_answers_good_requests_beside_bad_ones(
    start_model, request_of, arrays_of, network_outputs, clock
):
    model = start_model("pem_postprocess")

    first, bad, second = model.execute(
        [
            request_of(**network_outputs(0.9), clock=clock(1)),
            request_of(**network_outputs(0.9), clock=clock(1), threshold=np.full((1, 1), np.nan)),
            request_of(
                **network_outputs(0.9, 0.9),
                clock=clock(2),
                threshold=np.array([[0.1], [0.95]], np.float32),
            ),
        ]
    )

    assert code_of(bad) == pb_utils.TritonError.INVALID_ARG
    assert "threshold" in bad.error().message()
    [[answer]] = arrays_of(first)["detections"]
    [detection] = json.loads(answer)["detections"]
    assert (detection["label"], detection["bbox"]) == ("car", [0, 0, 40, 30])
    assert json.loads(answer)["latency"]["preprocess"] == 0.5
    both = arrays_of(second)["detections"]
    assert both.shape == (2, 1)
    assert [len(json.loads(item)["detections"]) for item in both[:, 0]] == [1, 0]


def test_render_answers_good_requests_beside_bad_ones(
    start_model, request_of, arrays_of, network_outputs, outcomes
):
    model = start_model("pem_render")

    first, bad, second = model.execute(
        [
            request_of(**network_outputs(0.9)),
            request_of(**network_outputs(0.9), threshold=np.full((1, 1), 2.0)),
            request_of(**network_outputs(0.9, 0.9)),
        ]
    )

    assert code_of(bad) == pb_utils.TritonError.INVALID_ARG
    [[encoded]] = arrays_of(first)["segmentation"]
    image = Image.open(io.BytesIO(encoded))
    assert (image.size, image.getextrema()) == ((40, 30), (21, 21))
    assert arrays_of(second)["segmentation"].shape == (2, 1)
    assert outcomes("render") == {"ok": 3, "bad_request": 1}


def test_the_network_runs_once_for_all_requests(network, request_of, arrays_of):
    responses = network.execute(
        [
            request_of(image=images(1)),
            request_of(image=images(2, 3, 4)),
            request_of(image=images(5)),
        ]
    )

    assert network.network.batches == [5]
    outputs = [arrays_of(response) for response in responses]
    assert [output["class_ids"][:, 0].tolist() for output in outputs] == [[1], [2, 3, 4], [5]]
    assert outputs[1]["scores"].shape == (3, 100)
    assert outputs[1]["masks"].shape == (3, 640, 640)


def test_the_network_leaves_out_cancelled_requests(network, request_of, arrays_of):
    first, cancelled, second = network.execute(
        [
            request_of(image=images(1)),
            request_of(image=images(2), cancelled=True),
            request_of(image=images(3)),
        ]
    )

    assert network.network.batches == [2]
    assert code_of(cancelled) == pb_utils.TritonError.CANCELLED
    assert arrays_of(first)["class_ids"][0, 0] == 1
    assert arrays_of(second)["class_ids"][0, 0] == 3


def test_the_network_does_not_run_for_cancelled_requests_alone(network, request_of, logged_errors):
    responses = network.execute([request_of(image=images(1), cancelled=True)] * 2)

    assert network.network.batches == logged_errors == []
    assert [code_of(response) for response in responses] == [pb_utils.TritonError.CANCELLED] * 2


def test_a_failing_network_answers_every_request_without_a_traceback(
    network, request_of, logged_errors
):
    def fail(_images):
        raise RuntimeError("out of paper in /secret/path")

    network.network = fail

    responses = network.execute([request_of(image=images(1)), request_of(image=images(2))])

    for response in responses:
        assert code_of(response) == pb_utils.TritonError.INTERNAL
        assert "pem_network" in response.error().message()
        assert "secret" not in response.error().message()
    assert "out of paper" in logged_errors[0]


def test_a_missing_graph_is_an_error_with_its_path(load_model, model_config, monkeypatch, tmp_path):
    module = load_model("pem_network")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "model.py"))
    model = module.TritonPythonModel()

    with pytest.raises(pb_utils.TritonModelException, match=r"model\.onnx.*\./run export"):
        model.initialize({"model_config": json.dumps(model_config("pem_network"))})


@pytest.mark.parametrize("name", ["pem_preprocess", "pem_postprocess", "pem_render"])
def test_cancelled_requests_cost_nothing(start_model, request_of, arrays_of, good_inputs, name):
    model = start_model(name)

    cancelled, other = model.execute(
        [request_of(**good_inputs[name], cancelled=True), request_of(**good_inputs[name])]
    )

    assert code_of(cancelled) == pb_utils.TritonError.CANCELLED
    assert arrays_of(other)


@pytest.mark.parametrize(
    ("name", "function"),
    [("pem_preprocess", "prepare"), ("pem_postprocess", "detect"), ("pem_render", "render")],
)
def test_a_failure_of_ours_is_logged_and_answered_without_a_traceback(
    load_model,
    model_config,
    request_of,
    arrays_of,
    good_inputs,
    monkeypatch,
    logged_errors,
    outcomes,
    name,
    function,
):
    module = load_model(name)
    model = module.TritonPythonModel()
    model.initialize({"model_config": json.dumps(model_config(name))})

    def fail(*_arguments, **_options):
        raise RuntimeError("a bug in /secret/path")

    with monkeypatch.context() as broken:
        broken.setattr(module, function, fail)
        [failed] = model.execute([request_of(**good_inputs[name])])
    [other] = model.execute([request_of(**good_inputs[name])])

    assert code_of(failed) == pb_utils.TritonError.INTERNAL
    assert name in failed.error().message()
    assert "secret" not in failed.error().message()
    assert "/secret/path" in logged_errors[0]
    assert "Traceback" in logged_errors[0]
    assert outcomes(name.removeprefix("pem_")) == {"ok": 1, "failed": 1}
    assert arrays_of(other)
