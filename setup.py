"""How foldstream is installed. The base brings no TensorFlow: workers and TPUs have their own."""

from pathlib import Path

from setuptools import find_packages, setup

TENSORFLOW = "2.20.*"

setup(
    name="foldstream",
    version="0.1.0",
    description=(
        "From images and a CSV to leak-free k-fold TFRecord shards, and from the shards to a "
        "TPU-trained EfficientNet ensemble"
    ),
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.13",
    packages=find_packages(include=["pipeline*", "beam_jobs*", "trainer*"]),
    install_requires=[
        "apache-beam[gcp]==2.77.*",
        "google-cloud-storage>=2.18",
        "google-crc32c>=1.5",
        "numpy>=2.0",
        "opencv-python-headless>=4.10",
        "pandas>=2.2",
        "pillow>=10.4",
        "pyarrow>=15",
        "pydicom>=3.0",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "simplejpeg>=1.8",
        "six",  # of the efficientnet package, which is installed without its dependencies
        "threadpoolctl>=3.5",
        "tomli-w>=1.0",
    ],
    extras_require={
        # On a TPU machine add tf_keras with --no-deps: it drags in a tensorflow that overwrites
        # tensorflow-tpu.
        "cpu": [f"tensorflow-cpu=={TENSORFLOW}"],
        "gpu": [f"tensorflow[and-cuda]=={TENSORFLOW}"],
        "tpu": [f"tensorflow-tpu=={TENSORFLOW}"],
        "dask": ["dask", "distributed"],  # a second engine of beam_jobs: --runner dask
        # The compiler of `trainer.preflight`: 1 GB, and none of it needed on a TPU.
        "preflight": ["jax==0.10.2", "jaxlib==0.10.2", "libtpu==0.0.51; sys_platform == 'linux'"],
        "dev": [
            "dask",
            "distributed",
            "dockerfile-parse",
            "gcp-storage-emulator",
            "hypothesis",
            "ipykernel",
            "mypy",
            "nbclient",
            "pandas-stubs",
            "pre-commit",
            "pytest",
            "pytest-xdist",
            "ruff",
            "tensorflow-datasets>=4.9.9",
        ],
    },
    classifiers=[
        "Intended Audience :: Healthcare Industry",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
