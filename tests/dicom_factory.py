"""DICOM files for tests, of an array of stored values."""

import io
from typing import Any

import numpy as np
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

SECRET = "Doe^Jane"  # the patient


def dicom(
    pixels: np.ndarray,
    *,
    syntax: str = uid.ExplicitVRLittleEndian,
    frames: list[bytes] | None = None,
    **elements: Any,
) -> bytes:
    """Bytes of a DICOM file of these stored values, or of `frames` in a compressed syntax.

    Gray of 2 dimensions, RGB of 3; `elements` by their keywords, over what is derived.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3"
    dataset.PatientName, dataset.PatientID = SECRET, SECRET
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelData = pixels.tobytes() if frames is None else encapsulate(frames)
    dataset["PixelData"].VR = "OB" if frames or pixels.dtype.itemsize == 1 else "OW"
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()
