"""What the last steps refuse of a request, and how they name the image it is about."""

import subprocess
import sys

import numpy as np
import pytest

from pem_server import step_inputs
from pem_server.step_inputs import InputError


def test_the_threshold_is_a_half_when_absent_and_a_probability():
    assert step_inputs.thresholds_of(None, 2) == [0.5, 0.5]
    assert step_inputs.thresholds_of(np.array([[0.25], [1]], np.float32), 2) == [0.25, 1]
    for value in (np.nan, np.inf, -0.001, 1.001):
        with pytest.raises(InputError, match=r"threshold.*0\.5"):
            step_inputs.check_threshold(value)


def test_an_unknown_class_is_refused():
    for class_id in (-1, 150):
        with pytest.raises(InputError, match=r"class_ids .*149.*pem_network"):
            step_inputs.check_class_ids(np.array([0, class_id, 3], np.int32), highest=149)


@pytest.mark.parametrize(
    ("shape", "geometry"),
    [
        ((64, 64), (64, 64, 0, 64)),
        ((64, 64), (-1, 64, 64, 64)),
        ((64, 64), (2**31 - 1, 2**31 - 1, 64, 64)),
        ((64, 64), (64, 64, 63, 63)),
        ((64, 64), (64, 64, 65, 64)),
        # Maps that are not the square of the input.
        ((0, 0), (64, 64, 64, 64)),
        ((64, 32), (64, 64, 64, 64)),
        ((3, 3), (64, 64, 64, 64)),
    ],
)
def test_a_geometry_that_no_image_has_is_refused(shape, geometry):
    with pytest.raises(InputError, match=r"geometry.*pem_preprocess") as refused:
        step_inputs.map_indices(np.zeros(shape, np.uint8), np.array(geometry), 1_000_000)
    assert str(list(geometry)) in str(refused.value)


def test_the_place_of_a_bad_image_is_named_when_there_are_several():
    def refuse_the_last(index):
        if index == 2:
            raise InputError("it is bad")
        return index

    assert step_inputs.for_each_image(2, refuse_the_last) == [0, 1]
    with pytest.raises(InputError, match=r"^image 2 of 3 .*: it is bad$"):
        step_inputs.for_each_image(3, refuse_the_last)
    with pytest.raises(InputError, match=r"^it is bad$"):
        step_inputs.for_each_image(1, lambda _: refuse_the_last(2))


def test_the_steps_modules_need_only_numpy():
    """A T4's image installs pem_server without its dependencies."""
    others = "{'tritonclient', 'google', 'PIL', 'pem_server.local_server'}"
    program = f"import sys, pem_server, pem_server.step_inputs; print({others} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")
