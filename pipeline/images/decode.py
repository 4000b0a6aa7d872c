"""Source bytes of any format that is read → upright pixels. Called by `render`.

JPEG goes through simplejpeg (libjpeg-turbo), which decodes at a half, a quarter or an eighth of the
size for less than the whole costs, and releases the GIL. Pillow takes what is left: CMYK JPEG, PNG,
WebP, TIFF, BMP, GIF (of several frames the first), and pydicom DICOM. A source's size is checked
before memory for its pixels is asked for. Nothing is kept between calls: safe from any number of
threads.
"""

import dataclasses
import io

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.images.image_error import ImageError, check_pixels
from pipeline.images.jpeg import JpegHeader, is_cut_off, is_jpeg, read_header, strip_metadata

# Pillow reads dozens more, among them PostScript, for which it starts Ghostscript.
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")

# libjpeg's complaint about filling between the last scan and the end marker, which some cameras
# write. simplejpeg reports the first complaint only, and this one can but be the last: where it is
# reported, all pixels are there.
HARMLESS = "extraneous bytes before marker 0xd9"

# EXIF orientation → what turns the stored image upright: (transpose, then flip rows, flip columns).
TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoded:
    """uint8 [h, w, 3] RGB or [h, w] gray, upright: a source at `eighths` / 8 of its size.

    A pixel is exactly 8 / eighths source pixels wide and high, and the source's upper left corner
    is at `origin` (x, y). Where the source is no multiple of that, its edge lies inside the
    outermost pixels: the last ones, or the first ones of an image that was flipped.
    """

    pixels: npt.NDArray[np.uint8]
    eighths: int
    origin: tuple[float, float] = (0.0, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A plain JPEG whose header was read, or an image of another kind, decoded by Pillow."""

    width: int  # px, upright
    height: int
    content: tuple[bytes, JpegHeader] | Decoded

    @property
    def is_plain_jpeg(self) -> bool:
        return not isinstance(self.content, Decoded)

    def keep_jpeg(self) -> bytes | None:
        """The source's own JPEG without its metadata, where it needs no turning."""
        if isinstance(self.content, Decoded) or self.content[1].orientation != 1:
            return None
        return strip_metadata(self.content[0])

    def decode(self, eighths: int) -> Decoded:
        """At 1, 2, 4 or 8 eighths of its size; `ImageError` where the data is not whole.

        A source that is not a plain JPEG can only be had at 8.
        """
        if isinstance(self.content, Decoded):
            assert eighths == self.content.eighths
            return self.content
        return _decode_jpeg(*self.content, eighths)


def open_source(data: bytes, max_pixels: int) -> Source:
    """Image bytes → what they hold; `ImageError` where that is nothing that can be rendered."""
    if not data:
        raise ImageError("empty", "the file has no bytes")
    orientation = None
    if is_dicom(data):
        from pipeline.images.dicom import read_dicom  # pydicom's import is for those who need it

        content = read_dicom(data, max_pixels)
        if not isinstance(content, bytes):
            return _decoded_source(content)
        data, orientation = content, 1  # DICOM knows no EXIF
    if is_jpeg(data):
        header = read_header(data)
        check_pixels(header.width, header.height, max_pixels)
        if header.bits != 8:
            raise ImageError("unsupported", f"a JPEG of {header.bits} bits a sample")
        if header.is_plain:
            header = dataclasses.replace(header, orientation=orientation or header.orientation)
            width, height = header.upright_size
            return Source(width=width, height=height, content=(data, header))
    return _decoded_source(_decode_with_pillow(data, max_pixels))


def is_dicom(data: bytes) -> bool:
    return data[128:132] == b"DICM"


def _decoded_source(pixels: npt.NDArray[np.uint8]) -> Source:
    height, width = pixels.shape[:2]
    return Source(width=width, height=height, content=Decoded(pixels=pixels, eighths=8))


def _decode_jpeg(data: bytes, header: JpegHeader, eighths: int) -> Decoded:
    # simplejpeg picks the smallest scale that covers both sides: this one, for the sides differ at
    # any two scales, unless both are shorter than a block. Asked for nothing, it decodes in full.
    width, height = -(-header.width * eighths // 8), -(-header.height * eighths // 8)
    at_least = {"min_width": width, "min_height": height} if eighths < 8 else {}
    colorspace = "GRAY" if header.components == 1 else "RGB"

    def decode(strict: bool) -> npt.NDArray[np.uint8]:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, colorspace, strict=strict, **at_least
        )
        return pixels

    try:
        pixels = decode(strict=True)
    except ValueError as error:
        if HARMLESS not in str(error):
            reason = "truncated" if is_cut_off(data) else "damaged"
            raise ImageError(reason, str(error)) from error
        pixels = decode(strict=False)
    assert pixels.shape[:2] == (height, width), (pixels.shape, width, height)

    # By how much the last column and row reach over the source's edge.
    over_x, over_y = width - header.width * eighths / 8, height - header.height * eighths / 8
    transpose, flip_rows, flip_columns = TURNS[header.orientation]
    if header.components == 1:
        pixels = pixels[..., 0]
    if transpose:
        pixels, over_x, over_y = cv2.transpose(pixels), over_y, over_x
    if flip_rows or flip_columns:
        pixels = cv2.flip(pixels, {(1, 0): 0, (0, 1): 1, (1, 1): -1}[flip_rows, flip_columns])
    return Decoded(
        pixels=pixels, eighths=eighths, origin=(over_x * flip_columns, over_y * flip_rows)
    )


def _decode_with_pillow(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            # Nothing but the header was read. (WebP's canvas is reserved by now, but untouched.)
            check_pixels(*image.size, max_pixels)
            image.load()
            return _to_eight_bits(ImageOps.exif_transpose(image))
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise ImageError("not_an_image", f"none of {', '.join(PILLOW_FORMATS)}") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, 179 million
        raise ImageError("too_large", str(error)) from error
    except Exception as error:  # Pillow's decoders raise nearly every type on damaged data
        reason = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise ImageError(reason, f"{type(error).__name__}: {error}") from error


def _to_eight_bits(image: Image.Image) -> npt.NDArray[np.uint8]:
    """A loaded image → uint8 [h, w, 3] RGB, or [h, w] where it has no colour.

    16-bit gray keeps its upper byte. What is transparent is laid over black, as padding is.
    """
    if image.mode.startswith("I;16"):
        return (np.asarray(image) >> 8).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise ImageError("unsupported", "an image of 32 bits a sample")
    is_gray = image.mode in ("1", "L", "LA")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return np.asarray(image.convert("L" if is_gray else "RGB"))
