"""Two lists beside images: which show one lesion or one patient, and which may not be used.

``groups.csv`` in a dataset folder:

    image_id,lesion_group
    ISIC_0000000,g0001

Images of one group stay on one side of every split. The name of a group means something in its
own file only; an image that is in groups of two folders joins them. So a group is named by the
smallest image id in it.

A list of images, masks and labels that may not be used, for their licence, say:

    image_id,part
    ISIC_0012345,mask

A part is ``image``, ``mask`` or ``label``; an image can be named once for each.
"""

import hashlib
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dermfuse.data.isic2016 import Lesion, name_some, read_pairs
from dermfuse.errors import DataError

GROUPS_NAME = "groups.csv"
PARTS = ("image", "mask", "label")
"""What a line can leave out."""


@dataclass(frozen=True, slots=True)
class GroupLine:
    """A line of a ``groups.csv``.

    Args:
        path: The file.
        line: Its number.
        image_id: The image.
        group: The name of its group, in this file.
    """

    path: Path
    line: int
    image_id: str
    group: str


def read_groups(folder: Path) -> tuple[GroupLine, ...]:
    """Returns the lines of a folder's ``groups.csv``; none where there is no such file.

    Raises:
        DataError: The file cannot be read, its header is another one, a line has an empty field
            or not two, or an image is named twice.
    """
    path = folder / GROUPS_NAME
    if not path.exists():
        return ()
    found: dict[str, GroupLine] = {}
    for line, (image_id, group) in read_pairs(path, ("image_id", "lesion_group")):
        if image_id in found:
            raise DataError(
                f"{path}, line {line}: {image_id} for the second time",
                expected="each image in one group",
                action="Remove one of its lines",
            )
        found[image_id] = GroupLine(path, line, image_id, group)
    return tuple(found.values())


def find_unknown(lines: Iterable[GroupLine], known: Container[str]) -> Iterator[DataError]:
    """Yields an error for each line whose image is unknown.

    Args:
        lines: The lines of all folders' lists.
        known: The ids that a folder holds an image, a mask or a label of.
    """
    for each in lines:
        if each.image_id not in known:
            yield DataError(
                f"{each.path}, line {each.line}: {each.image_id} of group {each.group} is in no"
                " folder",
                expected="images that a dataset folder holds",
                action="Name its folder with --data or remove the line",
            )


def join_groups(lines: Iterable[GroupLine]) -> dict[str, str]:
    """Returns the smallest image id of each image's group.

    Args:
        lines: The lines of all folders' lists; groups that have an image in common are one.

    Example:
        >>> a, b = Path("a/groups.csv"), Path("b/groups.csv")
        >>> lines = [GroupLine(a, 2, "ISIC_3", "g1"), GroupLine(a, 3, "ISIC_2", "g1")]
        >>> join_groups([*lines, GroupLine(b, 2, "ISIC_1", "x"), GroupLine(b, 3, "ISIC_3", "x")])
        {'ISIC_3': 'ISIC_1', 'ISIC_2': 'ISIC_1', 'ISIC_1': 'ISIC_1'}
    """
    first: dict[tuple[Path, str], str] = {}
    return join_pairs(
        (first.setdefault((each.path, each.group), each.image_id), each.image_id) for each in lines
    )


def join_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns the smallest of the ids that pairs join each one with, directly or through others.

    Example:
        >>> join_pairs([("b", "c"), ("d", "d"), ("a", "c")])
        {'b': 'a', 'c': 'a', 'd': 'd', 'a': 'a'}
    """
    members: dict[str, set[str]] = {}  # of each id; those that are joined share one set
    for pair in pairs:
        one, other = (members.setdefault(i, {i}) for i in pair)
        if one is not other:
            one |= other
            members |= dict.fromkeys(other, one)
    return {i: min(joined) for i, joined in members.items()}


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """What may not be used.

    Args:
        file_name: The list's file.
        sha256: The list's SHA-256.
        ids: By part: the ids whose image, mask or label is not used.
    """

    file_name: str
    sha256: str
    ids: Mapping[str, frozenset[str]]

    def apply(self, lesions: Sequence[Lesion]) -> tuple[Lesion, ...]:
        """Returns the lesions without what may not be used."""
        images, masks, labels = (self.ids[part] for part in PARTS)
        return tuple(
            replace(
                lesion,
                mask_path=None if lesion.image_id in masks else lesion.mask_path,
                label=None if lesion.image_id in labels else lesion.label,
            )
            for lesion in lesions
            if lesion.image_id not in images
        )

    def sentences(self) -> tuple[str, ...]:
        """Returns a sentence for each kind of thing that is left out."""
        return tuple(
            f"{len(ids)} {part}s left out (named by {self.file_name}): {name_some(sorted(ids))}"
            for part, ids in self.ids.items()
            if ids
        )

    def lines(self) -> list[str]:
        """Returns what is left out as sorted lines ``image_id,part``."""
        return sorted(f"{image_id},{part}" for part, ids in self.ids.items() for image_id in ids)

    def to_dict(self) -> dict[str, Any]:
        """Returns the list's name, its counts and its SHA-256, as a run records them."""
        counts = {f"{part}s": len(ids) for part, ids in self.ids.items()}
        return {"file": self.file_name, **counts, "sha256": self.sha256}


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
    for line, (image_id, part) in read_pairs(path, ("image_id", "part")):
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
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return LeaveOut(path.name, sha256, {part: frozenset(ids[part]) for part in PARTS})
