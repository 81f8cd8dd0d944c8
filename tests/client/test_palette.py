"""The palette: 150 different colors that never change."""

import numpy as np

from pem_client import class_colour

CLASSES = 150


def cielab(colors):
    """(N, 3) sRGB 0..255 to CIELAB under D65, where distance is about what an eye sees."""
    linear = np.asarray(colors) / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = linear @ np.transpose(to_xyz) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1
    )


COLORS = [class_colour(cls_id) for cls_id in range(CLASSES)]
LAB = cielab(COLORS)


def test_every_class_has_its_own_color():
    assert len(set(COLORS)) == CLASSES
    distances = np.linalg.norm(LAB[:, None] - LAB, axis=2)
    assert distances[~np.eye(CLASSES, dtype=bool)].min() > 6


def test_neighboring_classes_are_well_apart():
    for step in (1, 2, 3):
        assert np.linalg.norm(LAB[step:] - LAB[:-step], axis=1).min() > 32


def test_no_color_is_near_black_or_gray():
    assert LAB[:, 0].min() > 25
    assert np.ptp(COLORS, axis=1).min() > 50


def test_colors_are_plain_integers_and_never_change():
    assert all(type(channel) is int for color in COLORS for channel in color)
    assert [COLORS[cls_id] for cls_id in (0, 2, 149)] == [
        (252, 119, 70),
        (132, 137, 228),
        (48, 108, 89),
    ]
