r"""`gallery.html`: what each augmentation op does to real images, on one page, to be looked at.

    python -m pipeline.stream.gallery --records out/256 --output gallery.html
    python -m pipeline.stream.gallery --records out/256 --output gallery.html \
        --config configs/b0.toml

A row an op, at up to three strengths; within a row the draws are the same, so that a picture shows
what more of it does. With a recipe, also twelve draws of all its ops together. Exit codes: 0 done,
1 the records are at fault, 2 the command line or the recipe is.
"""

from __future__ import annotations

import base64
import inspect
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline import storage
from pipeline.command_line import Parser, run
from pipeline.errors import DataError
from pipeline.images.jpeg import encode_jpeg
from pipeline.preview.markup import Markup, document, tag
from pipeline.preview.style import STYLE
from pipeline.records.features import with_role
from pipeline.records.label import LabelInfo
from pipeline.records.tfrecord import read_records
from pipeline.records.wire import read_example
from pipeline.settings import load_recipe
from pipeline.stream.augment.chain import Chain
from pipeline.stream.augment.ops import BatchOp, Image, Op
from pipeline.stream.augment.recipe import OPS, Entry, build_ops
from pipeline.stream.records import Records, open_records
from pipeline.stream.render import decode, shrink
from pipeline.stream.seeds import fold_in

_IMAGES = 4
_DRAWS = 12  # of a whole recipe
_SIZE_PX = 160  # smaller than most records: crops have something to choose from
_QUALITY = 85
_STYLE = """
.strengths { display: grid; gap: 10px 20px; grid-template-columns: repeat(3, 1fr); }
.strengths figure { margin: 0; min-width: 0; }
.pictures { display: grid; gap: 4px; grid-template-columns: repeat(4, 1fr); }
.draws { display: grid; gap: 4px; margin-bottom: 8px; grid-template-columns: repeat(12, 1fr); }
.pictures img, .draws img { display: block; width: 100%; height: auto; border-radius: 3px; }
figcaption { margin-top: 4px; font-size: 12px; overflow-wrap: anywhere; }
@media (max-width: 800px) { .strengths { grid-template-columns: 1fr; }
  .draws { grid-template-columns: repeat(6, 1fr); } }
"""

Images = npt.NDArray[np.uint8]  # [N, S, S, 3]


def build_parser() -> Parser:
    """The flags; `--help` says what each means."""
    parser = Parser("pipeline.stream.gallery", __doc__)
    parser.add_argument("--records", required=True, help="a record set, such as out/256")
    parser.add_argument("--output", required=True, help="the page to write")
    parser.add_argument("--config", help="a recipe whose [[augment]] is shown as well")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags and writes the page."""
    flags = build_parser().parse(argv)
    # TensorFlow notes CPU features, and a missing GPU as an error; what is one for us it raises.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def job() -> int:
        recipe = load_recipe(flags.config)[0] if flags.config else {}
        tables = recipe.get("augment", [])
        ops = build_ops([tables] if isinstance(tables, dict) else tables)
        write_gallery(open_records(flags.records, allow_failures=True), flags.output, ops)
        print(flags.output)
        return 0

    return run("gallery", job)


def write_gallery(records: Records, path: str, recipe: Sequence[Op] = ()) -> None:
    """Writes the page, with a section for `recipe` if it has ops; DataError without images."""
    pictures = read_pictures(records, _IMAGES)
    size_px = min(_SIZE_PX, *(min(picture.shape[:2]) for picture in pictures))
    stored = np.stack([shrink(picture, size_px) for picture in pictures])
    body = [
        tag("h1", None, f"{records.manifest.name}: augmentation"),
        _section("as stored", "", [(stored, "")]),
        *([_recipe(recipe, pictures, size_px)] if recipe else []),
        *(_row(name, entry, pictures, size_px) for name, entry in OPS.items()),
    ]
    title = f"{records.manifest.name}: augmentation"
    storage.write_text(path, document(title, STYLE + _STYLE, tag("main", None, *body)))


def read_pictures(records: Records, count: int) -> list[Image]:
    """The first images of the shards in turn, uint8 [H, W, 3] each as stored."""
    features = with_role(records.manifest.features, "image")
    paths = records.paths_of(records.manifest.part_names)
    if not features or not paths:
        raise DataError(f"{records.folder}: records must hold images for a gallery, got none")
    each = -(-count // len(paths))
    pictures: list[Image] = []
    for path in paths:
        with storage.open_read(path) as file:
            for _, (_, data) in zip(range(each), read_records(file, path), strict=False):
                jpeg = read_example(data)[features[0].name][1][0]
                is_swapped = records.manifest.is_red_blue_swapped
                pictures.append(decode(jpeg, None, is_swapped=is_swapped))
        if len(pictures) >= count:
            break
    return pictures[:count]


def augment(ops: Sequence[Op], pictures: Sequence[Image], seed: str, size_px: int) -> Images:
    """uint8 [H, W, 3] pictures → uint8 [N, S, S, 3], the n-th augmented as place n of an epoch."""
    out = np.empty((len(pictures), size_px, size_px, 3), np.uint8)
    op_seeds = [fold_in("gallery", seed, number) for number in range(len(ops))]
    Chain(ops, size_px=size_px).apply(pictures, op_seeds, np.arange(len(pictures)), out)
    return _mix(ops, out, op_seeds[0]) if any(isinstance(op, BatchOp) for op in ops) else out


def _mix(ops: Sequence[Op], images: Images, seed: int) -> Images:
    """As the training step mixes a batch. TensorFlow is imported for recipes that mix only."""
    import tensorflow as tf

    from pipeline.stream.augment.mix import build_mix

    mix = build_mix(ops, LabelInfo(kind="none"))
    assert mix is not None
    inputs = {"image": tf.constant(images, tf.float32) / 255}
    mixed, _, _ = mix(inputs, {}, tf.ones([len(images)]), tf.constant([seed, 0], tf.int64))
    return np.asarray(tf.cast(tf.round(mixed["image"] * 255), tf.uint8))


def _recipe(ops: Sequence[Op], pictures: Sequence[Image], size_px: int) -> Markup:
    """A picture a line; its draws come from as many places of the epoch."""
    # In turn, so that what mixes does it with another picture.
    out = augment(ops, list(pictures) * _DRAWS, "recipe", size_px)
    lines = out.reshape(_DRAWS, len(pictures), size_px, size_px, 3).swapaxes(0, 1)
    names: dict[type, str] = {entry.op: name for name, entry in OPS.items()}
    head = tag("h3", None, "recipe ", tag("small", None, ", ".join(names[type(op)] for op in ops)))
    return tag("section", None, head, *(_images("draws", line) for line in lines))


def _row(name: str, entry: Entry, pictures: Sequence[Image], size_px: int) -> Markup:
    make: Any = entry.op
    columns = []
    for settings in entry.strengths:
        images = augment([make(**settings, probability=1.0)], pictures, name, size_px)
        shown = ", ".join(f"{key} = {_as_toml(value)}" for key, value in settings.items())
        columns.append((images, shown))
    about = (inspect.getdoc(entry.op) or "").partition("\n")[0]
    return _section(name, about.replace("`", ""), columns)


def _section(name: str, about: str, columns: Sequence[tuple[Images, str]]) -> Markup:
    figures = [
        tag("figure", None, _images("pictures", images), tag("figcaption", None, caption))
        for images, caption in columns
    ]
    head = tag("h3", None, f"{name} ", tag("small", None, about))
    return tag("section", None, head, tag("div", {"class": "strengths"}, *figures))


def _images(kind: str, images: Images) -> Markup:
    return tag("div", {"class": kind}, *(_image(image) for image in images))


def _image(image: Image) -> Markup:
    data = base64.b64encode(encode_jpeg(image, _QUALITY)).decode()
    size_px = image.shape[0]
    source = f"data:image/jpeg;base64,{data}"
    return tag("img", {"src": source, "alt": "", "width": size_px, "height": size_px})


def _as_toml(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    sys.exit(main())
