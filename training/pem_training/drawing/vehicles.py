"""Vehicles: rounded solids on a side profile, with mirrored light, windows, lamps and wheels."""

import math

import numpy as np
from PIL import ImageFilter

from pem_training.drawing.canvas import Canvas, Sketch
from pem_training.drawing.vehicle_shapes import Vehicle
from pem_training.drawing.view import Colour, Light, Reals, Rng

GLASS = np.array((0.05, 0.06, 0.07))
RUBBER = np.array((0.05, 0.05, 0.055))
RIM = np.array((0.45, 0.45, 0.47))
BUMPER = np.array((0.10, 0.10, 0.11))
GRILLE = np.array((0.06, 0.06, 0.06))
REAR_PLATE, FRONT_PLATE = np.array((0.80, 0.66, 0.14)), np.array((0.82, 0.82, 0.78))
REAR_LAMP, FRONT_LAMP = np.array((0.50, 0.04, 0.04)), np.array((0.90, 0.90, 0.87))


def paint_vehicle(canvas: Canvas, rng: Rng, vehicle: Vehicle) -> None:
    """Shade below, then from far to near: tyres, flank, shell, lamps, wheels."""
    share, height, half = np.array(vehicle.shape.outline).T
    sides = [vehicle.points(share, height, side * half) for side in (-1, 1)]
    placed = canvas.view.project(np.concatenate([*sides, vehicle.footprint()]))
    if placed[:, 2].min() < 1.0:
        return
    _paint_shade_below(canvas, vehicle)
    sketch = Sketch(canvas, placed, float(placed[:, 2].mean()))
    body = _Body(canvas, vehicle, sketch)
    body.paint_far_tyres()
    body.paint_flank()
    body.paint_shell()
    body.paint_end(braking=rng.uniform() < 0.2)
    body.paint_wheels()
    sketch.finish(vehicle.label)


def _paint_shade_below(canvas: Canvas, vehicle: Vehicle) -> None:
    """The soft dark patch under the body, which no light reaches."""
    middle = vehicle.footprint().mean(axis=0)
    for grow, dark, soft in ((1.08, 0.45, 0.25), (0.96, 0.65, 0.06)):
        corners = canvas.view.project((vehicle.footprint() - middle) * [grow, 1, grow] + middle)
        blur = soft * canvas.view.focal / float(corners[:, 2].mean())
        around = np.concatenate([corners[:, :2] - 2 * blur, corners[:, :2] + 2 * blur])
        sketch = Sketch(canvas, around, 0.0)
        sketch.polygon(corners, (0, 0, 0))
        cover = sketch.cover.reduce(sketch.detail).filter(ImageFilter.BoxBlur(blur * 0.7))
        alpha = np.asarray(cover, np.float32) * np.float32(dark / 255)
        black = np.zeros((*alpha.shape, 3), np.float32)
        canvas.blend((sketch.left, sketch.top), black, alpha, None, 0.0)


def _rounded(outline: Reals, times: int) -> Reals:
    """Cut the corners of an open line (N, 3) `times` times; the ends stay."""
    for _ in range(times):
        early = outline[:-1] * 0.75 + outline[1:] * 0.25
        late = outline[:-1] * 0.25 + outline[1:] * 0.75
        inner = np.stack([early, late], axis=1).reshape(-1, 3)
        outline = np.concatenate([outline[:1], inner, outline[-1:]])
    return outline


def _clip(points: Reals, axis: int, low: float, high: float) -> Reals:
    """The part of a polygon (N, 2) between two values of one coordinate."""
    for bound, sign in ((low, 1.0), (high, -1.0)):
        kept = []
        inside = (points[:, axis] - bound) * sign
        for i, point in enumerate(points):
            if (inside[i] > 0) != (inside[i - 1] > 0):
                share = inside[i - 1] / (inside[i - 1] - inside[i])
                kept.append(points[i - 1] + (point - points[i - 1]) * share)
            if inside[i] > 0:
                kept.append(point)
        points = np.array(kept, np.float64).reshape(-1, 2)
    return points


def _lacquer(
    light: Light, eye: Reals, base: Reals, normals: Reals, places: Reals, gloss: float
) -> Reals:
    """(N, 3): matt light, what the surface mirrors (sky, houses or road), and the sun's glint."""
    sunny = (normals * light.toward_sun).sum(axis=1)
    matt = light.ambient * (0.8 + 0.2 * normals[:, 1:2])
    matt = matt + light.sun * np.maximum(sunny, 0)[:, None]
    ray = places - eye
    ray /= np.sqrt((ray * ray).sum(axis=1, keepdims=True))
    cosine = np.clip(-(ray * normals).sum(axis=1), 0, 1)
    up = ray[:, 1] + 2 * cosine * normals[:, 1]  # of the mirrored ray
    seen = np.interp(up, [-1, -0.1, 0.0, 0.25, 1], [0.25, 0.2, 0.16, 0.85, 0.75])[:, None]
    share = (gloss * (0.06 + 0.8 * (1 - cosine) ** 4))[:, None]
    glint = np.clip(2 * cosine * sunny + (ray * light.toward_sun).sum(axis=1), 0, 1) ** 24
    mirrored = seen * (light.haze * 0.5 + 0.45)
    lit: Reals = base * matt * (1 - share) + mirrored * share
    return lit + light.sun * glint[:, None] * 0.5 * gloss


class _Body:
    """One vehicle being sketched."""

    def __init__(self, canvas: Canvas, vehicle: Vehicle, sketch: Sketch) -> None:
        self.canvas, self.vehicle, self.sketch = canvas, vehicle, sketch
        self.shape, self.top = vehicle.shape, vehicle.shape.top
        self.flank = 1 if canvas.view.eye[0] > vehicle.x else -1  # the side that is seen
        self.rear = vehicle.heading > 0  # the end that is seen
        self.near = max(sketch.size) > 28  # pixels; smaller ones need no details
        boxy = self.top > 2
        self.outline = _rounded(np.array(self.shape.outline), 0 if boxy else 1 + self.near)
        self.bulge = 0.06 if boxy else 0.2  # metres by which the ends are rounded

    def fill(self, points: Reals, colour: Colour) -> None:
        self.sketch.polygon(self.canvas.view.project(points), colour)

    def colour(self, base: Reals, normal: Reals, place: Reals, gloss: float) -> Reals:
        eye = self.canvas.view.eye
        one: Reals = _lacquer(self.canvas.light, eye, base, normal[None], place[None], gloss)[0]
        return one

    def on_flank(self, points: Reals) -> Reals:
        """(N, 2) shares and heights to street points (N, 3) of the visible side."""
        belt = self.shape.belt
        body = max(w for _, y, w in self.shape.outline if y <= belt + 0.1)
        roof = min(w for _, y, w in self.shape.outline if y >= self.top - 0.1)
        half = np.interp(points[:, 1], [belt, self.top], [body, roof])
        return self.vehicle.points(points[:, 0], points[:, 1], self.flank * half)

    def paint_flank(self) -> None:
        """Bands from the sill to the roof, each turned differently to the sky; the panes."""
        side, belt, low = self.outline[:, :2], self.shape.belt, self.outline[0, 1]
        levels = [low + (belt - low) * k for k in (0, 0.18, 0.4, 0.62, 0.85, 1)] + [self.top]
        middle = self.on_flank(np.array([[0.5, belt]]))[0]
        for k, tilt in enumerate((-0.45, -0.15, 0.0, 0.12, 0.4, 0.3)):
            band = _clip(side, 1, levels[k] - 0.01, levels[k + 1] + 0.01)
            normal = np.array([self.flank, tilt, 0.0]) / math.hypot(1, tilt)
            if len(band) > 2:
                self.fill(self.on_flank(band), self.colour(self.vehicle.paint, normal, middle, 0.8))
        cabin = _clip(side, 1, belt, self.top)
        cabin[:, 1] = belt + (cabin[:, 1] - belt) * 0.84  # leaves the edge of the roof
        glass = self.colour(GLASS, np.array([self.flank * 0.93, 0.36, 0.0]), middle, 1.0)
        for start, end in self.shape.panes:
            pane = _clip(cabin, 0, start, end)
            if len(pane) > 2:
                self.fill(self.on_flank(pane), glass)
        if self.near and self.top < 2:
            self.paint_seams(glass * 0.5)

    def paint_seams(self, dark: Reals) -> None:
        """Door gaps and handles."""
        belt = self.shape.belt
        gaps = [(share, 0.42, share + 0.004, belt) for share in (0.41, 0.67)]
        grips = [(share, belt - 0.13, share + 0.04, belt - 0.1) for share in (0.34, 0.55)]
        for s0, y0, s1, y1 in gaps + grips:
            self.fill(self.on_flank(np.array([(s0, y0), (s1, y0), (s1, y1), (s0, y1)])), dark)

    def bulged(self, share: Reals, across: Reals) -> Reals:
        """Shares of the length drawn in towards the corners of the body."""
        end = np.clip((np.abs(2 * share - 1) - 0.6) / 0.4, 0, 1)
        drawn: Reals = np.sign(share - 0.5) * end * self.bulge / self.shape.length * across**4
        return share - drawn

    def paint_shell(self) -> None:
        """Roof, bonnet and ends: a net of small faces, those that look at the camera."""
        v, eye = self.vehicle, self.canvas.view.eye
        across = np.linspace(-1, 1, 7 if self.near else 3)
        share, height, half = (self.outline[:, k : k + 1] for k in range(3))
        drooping = height - 0.05 * across**4 * (height / self.top) ** 3
        net = v.points(self.bulged(share, across), drooping, half * across)  # (N, A, 3)
        right, ahead = net[:-1, 1:] - net[:-1, :-1], net[1:, :-1] - net[:-1, :-1]
        normals = np.asarray(np.cross(right, ahead) * -v.heading, np.float64).reshape(-1, 3)
        normals /= np.maximum(np.sqrt((normals * normals).sum(axis=1, keepdims=True)), 1e-9)
        middles = ((net[:-1, :-1] + net[1:, 1:]) / 2).reshape(-1, 3)
        seen = ((eye - middles) * normals).sum(axis=1) > 0
        tones = _lacquer(self.canvas.light, eye, v.paint, normals, middles, 0.9)
        flat = self.canvas.view.project(net.reshape(-1, 3)).reshape(net.shape)
        order = np.arange(len(seen)).reshape(len(net) - 1, -1)
        for face in (order[::-1] if self.rear else order).ravel():
            if seen[face]:
                i, j = divmod(int(face), order.shape[1])
                corners = (flat[i, j], flat[i, j + 1], flat[i + 1, j + 1], flat[i + 1, j])
                self.sketch.polygon(corners, tones[face])
        for step in self.shape.glass:
            self.paint_screen(step)

    def paint_screen(self, step: int) -> None:
        """Windscreen or rear window: two tones, darker below."""
        low, high = np.array(self.shape.outline[step : step + 2])
        run = (high[0] - low[0]) * self.shape.length
        normal = np.array([0.0, run, (low[1] - high[1]) * self.vehicle.heading])
        normal /= math.hypot(normal[1], normal[2])
        share, height, _ = (low + high) / 2
        middle = self.vehicle.points(share, height, np.array(0.0))
        if float((normal * (self.canvas.view.eye - middle)).sum()) <= 0:
            return
        glass = self.colour(GLASS, normal, middle, 1.0)
        for start, tone in ((0.1, 0.9), (0.5, 1.2)):
            (s0, y0, w0), (s1, y1, w1) = (low + (high - low) * t for t in (start, 0.92))
            across = 0.88 * np.array([-w0, w0, w1, -w1])
            quad = self.vehicle.points(
                np.array([s0, s0, s1, s1]), np.array([y0, y0, y1, y1]), across
            )
            self.fill(quad, glass * tone)

    def paint_end(self, braking: bool) -> None:
        """Bumper, grille, plate and lamps of the end that is seen."""
        light, low = self.canvas.light.shade([0, 0, -1]), self.shape.outline[0][1]
        self.on_end((-0.97, low, 0.97, low + 0.17), BUMPER * light)
        if not self.rear:
            self.on_end((-0.55, 0.52, 0.55, 0.68), GRILLE * light)
        plate = REAR_PLATE if self.rear else FRONT_PLATE
        self.on_end((-0.29, low + 0.2, 0.29, low + 0.31), plate * light)
        lamp = REAR_LAMP * (1.5 if braking else 0.7) if self.rear else FRONT_LAMP * light
        level, size = (0.72, 0.18) if self.rear else (0.64, 0.15)
        if self.top > 2:
            level, size = 1.0, 0.26
        for side in (-1, 1):
            self.on_end((side * 0.97, level, side * 0.7, level + size), lamp)
            if self.near:
                inner = (side * 0.92, level + 0.04, side * 0.82, level + size - 0.05)
                self.on_end(inner, lamp * 1.3)

    def on_end(self, box: tuple[float, float, float, float], colour: Colour) -> None:
        """A patch on the rounded end: (x, y, x, y), x in shares of the half width."""
        sections = np.array(self.shape.outline[:4] if self.rear else self.shape.outline[:-5:-1])
        across = np.linspace(box[0], box[2], 7)
        edges = []
        for y in (box[1], box[3]):
            share, half = (float(np.interp(y, sections[:, 1], sections[:, k])) for k in (0, 2))
            shares = self.bulged(np.full(7, share), across)
            edges.append(self.vehicle.points(shares, np.array(y), across * half))
        self.fill(np.concatenate([edges[0], edges[1][::-1]]), colour)

    def paint_far_tyres(self) -> None:
        """The tyres of the side that is not seen, as they show below the body."""
        out = -self.flank * (self.shape.outline[0][2] + 0.03)
        for share in self.shape.wheels:
            for inner in (0.2, 0.15, 0.1, 0.05, 0.0) if self.near else (0.1,):
                self.fill(self.wheel(share, self.shape.radius, out + self.flank * inner), RUBBER)

    def paint_wheels(self) -> None:
        """The wheels of the side that is seen: arch, tyre, rim, spokes."""
        out, radius = self.flank * (self.shape.outline[0][2] + 0.03), self.shape.radius
        rim = RIM * self.canvas.light.shade([self.flank, 0, 0])
        for share in self.shape.wheels:
            self.fill(self.wheel(share, radius * 1.15, out, math.pi), RUBBER * 0.6)
            self.fill(self.wheel(share, radius, out), RUBBER)
            self.fill(self.wheel(share, radius * 0.64, out), rim)
            hub = self.vehicle.points(*(np.array([value]) for value in (share, radius, out)))
            for k in range(5) if self.near else ():
                gap = self.wheel(share, radius * 0.5, out, math.pi / 6, k * 2 * math.pi / 5)
                self.fill(np.concatenate([gap, hub]), rim * 0.45)

    def wheel(
        self, share: float, radius: float, out: float, turn: float = 2 * math.pi, start: float = 0
    ) -> Reals:
        """An arc around a hub, `out` metres right of the middle: (N, 3)."""
        angles = np.linspace(start, start + turn, 19 if self.near else 9)
        shares = share + radius * np.cos(angles) / self.shape.length
        return self.vehicle.points(
            shares, self.shape.radius + radius * np.sin(angles), np.array(out)
        )
