"""What one image may take: checked from its header, before memory is taken for its pixels.

A small file may claim a very large picture. What is allowed is said in pixels; a kind whose decoder
takes more memory for each of them may have fewer, so that none takes more than another.
"""

from dermfuse.errors import ConfigError, ImageError

MAX_PIXELS = 37_000_000
"""Images with more pixels are refused from their header, before any is decoded."""
MOST_PIXELS = 178_000_000
"""The largest limit that can be asked for: Pillow decodes no more."""
MIN_SIDE_PX = 16
"""Images with a shorter side are refused: no lesion can be recognised in them."""
PIXEL_BYTES = 8
"""What decoding may take in memory for each of the pixels allowed, the result included."""
AS_PNG = "Save the image as PNG"


def check_max_pixels(pixels: int) -> int:
    """Returns a limit that can be used.

    Raises:
        ConfigError: It is below the smallest image, or above what Pillow decodes.
    """
    if not MIN_SIDE_PX**2 <= pixels <= MOST_PIXELS:
        raise ConfigError(
            f"the limit is {pixels:,} pixels", expected=f"{MIN_SIDE_PX**2} to {MOST_PIXELS:,}"
        )
    return pixels


class RefusalError(Exception):
    """An image that is refused, by what looks into it: only the edge knows what it is called.

    Args:
        found: What is wrong with it.
        expected: What was expected instead.
        action: What the user can do about it.

    Example:
        >>> refused = RefusalError("the image is animated", "a single frame", AS_PNG)
        >>> print(refused.named("a.gif"))
        a.gif: the image is animated. Expected: a single frame. Save the image as PNG.
    """

    def __init__(
        self,
        found: str,
        expected: str = "one JPEG, PNG, TIFF, BMP, GIF or WebP image",
        action: str = "Fetch the file again",
    ) -> None:
        super().__init__(found)
        self.found, self.expected, self.action = found, expected, action

    def named(self, name: str) -> ImageError:
        """Returns the refusal of the image of this name."""
        return ImageError(f"{name}: {self.found}", expected=self.expected, action=self.action)


def too_many(what: str, most: int) -> RefusalError:
    """Returns the refusal of a file with more parts than a picture needs.

    Example:
        >>> print(too_many("blocks", 1000).named("a.gif"))
        a.gif: more than 1,000 blocks. Expected: a picture and little else. Save the image as PNG.
    """
    return RefusalError(f"more than {most:,} {what}", "a picture and little else", AS_PNG)


def check_size(
    width: int, height: int, *, max_pixels: int = MAX_PIXELS, pixel_bytes: float = PIXEL_BYTES
) -> None:
    """Refuses images that are too large to be decoded, or too small to show a lesion.

    Args:
        width: Width in pixels.
        height: Height in pixels.
        max_pixels: The number of pixels allowed.
        pixel_bytes: What the decoder of this kind takes for each; more than ``PIXEL_BYTES``
            lowers the limit.

    Raises:
        RefusalError: The size is outside the limits.

    Example:
        >>> check_size(1024, 768)
        >>> check_size(8000, 6000, pixel_bytes=18)
        Traceback (most recent call last):
            ...
        dermfuse.imaging.limits.RefusalError: 8000 x 6000 pixels
    """
    found = f"{width} x {height} pixels"
    allowed = int(max_pixels * min(1.0, PIXEL_BYTES / pixel_bytes))
    if width * height > allowed:
        fewer = f"{allowed:,} pixels or fewer" if allowed else "a layout that takes less memory"
        kind = " for an image of this kind" if 0 < allowed < max_pixels else ""
        raise RefusalError(found, f"{fewer}{kind}", "Shrink the image")
    if min(width, height) < MIN_SIDE_PX:
        raise RefusalError(found, f"{MIN_SIDE_PX} or more on each side", "Use the original image")
