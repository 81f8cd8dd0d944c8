"""What stands on posts: poles, street lamps, road signs, traffic lights; and bicycles."""

import math
from itertools import pairwise

import numpy as np
from PIL import Image

from pem_training.drawing.canvas import Canvas, Sketch
from pem_training.drawing.labels import BICYCLE, POLE, SIGNBOARD, STREET_LAMP, TRAFFIC_LIGHT
from pem_training.drawing.masonry import lettering
from pem_training.drawing.planes import RIGHT, paint_plane, upright
from pem_training.drawing.view import Point, Reals, Rng

METALS = [(0.32, 0.33, 0.34), (0.48, 0.49, 0.50), (0.12, 0.13, 0.13), (0.16, 0.24, 0.20)]
WOOD = (0.34, 0.26, 0.19)
RED, BLUE, YELLOW = (0.72, 0.07, 0.08), (0.08, 0.24, 0.62), (0.80, 0.65, 0.08)
WHITE, BLACK = (0.88, 0.88, 0.86), (0.06, 0.06, 0.06)
LIGHTS = [(0.2, 1.0, 0.55), (1.0, 0.75, 0.1), (1.0, 0.16, 0.1)]  # from below: green, amber, red
FRAMES = [(0.40, 0.08, 0.08), (0.10, 0.10, 0.12), (0.12, 0.20, 0.42)]


def draw_metal(rng: Rng) -> Reals:
    """The paint of a post."""
    return np.array(METALS[rng.randint(len(METALS))])


def paint_pole(canvas: Canvas, rng: Rng, x: float, z: float, height: float, thick: float) -> None:
    """An upright metal pole, `thick` metres wide."""
    foot, top = canvas.view.project([[x, 0, z], [x, height, z]])
    wide = thick * canvas.view.focal / float(foot[2])
    around = np.array([foot[:2], foot[:2], top[:2]]) + np.array([[-wide, 0], [wide, 0], [0, 0]])
    sketch = Sketch(canvas, around, float(foot[2]))
    _shaft(sketch, foot, top, wide, draw_metal(rng))
    sketch.finish(POLE)


def paint_utility_pole(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """A wooden pole with a cross-beam."""
    height = rng.uniform(7, 8)
    points = [[x, 0, z], [x, height, z], [x - 0.9, height - 0.5, z], [x + 0.9, height - 0.5, z]]
    foot, top, *beam = placed = canvas.view.project(points)
    scale = canvas.view.focal / float(foot[2])
    sketch = Sketch(canvas, placed, float(foot[2]))
    wood = np.array(WOOD) * rng.uniform(0.7, 1.2)
    _shaft(sketch, foot, top, 0.24 * scale, wood)
    beam_light = canvas.light.shade([0, 0, -1]) * 0.8
    sketch.limb(beam[0], beam[1], 0.12 * scale, wood * beam_light)
    sketch.finish(POLE)


def _shaft(sketch: Sketch, foot: Reals, top: Reals, wide: float, base: Reals) -> None:
    """A round shaft in the picture: three tones across, lighter towards the sun."""
    light = sketch.canvas.light
    toward = math.copysign(1.0, light.toward_sun[0])
    sketch.limb(foot, top, wide, light.shade([0, 0, -1], 0.5) * base, wide * 0.8)
    for side, lit, tone in ((toward, 1.0, 1.0), (-toward, 0.0, 0.75)):
        offset = np.array([side * wide * 0.33, 0.0])
        colour = light.shade([side, 0, 0], lit) * base * tone
        sketch.limb(foot[:2] + offset, top[:2] + offset, wide * 0.3, colour, wide * 0.22)


def paint_lamp(canvas: Canvas, rng: Rng, x: float, z: float, toward_street: int) -> None:
    """A street lamp: an arm over the road with the lamp at its end, or an old lantern on top."""
    old, base = rng.uniform() < 0.25, draw_metal(rng)
    height = rng.uniform(3.6, 4.4) if old else rng.uniform(6, 9)
    arm = 0.0 if old else rng.uniform(0.8, 1.8) * toward_street
    end = x + arm, height + abs(arm) * 0.25
    points = [[x - 0.4, 0, z], [x + 0.4, 0, z], [x, height, z], [*end, z]]
    points += [[x + arm * 1.5, end[1] + 0.7, z]]
    placed = canvas.view.project(points)
    foot, top, tip = (placed[0] + placed[1]) / 2, placed[2], placed[3]
    scale = canvas.view.focal / float(foot[2])
    sketch = Sketch(canvas, placed, float(foot[2]))
    _shaft(sketch, foot, top, 0.17 * scale, base)
    socket = canvas.light.shade([0, 0, -1], 0.5) * base * 0.9
    sketch.limb(foot, foot - [0, 1.1 * scale, 0], 0.24 * scale, socket)
    light = canvas.light.shade([0, 0.3, -0.9])
    if old:
        _paint_lantern(sketch, top[:2], scale, light, base)
    else:
        sketch.limb(top, tip, 0.11 * scale, light * base, 0.08 * scale)
        sketch.limb(tip, tip + (tip - top) * 0.45, 0.2 * scale, light * base * 1.25, 0.12 * scale)
    sketch.finish(STREET_LAMP)


def _paint_lantern(sketch: Sketch, foot: Reals, scale: float, light: Reals, base: Reals) -> None:
    roof, top = foot - [0, 0.5 * scale], foot - [0, 0.68 * scale]
    sketch.limb(foot, roof, 0.22 * scale, light * 0.7, 0.36 * scale)
    sketch.limb(roof, top, 0.42 * scale, light * base * 0.8, 0.06 * scale)


def paint_traffic_light(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """A pole with a black head of three lights, one of them on."""
    paint_pole(canvas, rng, x, z, 3.4, 0.12)
    foot = canvas.view.project([[x, 2.25, z]])[0]
    scale = canvas.view.focal / float(foot[2])
    box = foot[:2] + scale * np.array([[-0.26, 0.0], [0.26, 0.0], [0.26, -1.22], [-0.26, -1.22]])
    sketch = Sketch(canvas, box, float(foot[2]))
    sketch.polygon(box, canvas.light.shade([0, 0, -1]) * 0.07)
    on = rng.randint(3)
    for i, colour in enumerate(LIGHTS):
        centre = foot[:2] - [0, (0.26 + 0.35 * i) * scale]
        sketch.disc(centre, 0.14 * scale, (0.03, 0.03, 0.03))
        sketch.disc(centre, 0.11 * scale, np.array(colour) * (1.0 if i == on else 0.14))
    sketch.finish(TRAFFIC_LIGHT)


def paint_road_sign(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """A post with a plate: round, three-cornered or square; or a large lettered board."""
    kind = ("round", "triangle", "square", "board")[rng.randint(4)]
    if kind == "board":
        _paint_board(canvas, rng, x, z)
        return
    height = rng.uniform(2.3, 3.0)
    paint_pole(canvas, rng, x, z, height, 0.09)
    top = canvas.view.project([[x, height, z]])[0]
    radius = rng.uniform(0.33, 0.45) * canvas.view.focal / float(top[2])
    middle = top[:2] + np.array([0, radius * 0.6])
    around = np.array([middle - radius * 1.2, middle + radius * 1.2])
    sketch = Sketch(canvas, around, float(top[2]))
    PLATES[kind](sketch, rng, middle, radius)
    sketch.finish(SIGNBOARD, tone=float(canvas.light.shade([0, 0, -1]).mean()))


def _round_plate(sketch: Sketch, rng: Rng, middle: Reals, radius: float) -> None:
    rim, inner, mark = [(RED, WHITE, BLACK), (BLUE, BLUE, WHITE), (RED, RED, WHITE)][rng.randint(3)]
    sketch.disc(middle, radius, rim)
    sketch.disc(middle, radius * 0.76, inner)
    half = np.array([radius * 0.5, 0])
    sketch.limb(middle - half, middle + half, radius * 0.3, mark)


def _triangle_plate(sketch: Sketch, rng: Rng, middle: Reals, radius: float) -> None:
    for size, colour in ((1.1, RED), (0.72, WHITE)):
        turns = [math.radians(angle) for angle in (90, 210, 330)]
        corners = [middle + size * radius * np.array([math.cos(a), -math.sin(a)]) for a in turns]
        sketch.polygon(corners, colour)
    down = np.array([0, radius])
    sketch.limb(middle - 0.35 * down, middle + 0.25 * down, radius * 0.2, BLACK)


def _square_plate(sketch: Sketch, rng: Rng, middle: Reals, radius: float) -> None:
    board = BLUE if rng.uniform() < 0.6 else YELLOW
    for size, colour in ((1.0, WHITE), (0.9, board)):
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * radius * size
        sketch.polygon(middle + corners, colour)
    half = np.array([0, radius * 0.6])
    sketch.limb(middle - half, middle + half, radius * 0.3, WHITE)


PLATES = {"round": _round_plate, "triangle": _triangle_plate, "square": _square_plate}


def _paint_board(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """A board on two posts, with lines of lettering, that looks along the street."""
    width, height, low = rng.uniform(1.0, 2.4), rng.uniform(0.8, 1.8), rng.uniform(0.4, 2.2)
    for side in (-0.4, 0.4):
        paint_pole(canvas, rng, x + side * width, z, low + height, 0.1)

    def make(resolution: float) -> Image.Image:
        lines = max(1, round(height / 0.45))
        line = lettering(rng, width, height / lines, resolution)
        board = Image.new("RGB", (line.width, line.height * lines))
        for i in range(lines):
            turned = line if i % 2 == 0 else line.transpose(Image.Transpose.ROTATE_180)
            board.paste(turned, (0, i * line.height))
        return board

    plane = upright([x - width / 2, low, z - 0.06], RIGHT, width, height)
    paint_plane(canvas, plane, make, SIGNBOARD, canvas.light.shade([0, 0, -1]))


def paint_bicycle(canvas: Canvas, rng: Rng, x: float, z: float, axis: Point) -> None:
    """A parked bicycle; `axis` is the unit vector from its rear to its front wheel."""

    def place(s: float, y: float) -> Reals:
        return np.array([x, y, z]) + s * np.asarray(axis, np.float64)

    turns = np.linspace(0, 2 * math.pi, 21)
    rear, front = (
        canvas.view.project(
            [place(s + 0.33 * math.cos(a), 0.34 + 0.33 * math.sin(a)) for a in turns]
        )
        for s in (-0.52, 0.52)
    )
    joints = [(-0.52, 0.34), (0.52, 0.34), (-0.05, 0.3), (-0.2, 0.92), (0.36, 0.86), (0.4, 1.02)]
    hub, fork, crank, seat, head, bar = tubes = canvas.view.project([place(*s) for s in joints])
    scale = canvas.view.focal / float(crank[2])
    sketch = Sketch(canvas, np.concatenate([rear, front, tubes]), float(crank[2]))
    for rim in (rear, front):
        for a, b in pairwise(rim):
            sketch.limb(a, b, max(0.6, 0.05 * scale), BLACK)
    frame = FRAMES[rng.randint(len(FRAMES))] * canvas.light.shade([0, 0, -1])
    lines = ((hub, crank), (crank, seat), (crank, head), (seat, head), (head, fork), (hub, seat),
             (head, bar))  # fmt: skip
    for a, b in lines:
        sketch.limb(a, b, max(0.6, 0.045 * scale), frame)
    for place_of in (seat, bar):
        sketch.disc(place_of, 0.045 * scale, BLACK, 2.4)
    sketch.finish(BICYCLE, outline=True)
