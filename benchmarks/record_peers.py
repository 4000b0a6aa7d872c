"""Other ways to turn JPEGs into shards, for `benchmarks/make_records.py --peer NAME=PYTHON`.

    python benchmarks/record_peers.py webdataset files.txt 256 OUT

`files.txt` names a source a line. Each peer centre-crops, resizes to the size in px, encodes JPEG
at quality 95 and writes shards as its own documentation shows it; where the library leaves decoding
to its user, with Pillow (the defaults) or with simplejpeg and OpenCV (`-tuned`). Work is spread
over two processes, a slice of the files each, but where the library brings its own way.

Needs, in whichever Python runs it: pillow, and for their names tensorflow, tensorflow-datasets,
webdataset, mosaicml-streaming, img2dataset; for `-tuned` simplejpeg and opencv-python-headless.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

QUALITY = 95
Files = list[str]
Decode = Callable[[str, int], bytes]


def with_pillow(path: str, size: int, draft: bool = False) -> bytes:
    """The source as a JPEG of size × size px: full decode, crop and Lanczos in one call."""
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        if draft:  # lets libjpeg decode at a reduced scale
            image.draft("RGB", (size, size))
        fitted = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    fitted.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def with_pillow_draft(path: str, size: int) -> bytes:
    """The same, decoded at the scale that covers the size."""
    return with_pillow(path, size, draft=True)


def with_simplejpeg(path: str, size: int) -> bytes:
    """Decoded at the scale that covers the size, then OpenCV's area resizing."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)
    data = Path(path).read_bytes()
    image = simplejpeg.decode_jpeg(data, min_width=size, min_height=size)
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = image[top : top + side, left : left + side]
    small = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    encoded: bytes = simplejpeg.encode_jpeg(small, QUALITY)
    return encoded


def tfrecord(files: Files, size: int, output: str, decode: Decode) -> None:
    """tf.train.Example through tf.io.TFRecordWriter, one file a process."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(f"{output}/{os.getpid()}.tfrecord") as writer:
        for row, path in enumerate(files):
            feature = {
                "image": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[decode(path, size)])
                ),
                "target": tf.train.Feature(int64_list=tf.train.Int64List(value=[row % 2])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


def webdataset(files: Files, size: int, output: str, decode: Decode) -> None:
    """webdataset.ShardWriter."""
    import webdataset

    pattern = f"{output}/{os.getpid()}-%06d.tar"
    with webdataset.ShardWriter(pattern, maxcount=1000, verbose=0) as writer:
        for row, path in enumerate(files):
            sample = {"__key__": f"{row:06d}", "jpg": decode(path, size), "cls": row % 2}
            writer.write(sample)


def mosaicml(files: Files, size: int, output: str, decode: Decode) -> None:
    """streaming.MDSWriter, images stored as JPEG bytes."""
    from streaming import MDSWriter

    columns = {"image": "bytes", "target": "int"}
    with MDSWriter(out=f"{output}/{os.getpid()}", columns=columns) as writer:
        for row, path in enumerate(files):
            writer.write({"image": decode(path, size), "target": row % 2})


def tfds(files: Files, size: int, output: str) -> None:
    """A GeneratorBasedBuilder that decodes with Pillow; TFDS encodes and writes, in one process."""
    import numpy as np
    import tensorflow_datasets
    from PIL import Image

    class Peer(tensorflow_datasets.core.GeneratorBasedBuilder):
        """Images and labels."""

        VERSION = tensorflow_datasets.core.Version("1.0.0")
        pkg_dir_path = Path(__file__).parent

        def _info(self) -> object:
            features = tensorflow_datasets.features
            image = features.Image(shape=(size, size, 3), encoding_format="jpeg")
            return self.dataset_info_from_configs(
                features=features.FeaturesDict(
                    {"image": image, "target": features.Scalar(np.int64)}
                )
            )

        def _split_generators(self, dl_manager: object) -> object:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, object]]]:
            for row, path in enumerate(files):
                data = io.BytesIO(with_pillow(path, size))
                yield row, {"image": np.asarray(Image.open(data)), "target": row % 2}

    Peer(data_dir=output).download_and_prepare()


def img2dataset(files: Files, size: int, output: str) -> None:
    """img2dataset on file addresses, two processes of its own, webdataset shards."""
    import img2dataset as peer

    urls = Path(output, "urls.txt")
    urls.write_text("".join(f"file://{path}\n" for path in files))
    peer.download(
        url_list=str(urls), output_folder=f"{output}/shards", output_format="webdataset",
        image_size=size, resize_mode="center_crop", encode_quality=QUALITY,
        processes_count=2, thread_count=16, number_sample_per_shard=1000,
    )  # fmt: skip


WRITERS = {"tfrecord": tfrecord, "webdataset": webdataset, "mosaicml": mosaicml}
DECODERS = {"": with_pillow, "-draft": with_pillow_draft, "-tuned": with_simplejpeg}
ALONE = {"tfds": tfds, "img2dataset": img2dataset}
NAMES = [*(f"{writer}{decoder}" for writer in WRITERS for decoder in DECODERS), *ALONE]


def main(name: str, listing: str, size: int, output: str) -> None:
    """Runs one peer."""
    files = Path(listing).read_text().split("\n")
    if name in ALONE:
        ALONE[name](files, size, output)
        return
    writer, _, decoder = name.partition("-")
    decode = DECODERS[f"-{decoder}" if decoder else ""]
    jobs = [(files[start::2], size, output, decode) for start in range(2)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(WRITERS[writer], jobs)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
