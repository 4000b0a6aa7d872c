"""How near rendering comes to the best there is, and what it costs beside the decode.

    python benchmarks/render_quality.py --data FOLDER [--alternatives] [--phantoms 400]

Takes the original JPEGs of FOLDER/uda1. Quality: PSNR of what `render` gives against a full decode
shrunk by Pillow's Lanczos from the exact crop box, both through the same JPEG encoder. Speed: CPU
time of one thread, so that a busy machine spoils it less. `--alternatives` adds the decode scales
and resamplers to choose from, what several sizes cost together, and what JPEG's subsampling does;
there `decode` is the part of the time that a scaled decode alone takes (`simplejpeg` at the scale
that simplejpeg picks for the size). `--phantoms` adds how many phantoms with a round window are
trimmed, by its radius, and how many without one.
"""

import argparse
import functools
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from pipeline.images.decode import Decoded, open_source
from pipeline.images.fit import Box, fit_box
from pipeline.images.jpeg import encode_jpeg
from pipeline.images.render import RenderSpec, decode_scale, render
from pipeline.images.resample import resample
from pipeline.images.trim import find_inside
from pipeline.phantom.camera import draw_camera
from pipeline.phantom.picture import draw_picture
from pipeline.phantom.write import SIZES

Pixels = npt.NDArray[np.uint8]
Resampler = Callable[[Pixels, Box, int], Pixels]

ASKED_DB = (40.0, 36.0)  # in the median and in the worst hundredth
OPTIONS = {
    "as it is": RenderSpec(),
    "trim_borders": RenderSpec(trim_borders=True),
    "shades_of_gray": RenderSpec(color_constancy="shades_of_gray"),
    "fit short": RenderSpec(fit="short"),
}


def rounded_area(pixels: Pixels, box: Box, size: int) -> Pixels:
    x0, y0, x1, y1 = (round(edge) for edge in box)
    part = pixels[y0:y1, x0:x1]
    shrunk: Pixels = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)
    return shrunk


def pillow(name: str) -> Resampler:
    def shrink(pixels: Pixels, box: Box, size: int) -> Pixels:
        method = Image.Resampling[name]
        return np.asarray(Image.fromarray(pixels).resize((size, size), method, box=box))

    return shrink


RESAMPLERS: dict[str, Resampler] = {
    "ours": lambda pixels, box, size: resample(pixels, box, size, size),
    "area, rounded box": rounded_area,
    "Pillow bicubic": pillow("BICUBIC"),
    "Pillow Lanczos": pillow("LANCZOS"),
}


def psnr(one: Pixels, other: Pixels) -> float:
    """Decibels at a peak of 255; 99 for equal images."""
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def milliseconds(
    works: Sequence[Callable[[bytes], object]], files: Sequence[bytes], repeats: int = 3
) -> list[float]:
    """CPU time a file of each work, the least of some repeats; they take turns at each file."""
    spent = np.full((repeats, len(works), len(files)), np.inf)
    for repeat in range(repeats):
        for column, data in enumerate(files):
            for row, work in enumerate(works):
                start = time.thread_time()
                work(data)
                spent[repeat, row, column] = time.thread_time() - start
    return [float(each) * 1e3 for each in spent.min(axis=0).mean(axis=1)]


def reference(data: bytes, size: int) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        side = min(width, height)
        x, y = (width - side) / 2, (height - side) / 2
        box = (x, y, x + side, y + side)
        method = Image.Resampling.LANCZOS
        return np.asarray(image.convert("RGB").resize((size, size), method, box=box))


def scaled(data: bytes, size: int, decode_px: int) -> tuple[Decoded, Box]:
    """The decode and the crop box in it that `render` would use."""
    source = open_source(data, RenderSpec().max_pixels)
    fitted = fit_box(source.width, source.height, size, "crop")
    decoded = source.decode(decode_scale(fitted, decode_px))
    x0, y0, x1, y1 = (edge * decoded.eighths / 8 for edge in fitted.crop)
    return decoded, (x0, y0, x1, y1)


def through_jpeg(pixels: Pixels) -> Pixels:
    decoded: Pixels = simplejpeg.decode_jpeg(encode_jpeg(pixels, RenderSpec().quality))
    return decoded


def measure_quality(files: Sequence[bytes], size: int) -> None:
    decibels = []
    for data in files:
        image = render(data, [size], RenderSpec()).images[size]
        decibels.append(psnr(simplejpeg.decode_jpeg(image), through_jpeg(reference(data, size))))
    median, worst = np.median(decibels), np.percentile(decibels, 1)
    print(
        f"{size} px: median {median:.1f} dB (asked {ASKED_DB[0]:g}), 1st percentile {worst:.1f} dB "
        f"(asked {ASKED_DB[1]:g}), least {min(decibels):.1f} dB"
    )


def measure_options(files: Sequence[bytes], size: int) -> None:
    works = [functools.partial(render, sizes=[size], spec=spec) for spec in OPTIONS.values()]
    spent = milliseconds(works, files)
    print(f"\n{'render to ' + str(size) + ' px':<20} {'ms':>6} {'ratio':>6}")
    for name, each in zip(OPTIONS, spent, strict=True):
        print(f"{name:<20} {each:>6.2f} {each / spent[0]:>6.2f}")


def measure_trimming(count: int, seed: int = 5) -> None:
    """Phantoms' cameras tell which have a round window, and its radius in half diagonals."""
    outcomes: dict[str, list[bool]] = {}
    for number in range(count):
        vignette = draw_camera(np.random.default_rng([seed, 2, number]), SIZES).vignette
        image = draw_picture(
            seed=seed, number=number, patient=number // 8, malignant=number % 5 == 0, sizes=SIZES
        )
        kind = "no window" if vignette is None else f"radius {vignette // 0.04 * 0.04:.2f} and up"
        outcomes.setdefault(kind, []).append(find_inside(image, square=True) is not None)
    print(f"\n{'phantoms':<20} {'trimmed':>7} {'of':>4}")
    for kind in sorted(outcomes):
        print(f"{kind:<20} {sum(outcomes[kind]):>7} {len(outcomes[kind]):>4}")


def compare_resamplers(files: Sequence[bytes], size: int) -> None:
    references = [through_jpeg(reference(data, size)) for data in files]
    print(f"\n{size} px")
    print(f"{'decoded for':>12} {'resampler':<18} {'median dB':>9} {'p1 dB':>6} {'ms':>6}")
    for decode_px in (size, round(1.25 * size), round(1.5 * size), 2 * size):
        for name, shrink in RESAMPLERS.items():
            decibels, spent = [], 0.0
            for data, expected in zip(files, references, strict=True):
                decoded, box = scaled(data, size, decode_px)
                start = time.thread_time()
                pixels = shrink(decoded.pixels, box, size)
                spent += time.thread_time() - start
                decibels.append(psnr(through_jpeg(pixels), expected))
            median, worst = np.median(decibels), np.percentile(decibels, 1)
            cost = spent / len(files) * 1e3
            print(f"{decode_px:>9} px {name:<18} {median:>9.1f} {worst:>6.1f} {cost:>6.2f}")
    decode_pxs = (256, 384, 512)
    works: list[Callable[[bytes], object]] = [
        functools.partial(simplejpeg.decode_jpeg, min_height=size, min_width=size)
    ]
    for px in decode_pxs:
        works.append(functools.partial(scaled, size=size, decode_px=px))
        works.append(functools.partial(render, sizes=[size], spec=RenderSpec(decode_px=px)))
    simple, *each = milliseconds(works, files)
    print(f"simplejpeg's decode to at least {size} px alone: {simple:.2f} ms")
    print(f"{'decode_px':>12} {'decode ms':>9} {'render ms':>9} {'decode':>7} {'simplejpeg':>10}")
    for px, decode, whole in zip(decode_pxs, each[::2], each[1::2], strict=True):
        print(
            f"{px:>12} {decode:>9.2f} {whole:>9.2f} {decode / whole:>7.2f} {simple / whole:>10.2f}"
        )


def decode_at(data: bytes, eighths: int) -> Decoded:
    return open_source(data, RenderSpec().max_pixels).decode(eighths)


def compare_scales(files: Sequence[bytes]) -> None:
    works: list[Callable[[bytes], object]] = [
        functools.partial(decode_at, eighths=eighths) for eighths in range(1, 9)
    ]
    spent = milliseconds(works, files, repeats=2)
    print("\ndecode ms at 1/8 to 8/8: " + " ".join(f"{each:.2f}" for each in spent))


def compare_size_sets(files: Sequence[bytes]) -> None:
    print(f"\n{'decode_px':>12} {'sizes':<16} {'together ms':>11} {'apart ms':>8} {'ratio':>6}")
    for decode_px in (256, 512):
        spec = RenderSpec(decode_px=decode_px)
        for sizes in ((256, 384, 512), (128, 256, 512), (256, 512, 1024)):
            together, *apart = milliseconds(
                [
                    functools.partial(render, sizes=each, spec=spec)
                    for each in (sizes, *([size] for size in sizes))
                ],
                files,
                repeats=2,
            )
            names, alone = " ".join(map(str, sizes)), sum(apart)
            print(
                f"{decode_px:>12} {names:<16} {together:>11.2f} {alone:>8.2f}"
                f" {together / alone:>6.2f}"
            )


def compare_subsampling(files: Sequence[bytes], size: int) -> None:
    images = [reference(data, size) for data in files]
    print(
        f"\n{'sampling':>8} {'quality':>7} {'median dB':>9} {'p1 dB':>6} {'bytes':>7} {'read':>5}"
    )
    for sampling in ("444", "422", "420"):
        for quality in (90, 95, 98):
            coded = [simplejpeg.encode_jpeg(image, quality, "RGB", sampling) for image in images]
            decibels = [
                psnr(simplejpeg.decode_jpeg(data), image)
                for data, image in zip(coded, images, strict=True)
            ]
            (read,) = milliseconds([simplejpeg.decode_jpeg], coded)
            length = np.mean([len(data) for data in coded])
            print(
                f"{sampling:>8} {quality:>7} {np.median(decibels):>9.1f}"
                f" {np.percentile(decibels, 1):>6.1f} {length:>7.0f} {read:>5.2f}"
            )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds uda1/")
    parser.add_argument("--size", type=int, nargs="+", default=[256, 384], help="output px")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file only")
    parser.add_argument("--alternatives", action="store_true")
    parser.add_argument("--phantoms", type=int, default=0, metavar="COUNT")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(argv)
    cv2.setNumThreads(1)
    paths = sorted((options.data / "uda1" / "jpeg").glob("*.jpg"))[:: options.every]
    files = [path.read_bytes() for path in paths]
    print(f"{len(files)} files, {sum(map(len, files)) / len(files) / 1e3:.0f} kB on average")
    for size in options.size:
        measure_quality(files, size)
    measure_options(files, options.size[0])
    if options.phantoms:
        measure_trimming(options.phantoms)
    if options.alternatives:
        compare_scales(files)
        for size in options.size:
            compare_resamplers(files, size)
        compare_size_sets(files)
        compare_subsampling(files, options.size[0])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
