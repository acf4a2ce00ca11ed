"""ISIC 2016: loading, verifying, downloading, auditing, imitating and augmenting it.

A data set is a folder in the challenge's own layout; in memory it is a tuple of ``Lesion``
records. Nothing imported here needs torch.
"""

from dermfuse.data.audit import VerificationReport, verify_isic2016
from dermfuse.data.isic2016 import TEST_DUPLICATES, Dataset, Lesion, load_isic2016, load_labels

__all__ = [
    "TEST_DUPLICATES",
    "Dataset",
    "Lesion",
    "VerificationReport",
    "load_isic2016",
    "load_labels",
    "verify_isic2016",
]
