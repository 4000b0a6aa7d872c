"""Every format that is read, from its bytes to the JPEG in a record."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from dicom_factory import dicom
from pipeline.images.render import RenderSpec, render

SIZE = 48
X, Y = np.meshgrid(np.linspace(0, 1, 96), np.linspace(0, 1, 72))
# Red grows to the right, green downwards, blue to the left: no turn or swap goes unseen.
COLORS = np.rint(255 * np.stack([X, Y, 1 - X], axis=-1)).astype(np.uint8)
GRAYS = np.rint(65535 * (X + Y) / 2).astype(np.uint16)


def saved(image, kind, **options):
    out = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(out, kind, **options)
    return out.getvalue()


def turned(kind, **options):
    """Stored so that EXIF's orientation 6, a quarter turn clockwise, shows it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(np.ascontiguousarray(np.rot90(COLORS)), kind, exif=exif, **options)


COLOR_FILES = {
    "JPEG": lambda: saved(COLORS, "JPEG", quality=98),
    "progressive JPEG": lambda: saved(COLORS, "JPEG", quality=98, progressive=True),
    "RGB JPEG": lambda: saved(COLORS, "JPEG", quality=98, keep_rgb=True),
    "turned JPEG": lambda: turned("JPEG", quality=98),
    "CMYK JPEG": lambda: saved(Image.fromarray(COLORS).convert("CMYK"), "JPEG", quality=98),
    "PNG": lambda: saved(COLORS, "PNG"),
    "interlaced PNG": lambda: saved(COLORS, "PNG", interlace=1),
    "RGBA PNG": lambda: saved(Image.fromarray(COLORS).convert("RGBA"), "PNG"),
    "palette PNG": lambda: saved(Image.fromarray(COLORS).quantize(256), "PNG"),
    "turned PNG": lambda: turned("PNG"),
    "WebP": lambda: saved(COLORS, "WEBP", quality=98),
    "lossless WebP": lambda: saved(COLORS, "WEBP", lossless=True),
    "turned WebP": lambda: turned("WEBP", lossless=True),
    "GIF": lambda: saved(Image.fromarray(COLORS).quantize(256), "GIF"),
    "TIFF": lambda: saved(COLORS, "TIFF"),
    "CMYK TIFF": lambda: saved(Image.fromarray(COLORS).convert("CMYK"), "TIFF"),
    "BMP": lambda: saved(COLORS, "BMP"),
    "DICOM": lambda: dicom(COLORS),
}
GRAY_FILES = {
    "JPEG": lambda: saved((GRAYS >> 8).astype(np.uint8), "JPEG", quality=98),
    "PNG": lambda: saved((GRAYS >> 8).astype(np.uint8), "PNG"),
    "16-bit PNG": lambda: saved(GRAYS, "PNG"),
    "gray PNG with alpha": lambda: saved(
        Image.fromarray((GRAYS >> 8).astype(np.uint8)).convert("LA"), "PNG"
    ),
    "16-bit TIFF": lambda: saved(GRAYS, "TIFF"),
    "DICOM": lambda: dicom((GRAYS >> 8).astype(np.uint8)),
    "16-bit DICOM": lambda: dicom(GRAYS, WindowCenter=1 << 15, WindowWidth=1 << 16),
}


def ideal(pixels):
    """The centred square by Pillow's Lanczos."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=(12, 0, 84, 72)))


@pytest.mark.parametrize("name", COLOR_FILES)
def test_every_colour_format_renders_in_its_place_and_colours(name):
    result = render(COLOR_FILES[name](), [SIZE], RenderSpec())
    assert (result.width, result.height) == (96, 72)
    out = simplejpeg.decode_jpeg(result.images[SIZE]).astype(int)
    assert out.shape == (SIZE, SIZE, 3)
    worst = np.abs(out - ideal(COLORS)).max()
    assert worst <= 20, f"{name} is off by {worst}"
    assert np.abs(out - ideal(COLORS)).mean() <= 4


@pytest.mark.parametrize("name", GRAY_FILES)
def test_every_gray_format_renders_to_one_component(name):
    result = render(GRAY_FILES[name](), [SIZE], RenderSpec())
    assert simplejpeg.decode_jpeg_header(result.images[SIZE])[2] == "Gray"
    out = simplejpeg.decode_jpeg(result.images[SIZE], "GRAY")[..., 0].astype(int)
    assert np.abs(out - ideal((GRAYS >> 8).astype(np.uint8))).max() <= 3
