"""Toy scenes: repeatable, of several classes, and a folder that training accepts."""

from pathlib import Path

import numpy as np

from pem_training.dataset import check_pairs, read_pair
from pem_training.toy_scenes import ROAD, SKY, main, toy_scene
from pemexport.contract import class_names
from pemexport.segmentation_scores import find_pairs


def test_every_scene_has_labels_everywhere_of_classes_that_the_server_names() -> None:
    seen = set()
    for seed in range(20):
        image, labels = toy_scene(seed, 48, 64)
        assert (image.shape, labels.shape) == ((48, 64, 3), (48, 64))
        assert image.dtype == labels.dtype == np.uint8
        assert labels.min() > 0
        seen |= {class_names()[label - 1].split(",")[0] for label in np.unique(labels)}
    assert seen == {"building", "sky", "tree", "road", "window", "grass", "person", "car"}
    assert (labels == SKY)[0].mean() > 0.5
    assert (labels == ROAD)[-1].any()


def test_the_command_writes_a_folder_that_training_accepts(tmp_path: Path) -> None:
    main([str(tmp_path / "toys"), "--training", "3", "--validation", "2", "--seed", "7"])
    pairs = [pair for s in ("training", "validation") for pair in find_pairs(tmp_path / "toys", s)]
    check_pairs(pairs, 150)
    assert len(pairs) == 5
    assert len({read_pair(pair)[0].size for pair in pairs}) > 1
    labels = np.asarray(read_pair(pairs[3])[1])  # the first of the other split: the next seed
    assert np.array_equal(labels, toy_scene(10, *labels.shape)[1])
