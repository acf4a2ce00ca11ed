"""DICOM files, built in memory."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np

SECRET = "Doe^Secret"
"""The patient's name in every file that is built here."""

BuildDicom = Callable[..., bytes]


def build_file(
    pixels: np.ndarray,
    *,
    photometric: str | None = None,
    syntax: str = "1.2.840.10008.1.2.1",
    preamble: bool = True,
    frames: list[bytes] | None = None,
    raw: bytes | None = None,
    **elements: Any,
) -> bytes:
    """A VL Photographic Image of ``pixels``; other elements replace or (None) remove its own."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.filewriter import dcmwrite
    from pydicom.uid import UID, VLPhotographicImageStorage

    colour, bits = pixels.ndim == 3, 8 * pixels.dtype.itemsize
    order = ">" if syntax == "1.2.840.10008.1.2.2" else "<"
    stored = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes() if raw is None else raw
    own = {
        "SOPClassUID": VLPhotographicImageStorage, "SOPInstanceUID": UID("1.2.3.4"),
        "PatientName": SECRET, "PatientID": SECRET,
        "SamplesPerPixel": 3 if colour else 1, "PlanarConfiguration": 0 if colour else None,
        "PhotometricInterpretation": photometric or ("RGB" if colour else "MONOCHROME2"),
        "Rows": pixels.shape[0], "Columns": pixels.shape[1],
        "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": _even(stored) if frames is None else encapsulate([*map(_even, frames)]),
    }  # fmt: skip
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    for key, value in (own | elements).items():
        if value is not None:
            setattr(dataset, key, value)
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW" if frames is None else "OB"
        dataset["PixelData"].is_undefined_length = frames is not None
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()[0 if preamble else 132 :]


def _even(data: bytes) -> bytes:
    return data + bytes(len(data) % 2)
