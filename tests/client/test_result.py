"""Detections: what they hold, what they refuse, and that JSON loses nothing."""

import base64
import json
import pickle

import numpy as np
import pytest

from pem_client import Detection, Detections, ImageError


def test_detections_from_json_equal_those_that_wrote_it(street):
    again = Detections.from_json(street.to_json())
    assert again == street
    assert [found.bbox for found in again] == [(0, 0, 60, 20), (0, 20, 30, 40)]
    assert again.latency == {"preprocess": 0.004, "inference": 0.031, "postprocess": 0.0035}


def test_json_of_the_server_comes_back_unchanged(street):
    mask = base64.b64encode(street[0].mask_png).decode()
    wire = {
        "detections": [
            {"bbox": [0, 0, 60, 20.5], "conf": 0.1 + 0.2, "cls_id": 2, "label": "é", "mask": mask}
        ],
        "latency": {"inference": 1e-7},
    }
    assert json.loads(Detections.from_json(json.dumps(wire).encode()).to_json()) == wire


def test_nothing_found_is_a_result_too():
    nothing = Detections.from_json('{"detections": [], "latency": {}}')
    assert len(nothing) == 0
    assert json.loads(nothing.to_json()) == {"detections": [], "latency": {}}
    assert repr(nothing) == "<Detections: none>"


def test_detections_are_a_sequence(street):
    assert len(street) == 2
    assert [found.cls_id for found in street] == [2, 6]
    assert street[-1].label == "road, route"


def test_a_mask_is_a_boolean_array_of_the_whole_image(street):
    mask = street[1].mask
    assert (mask.shape, mask.dtype, mask.sum()) == ((40, 60), np.bool_, 20 * 30)
    assert mask[20:, :30].all()
    with pytest.raises(ValueError, match="read-only"):
        mask[0, 0] = True


def test_an_eight_bit_mask_reads_as_a_one_bit_mask(png):
    values = np.array([[0, 1], [255, 0]], np.uint8)
    mask = Detection((0, 0, 2, 2), 0.5, 0, "wall", png(values)).mask
    assert mask.tolist() == [[False, True], [True, False]]


def test_a_mask_is_decoded_only_when_it_is_asked_for():
    found = Detection((0, 0, 1, 1), 0.5, 0, "wall", b"not a PNG")
    assert Detections.from_json(Detections((found,), {}).to_json())[0] == found
    with pytest.raises(ImageError, match="cannot decode"):
        _ = found.mask


def test_a_mask_is_decoded_once(street):
    assert street[0].mask is street[0].mask


def test_a_mask_of_several_channels_is_refused(png):
    found = Detection((0, 0, 1, 1), 0.5, 0, "wall", png(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(ImageError, match="one-channel"):
        _ = found.mask


def test_printing_detections_shows_a_table_and_no_mask(street):
    assert repr(street) == "<Detections: sky 0.93, road 0.75>"
    assert len(str(street)) < 300
    assert "mask" not in repr(street[0])


def test_detections_can_be_pickled_after_a_mask_was_read(street):
    _ = street[0].mask
    assert pickle.loads(pickle.dumps(street)) == street


def test_detections_do_not_change(street):
    with pytest.raises(AttributeError):
        street.detections = ()
    with pytest.raises(AttributeError):
        street[0].conf = 1.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bbox": ()}, "four finite numbers"),
        ({"bbox": (0, 0, 1)}, "four finite numbers"),
        ({"bbox": (0, 0, 1, float("nan"))}, "four finite numbers"),
        ({"bbox": (0, 0, 1, "2")}, "four finite numbers"),
        ({"bbox": (5, 0, 1, 1)}, "x1 <= x2"),
        ({"conf": 1.5}, "conf must be"),
        ({"conf": float("nan")}, "conf must be"),
        ({"conf": None}, "conf must be"),
        ({"cls_id": -1}, "cls_id must be"),
        ({"cls_id": 2.5}, "cls_id must be"),
        ({"label": 3}, "label must be"),
        ({"mask_png": "text"}, "mask_png bytes"),
    ],
)
def test_a_wrong_field_is_refused_with_a_sentence(change, sentence):
    right = {"bbox": (0, 0, 1, 1), "conf": 0.5, "cls_id": 0, "label": "wall", "mask_png": b""}
    assert Detection(**right).conf == 0.5
    with pytest.raises(ValueError, match=sentence):
        Detection(**right | change)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Expecting value"),
        ("[]", "not the JSON of detections"),
        ("null", "not the JSON of detections"),
        ("{}", "'detections' is missing"),
        ('{"detections": []}', "'latency' is missing"),
        ('{"detections": {}, "latency": []}', "not the JSON of detections"),
        ('{"detections": [], "latency": {"inference": "fast"}}', "latency must hold seconds"),
        ('{"detections": [{"bbox": [0, 0, 1, 1]}], "latency": {}}', "'mask' is missing"),
        ('{"detections": [3], "latency": {}}', "not the JSON of detections"),
        (
            '{"detections": [{"bbox": [0, 0, 1, 1], "conf": 1, "cls_id": 0, "label": "a",'
            ' "mask": "?"}], "latency": {}}',
            "base64",
        ),
        (b"\xff\xfe\xfd", "not the JSON of detections"),
    ],
)
def test_text_that_is_no_wire_form_is_refused_with_a_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        Detections.from_json(text)


def test_detections_hold_only_detections():
    with pytest.raises(ValueError, match="Detection objects"):
        Detections(("sky",), {})
