"""`[[augment]]` tables made into ops, and what is refused."""

import subprocess
import sys

import pytest

from pipeline.errors import SettingsError
from pipeline.settings import to_tables
from pipeline.stream.augment.colour import Brightness, Contrast
from pipeline.stream.augment.crops import RandomResizedCrop
from pipeline.stream.augment.geometry import Transpose
from pipeline.stream.augment.ops import BatchOp, ColourOp, GeometryOp, PixelOp
from pipeline.stream.augment.recipe import OPS, build_ops


def test_ops_are_built_from_tables_in_order():
    tables = [
        {"op": "transpose"},
        {"op": "brightness", "max_delta": 0.1, "probability": 0.5},
        {"op": "contrast", "factor": [0.8, 1.2]},
    ]
    assert build_ops(tables) == (
        Transpose(),
        Brightness(max_delta=0.1, probability=0.5),
        Contrast(factor=(0.8, 1.2)),
    )


@pytest.mark.parametrize("name", OPS)
def test_an_op_is_of_one_kind_and_its_strengths_can_be_written_in_a_recipe(name):
    for settings in OPS[name].strengths:
        op = OPS[name].op(**settings)
        assert sum(isinstance(op, k) for k in (GeometryOp, ColourOp, PixelOp, BatchOp)) == 1
        written = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in to_tables(op).items()
        }
        assert build_ops([{"op": name, **written}]) == (op,)


@pytest.mark.parametrize("name", OPS)
def test_every_op_refuses_a_probability_that_is_none(name):
    settings = {**OPS[name].strengths[0], "probability": 1.5}
    with pytest.raises(ValueError, match=rf"{name}: probability must be in \[0, 1\], got 1.5"):
        OPS[name].op(**settings)


def test_a_crop_comes_before_everything_that_moves_pixels():
    crop = {"op": "random_resized_crop"}
    ops = build_ops([{"op": "brightness", "max_delta": 0.1}, crop, {"op": "transpose"}])
    assert ops[1:] == (RandomResizedCrop(), Transpose())
    with pytest.raises(SettingsError, match=r"augment.1 \(random_resized_crop\): a crop must"):
        build_ops([{"op": "transpose"}, crop])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("transpose", r"augment\.0: must be a table such as .*, got 'transpose'"),
        ({"op": "flip_leftright"}, r"augment\.0: op must be .* did you mean 'flip_left_right'"),
        ({"max_delta": 0.1}, r"augment\.0: op must be a known one, got None"),
        ({"op": "brightness"}, r"augment\.0 \(brightness\): 'max_delta' must be given"),
        ({"op": "brightness", "max_delta": 1.0}, r"max_delta must be in \[0, 1\), got 1.0"),
        (
            {"op": "brightness", "max_dleta": 0.1},
            "unknown key 'max_dleta'; did you mean 'max_delta'",
        ),
        ({"op": "flip_left_right", "probability": "often"}, "probability must be a number"),
        ({"op": "contrast", "factor": 1.2}, r"\(contrast\): factor must be a list, got 1.2"),
        ({"op": "contrast", "factor": [1.2]}, "factor must have 2 values"),
        (
            {"op": "random_erasing", "fill": "white"},
            "fill must be one of 'mean', 'black', 'noise', got 'white'",
        ),
    ],
)
def test_a_table_that_makes_no_op_is_refused(table, message):
    with pytest.raises(SettingsError, match=message):
        build_ops([table])


def test_a_recipe_is_checked_without_tensorflow():
    code = (
        "import sys; from pipeline.stream.augment.recipe import build_ops; "
        "build_ops([{'op': 'mixup'}]); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
