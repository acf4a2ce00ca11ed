"""A list of images, masks and labels that may not be used, for their licence, say.

    image_id,part
    ISIC_0012345,mask

A part is ``image``, ``mask`` or ``label``; an image can be named once for each.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dermfuse.data.groups import read_two_columns
from dermfuse.data.isic2016 import Lesion
from dermfuse.errors import DataError

PARTS = ("image", "mask", "label")
"""What a line can leave out."""

_COLUMNS = ["image_id", "part"]
_SHOWN_IDS = 5


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """What may not be used.

    Args:
        file_name: Of the list.
        sha256: Of the list.
        images: Ids that are not used at all.
        masks: Ids whose mask is not used.
        labels: Ids whose label is not used.
    """

    file_name: str
    sha256: str
    images: frozenset[str]
    masks: frozenset[str]
    labels: frozenset[str]

    def apply(self, lesions: Sequence[Lesion]) -> tuple[Lesion, ...]:
        """Returns the lesions without what may not be used."""
        return tuple(
            replace(
                lesion,
                mask_path=None if lesion.image_id in self.masks else lesion.mask_path,
                label=None if lesion.image_id in self.labels else lesion.label,
            )
            for lesion in lesions
            if lesion.image_id not in self.images
        )

    def sentences(self) -> tuple[str, ...]:
        """Returns a sentence for each kind of thing that is left out."""
        kinds = (("images", self.images), ("masks", self.masks), ("labels", self.labels))
        return tuple(
            f"{len(ids)} {kind} left out (named by {self.file_name}):"
            f" {', '.join(sorted(ids)[:_SHOWN_IDS])}{' ...' if len(ids) > _SHOWN_IDS else ''}"
            for kind, ids in kinds
            if ids
        )

    def lines(self) -> list[str]:
        """Returns what is left out as sorted lines ``image_id,part``."""
        by_part = zip(PARTS, (self.images, self.masks, self.labels), strict=True)
        return sorted(f"{image_id},{part}" for part, ids in by_part for image_id in ids)

    def to_dict(self) -> dict[str, Any]:
        """Returns the list's name, its counts and its SHA-256, as a run records them."""
        return {
            "file": self.file_name,
            "images": len(self.images),
            "masks": len(self.masks),
            "labels": len(self.labels),
            "sha256": self.sha256,
        }


def read_leave_out(path: Path, *, known: Collection[str]) -> LeaveOut:
    """Returns what a list leaves out.

    Args:
        path: A CSV of ``image_id,part``.
        known: The ids of the data set, those that lack a file included.

    Raises:
        DataError: Naming the line: an unknown part, an id that the data set does not know; or
            the file cannot be read.
    """
    ids: dict[str, set[str]] = {part: set() for part in PARTS}
    for line, (image_id, part) in read_two_columns(path, _COLUMNS):
        if part not in ids:
            raise DataError(
                f"{path}, line {line}: unknown part {part!r} of {image_id}",
                expected=f"one of {', '.join(PARTS)}",
                action="Correct the line",
            )
        if image_id not in known:
            raise DataError(
                f"{path}, line {line}: {image_id} is in no folder",
                expected="an id among the training images",
                action="Remove the line or name the folder with --data",
            )
        ids[part].add(image_id)
    return LeaveOut(
        file_name=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        images=frozenset(ids["image"]),
        masks=frozenset(ids["mask"]),
        labels=frozenset(ids["label"]),
    )
