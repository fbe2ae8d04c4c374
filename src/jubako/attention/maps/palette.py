"""Colours of maps: one table for pages, images and terminals.

Both themes go from the colour of their ground to its opposite, in steps that look alike (Oklab, Björn Ottosson 2020),
and lightness alone tells more from less, for eyes and printers that see no hues. Differences go two ways from the
ground, blue below zero and red above. Masked cells are grey-blue and cells that are no numbers green, in neither scale.
"""

from __future__ import annotations

from functools import cache
from math import log10

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

__all__ = ["DECADES", "SCALES", "THEMES", "Colour", "Scale", "Theme", "palette_of", "tint_codes"]

Colour: TypeAlias = "tuple[int, int, int]"
Theme: TypeAlias = "Literal['light', 'dark']"
Scale: TypeAlias = "Literal['linear', 'sqrt', 'log']"
THEMES: tuple[Theme, ...] = ("light", "dark")
SCALES: tuple[Scale, ...] = ("linear", "sqrt", "log")
DECADES = 4  # that a logarithmic scale shows below the largest

_ROWS = {  # colours at even distances, from nothing to the largest
    ("light", False): ("fffdf8", "fbe3b4", "f4ae6a", "e2683f", "b42a2f", "701a35", "2c0d22"),
    ("dark", False): ("14110f", "4a191e", "8a2420", "c63f26", "ee7a33", "f9c05e", "fffbe6"),
    ("light", True): ("0b2a5b", "2a66a8", "86b4da", "fffdf8", "f2a878", "c2402f", "5f1020"),
    ("dark", True): ("cfe9ff", "6fb0ea", "2b5f9e", "14110f", "8f2a1e", "e8683a", "ffe3b0"),
}
_MASKED = {"light": (214, 220, 228), "dark": (44, 51, 62)}
_NOT_FINITE = {"light": (0, 168, 132), "dark": (0, 214, 160)}


@cache
def palette_of(theme: Theme, *, is_signed: bool) -> tuple[Colour, ...]:
    """256 colours: the first 254 from the least to the largest, then those of masked cells and of no numbers."""
    points = [_to_oklab(text) for text in _ROWS[theme, is_signed]]
    colours = []
    for step in range(254):
        place = step / 253 * (len(points) - 1)
        below = min(int(place), len(points) - 2)
        share = place - below
        pairs = zip(points[below], points[below + 1], strict=True)
        colours.append(_from_oklab([a + (b - a) * share for a, b in pairs]))
    return (*colours, _MASKED[theme], _NOT_FINITE[theme])


def tint_codes(levels: int, *, is_signed: bool, scale: Scale, theme: Theme) -> tuple[Colour, ...]:
    """The colour of each of the 256 codes that a map of so many `levels` can have."""
    palette = palette_of(theme, is_signed=is_signed)
    zero = levels // 2 if is_signed else 0
    middle = 126.5 if is_signed else 0
    tints = []
    for code in range(254):
        steps = min(code, levels) - zero
        shade = _shade_of(abs(steps) / (levels - zero), scale) * (253 - middle)
        tints.append(palette[round(middle + (shade if steps >= 0 else -shade))])
    return (*tints, *palette[254:])


def _shade_of(root: float, scale: Scale) -> float:
    """How far along the colours a cell is, 0 to 1, whose share of the largest has this square root."""
    if scale == "linear":
        return root * root
    if scale == "sqrt":
        return root
    return max(0.0, 1 + 2 * log10(root) / DECADES) if root > 0 else 0.0


def _to_oklab(text: str) -> list[float]:
    red, green, blue = (_to_linear(int(text[i : i + 2], 16) / 255) for i in (0, 2, 4))
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return [
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    ]


def _from_oklab(colour: list[float]) -> Colour:
    lightness, a, b = colour
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        _to_byte(4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short),
        _to_byte(-1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short),
        _to_byte(-0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short),
    )


def _to_linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _to_byte(value: float) -> int:
    value = min(1.0, max(0.0, value))
    encoded = 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
    return round(encoded * 255)
