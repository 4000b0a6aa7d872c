"""The gallery: every op and every draw on one page that needs nothing else."""

import dataclasses
import re

import pytest

from pipeline.errors import DataError
from pipeline.stream.augment.colour import Brightness
from pipeline.stream.augment.mix import MixUp
from pipeline.stream.augment.recipe import OPS
from pipeline.stream.gallery import augment, main, read_pictures, write_gallery
from pipeline.stream.records import open_records
from records_factory import write_toy_records

RECIPE = """
[[augment]]
op = "rotation"

[[augment]]
op = "cutmix"
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    write_toy_records(folder, rows=16, size_px=24)
    return open_records(str(folder))


def test_the_page_shows_every_op_at_each_strength_and_asks_for_nothing(records, tmp_path):
    page = tmp_path / "gallery.html"
    assert main(["--records", records.folder, "--output", str(page)]) == 0
    text = page.read_text()
    assert re.findall(r"<h3>(\w+) ", text)[1:] == list(OPS)
    assert "factor = [0.8, 1.2]" in text
    sources = re.findall(r'src="([^"]{0,30})', text)
    assert len(sources) == 4 + 4 * sum(len(entry.strengths) for entry in OPS.values())
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"https?:|<script|<link", text)


def test_a_recipe_is_shown_in_twelve_draws_of_each_image(records, tmp_path):
    config = tmp_path / "recipe.toml"
    config.write_text(RECIPE)
    pages = [tmp_path / "plain.html", tmp_path / "with.html"]
    flags = ["--records", records.folder, "--output"]
    assert main([*flags, str(pages[0])]) == 0
    assert main([*flags, str(pages[1]), "--config", str(config)]) == 0
    plain, shown = (page.read_text() for page in pages)
    assert shown.count("<img") - plain.count("<img") == 12 * 4
    assert "rotation, cutmix" in shown


def test_text_from_the_records_is_escaped(records, tmp_path):
    named = dataclasses.replace(
        records, manifest=dataclasses.replace(records.manifest, name="<script>x</script>")
    )
    write_gallery(named, str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_pictures_come_from_several_shards(records):
    pictures = read_pictures(records, 4)
    assert [picture.shape for picture in pictures] == [(24, 24, 3)] * 4
    assert len({picture.tobytes() for picture in pictures}) == 4
    assert len(read_pictures(records, 1000)) == 16


def test_the_same_word_augments_the_same(records):
    pictures = read_pictures(records, 4)
    ops = [Brightness(max_delta=0.3), MixUp(alpha=1.0)]
    once = augment(ops, pictures, "word", 24)
    assert (once == augment(ops, pictures, "word", 24)).all()
    assert (once != augment(ops, pictures, "other", 24)).any()


def test_records_without_images_have_no_gallery(records):
    features = tuple(f for f in records.manifest.features if f.role != "image")
    blind = dataclasses.replace(
        records, manifest=dataclasses.replace(records.manifest, features=features)
    )
    with pytest.raises(DataError, match="records must hold images for a gallery, got none"):
        read_pictures(blind, 4)


def test_a_recipe_with_an_unknown_op_is_refused(records, tmp_path, capsys):
    config = tmp_path / "recipe.toml"
    config.write_text('[[augment]]\nop = "rotate"\n')
    flags = ["--records", records.folder, "--output", str(tmp_path / "page.html")]
    assert main([*flags, "--config", str(config)]) == 2
    assert "did you mean 'rotation'" in capsys.readouterr().err
