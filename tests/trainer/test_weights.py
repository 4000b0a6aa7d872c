"""`trainer.models.weights`: files of any Keras and backend load into any other, or say why not.

Sources are networks as their authors build them, fed as their authors say; what they give is what
ours must give.
"""

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from trainer.models import published
from trainer.models.backbones import BACKENDS, IMAGENET_MEAN, IMAGENET_STD, set_normalization
from trainer.models.build import build_model
from trainer.models.config import ModelConfig
from trainer.models.published import WeightsError
from trainer.models.weights import load_weights

RNG = np.random.default_rng(0)
IMAGES = RNG.random((16, 32, 32, 3), np.float32) * RNG.random((16, 1, 1, 3), np.float32)
FLAVOUR = "keras2" if os.environ.get("TF_USE_LEGACY_KERAS") == "1" else "keras3"
OTHER_FLAVOUR = "keras3" if FLAVOUR == "keras2" else "keras2"
FORMATS = ("weights.h5", "keras", "h5")
HAS_PACKAGE = importlib.util.find_spec("efficientnet") is not None
SOURCES = [  # backend, and what it is
    ("keras", "notop"),
    ("keras", "top"),
    ("keras", "nested"),
    ("efficientnet", "notop"),
]


def raw_network(backend, what):
    """B0 by its authors' code, and `IMAGES` as they are to be fed."""
    settings = {"include_top": what == "top", "weights": None, "input_shape": (32, 32, 3)}
    if what == "top":
        settings["classes"] = 7
    if backend == "keras":
        return tf.keras.applications.EfficientNetB0(**settings), IMAGES * 255
    from efficientnet import model

    names = ("backend", "layers", "models", "utils")
    modules = {name: getattr(tf.keras, name) for name in names}
    images = (IMAGES - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    return model.EfficientNetB0(**settings, **modules), images


def set_their_normalization(model, mean, variance):
    layer = next(n for n in model.layers if isinstance(n, tf.keras.layers.Normalization))
    layer.adapt_mean.assign(mean)
    layer.adapt_variance.assign(variance)
    layer.finalize_state()


def randomise(model, images, seed):
    """All weights and statistics drawn, such that features differ by image and are of order one.

    Ranges are between two ends: of larger variances the image no longer shows in the features, of
    smaller ones each layer multiplies what float32 rounds off.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        shapes = [weight.shape for weight in layer.get_weights()]
        if isinstance(layer, tf.keras.layers.Normalization):
            set_their_normalization(model, rng.uniform(0.3, 0.7, 3), rng.uniform(0.02, 0.2, 3))
        elif isinstance(layer, tf.keras.layers.BatchNormalization):
            gamma, variance = rng.uniform(0.8, 1.6, shapes[0]), rng.uniform(0.3, 1.2, shapes[0])
            layer.set_weights([gamma, *rng.normal(0, 0.2, (2, *shapes[0])), variance])
        elif shapes:
            fan_in = [np.prod(shape[:2] if shape[-1] == 1 else shape[:-1]) for shape in shapes]
            drawn = [rng.normal(0, n**-0.5, s) for n, s in zip(fan_in, shapes, strict=True)]
            layer.set_weights(drawn)
    last = model.get_layer("top_bn")
    before = tf.keras.Model(model.input, model.get_layer("top_conv").output)(images).numpy()
    gamma, beta, mean, _ = last.get_weights()
    last.set_weights([gamma, beta, mean, 100 * (before**2).mean(axis=(0, 1, 2))])


def write_sources(folder):
    """A file a source and format, and what the network gives in a `.npy`."""
    for seed, (backend, what) in enumerate(SOURCES):
        if backend == "efficientnet" and not HAS_PACKAGE:
            continue
        network, images = raw_network(backend, what)
        randomise(network, images, seed)
        features = tf.keras.Model(network.input, network.get_layer("top_activation").output)
        stem = Path(folder, f"{FLAVOUR}-{backend}-{what}")
        np.save(f"{stem}.npy", features(images, training=False))
        if what == "nested":
            inputs = tf.keras.Input((32, 32, 3))
            pooled = tf.keras.layers.GlobalAveragePooling2D()(network(inputs))
            hidden = tf.keras.layers.BatchNormalization()(tf.keras.layers.Dense(8)(pooled))
            network = tf.keras.Model(inputs, hidden)
        network.save_weights(f"{stem}.weights.h5")
        network.save(f"{stem}.keras")
        network.save(f"{stem}.h5")
        if FLAVOUR == "keras2":
            network.save_weights(f"{stem}.only.h5")


def our_backbone(backend):
    if backend == "efficientnet" and not HAS_PACKAGE:
        pytest.skip("efficientnet is not installed; make install does")
    image = tf.keras.Input((32, 32, 3), name="image")
    return tf.keras.Model(image, BACKENDS[backend]["efficientnet-b0"](image))


@pytest.fixture(scope="module")
def ours():
    return {
        backend: our_backbone(backend) for backend in BACKENDS if backend == "keras" or HAS_PACKAGE
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_sources(folder)
    return folder


@pytest.fixture(scope="module")
def written_by_the_other_keras(tmp_path_factory):
    if not importlib.util.find_spec("tf_keras"):
        pytest.skip("tf_keras is not installed; make install does")
    folder = tmp_path_factory.mktemp("other")
    here = Path(__file__).parent
    code = f"import test_weights; test_weights.write_sources({str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "TF_USE_LEGACY_KERAS": "1" if OTHER_FLAVOUR == "keras2" else "0",
            "PYTHONPATH": f"{here}{os.pathsep}{here.parents[1]}",
        },
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def fresh(backbone):
    """As it was built: ImageNet's normalisation, for a file may have none."""
    set_normalization(backbone.layers, IMAGENET_MEAN, [std**2 for std in IMAGENET_STD])
    return backbone


def assert_equal_and_telling(got, expected):
    spread = np.std(expected, axis=0).mean()
    assert spread > 1e-3, "another image must give other features"
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def assert_loads(path, backbone, backend):
    expected = np.load(re.sub(r"\.(weights\.h5|only\.h5|h5|keras)$", ".npy", str(path)))
    load_weights(fresh(backbone), str(path), name="efficientnet-b0", backend=backend)
    got = backbone(IMAGES, training=False).numpy()
    assert_equal_and_telling(got, expected)


targets = pytest.mark.parametrize("target", list(BACKENDS))
sources = pytest.mark.parametrize(("backend", "what"), SOURCES, ids=["-".join(s) for s in SOURCES])


@targets
@sources
@pytest.mark.parametrize("form", FORMATS)
def test_weights_of_either_backend_load_into_either(written, ours, backend, what, form, target):
    path = written / f"{FLAVOUR}-{backend}-{what}.{form}"
    if not path.exists() or target not in ours:
        pytest.skip("efficientnet is not installed; make install does")
    assert_loads(path, ours[target], target)


@pytest.mark.slow
@targets
@sources
@pytest.mark.parametrize("form", [*FORMATS, "only.h5"])
def test_weights_of_the_other_keras_load_as_well(
    written_by_the_other_keras, ours, backend, what, form, target
):
    path = written_by_the_other_keras / f"{OTHER_FLAVOUR}-{backend}-{what}.{form}"
    if form == "only.h5" and OTHER_FLAVOUR == "keras3":
        pytest.skip("Keras 3 does not write weights alone as .h5")
    if not path.exists() or target not in ours:
        pytest.skip("efficientnet is not installed; make install does")
    assert_loads(path, ours[target], target)


def put_published(folder, monkeypatch, backend="keras", weights="imagenet"):
    """A file such as Keras publishes in its cache: ImageNet's deviation where variance belongs."""
    monkeypatch.setenv("KERAS_HOME", str(folder))
    network, images = raw_network("keras", "notop")
    randomise(network, images, 7)
    set_their_normalization(network, IMAGENET_MEAN, IMAGENET_STD)
    entry = published.PUBLISHED[backend, weights]
    path = folder / "models" / entry.name.format(variant=0)
    path.parent.mkdir(exist_ok=True)
    network.save(path)
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    mended = published.dataclasses.replace(entry, digests=(digest, *entry.digests[1:]))
    monkeypatch.setitem(published.PUBLISHED, (backend, weights), mended)
    return path


def test_published_weights_give_what_keras_own_way_of_loading_them_gives(tmp_path, monkeypatch):
    path = put_published(tmp_path, monkeypatch)
    module = sys.modules[tf.keras.applications.EfficientNetB0.__module__]
    if not hasattr(module, "BASE_WEIGHTS_PATH"):  # behind the names that Keras exports
        flavour = "keras" if FLAVOUR == "keras3" else "tf_keras"
        module = sys.modules[f"{flavour}.src.applications.efficientnet"]
    files = module.file_utils if hasattr(module, "file_utils") else module.data_utils
    monkeypatch.setattr(files, "get_file", lambda *args, **settings: str(path))
    theirs = tf.keras.applications.EfficientNetB0(
        include_top=False, weights="imagenet", input_shape=(32, 32, 3)
    )
    config = ModelConfig(backbone="efficientnet-b0", weights="imagenet")
    model = build_model(config, image_size_px=32, metadata_width=0, outputs=1)
    ours = tf.keras.Model(model.input, model.get_layer("top_activation").output)
    expected = theirs(IMAGES * 255, training=False).numpy()
    got = ours({"image": IMAGES}, training=False).numpy()
    assert_equal_and_telling(got, expected)


def load(weights, backbone="small-cnn", backend="keras"):
    config = ModelConfig(backbone=backbone, backend=backend, weights=str(weights))
    return build_model(config, image_size_px=32, metadata_width=0, outputs=1)


@pytest.mark.parametrize(
    ("backend", "weights", "name", "digest"),
    [
        ("keras", "imagenet", "efficientnetb3_notop.h5", "MD5 af6d107764bb5b1abb91932881670226"),
        (
            "keras",
            "noisy-student",
            "efficientnet-b3_noisy-student_notop.h5",
            "MD5 47da5b154de1372b",
        ),
        ("efficientnet", "imagenet", "kernels_autoaugment_notop.h5", "SHA-256 c5d42eb6cfae8567b41"),
    ],
)
def test_without_a_network_the_file_its_digest_and_its_place_are_told(
    tmp_path, monkeypatch, backend, weights, name, digest
):
    def fail(*args, **settings):
        raise Exception("URL fetch failure: no route to host")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(tf.keras.utils, "get_file", fail)
    with pytest.raises(WeightsError) as caught:
        published.published_path("efficientnet-b3", backend, weights)
    message = str(caught.value)
    assert digest in message
    assert re.search(rf"at {tmp_path}/models/\S*{name} or reachable", message)
    assert re.search(rf"fetch https://\S+{name} ", message)
    assert "no route to host" in message


def test_a_published_file_that_is_cut_off_is_told_by_its_digest(tmp_path, monkeypatch):
    path = put_published(tmp_path, monkeypatch)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"must have the MD5 \w+, got \w+: it is cut off or ano"):
        load("imagenet", "efficientnet-b0")


@pytest.fixture
def small_file(tmp_path):
    path = tmp_path / "small.h5"
    model = build_model(
        ModelConfig(backbone="small-cnn"), image_size_px=32, metadata_width=0, outputs=1
    )
    model.save(path)
    return path


def test_a_file_of_any_backbone_loads_into_its_own(small_file):
    with h5py.File(small_file) as file:
        kernel = file["model_weights/block5_conv"]
        [expected] = [kernel[name][()] for name in kernel.attrs["weight_names"]]
    np.testing.assert_array_equal(
        load(small_file).get_layer("block5_conv").get_weights()[0], expected
    )


def test_a_file_of_another_network_is_refused(small_file):
    message = "must be those of efficientnet-b0, with 65 layers of kind conv, got 5; set model.back"
    with pytest.raises(WeightsError, match=message):
        load(small_file, "efficientnet-b0")


def test_a_network_of_other_widths_is_refused(small_file):
    with h5py.File(small_file, "a") as file:
        group = file["model_weights/block2_conv"]
        [name] = group.attrs["weight_names"]
        del group[name]
        group[name] = np.zeros((3, 3, 16, 33), np.float32)
    with pytest.raises(
        WeightsError, match=r"with block2_conv of shape \(3, 3, 16, 32\), got \(3, 3"
    ):
        load(small_file)


def test_weights_that_are_not_finite_are_refused(small_file):
    with h5py.File(small_file, "a") as file:
        group = file["model_weights/block2_conv"]
        group[group.attrs["weight_names"][0]][0, 0] = np.nan
    with pytest.raises(WeightsError, match="all finite, got NaN or infinity in block2_conv"):
        load(small_file)


@pytest.mark.parametrize("kept", [0, 7, 1000, 0.5])
def test_a_file_that_is_cut_off_is_told(small_file, kept):
    content = small_file.read_bytes()
    small_file.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(WeightsError, match="it is cut off or of another format"):
        load(small_file)


def test_an_archive_without_weights_a_bare_hdf5_and_no_file_at_all_are_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(WeightsError, match=r"no item named 'model\.weights\.h5' in the archive"):
        load(tmp_path / "a.keras")
    h5py.File(tmp_path / "bare.h5", "w").close()
    with pytest.raises(WeightsError, match="must hold the weights of layers, got none"):
        load(tmp_path / "bare.h5")
    with pytest.raises(WeightsError, match="must be a file, got none; mend the path"):
        load(tmp_path / "absent.h5")


@pytest.mark.parametrize("way", ["external array", "external link"])
def test_a_file_that_leads_to_another_file_is_refused(small_file, tmp_path, way):
    (tmp_path / "secret").write_bytes(bytes(3 * 3 * 3 * 16 * 4))
    with h5py.File(small_file, "a") as file:
        group = file["model_weights/block1_conv"]
        [name] = group.attrs["weight_names"]
        del group[name]
        if way == "external link":
            group[name] = h5py.ExternalLink("other.h5", "/kernel")
        else:
            outside = [(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)]
            group.create_dataset(name, (3, 3, 3, 16), np.float32, external=outside)
    with pytest.raises(WeightsError, match=r"must be an HDF5 or \.keras file of weights, got"):
        load(small_file)
