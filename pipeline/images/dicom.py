"""DICOM bytes → 8-bit pixels as a viewer shows them. Called by `decode`; imports pydicom.

Of the data set only what `TAGS` names is read: nothing of the patient, the study or the machine.
Gray goes the standard's way (PS3.3, C.11): modality LUT or rescale, then VOI LUT or the first
window, inverted for MONOCHROME1; all of it in one table of the stored values.
"""

import io
import logging

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset, config, dcmread
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
)

from pipeline.images.image_error import ImageError, check_pixels

PALETTES = tuple(f"{color}PaletteColorLookupTable" for color in ("Red", "Green", "Blue"))
TAGS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "PixelPaddingValue"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelData"),
    *(f"{palette}{what}" for palette in PALETTES for what in ("Descriptor", "Data")),
    *(f"Segmented{palette}Data" for palette in PALETTES),
)
GRAY = ("MONOCHROME1", "MONOCHROME2")
COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # pydicom gives RGB for each
JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit)
YBR_JPEG = ("YBR_FULL", "YBR_FULL_422")
PIXEL_DATA = b"\xe0\x7f\x10\x00"  # its tag, in little endian


def read_dicom(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8] | bytes:
    """DICOM bytes → uint8 [h, w, 3] RGB or [h, w] gray; or the colour JPEG in them, undecoded.

    A colour JPEG knows no window, so it may be decoded at a reduced scale like any other. Of
    several frames none can stand for all: they are unsupported, and so is a transfer syntax that
    no plugin of pydicom's decodes here.
    """
    # What is wrong is told once, by the error; pydicom's log may quote the file.
    config.settings.reading_validation_mode = config.IGNORE
    config.logger.setLevel(logging.CRITICAL)
    try:
        dataset = _read(data)
        syntax = dataset.file_meta.TransferSyntaxUID
        frames, rows, columns = dataset.get("NumberOfFrames") or 1, dataset.Rows, dataset.Columns
        check_pixels(columns, rows * frames, max_pixels)
        if frames > 1:
            raise ImageError("unsupported", f"a DICOM file of {frames} frames, must be of one")
        if syntax.is_encapsulated:
            _check_decodes(dataset)
            frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
            if syntax in JPEG and dataset.PhotometricInterpretation in YBR_JPEG:
                return frame
            if syntax in (*JPEG, *JPEG2000TransferSyntaxes):
                _check_frame(frame, max_pixels)
        return _to_eight_bits(dataset)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # pydicom raises nearly every type on damaged data
        is_short = any(told in str(error) for told in ("less than expected", "truncated"))
        reason = "truncated" if is_short else "damaged"
        # Its message may quote the file.
        raise ImageError(reason, f"pydicom's {type(error).__name__}") from error


def _read(data: bytes) -> Dataset:
    # The file meta elements, never deflated, come first. How large the rest gets would show only
    # while it is inflated.
    if DeflatedExplicitVRLittleEndian.encode() in data[:1024]:
        raise _unsupported(DeflatedExplicitVRLittleEndian)
    dataset = dcmread(io.BytesIO(data), specific_tags=list(TAGS))
    if "PixelData" not in dataset:  # pydicom drops what was cut off
        if PIXEL_DATA in data:
            raise ImageError("truncated", "the DICOM file ends inside its pixel data")
        raise ImageError("not_an_image", "a DICOM file without pixel data")
    return dataset


def _check_decodes(dataset: Dataset) -> None:
    syntax, bits = dataset.file_meta.TransferSyntaxUID, dataset.BitsStored
    try:
        plugins = get_decoder(syntax).available_plugins
    except NotImplementedError:
        plugins = ()
    # Pillow reads no JPEG of 12 bits, and brings colour down to 8 bits unasked.
    is_too_deep = (syntax == JPEGExtended12Bit and bits > 8) or (
        syntax in JPEG2000TransferSyntaxes and dataset.SamplesPerPixel > 1 and bits > 8
    )
    if not plugins or (plugins == ("pillow",) and is_too_deep):
        raise _unsupported(syntax, f" of {bits} bits a sample")


def _unsupported(syntax: str, what: str = "") -> ImageError:
    return ImageError("unsupported", f"a DICOM file of transfer syntax {syntax}{what}")


def _check_frame(frame: bytes, max_pixels: int) -> None:
    """A compressed frame tells its size again, and it is this one that memory is asked for."""
    with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as image:
        check_pixels(*image.size, max_pixels)


def _to_eight_bits(dataset: Dataset) -> npt.NDArray[np.uint8]:
    kind, values = dataset.PhotometricInterpretation, pixel_array(dataset, index=0)
    if kind in GRAY:
        return _show_gray(values, dataset)
    if kind in COLOR:
        return _upper_byte(values, dataset.BitsStored)
    if kind == "PALETTE COLOR":
        colors = apply_color_lut(values, dataset)
        return _upper_byte(colors, 8 * colors.dtype.itemsize)
    raise ImageError("unsupported", f"a DICOM file of photometric interpretation {kind}")


def _upper_byte(values: npt.NDArray[np.generic], bits: int) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(values) >> max(0, bits - 8), dtype=np.uint8)


def _show_gray(values: npt.NDArray[np.integer], dataset: Dataset) -> npt.NDArray[np.uint8]:
    """Integers [h, w] as stored → uint8 [h, w] as shown, 0 black."""
    low, high = _range(values, dataset)
    stored = np.arange(low, high + 1)
    shares = _window(apply_modality_lut(stored, dataset), dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shares = 1 - shares
    shown: npt.NDArray[np.uint8] = np.rint(255 * shares).astype(np.uint8)
    pixels: npt.NDArray[np.uint8] = shown[np.clip(values, low, high).astype(np.int64) - low]
    return pixels


def _range(values: npt.NDArray[np.integer], dataset: Dataset) -> tuple[int, int]:
    """The least and the largest stored value that count.

    Up to 8 bits these are all values, so that images without a window stay comparable; deeper
    ones use a small part of their range, and are shown from their least value to their largest
    but for the padding around what the machine sees.
    """
    bits, is_signed = dataset.BitsStored, dataset.PixelRepresentation == 1
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    if bits <= 8:
        return low, high
    if bits > 16:
        raise ImageError("unsupported", f"a DICOM file of {bits} bits a sample")
    if (padding := dataset.get("PixelPaddingValue")) is not None and (values != padding).any():
        values = values[values != padding]
    return max(low, int(values.min())), min(high, int(values.max()))


def _window(values: npt.NDArray[np.generic], dataset: Dataset) -> npt.NDArray[np.float64]:
    """Values in the unit of the modality → float64 in [0, 1]: PS3.3, C.11.2.1.

    The VOI LUT goes before the window, and the first of several before the rest, as in pydicom. A
    window without width is none. Without both, from the least value to the largest.
    """
    if dataset.get("VOILUTSequence"):
        depth = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        entries = apply_voi(np.rint(values).astype(np.int64), dataset)
        return entries.astype(np.float64) / ((1 << depth) - 1)
    levels = np.asarray(values, np.float64)
    center, width = (_first(dataset.get(name)) for name in ("WindowCenter", "WindowWidth"))
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if center is None or width is None or width <= 0:
        least, most = levels.min(), levels.max()
        shares = (levels - least) / (most - least or 1.0)
    elif function == "SIGMOID":
        shares = 1 / (1 + np.exp(-4 * (levels - center) / width))
    else:
        if function == "LINEAR":  # from the middle of the first value to that of the last
            center, width = center - 0.5, max(width - 1, 1e-6)
        shares = np.clip((levels - center) / width + 0.5, 0, 1)
    return np.asarray(shares, np.float64)


def _first(value: object) -> float | None:
    """Of an element with one value, several, or none."""
    values = np.atleast_1d(np.asarray([] if value in (None, "") else value, np.float64))
    return float(values[0]) if len(values) else None
