"""What a figure is once it is drawn."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawn figure, ready for a page or a file.

    Attributes:
        name: The file's name without its ending, such as ``fig-09-activation-maps``.
        title: One line above it.
        caption: What is seen, from which runs, on which images, how many.
        png: The encoded picture.
    """

    name: str
    title: str
    caption: str
    png: bytes
