"""The ground plan of a street: which strips and markings lie where."""

import numpy as np

from pem_training.drawing.ground import Marking, Strip
from pem_training.drawing.labels import EARTH, GRASS, ROAD, SIDEWALK
from pem_training.drawing.street import Side, Street
from pem_training.drawing.view import Colour, Rng

FAR_ASIDE = 1e5  # metres: beyond what any pixel sees
KERBSTONE, GUTTER = 0.16, 0.32  # metres
WHITE, YELLOW = (0.86, 0.86, 0.83), (0.72, 0.60, 0.26)


def draw_strips(rng: Rng, street: Street) -> list[Strip]:
    """The ground from the lots inwards; the road comes last."""
    found = [strip for side in street.sides for strip in _side_strips(rng, side)]
    tone = np.array((0.37, 0.37, 0.38)) * rng.uniform(0.75, 1.25)
    left, right = (side.kerb for side in street.sides)
    for start, end in ((-left, -left + GUTTER), (right - GUTTER, right)):
        found.append(Strip(start, end, ROAD, tone * 0.88, "asphalt"))
    found.append(Strip(-left + GUTTER - 0.02, right - GUTTER + 0.02, ROAD, tone, "asphalt"))
    return found


def _side_strips(rng: Rng, side: Side) -> list[Strip]:
    green = rng.uniform((0.20, 0.32, 0.10), (0.34, 0.46, 0.18))
    brown = np.array((0.46, 0.37, 0.27)) * rng.uniform(0.8, 1.15)
    grey = np.array((0.50, 0.49, 0.47)) * rng.uniform(0.8, 1.15) + rng.uniform(-0.015, 0.015, 3)

    def strip(start: float, end: float, label: int, colour: Colour, material: str) -> Strip:
        low, high = sorted((side.side * start, side.side * end))
        return Strip(low, high, label, colour, material)

    lot = {"suburb": "grass", "park": "grass", "field": "earth"}.get(side.kind, "paving")
    if side.kind == "field" and rng.uniform() < 0.5:
        lot = "grass"
    label, colour = {
        "grass": (GRASS, green),
        "earth": (EARTH, brown),
        "paving": (SIDEWALK, grey * 0.95),
    }[lot]
    found = [strip(side.back - 0.5, FAR_ASIDE, label, colour, lot)]
    walk = side.back - side.kerb
    if walk < 0.5:  # no sidewalk: a worn edge, or a kerb along the lawn
        if lot == "earth" or rng.uniform() < 0.4:
            return [*found, strip(side.kerb, side.kerb + 0.6, EARTH, brown, "earth")]
    else:
        found.append(strip(side.kerb, side.back, SIDEWALK, grey, "paving"))
    if walk > 3.0 and rng.uniform() < 0.6:
        soil = (EARTH, brown, "earth") if rng.uniform() < 0.25 else (GRASS, green, "grass")
        found.append(strip(side.kerb, side.kerb + rng.uniform(0.9, walk - 1.6), *soil))
    found.append(strip(side.kerb, side.kerb + KERBSTONE, SIDEWALK, grey * 1.22, "asphalt"))
    return found


def draw_markings(rng: Rng, street: Street) -> list[Marking]:
    """Lines in the middle, between the lanes and at the edges; a crossing or a stop line."""
    found = _middle_lines(rng)
    for k in range(1, street.lanes):
        for x in (-k * street.lane, k * street.lane):
            found.append(Marking(x - 0.06, x + 0.06, 1.0, 3.5, 7.0))
    if rng.uniform() < 0.5:
        found += _edge_lines(rng, street)
    if street.crossing:
        found += _crossing_lines(rng, street, street.crossing[0])
    return found


def _middle_lines(rng: Rng) -> list[Marking]:
    colour = YELLOW if rng.uniform() < 0.3 else WHITE
    if rng.uniform() < 0.3:
        return [Marking(x - 0.05, x + 0.05, 0, 300, 0, colour) for x in (-0.1, 0.1)]
    start, dash = rng.uniform(0, 4), rng.uniform(2, 4)
    return [Marking(-0.06, 0.06, start, start + dash, dash * rng.uniform(2, 3), colour)]


def _edge_lines(rng: Rng, street: Street) -> list[Marking]:
    colour = YELLOW if rng.uniform() < 0.5 else WHITE
    inward = (0.4, 0.62) if rng.uniform() < 0.5 else (0.45,)
    places = [side.side * (side.kerb - off) for side in street.sides for off in inward]
    return [Marking(x - 0.04, x + 0.04, 0, 300, 0, colour) for x in places]


def _crossing_lines(rng: Rng, street: Street, near: float) -> list[Marking]:
    """Zebra stripes, or a line where the own lanes stop."""
    left, right = (side.kerb for side in street.sides)
    if rng.uniform() < 0.7:
        starts = np.arange(-left + 0.6, right - 0.6, 1.1)
        return [Marking(x, x + 0.5, near - 5.0, near - 2.0) for x in starts]
    start, end = (-left, 0.0) if street.drive < 0 else (0.0, right)
    return [Marking(start + 0.3, end - 0.3, near - 1.85, near - 1.5)]
