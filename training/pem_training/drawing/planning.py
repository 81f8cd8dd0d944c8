"""Where everything stands: lots with buildings and trees, furniture, people, traffic."""

from functools import partial

import numpy as np

from pem_training.drawing import barriers, buildings, furniture, greenery, people
from pem_training.drawing.planes import AHEAD, RIGHT, upright
from pem_training.drawing.street import Side, Street
from pem_training.drawing.vehicle_shapes import draw_vehicle
from pem_training.drawing.vehicles import paint_vehicle
from pem_training.drawing.view import Rng

END = 120.0  # metres: nothing is planned beyond
BARRIERS = {  # least and greatest height in metres
    barriers.paint_railings: (0.9, 1.5),
    barriers.paint_boards: (1.0, 1.8),
    barriers.paint_garden_wall: (0.7, 2.0),
    greenery.paint_hedge: (0.8, 1.6),
}


def fill_street(rng: Rng, street: Street) -> None:
    """Plan both sides and the road."""
    for side in street.sides:
        _plan_buildings(rng, street, side)
        _plan_garden(rng, street, side)
        _plan_barrier(rng, street, side)
        _plan_posts(rng, street, side)
        _plan_signals(rng, street, side)
        _plan_street_trees(rng, street, side)
        _plan_bicycles(rng, street, side)
        _plan_people(rng, street, side)
        _plan_parked(rng, street, side)
    _plan_traffic(rng, street)


def _plan_buildings(rng: Rng, street: Street, side: Side) -> None:
    kind = {"town": "terrace", "suburb": "house", "blocks": "block"}.get(side.kind)
    if kind is None:
        return
    z = rng.uniform(1, 3) if kind == "terrace" else rng.uniform(3, 9)
    shaded_to = _shade_of_other_side(street, side)
    before: buildings.Building | None = None
    while z < END:
        house = buildings.draw_building(rng, side.side, side.side * side.front, z, kind)
        joined = kind == "terrace" and rng.uniform() < 0.85
        gap = rng.uniform(*{"terrace": (2, 5), "house": (2.5, 6), "block": (2, 14)}[kind])
        z = house.far + (0.0 if joined else gap)
        if street.open(house.near - 2, house.far + 2):
            end_seen = before is None or not before.hides(house)
            _add_building(street, house, end_seen, shaded_to)
            before = house


def _add_building(
    street: Street, house: buildings.Building, end_seen: bool, shaded_to: float
) -> None:
    paint = partial(
        buildings.paint_building, building=house, end_seen=end_seen, shaded_to=shaded_to
    )
    street.add_long(house.front, house.far, paint)
    corner, height = [house.front, 0, house.near], house.height + house.pitch * 0.6
    back = [house.front + house.side * house.depth, 0, house.near]
    street.cast(np.array([corner, [house.front, 0, house.far]]), height)
    street.cast(np.array([corner, back]), height)


def _shade_of_other_side(street: Street, side: Side) -> float:
    """How far up the fronts of a side the shade of the opposite row reaches, in metres."""
    other = street.sides[0] if side.side > 0 else street.sides[1]
    tall = {"town": 9.0, "blocks": 18.0, "suburb": 5.0}.get(other.kind, 0.0)
    toward = side.side * float(street.shadow[0])  # metres of shade a metre of height casts here
    return tall - (side.front + other.front) / toward if toward > 1e-6 else 0.0


def _plan_garden(rng: Rng, street: Street, side: Side) -> None:
    """Trees and shrubs behind the sidewalk."""
    edge = max(side.front - 1.0, side.back + 2)
    deep = 30.0 if side.kind in ("park", "field") else 0.5
    for _ in range({"town": 0, "blocks": 3, "suburb": 9, "park": 26, "field": 7}[side.kind]):
        x = side.side * rng.uniform(side.back + 1.5, edge + deep)
        _add_tree(rng, street, x, rng.uniform(9, END))
    for _ in range({"suburb": 8, "park": 8, "field": 4}.get(side.kind, 0)):
        x, z = side.side * rng.uniform(side.back + 0.8, edge), rng.uniform(6, 50)
        street.add(x, z, partial(greenery.paint_shrub, x=x, z=z))


def _plan_barrier(rng: Rng, street: Street, side: Side) -> None:
    """A fence, wall or hedge behind the sidewalk, in panels that look alike."""
    chance = {"suburb": 0.75, "park": 0.65, "field": 0.4, "blocks": 0.3, "town": 0.0}[side.kind]
    paint = list(BARRIERS)[rng.randint(len(BARRIERS))]
    height, panel, seed = rng.uniform(*BARRIERS[paint]), 6.0, int(rng.randint(1 << 30))
    if rng.uniform() > chance:
        return
    x = side.side * (side.back + 0.2)
    for near in np.arange(2.5, 70, panel):
        if street.open(near - 1, near + panel + 1) and rng.uniform() > 0.08:
            plane = upright([x, 0, near], AHEAD, panel, height)
            panel_of_row = partial(paint, plane=plane, toward_street=-side.side)
            street.add_long(x, near + panel, panel_of_row, seed)
            street.cast(np.array([plane.at(0, 0), plane.at(panel, 0)]), height)


def _plan_posts(rng: Rng, street: Street, side: Side) -> None:
    """Street lamps, utility poles, bollards."""
    edge = side.side * (side.kerb + 0.45)
    for z in np.arange(rng.uniform(6, 20), END, rng.uniform(22, 35)):
        lamp = partial(furniture.paint_lamp, x=edge, z=z, toward_street=-side.side)
        street.add(edge, z, lamp)
        street.cast_post(edge, z, 7)
    if side.kind in ("suburb", "field") and rng.uniform() < 0.6:
        x = side.side * (side.back - 0.3)
        for z in np.arange(rng.uniform(8, 20), END, 28):
            street.add(x, z, partial(furniture.paint_utility_pole, x=x, z=z))
            street.cast_post(x, z, 7.5, 0.24)
    if rng.uniform() < 0.35:
        for z in np.arange(rng.uniform(4, 8), rng.uniform(15, 30), rng.uniform(1.5, 2.5)):
            bollard = partial(furniture.paint_pole, x=edge, z=z, height=1.0, thick=0.14)
            street.add(edge, z, bollard)
            street.cast_post(edge, z, 1.0)


def _plan_signals(rng: Rng, street: Street, side: Side) -> None:
    """Road signs, and traffic lights at the side street."""
    for _ in range(rng.randint(0, 4)):
        x, z = side.side * (side.kerb + rng.uniform(0.3, 0.7)), rng.uniform(6, 45)
        street.add(x, z, partial(furniture.paint_road_sign, x=x, z=z))
        street.cast_post(x, z, 2.5)
    if street.crossing and rng.uniform() < 0.75:
        x, z = side.side * (side.kerb + 0.45), street.crossing[0] - 1.0
        street.add(x, z, partial(furniture.paint_traffic_light, x=x, z=z))
        street.cast_post(x, z, 3.4)


def _plan_street_trees(rng: Rng, street: Street, side: Side) -> None:
    if side.kind in ("town", "suburb", "blocks") and rng.uniform() < 0.45:
        for z in np.arange(rng.uniform(7, 14), 90, rng.uniform(8, 14)):
            if rng.uniform() < 0.8:
                _add_tree(rng, street, side.side * (side.kerb + 0.8), z)


def _plan_bicycles(rng: Rng, street: Street, side: Side) -> None:
    """A row of parked bicycles, one beside or behind the other."""
    if side.back - side.kerb < 1.5 or rng.uniform() > 0.4:
        return
    x, axis = side.side * (side.back - 0.5), AHEAD if rng.uniform() < 0.6 else RIGHT
    for z in np.arange(rng.uniform(5, 18), 22, 0.8)[: rng.randint(1, 6)]:
        street.add(x, z, partial(furniture.paint_bicycle, x=x, z=z, axis=axis))


def _plan_people(rng: Rng, street: Street, side: Side) -> None:
    most = {"town": 9, "blocks": 6, "suburb": 4, "park": 5, "field": 2}[side.kind]
    wide = side.back - side.kerb
    for _ in range(rng.randint(0, most + 1) if wide > 1 else 0):
        x = side.side * (side.kerb + wide * rng.uniform(0.2, 0.85))
        z = 5.5 + 50 * rng.uniform() ** 1.7
        for beside in (0.0, 0.6) if rng.uniform() < 0.25 else (0.0,):
            street.add(x + beside, z, partial(people.paint_person, x=x + beside, z=z))
            street.cast_post(x + beside, z, 1.6, 0.4)


def _plan_parked(rng: Rng, street: Street, side: Side) -> None:
    if side.kerb - street.lanes * street.lane < 1.0 or rng.uniform() < 0.45:
        return
    z = rng.uniform(6, 20)
    while z < 90:
        kind = "van" if rng.uniform() < 0.15 else "car"
        if street.open(z - 6, z + 6) and rng.uniform() < 0.75:
            heading = side.side * street.drive
            _add_vehicle(rng, street, kind, side.side * (side.kerb - 1.05), z, heading)
        z += rng.uniform(5.8, 7.5)


def _plan_traffic(rng: Rng, street: Street) -> None:
    kinds = ("car", "van", "bus", "truck")
    for k in range(street.lanes):
        for heading in (1, -1):
            x = heading * street.drive * (k + 0.5) * street.lane
            own = abs(x - street.eye_x) < 1.0
            z = rng.uniform(12, 45) if own else rng.uniform(9, 40)
            for _ in range(rng.randint(0, 4)):
                kind = kinds[int(np.searchsorted([0.72, 0.83, 0.92], rng.uniform()))]
                z += 5.0 if kind in ("bus", "truck") else 0.0
                _add_vehicle(rng, street, kind, x + rng.uniform(-0.2, 0.2), z, heading)
                z += rng.uniform(11, 35)


def _add_vehicle(rng: Rng, street: Street, kind: str, x: float, z: float, heading: int) -> None:
    vehicle = draw_vehicle(rng, kind, x, z, heading)
    street.add_long(x, z + vehicle.shape.length / 2, partial(paint_vehicle, vehicle=vehicle))
    for share in (0.0, 0.4, 0.85):
        street.shadows.append(vehicle.footprint() + share * vehicle.shape.top * street.shadow)


def _add_tree(rng: Rng, street: Street, x: float, z: float) -> None:
    tree = greenery.draw_tree(rng, x, z)
    if not street.open(z - 1, z + 1):
        return
    street.add(x, z, partial(greenery.paint_tree, tree=tree))
    street.cast_post(x, z, tree.height * 0.5, 0.3)
    turns = np.linspace(0, 2 * np.pi, 9)[:-1]
    disc = np.stack([np.cos(turns), np.zeros(8), np.sin(turns)], axis=1)
    spots = 0 if tree.kind == "bare" else 30 if z < 60 else 8
    for _ in range(spots):  # the crown's shade, with gaps of sun
        out, turn = np.sqrt(rng.uniform()) * tree.spread, rng.uniform(0, 2 * np.pi)
        place = np.array([x + out * np.cos(turn), 0, z + out * np.sin(turn)])
        place += tree.height * rng.uniform(0.4, 0.9) * street.shadow
        street.shadows.append(place + disc * rng.uniform(0.12, 0.3) * tree.spread)
