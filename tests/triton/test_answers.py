"""Clients get what the graph says, over both protocols, however they hand in an image."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pem_client import Client, ServerUnavailable
from pemexport.repository_steps import open_network

Network = Callable[[NDArray[np.uint8]], tuple[NDArray[Any], ...]]
MEAN = (124, 116, 104)


def by_hand(image: Image.Image, network: Network) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Class map and score map of an image, straight from the contract: fit, run, scale back."""
    width, height = image.size
    scale = 640 / max(width, height)
    fitted_width, fitted_height = round(width * scale), round(height * scale)
    batch = np.full((1, 640, 640, 3), MEAN, np.uint8)
    resized = image.resize((fitted_width, fitted_height), Image.Resampling.BILINEAR)
    batch[0, :fitted_height, :fitted_width] = np.asarray(resized)
    class_ids, scores, masks = network(batch)
    rows = ((np.arange(height) + 0.5) * fitted_height / height).astype(int)
    columns = ((np.arange(width) + 0.5) * fitted_width / width).astype(int)
    queries = masks[0][rows][:, columns]  # (height, width)
    return class_ids[0][queries] + 1, scores[0][queries]


@pytest.fixture(scope="module")
def network(root: Path) -> Network:
    return open_network(root / "model_repository" / "pem_network" / "1" / "model.onnx", "auto")


@pytest.mark.parametrize("size", [(640, 480), (301, 517), (1280, 333)], ids=str)
def test_class_map_and_detections_are_what_the_graph_says(client, network, street, size):
    sized = street.resize(size)
    classes, scores = by_hand(sized, network)
    expected = np.where(scores > 0.5, classes, 0)
    class_map = client.segment(sized, threshold=0.5)
    # Another number of threads adds in another order: a pixel on an edge may differ, nothing else.
    assert (class_map == expected).mean() > 0.999
    found = client.infer(sized, threshold=0.5)
    from_masks = np.zeros_like(class_map)
    for detection in found:
        assert not from_masks[detection.mask].any(), "masks overlap"
        from_masks[detection.mask] = detection.cls_id + 1
    np.testing.assert_array_equal(from_masks, class_map)


def test_boxes_hold_their_masks_and_scores_fall(client, street):
    found = client.infer(street, threshold=0.2)
    assert len(found) >= 3
    scores = [detection.conf for detection in found]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0.2
    for detection in found:
        x1, y1, x2, y2 = map(int, detection.bbox)
        inside = detection.mask[y1:y2, x1:x2]
        assert inside.sum() == detection.mask.sum() > 0
        edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
        assert all(edge.any() for edge in edges), "the box is wider than its mask"


def test_the_street_is_recognized(grpc_client, street):
    found = {detection.label.split(",")[0]: detection for detection in grpc_client.infer(street)}
    assert {"sky", "building", "road"} <= found.keys()
    height = street.height
    assert found["sky"].mask[: height // 3].mean() > found["sky"].mask[height // 2 :].mean()
    assert found["road"].mask[height // 2 :].mean() > found["road"].mask[: height // 2].mean()


def test_path_bytes_image_and_array_give_the_same(client, street, tmp_path):
    path = tmp_path / "street.png"
    street.save(path)
    inputs = (path, str(path), path.read_bytes(), street, np.asarray(street))
    answers = [client.infer(each).to_dict()["detections"] for each in inputs]
    assert answers[0]
    assert all(answer == answers[0] for answer in answers)


def test_the_answer_has_latencies_and_the_fields_of_the_contract(client, street_path):
    found = client.infer(street_path)
    assert {"preprocess", "inference", "postprocess"} == set(found.latency)
    assert all(seconds > 0 for seconds in found.latency.values())
    fields = {"bbox", "conf", "cls_id", "label", "mask"}
    assert set(json.loads(found.to_json())["detections"][0]) == fields


def test_an_exif_orientation_is_undone_before_anything_else(grpc_client, street):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    street.transpose(Image.Transpose.ROTATE_90).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(grpc_client.segment(file.getvalue()), grpc_client.segment(street))


def test_the_cards_own_snippet_works(server, street_path, capsys):
    focoos = Client(server.grpc_url)
    model = focoos.get_remote_model("fai-pem-m-ade")
    print(model.infer(str(street_path), threshold=0.5))
    assert "sky" in capsys.readouterr().out
    with pytest.raises(ServerUnavailable, match="no-such-model"):
        focoos.get_remote_model("no-such-model")
    focoos.close()
