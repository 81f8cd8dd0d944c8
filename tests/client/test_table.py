"""The table that a person reads."""

from pem_client import Detections, format_table


def test_a_table_has_a_line_for_each_segment_and_one_for_the_times(street):
    assert format_table(street).splitlines() == [
        "label  score  box (x1 y1 x2 y2)    share",
        "sky    0.931     0    0   60   20  50.0%",
        "road   0.750     0   20   30   40  25.0%",
        "preprocess 4.0 ms, inference 31.0 ms, postprocess 3.5 ms",
    ]


def test_no_segment_is_said_in_words():
    assert format_table(Detections((), {"inference": 0.02})).splitlines() == [
        "nothing found above the threshold",
        "inference 20.0 ms",
    ]


def test_without_times_there_is_no_line_for_them():
    assert format_table(Detections((), {})) == "nothing found above the threshold"
