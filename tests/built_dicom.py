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

    big = syntax == "1.2.840.10008.1.2.2"
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = VLPhotographicImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    dataset.SOPClassUID = VLPhotographicImageStorage
    dataset.SOPInstanceUID = UID("1.2.3.4")
    dataset.PatientName = SECRET
    dataset.PatientID = SECRET
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = photometric or (
        "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    )
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if frames is not None:
        dataset.PixelData = encapsulate(frames)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    else:
        data = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
        dataset.PixelData = raw if raw is not None else data + bytes(len(data) % 2)
        dataset["PixelData"].VR = "OW"
    for key, value in elements.items():
        if value is None:
            delattr(dataset, key)
        else:
            setattr(dataset, key, value)
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    data = buffer.getvalue()
    return data if preamble else data[132:]
