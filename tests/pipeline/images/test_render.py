import io
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

import pipeline.images.decode
from pipeline.images.fit import FITS, fit_box, map_boxes
from pipeline.images.image_error import ImageError
from pipeline.images.jpeg import read_header
from pipeline.images.render import RenderSpec, decode_scale, render

SPEC = RenderSpec()


def scene(width, height, seed=0):
    """uint8 [height, width, 3]: a dozen soft patches across, about as sharp as photographs are."""
    patches = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    return cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(image, quality=98, **options):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality, **options)
    return out.getvalue()


def rendered(data, size, spec=SPEC):
    return simplejpeg.decode_jpeg(render(data, [size], spec).images[size])


def psnr(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


@pytest.mark.parametrize(
    ("width", "height"),
    [(1504, 1129), (767, 576), (577, 1003), (2049, 2051), (300, 301), (100, 90)],
)
def test_a_scaled_decode_renders_what_a_full_decode_and_lanczos_give(width, height):
    data = jpeg(scene(width, height))
    side = min(width, height)
    x, y = (width - side) / 2, (height - side) / 2
    full = Image.open(io.BytesIO(data))
    ideal = full.resize((256, 256), Image.Resampling.LANCZOS, box=(x, y, x + side, y + side))
    assert psnr(rendered(data, 256), np.asarray(ideal)) > 40


def decibels_to_lanczos(path, size):
    """Of a rendered image to a full decode, shrunk by Pillow's Lanczos; both encoded alike."""
    data = path.read_bytes()
    full = Image.open(io.BytesIO(data)).convert("RGB")
    side = min(full.size)
    x, y = (full.width - side) / 2, (full.height - side) / 2
    method = Image.Resampling.LANCZOS
    ideal = np.asarray(full.resize((size, size), method, box=(x, y, x + side, y + side)))
    coded = simplejpeg.encode_jpeg(ideal, SPEC.quality, "RGB", "420")
    return psnr(rendered(data, size), simplejpeg.decode_jpeg(coded))


@pytest.mark.parametrize(
    "every", [12, pytest.param(1, marks=pytest.mark.slow)], ids=["a few", "all"]
)
@pytest.mark.parametrize("size", [256, 384])
def test_real_images_render_within_decibels_of_lanczos(real_data, size, every):
    paths = sorted(real_data.glob("uda1/jpeg/*.jpg"))[::every]
    decibels = [decibels_to_lanczos(path, size) for path in paths]
    assert decibels
    assert np.median(decibels) >= 40
    assert np.percentile(decibels, 1) >= 36


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_image_renders_as_its_upright_twin_does(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = jpeg(scene(1203, 901), subsampling=0, exif=exif)
    upright = Image.open(io.BytesIO(turned))
    twin = np.asarray(ImageOps.exif_transpose(upright))
    out = io.BytesIO()
    Image.fromarray(twin).save(out, "BMP")
    assert psnr(rendered(turned, 128), rendered(out.getvalue(), 128)) > 40


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_mapped_box_lies_where_its_content_is(fit, orientation):
    image = np.zeros((902, 1203, 3), np.uint8)
    image[300:500, 500:800] = 255
    box = [500, 300, 800, 500]
    if orientation == 6:  # stored so that a quarter turn clockwise shows it upright
        stored, exif = np.rot90(image), Image.Exif()
        exif[0x0112] = 6
        data = jpeg(np.ascontiguousarray(stored), exif=exif)
    else:
        data = jpeg(image)
    out = rendered(data, 200, RenderSpec(fit=fit))[..., 1] / 255
    mapped = map_boxes(np.float32([box]), fit_box(1203, 902, 200, fit))[0]
    rows, columns = np.nonzero(out > 0.5)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(found, mapped, atol=0.75)


def test_padding_is_black():
    out = rendered(jpeg(np.full((100, 400, 3), 200, np.uint8)), 80, RenderSpec(fit="pad"))
    assert out[:24].max() < 8
    assert out[-24:].max() < 8
    assert out[33:47].min() > 190


def test_an_upright_jpeg_of_the_wanted_size_keeps_its_scan_and_loses_its_metadata():
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    data = jpeg(scene(256, 256), quality=60, exif=exif, comment=b"Jane Doe")
    image = render(data, [256], SPEC).images[256]
    assert image.endswith(data[data.index(b"\xff\xda") :])
    assert b"Jane" not in image


def test_a_turned_jpeg_of_the_wanted_size_is_encoded_anew():
    exif = Image.Exif()
    exif[0x0112] = 3
    data = jpeg(scene(256, 256), exif=exif)
    image = render(data, [256], SPEC).images[256]
    assert read_header(image).orientation == 1
    assert psnr(simplejpeg.decode_jpeg(image), scene(256, 256)[::-1, ::-1]) > 38


def test_a_damaged_jpeg_of_the_wanted_size_is_refused():
    data = jpeg(scene(256, 256))
    with pytest.raises(ImageError, match="damaged"):
        render(data[: len(data) // 2] + b"\xff\xd9", [256], SPEC)


@pytest.mark.parametrize("side", [64, 200], ids=["as it is", "shrunk"])
def test_gray_sources_give_gray_jpegs_and_the_same_histogram_thrice(side):
    result = render(jpeg(scene(side, side)[..., 0]), [64], SPEC)
    assert read_header(result.images[64]).components == 1
    histogram = result.histograms[64]
    assert (histogram == histogram[0]).all()
    assert histogram[0].sum() == 64 * 64


def test_the_histogram_counts_every_pixel_of_every_channel():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:16, :, 0], image[..., 1] = 255, 7
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    histogram = render(out.getvalue(), [64], SPEC).histograms[64]
    assert (histogram.dtype, histogram.shape) == (np.int64, (3, 256))
    assert (histogram[0, 0], histogram[0, 255]) == (64 * 48, 64 * 16)
    assert (histogram[1, 7], histogram[2, 0]) == (64 * 64, 64 * 64)
    assert histogram.sum() == 3 * 64 * 64


def test_width_and_height_are_those_of_the_upright_source():
    exif = Image.Exif()
    exif[0x0112] = 8
    result = render(jpeg(scene(120, 80), exif=exif), [32], SPEC)
    assert (result.width, result.height) == (80, 120)


@pytest.mark.parametrize("decode_px", [128, 256, 512])
def test_a_sizes_bytes_do_not_depend_on_its_companions(decode_px):
    spec, data = RenderSpec(decode_px=decode_px), jpeg(scene(1100, 805))
    together = render(data, [384, 64, 256, 512], spec)
    for size in (64, 256, 384, 512):
        alone = render(data, [size], spec)
        assert alone.images[size] == together.images[size]
        np.testing.assert_array_equal(alone.histograms[size], together.histograms[size])


def test_sizes_up_to_decode_px_share_one_decode(monkeypatch):
    calls, decode = [], simplejpeg.decode_jpeg

    def counted(*args, **options):
        calls.append(options)
        return decode(*args, **options)

    monkeypatch.setattr(pipeline.images.decode.simplejpeg, "decode_jpeg", counted)
    render(jpeg(scene(1504, 1129)), [128, 256, 384, 512], RenderSpec(decode_px=512))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("width", "height", "size", "decode_px", "eighths"),
    [
        (1504, 1129, 256, 256, 2),  # 282 px
        (1504, 1129, 128, 256, 2),  # as for 256
        (1504, 1129, 128, 128, 1),
        (1504, 1129, 256, 512, 4),  # as for 512
        (1504, 1129, 384, 256, 4),  # as for 512: 564 px
        (1504, 1129, 600, 256, 8),
        (4096, 4096, 512, 256, 1),
        (4095, 4096, 512, 256, 2),  # an eighth would be 511.9 px
        (300, 300, 256, 256, 8),
        (100, 100, 256, 256, 8),  # enlarged
    ],
)
def test_the_decode_scale_is_the_smallest_that_covers_the_size(
    width, height, size, decode_px, eighths
):
    assert decode_scale(fit_box(width, height, size, "crop"), decode_px) == eighths


def test_the_decode_scale_covers_the_narrower_side_of_a_stretched_image():
    assert decode_scale(fit_box(8000, 1000, 256, "stretch"), 256) == 4


@pytest.mark.parametrize(("fit", "shape"), [("short", (256, 384)), ("long", (171, 256))])
def test_short_and_long_render_the_whole_image_in_its_aspect(fit, shape):
    data = jpeg(scene(960, 640))
    out = rendered(data, 256, RenderSpec(fit=fit))
    assert out.shape[:2] == shape
    ideal = Image.open(io.BytesIO(data)).resize(shape[::-1], Image.Resampling.LANCZOS)
    assert psnr(out, np.asarray(ideal)) > 38


def test_a_jpeg_whose_shorter_side_has_the_size_keeps_its_scan():
    data = jpeg(scene(90, 64), quality=60)
    image = render(data, [64], RenderSpec(fit="short")).images[64]
    assert image.endswith(data[data.index(b"\xff\xda") :])


def test_an_output_of_too_many_pixels_is_refused():
    data = jpeg(np.zeros((2, 30_000), np.uint8))
    with pytest.raises(ImageError, match="too_large: 3840000×256 pixels at 256 px and fit short"):
        render(data, [256], RenderSpec(fit="short"))


def framed(width=800, height=600, radius=290):
    """A scene through a round window in black, and where the window is."""
    image = scene(width, height) // 2 + 120
    rows, columns = np.mgrid[:height, :width] + 0.5
    outside = np.hypot(columns - width / 2, rows - height / 2) > radius
    image[outside] = 4
    return image


TRIM = RenderSpec(trim_borders=True)


def test_trimming_leaves_nothing_of_the_frame():
    data = jpeg(framed())
    assert rendered(data, 128).min() < 10
    assert rendered(data, 128, TRIM).min() > 100


def test_trimming_shows_the_source_where_it_says():
    data = jpeg(framed())
    result = render(data, [128], TRIM)
    box = result.fitted[128].crop
    assert all(edge == int(edge) for edge in box)
    ideal = Image.open(io.BytesIO(data)).resize((128, 128), Image.Resampling.LANCZOS, box=box)
    assert psnr(simplejpeg.decode_jpeg(result.images[128]), np.asarray(ideal)) > 38


def test_trimming_decodes_as_much_as_the_part_needs():
    # The whole would do at a quarter: 300 px. The square in the window would then be 205.
    data = jpeg(framed(1600, 1200, 580))
    result = render(data, [256], TRIM)
    assert not result.enlarged
    box = result.fitted[256].crop
    ideal = Image.open(io.BytesIO(data)).resize((256, 256), Image.Resampling.LANCZOS, box=box)
    assert psnr(simplejpeg.decode_jpeg(result.images[256]), np.asarray(ideal)) > 38


@pytest.mark.parametrize("fit", FITS)
def test_trimming_changes_no_image_without_a_frame(fit):
    data = jpeg(scene(800, 600) // 2 + 100)
    plain, trimming = RenderSpec(fit=fit), RenderSpec(fit=fit, trim_borders=True)
    assert render(data, [64, 256], plain).images == render(data, [64, 256], trimming).images


def test_trimmed_bytes_do_not_depend_on_other_sizes():
    data = jpeg(framed(1100, 805, 390))
    together = render(data, [384, 64, 256], TRIM).images
    assert together == {size: render(data, [size], TRIM).images[size] for size in (64, 256, 384)}


def test_a_framed_jpeg_of_the_wanted_size_is_trimmed_all_the_same():
    data = jpeg(framed(256, 256, 125))
    assert rendered(data, 256, TRIM).min() > 60


GRAY = RenderSpec(color_constancy="shades_of_gray")


def test_color_constancy_takes_a_cast_off_and_counts_what_it_gives():
    gray = np.repeat(scene(300, 300)[..., :1] // 2 + 20, 3, axis=2)
    cast = np.rint(gray * [1.3, 1.0, 0.7]).astype(np.uint8)
    result = render(jpeg(cast, subsampling=0), [128], GRAY)
    out = simplejpeg.decode_jpeg(result.images[128]).astype(int)
    assert np.abs(out[..., 0] - out[..., 2]).mean() < 3
    means = result.histograms[128] @ np.arange(256) / 128**2
    np.testing.assert_allclose(means, out.mean(axis=(0, 1)), atol=1.5)


def test_color_constancy_leaves_no_scan_as_it_is():
    data = jpeg(np.rint(scene(64, 64) * [1.0, 0.9, 0.6]).astype(np.uint8))
    assert render(data, [64], GRAY).images != render(data, [64], SPEC).images


def test_color_constancy_leaves_gray_images_gray():
    data = jpeg(scene(200, 200)[..., 0])
    assert render(data, [64], GRAY).images == render(data, [64], SPEC).images


def test_sizes_that_enlarge_are_told():
    result = render(jpeg(scene(200, 150)), [64, 150, 151, 256], SPEC)
    assert result.enlarged == (151, 256)


def test_an_image_that_trimming_made_too_small_is_told():
    data = jpeg(framed(300, 260, 125))
    assert render(data, [224], SPEC).enlarged == ()
    assert render(data, [224], TRIM).enlarged == (224,)


def test_threads_render_the_same_bytes():
    sources = [jpeg(scene(700 + seed, 500, seed)) for seed in range(6)]
    alone = [render(data, [128], SPEC).images[128] for data in sources]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda data: render(data, [128], SPEC).images[128], sources)) == alone


@pytest.mark.parametrize(
    ("setting", "value"), [("fit", "squash"), ("quality", 0), ("quality", 101), ("decode_px", 7)]
)
def test_a_wrong_setting_is_refused_with_its_value(setting, value):
    with pytest.raises(ValueError, match=f"render: {setting} must be .* got .*{value}"):
        RenderSpec(**{setting: value})


@pytest.mark.parametrize("sizes", [[], [0], [256, 5000]])
def test_sizes_out_of_range_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes must be in 1–4096 px"):
        render(jpeg(scene(64, 64)), sizes, SPEC)
