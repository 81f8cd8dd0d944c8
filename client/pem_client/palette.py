"""One color per class, from a formula, so that other programs can draw the same image.

Each channel steps through 48..255 by its own stride. A search over strides and starts maximized the
distance in CIELAB between the 150 classes of ADE20K: no two colors are closer than 6, neighboring
class ids (up to three apart) are at least 32 apart, and no color is near black or gray.
"""

__all__ = ["class_colour"]


def class_colour(cls_id: int) -> tuple[int, int, int]:
    """The (red, green, blue) of a 0-based class id, each 48..255."""
    return (
        48 + (148 * cls_id + 204) % 208,
        48 + (113 * cls_id + 71) % 208,
        48 + (183 * cls_id + 22) % 208,
    )
