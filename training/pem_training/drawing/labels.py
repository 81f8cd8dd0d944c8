"""The classes of a drawn scene, by their numbers in the ADE20K scene-parsing data (0 = none)."""

WALL = 1
BUILDING = 2
SKY = 3
TREE = 5
ROAD = 7
GRASS = 10
SIDEWALK = 12
PERSON = 13
EARTH = 14
MOUNTAIN = 17
PLANT = 18
CAR = 21
FENCE = 33
SIGNBOARD = 44
BUS = 81
TRUCK = 84
STREET_LAMP = 88
POLE = 94
VAN = 103
BICYCLE = 128
TRAFFIC_LIGHT = 137

CLASSES = {
    WALL: "wall",
    BUILDING: "building",
    SKY: "sky",
    TREE: "tree",
    ROAD: "road",
    GRASS: "grass",
    SIDEWALK: "sidewalk",
    PERSON: "person",
    EARTH: "earth",
    MOUNTAIN: "mountain",
    PLANT: "plant",
    CAR: "car",
    FENCE: "fence",
    SIGNBOARD: "signboard",
    BUS: "bus",
    TRUCK: "truck",
    STREET_LAMP: "street lamp",
    POLE: "pole",
    VAN: "van",
    BICYCLE: "bicycle",
    TRAFFIC_LIGHT: "traffic light",
}
