"""Detections: their fields, their JSON without loss, and their table."""

import base64
import json
import pickle

import numpy as np
import pytest

from pem_client import Detection, Detections, ImageError, format_table


def test_detections_from_json_equal_those_that_wrote_it(street):
    again = Detections.from_json(street.to_json())
    assert again == street
    assert [item.bbox for item in again] == [(0, 0, 60, 20), (0, 20, 30, 40)]
    assert (len(again), again[-1].label) == (2, "road, route")
    assert again.latency == {"preprocess": 0.004, "inference": 0.031, "postprocess": 0.0035}
    _ = street[0].mask
    assert pickle.loads(pickle.dumps(street)) == street


def test_json_of_the_server_comes_back_unchanged(street):
    mask = base64.b64encode(street[0].mask_png).decode()
    text = wire(bbox=[0, 0, 60, 20.5], conf=0.1 + 0.2, label="é", mask=mask)
    assert json.loads(Detections.from_json(text.encode()).to_json()) == json.loads(text)


def test_an_empty_result_is_a_result():
    nothing = Detections.from_json('{"detections": [], "latency": {"inference": 0.02}}')
    assert json.loads(nothing.to_json()) == {"detections": [], "latency": {"inference": 0.02}}
    assert repr(nothing) == "<Detections: none>"
    sentence, latency = format_table(nothing).splitlines()
    assert latency == "inference 20.0 ms"
    assert format_table(Detections((), {})) == sentence


def test_a_mask_is_a_boolean_array_of_the_whole_image(street):
    mask = street[1].mask
    assert (mask.shape, mask.dtype, mask.sum()) == ((40, 60), np.bool_, 20 * 30)
    assert mask[20:, :30].all()
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = True


def test_an_eight_bit_mask_reads_as_a_one_bit_mask_and_colors_are_refused(png):
    values = np.array([[0, 1], [255, 0]], np.uint8)
    mask = Detection((0, 0, 2, 2), 0.5, 0, "wall", png(values)).mask
    assert mask.tolist() == [[False, True], [True, False]]
    colors = Detection((0, 0, 1, 1), 0.5, 0, "wall", png(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(ImageError, match="one-channel"):
        _ = colors.mask


def test_a_mask_is_decoded_once_and_at_first_use(street):
    assert street[0].mask is street[0].mask
    found = Detection((0, 0, 1, 1), 0.5, 0, "wall", b"not a PNG")
    assert Detections.from_json(Detections((found,), {}).to_json())[0] == found
    with pytest.raises(ImageError, match="decode"):
        _ = found.mask


def test_detections_do_not_change_and_hold_only_detections(street):
    with pytest.raises(AttributeError):
        street.latency = {}
    with pytest.raises(ValueError, match="detections"):
        Detections(("sky",), {})


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"bbox": (0, 0, 1)}, "bbox"),
        ({"bbox": (0, 0, 1, float("nan"))}, "bbox"),
        ({"bbox": (0, 0, 1, "2")}, "bbox"),
        ({"bbox": (5, 0, 1, 1)}, "x1 <= x2"),
        ({"conf": 1.5}, "conf must be"),
        ({"conf": None}, "conf must be"),
        ({"cls_id": 2.5}, "cls_id"),
        ({"label": 3}, "label"),
        ({"mask_png": "text"}, "mask_png"),
    ],
)
def test_a_wrong_field_is_refused_by_its_name(change, part):
    right = {"bbox": (0, 0, 1, 1), "conf": 0.5, "cls_id": 0, "label": "wall", "mask_png": b""}
    assert Detection(**right).conf == 0.5
    with pytest.raises(ValueError, match=part):
        Detection(**right | change)


def wire(**fields):
    found = {"bbox": [0, 0, 1, 1], "conf": 1, "cls_id": 0, "label": "a", **fields}
    return json.dumps({"detections": [found], "latency": {}})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "Expecting value"),
        ("null", "JSON"),
        ("{}", "'detections'"),
        ('{"detections": []}', "'latency'"),
        ('{"detections": [], "latency": {"inference": "fast"}}', "latency"),
        (wire(), "'mask'"),
        ('{"detections": [3], "latency": {}}', "JSON"),
        (wire(mask="?"), "base64"),
        (b"\xff\xfe\xfd", "JSON"),
    ],
)
def test_text_that_is_not_the_json_is_refused(text, part):
    with pytest.raises(ValueError, match=part):
        Detections.from_json(text)


def test_the_table_has_a_line_for_each_segment_and_one_for_the_latency(street):
    assert repr(street) == "<Detections: sky 0.93, road 0.75>"
    assert "mask" not in repr(street[0])
    assert str(street) == format_table(street)
    assert format_table(street).splitlines() == [
        "label  score  box (x1 y1 x2 y2)    share",
        "sky    0.931     0    0   60   20  50.0%",
        "road   0.750     0   20   30   40  25.0%",
        "preprocess 4.0 ms, inference 31.0 ms, postprocess 3.5 ms",
    ]
