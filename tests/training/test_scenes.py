"""Drawn scenes: repeatable, labelled exactly, varied, and written so that they can be read back."""

import functools
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pem_training.card import card_rows
from pem_training.drawing import labels as names
from pem_training.drawing.canvas import Canvas, Sketch
from pem_training.drawing.planes import RIGHT, paint_plane, upright
from pem_training.drawing.street import Side, Street
from pem_training.drawing.view import Light, inverse, make_view
from pem_training.scenes import CLASSES, draw_scene, main, write_scenes

SEEDS = range(40)


@functools.cache
def small_scene(seed):
    image, labels = draw_scene(seed, 150, 200)
    image.flags.writeable = labels.flags.writeable = False
    return image, labels


def flat_canvas(height=60, width=80):
    """A canvas that looks along the street from 1.5 m, without haze or sun."""
    light = Light(np.array([0, 1.0, 0]), np.zeros(3), np.ones(3), np.ones(3), 0.0)
    view = make_view(height, width, (0.0, 1.5, 0.0), focal=80.0, horizon=30.0, yaw=0.0, roll=0.0)
    return Canvas(view, light)


def test_one_seed_draws_the_same_bytes_whatever_was_drawn_before():
    first = draw_scene(3, 120, 160)
    draw_scene(4, 96, 128)
    for drawn, again in zip(first, draw_scene(3, 120, 160), strict=True):
        assert drawn.tobytes() == again.tobytes()


def test_the_random_numbers_of_the_caller_neither_matter_nor_change():
    np.random.seed(1)
    expected = np.random.RandomState(1).uniform()
    image, _ = draw_scene(3, 120, 160)
    assert np.random.uniform() == expected
    assert image.tobytes() == draw_scene(3, 120, 160)[0].tobytes()


def test_every_seed_draws_another_scene():
    assert len({small_scene(seed)[1].tobytes() for seed in SEEDS}) == len(SEEDS)
    assert len({small_scene(seed)[0].tobytes() for seed in SEEDS}) == len(SEEDS)


def test_another_size_shows_the_same_street():
    _, small = small_scene(5)
    _, large = draw_scene(5, 450, 600)
    assert (large[1::3, 1::3] == small).mean() > 0.93


@pytest.mark.parametrize("size", [(16, 16), (17, 301), (301, 17), (99, 131), (480, 640)])
def test_every_size_is_drawn_as_asked(size):
    image, labels = draw_scene(1, *size)
    assert (image.shape, image.dtype) == ((*size, 3), np.uint8)
    assert (labels.shape, labels.dtype) == (size, np.uint8)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((-1,), "seed must be from 0 to 2**32 - 1, got -1"),
        ((2**32,), "seed must be from 0 to 2**32 - 1, got 4294967296"),
        ((0, 15, 640), "at least 16 by 16 pixels, got 15 by 640"),
        ((0, 480, 0), "at least 16 by 16 pixels, got 480 by 0"),
    ],
)
def test_impossible_scenes_are_refused_with_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        draw_scene(*arguments)


def test_every_pixel_has_a_declared_class():
    found = set().union(*(np.unique(small_scene(seed)[1]).tolist() for seed in SEEDS))
    assert found <= CLASSES.keys()


def test_forty_scenes_show_every_declared_class():
    found = set().union(*(np.unique(small_scene(seed)[1]).tolist() for seed in SEEDS))
    assert CLASSES.keys() <= found


def test_the_classes_carry_the_names_of_the_card():
    card = {row.class_id + 1: row.short_name for row in card_rows()}
    assert {label: card[label] for label in CLASSES} == CLASSES


def test_the_sky_is_above_the_road_in_every_scene():
    for seed in SEEDS:
        labels = small_scene(seed)[1]
        sky, road = (np.nonzero(labels == k)[0] for k in (names.SKY, names.ROAD))
        assert sky.size, f"scene {seed} has no sky"
        assert road.size, f"scene {seed} has no road"
        assert sky.mean() < road.mean(), f"scene {seed} has its road above its sky"


def test_labels_sit_on_the_edges_of_the_image():
    """The colour changes more across the labels' borders than across the same borders moved."""

    def contrast(image, labels):
        step = np.abs(np.diff(image.astype(float), axis=1)).sum(axis=2)
        return step[labels[:, 1:] != labels[:, :-1]].mean()

    for seed in range(12):
        image, labels = small_scene(seed)
        here = contrast(image, labels)
        for shift in (-3, 3):
            assert here > 1.3 * contrast(image, np.roll(labels, shift, axis=1)), f"scene {seed}"
            moved = np.roll(labels, shift, axis=0)
            assert here > 1.1 * contrast(image, moved), f"scene {seed}"


def test_mean_colours_fit_the_classes():
    """Over many scenes grass is green, the sky is bright, and the road is grey."""
    pixels = {k: [] for k in (names.SKY, names.GRASS, names.ROAD, names.TREE)}
    for seed in SEEDS:
        image, labels = small_scene(seed)
        for k, found in pixels.items():
            found.append(image[labels == k].astype(float))
    mean = {k: np.concatenate(found).mean(axis=0) for k, found in pixels.items()}
    red, green, blue = mean[names.GRASS]
    assert green > 1.1 * red
    assert green > 1.5 * blue
    assert mean[names.TREE].argmax() == 1
    assert np.ptp(mean[names.ROAD]) < 20
    assert mean[names.SKY].mean() > 1.5 * mean[names.ROAD].mean()


def test_what_one_thing_draws_by_chance_does_not_change_its_neighbours():
    def chances(greedy):
        sides = Side(-1, "park", 3, 5, 5), Side(1, "park", 3, 5, 5)
        street = Street(sides, 1, 3.0, 1, None, 0.0, np.zeros(3), seed=9)
        seen = []
        street.add(0.0, 20.0, lambda canvas, rng: rng.uniform(size=greedy))
        street.add(0.0, 10.0, lambda canvas, rng: seen.append(rng.uniform()))
        street.paint(flat_canvas(), np.random.RandomState(0))
        return seen

    assert chances(greedy=1) == chances(greedy=5)


def test_things_are_painted_from_far_to_near_and_none_behind_the_camera():
    sides = Side(-1, "park", 3, 5, 5), Side(1, "park", 3, 5, 5)
    street, order = Street(sides, 1, 3.0, 1, None, 0.0, np.zeros(3), seed=9), []
    for z in (10.0, -5.0, 30.0, 20.0):
        street.add(0.0, z, lambda canvas, rng, z=z: order.append(z))
    street.paint(flat_canvas(), np.random.RandomState(0))
    assert order == [30.0, 20.0, 10.0]


def test_a_pixel_belongs_to_the_last_thing_that_covers_more_than_half_of_it():
    canvas = flat_canvas()
    for left, label in ((10.0, 1), (20.4, 2), (30.6, 3)):
        box = np.array([[left, 5], [left + 10, 5], [left + 10, 15], [left, 15]])
        sketch = Sketch(canvas, box, 1.0)
        sketch.polygon(box, (1, 1, 1))
        sketch.finish(label)
    row = canvas.labels[10]
    assert row[9:21].tolist() == [0, *[1] * 10, 2]
    assert row[29:42].tolist() == [2, 0, *[3] * 10, 0]


def test_the_gaps_of_an_outlined_plane_carry_its_label():
    bars = np.zeros((8, 8, 4), np.uint8)
    bars[:, ::4] = 255
    for outline, share in ((False, 0.5), (True, 1.0)):
        canvas = flat_canvas()
        plane = upright([-2.0, 0.5, 8.0], RIGHT, 4.0, 2.0)
        paint_plane(canvas, plane, lambda _: Image.fromarray(bars), 33, (1, 1, 1), outline)
        inside = canvas.labels[22:38, 22:58]
        assert (inside == 33).mean() == pytest.approx(share, abs=0.35)
        assert (inside == 33).all() == outline


def test_planes_behind_the_camera_are_not_painted_and_those_beside_it_are_cut():
    def make(resolution):
        return Image.new("RGB", (40, 40), (255, 255, 255))

    canvas = flat_canvas()
    paint_plane(canvas, upright([3, 0, -20], np.array([0, 0, 1.0]), 15, 9), make, 2, (1, 1, 1))
    assert not canvas.labels.any()
    paint_plane(canvas, upright([3, 0, -20], np.array([0, 0, 1.0]), 40, 9), make, 2, (1, 1, 1))
    assert (canvas.labels[:, 65:] == 2).any()
    assert not canvas.labels[:, :40].any()


def test_points_project_where_rays_through_their_pixels_point():
    view = make_view(90, 120, (1.0, 1.5, 0.0), focal=100.0, horizon=40.0, yaw=0.2, roll=0.05)
    (u, v, depth), other = view.project([[2.0, 0.4, 9.0], [0.0, 3.0, 30.0]])
    ahead = view.project([[1.0 + np.sin(0.2), 1.5, np.cos(0.2)]])[0]
    assert ahead[2] == pytest.approx(1.0)  # the camera is turned to the right
    direction = inverse(view.matrix[:, :3]) @ [u, v, 1.0]
    np.testing.assert_allclose(view.eye + direction * depth, [2.0, 0.4, 9.0], atol=1e-9)
    assert depth == pytest.approx(view.depth([2.0, 0.4, 9.0]))
    assert other[2] > depth


def test_written_scenes_are_read_back_in_the_ade20k_layout(tmp_path):
    write_scenes(tmp_path, "validation", count=2, seed=7)
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert written == [
        "annotations/validation/scene_00000007.png",
        "annotations/validation/scene_00000008.png",
        "images/validation/scene_00000007.jpg",
        "images/validation/scene_00000008.jpg",
    ]
    image, labels = draw_scene(8)
    with Image.open(tmp_path / written[1]) as stored:
        assert stored.mode == "L"
        np.testing.assert_array_equal(np.asarray(stored), labels)
    with Image.open(tmp_path / written[3]) as stored:
        assert stored.mode == "RGB"
        difference = np.abs(np.asarray(stored).astype(float) - image)
    assert difference.mean() < 4


def test_written_classes_take_the_numbers_that_the_photographs_use(tmp_path):
    write_scenes(tmp_path, "training", count=1, seed=7, renumber={3: 5, 5: 3})
    (path,) = (tmp_path / "annotations" / "training").iterdir()
    with Image.open(path) as stored:
        written = np.asarray(stored)
    labels = draw_scene(7)[1]
    assert {3, 5} <= set(np.unique(labels))
    np.testing.assert_array_equal(written == 5, labels == 3)
    np.testing.assert_array_equal(written == 3, labels == 5)
    others = ~np.isin(labels, (3, 5))
    np.testing.assert_array_equal(written[others], labels[others])


def test_the_command_line_writes_the_folder_and_prints_it(tmp_path, capsys):
    folder = tmp_path / "drawn"
    main([str(folder), "--count", "1", "--split", "training", "--seed", "2"])
    assert capsys.readouterr().out == f"{folder}\n"
    assert (folder / "images" / "training" / "scene_00000002.jpg").exists()


@pytest.mark.parametrize(
    "arguments", [["--count", "-1"], ["--seed", "-1"], ["--seed", "4294967296"]]
)
def test_impossible_numbers_are_refused_in_one_sentence_before_writing(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "drawn"), *arguments])
    assert "count and seed must be 0 or more" in capsys.readouterr().err
    assert not (tmp_path / "drawn").exists()


def test_no_scenes_leave_empty_folders(tmp_path):
    write_scenes(tmp_path, "training", count=0, seed=0)
    assert list((tmp_path / "images" / "training").iterdir()) == []


def test_drawing_needs_neither_torch_nor_the_network():
    program = (
        "import sys; import pem_training.scenes;"
        "print([name for name in ('torch', 'pemseg', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
