"""One colour a class, from a closed formula, so that other programs can draw the same image.

Each channel steps through 48..255 by its own stride. The strides and starts were searched for by
distance in CIELAB over the 150 classes of ADE20K: no two colours are closer than 6, neighbouring
class ids (up to three apart) are at least 32 apart, and no colour is near black or grey.
"""

__all__ = ["class_colour"]


def class_colour(cls_id: int) -> tuple[int, int, int]:
    """The (red, green, blue) of a class, each 48..255; `cls_id` is 0-based."""
    return (
        48 + (148 * cls_id + 204) % 208,
        48 + (113 * cls_id + 71) % 208,
        48 + (183 * cls_id + 22) % 208,
    )
