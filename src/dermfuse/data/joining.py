"""What several dataset folders hold together, and where they contradict each other.

Nothing stops at the first contradiction: whoever has to repair folders wants the whole list.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dermfuse.data.folders import (
    DataFolders,
    find_label_conflicts,
    find_pixel_conflicts,
    has_split,
    list_folders,
    require_split,
)
from dermfuse.data.groups import GroupLine, find_unknown, join_groups, read_groups
from dermfuse.data.isic2016 import Split, SplitFiles, collect_files, find_split, read_labels
from dermfuse.errors import DataError
from dermfuse.scores import Label

_SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True, slots=True)
class JoinReport:
    """The training images of all folders together.

    Args:
        folders: Their names.
        images: Different ids with a photograph.
        benign: Those of them labelled benign.
        malignant: Those of them labelled malignant.
        masks: Those of them with a mask.
        repeated: Those of them that several folders hold.
        groups: Groups of two images or more, of one lesion or patient.
        grouped: Images in such a group.
        contradictions: A sentence for each thing that training refuses.
    """

    folders: tuple[str, ...]
    images: int
    benign: int
    malignant: int
    masks: int
    repeated: int
    groups: int
    grouped: int
    contradictions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON has it."""
        return asdict(self)


def verify_join(data: DataFolders) -> JoinReport:
    """Returns what folders hold together; photographs that several hold are compared.

    Args:
        data: One folder, or several.

    Raises:
        DataError: There are no training images.
    """
    folders = list_folders(data)
    files = [_read_files(folder, "train") for folder in require_split(data, "train")]
    labels: dict[str, Label] = {}
    for each in files:
        labels = {**each.labels, **labels}
    holders = Counter(image_id for each in files for image_id in each.images)
    masked = {image_id for each in files for image_id in each.masks} & holders.keys()
    lines: list[GroupLine] = []
    contradictions = [*find_label_conflicts(files), *find_pixel_conflicts(files)]
    for folder in folders:
        try:
            lines += read_groups(folder)
        except DataError as error:
            contradictions.append(error)
    known = {
        i for f in folders for s in _SPLITS if has_split(f, s) for i in _read_files(f, s).known
    }
    contradictions += find_unknown(lines, known)
    sizes = Counter(first for i, first in join_groups(lines).items() if i in holders)
    shared = [size for size in sizes.values() if size > 1]
    return JoinReport(
        folders=tuple(folder.resolve().name for folder in folders),
        images=len(holders),
        benign=sum(labels.get(image_id) is Label.BENIGN for image_id in holders),
        malignant=sum(labels.get(image_id) is Label.MALIGNANT for image_id in holders),
        masks=len(masked),
        repeated=sum(count > 1 for count in holders.values()),
        groups=len(shared),
        grouped=sum(shared),
        contradictions=tuple(str(error) for error in contradictions),
    )


def _read_files(folder: Path, split: Split) -> SplitFiles:
    """Returns the files of a split, and the labels of the lines that state them rightly."""
    paths = find_split(folder, split)
    labels, _ = read_labels(paths.labels_csv) if paths.labels_csv else ({}, ())
    return collect_files(folder, split, paths, labels)
