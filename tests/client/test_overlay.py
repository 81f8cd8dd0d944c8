"""The overlay on images of one color, where every changed pixel is visible."""

import numpy as np
import pytest

from pem_client import Detection, Detections, ImageError, class_colour

HEIGHT, WIDTH = 240, 320


def overlay(detections, gray=100):
    image = np.full((HEIGHT, WIDTH, 3), gray, np.uint8)
    return np.asarray(Detections(detections, {}).overlay(image))


def mixed(gray, cls_id):
    return [gray // 2 + channel // 2 for channel in class_colour(cls_id)]


def named(drawn, cls_id):
    """(rows, columns) of the pixels in the full color of a class, which only its name has."""
    return np.nonzero((drawn == class_colour(cls_id)).all(axis=2))


@pytest.fixture
def segment(png):
    """Make a detection of a rectangle."""

    def make(x1, y1, x2, y2, *, cls_id=0, conf=0.9, label="wall", shape=(HEIGHT, WIDTH)):
        mask = np.zeros(shape, bool)
        mask[y1:y2, x1:x2] = True
        return Detection((x1, y1, x2, y2), conf, cls_id, label, png(mask))

    return make


def test_a_segment_is_tinted_with_its_class_color_and_the_rest_is_not(segment):
    for nothing in ([], [segment(5, 5, 5, 5)]):
        assert (overlay(nothing) == 100).all()
    drawn = overlay([segment(0, 0, WIDTH // 2, HEIGHT, cls_id=12)])
    assert drawn[10, 10].tolist() == mixed(100, 12)
    assert drawn[10, WIDTH - 10].tolist() == [100, 100, 100]


def test_the_best_score_lies_on_top_whatever_the_order(segment):
    low, high = segment(0, 0, 300, 200, conf=0.6), segment(0, 0, 300, 200, conf=0.9, cls_id=5)
    for order in ([low, high], [high, low]):
        assert overlay(order)[5, 5].tolist() == mixed(100, 5)


@pytest.mark.parametrize("gray", [0, 255])
def test_an_outline_shows_on_black_and_on_white(segment, gray):
    row = overlay([segment(100, 100, 200, 200, cls_id=1)], gray)[195, 95:105].tolist()
    light, dark = [gray // 2 + 127] * 3, [channel // 2 for channel in mixed(gray, 1)]
    assert row == [[gray] * 3] * 4 + [light, dark] + [mixed(gray, 1)] * 4


def test_segments_of_one_class_are_separated_by_an_outline(segment):
    halves = [segment(0, 0, 160, 240), segment(160, 0, 320, 240, conf=0.8)]
    row = overlay(halves)[5, 155:165].tolist()
    tint = mixed(100, 0)
    light, dark = [c // 2 + 127 for c in tint], [c // 2 for c in tint]
    assert row == [tint] * 4 + [light, dark] + [tint] * 4


def test_a_name_is_in_the_middle_of_its_segment_on_its_full_color(segment):
    rows, columns = named(overlay([segment(0, 0, 150, HEIGHT, cls_id=7, label="bed")]), 7)
    assert (columns.mean(), rows.mean()) == pytest.approx((75, HEIGHT / 2), abs=8)
    assert columns.max() < 150


def test_the_name_of_a_bent_segment_is_in_the_middle_of_an_arm(png):
    mask = np.zeros((HEIGHT, WIDTH), bool)  # an L, whose center of mass is outside of it
    mask[:, :80] = True
    mask[180:, :] = True
    drawn = overlay([Detection((0, 0, WIDTH, HEIGHT), 0.9, 7, "bed", png(mask))])
    rows, columns = named(drawn, 7)
    x, y = round(columns.mean()), round(rows.mean())
    assert mask[y - 25 : y + 25, x - 25 : x + 25].all()


def test_names_cover_neither_each_other_nor_other_segments(segment):
    planks = [segment(100, 90 + 4 * k, 200, 94 + 4 * k, cls_id=k, conf=0.9) for k in range(12)]
    planks[5] = segment(100, 110, 200, 114, cls_id=5, conf=0.95)
    drawn = overlay(planks)
    seen = [k for k in range(12) if named(drawn, k)[0].size]
    assert 5 in seen
    assert 2 <= len(seen) < 12
    for k in seen:
        rows = named(drawn, k)[0]
        assert rows.size == named(overlay([planks[k]]), k)[0].size
        assert rows.min() < 94 + 4 * k
        assert rows.max() >= 90 + 4 * k


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (7, 9)])
def test_tiny_and_narrow_images_can_be_drawn_on(segment, shape):
    found = segment(0, 0, shape[1], shape[0], shape=shape)
    image = Detections((found,), {}).overlay(np.zeros((*shape, 3), np.uint8))
    assert image.size == (shape[1], shape[0])


def test_an_image_of_another_size_is_refused_with_both_sizes(segment):
    found = Detections((segment(0, 0, 5, 5, shape=(10, 20)),), {})
    with pytest.raises(ImageError, match=r"\(20, 10\).*\(10, 20\)"):
        found.overlay(np.zeros((20, 10, 3), np.uint8))


COLORS = np.array([class_colour(cls_id) for cls_id in range(150)])


def test_every_class_has_its_own_color_for_ever_and_neighbors_differ_clearly():
    assert all(type(channel) is int for channel in class_colour(0))
    assert COLORS[[0, 2, 149]].tolist() == [[252, 119, 70], [132, 137, 228], [48, 108, 89]]
    distances = np.linalg.norm(COLORS[:, None] - COLORS, axis=2)
    assert distances[~np.eye(len(COLORS), dtype=bool)].min() > 22
    assert all(distances.diagonal(step).min() > 100 for step in (1, 2, 3))
    assert np.ptp(COLORS, axis=1).min() > 50  # none is gray
