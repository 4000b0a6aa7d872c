"""`preview.html`: a page that asks for nothing, shows what there is, and lets no text be markup."""

import base64
import csv
import dataclasses
import html
import html.parser
import re
import shutil
import time

import numpy as np
import pandas as pd
import pytest
import simplejpeg

from beam_jobs.make_records import main as make_records
from dataset_factory import record_flags, write_dataset
from pipeline.dataset.plan import read_plan_rows
from pipeline.preview.charts import Bar, bar_chart
from pipeline.preview.markup import Markup, tag
from pipeline.preview.page import write_preview
from pipeline.preview.sample import read_sample
from pipeline.records.manifest import read_manifest, write_rows

HOSTILE = "<script>alert(1)</script>"


class Page(html.parser.HTMLParser):
    """The elements of a page, the texts outside its style, and the links it holds."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.links, self._inside = [], [], [], []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        self._inside.append(name)
        self.links += [value for key, value in attributes if key in ("src", "href")]
        self.texts += [value for key, value in attributes if key in ("alt", "title")]
        assert not [key for key, _ in attributes if key.startswith("on")]

    def handle_data(self, data):
        if self._inside[-1:] != ["style"]:
            self.texts.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Records whose ids, labels and column names are markup."""
    folder = tmp_path_factory.mktemp("hostile")
    path = write_dataset(folder)
    with path.open() as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        line["path"] = f"{line['image_name']}.jpg"
        line["image_name"] = f"{HOSTILE}\"'&{line['image_name']}"
        line["<b>sex</b>"] = '"><img src=x onerror=alert(2)>' + line["sex"]
        line["label"] = "<svg onload=alert(3)>" if line["target"] == "1" else HOSTILE
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    flags = record_flags(
        folder, folder / "out", image_path="{path}", label="label", categorical="<b>sex</b>",
        keep="note", sizes="32",
    )  # fmt: skip
    assert make_records(flags) == 0
    return folder / "out"


def parsed(output):
    return Page((output / "preview.html").read_text())


def test_ids_labels_and_column_names_stay_text(made):
    page = parsed(made)
    assert "script" not in page.tags
    assert page.tags.count("img") == 24  # the thumbnails, and no other
    assert any(text.startswith(f"{HOSTILE}\"'&IMG_") for text in page.texts)
    assert any("<svg onload=alert(3)>" in text for text in page.texts)
    assert any("<b>sex</b>" in text for text in page.texts)
    assert any('"><img src=x onerror=alert(2)>male' in text for text in page.texts)
    assert "<script" not in (made / "preview.html").read_text()


def test_the_page_asks_for_nothing_outside_itself(made):
    text = (made / "preview.html").read_text()
    assert all(link.startswith("data:image/jpeg;base64,") for link in parsed(made).links)
    assert not re.search(r"https?:|url\(|@import", text)
    assert "default-src 'none'" in html.unescape(text)


def test_a_contact_sheet_holds_images_of_its_class_in_small(made):
    rows = read_plan_rows(str(made / "plan"))
    text = (made / "preview.html").read_text()
    sheets = re.findall(r"<h3>(.*?)<small>(.*?)</h3>|base64,([^\"]+)\" alt=\"(.*?)\"", text)
    counts = {"positive": 0, "negative": 0}
    for head, _, data, name in sheets:
        if head:
            here = "positive" if "svg" in head else "negative"
            continue
        counts[here] += 1
        target = rows.set_index("id")["target"][html.unescape(name)]
        classes = read_manifest(str(made / "32")).label.classes
        assert ("svg" in classes[target]) == (here == "positive")
        height, width, _, _ = simplejpeg.decode_jpeg_header(base64.b64decode(data))
        assert max(height, width) <= 96
    assert counts == {"positive": 6, "negative": 18}


def test_the_same_records_give_the_same_page(made, tmp_path):
    shutil.copytree(made, tmp_path / "out")
    (tmp_path / "out" / "preview.html").unlink()
    folder = str(tmp_path / "out" / "32")
    rows = read_plan_rows(str(made / "plan")).sample(frac=1, random_state=3)
    write_preview(str(tmp_path / "out"), [folder], [read_manifest(folder)], rows, 0)
    assert (tmp_path / "out" / "preview.html").read_text() == (made / "preview.html").read_text()


def test_a_row_that_failed_moves_the_records_behind_it(tmp_path):
    """Thumbnails are found by place: the names under them must stay those of the pictures."""
    write_dataset(tmp_path)
    names = sorted(path.stem for path in (tmp_path / "jpeg").iterdir())
    shades = {name: 10 * place for place, name in enumerate(names)}
    for name, shade in shades.items():
        pixels = np.full((64, 64, 3), shade, np.uint8)
        data = simplejpeg.encode_jpeg(pixels, 95)
        (tmp_path / "jpeg" / f"{name}.jpg").write_bytes(data)
    for name in names[::5]:
        (tmp_path / "jpeg" / f"{name}.jpg").unlink()
    flags = record_flags(tmp_path, tmp_path / "out", rows_per_shard="100", max_failures="1")
    assert make_records(flags) == 0
    folder = str(tmp_path / "out" / "64")
    rows = read_plan_rows(str(tmp_path / "out" / "plan"))
    written = rows[~rows["id"].isin(names[::5])]
    everything = {"all": np.ones(len(written), bool)}
    sample = read_sample(folder, read_manifest(folder), written, everything, each=100)
    assert {thumbnail.id for thumbnail in sample.sheets["all"]} == set(names) - set(names[::5])
    for thumbnail in sample.sheets["all"]:
        shade = simplejpeg.decode_jpeg(thumbnail.jpeg).mean()
        assert shade == pytest.approx(shades[thumbnail.id], abs=2)
    np.testing.assert_array_equal(sample.widths, 64)


def test_a_set_of_one_image_still_has_a_page(tmp_path):
    write_dataset(tmp_path)
    for path in sorted((tmp_path / "jpeg").iterdir())[1:]:
        path.unlink()
    flags = record_flags(tmp_path, tmp_path / "out", max_failures="1")
    assert make_records(flags) == 0
    texts = parsed(tmp_path / "out").texts
    assert "Rows that failed" in texts
    assert "missing" in texts


def test_bars_are_as_long_as_their_values():
    chart = bar_chart(
        [Bar(label="a", values=(3,), text="3"), Bar(label="b", values=(6,), text="6")]
    )
    short, long = (float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', chart))
    assert long == pytest.approx(2 * short, abs=0.02)


def test_markup_that_is_joined_with_text_is_text_again():
    assert tag("p", None, Markup("<b></b>") + "<i>") == "<p>&lt;b&gt;&lt;/b&gt;&lt;i&gt;</p>"


@pytest.mark.slow
def test_a_page_of_a_million_rows_is_small(made, tmp_path):
    """Without pictures, of which there are 240 at most, however many rows."""
    rows, count = read_plan_rows(str(made / "plan")), 1_000_000
    many = pd.concat([rows] * (count // len(rows) + 1), ignore_index=True).iloc[:count]
    many = many.assign(row=np.arange(count), id=[f"{HOSTILE}{row}" for row in range(count)])
    many["<b>sex</b>"] = [f"{HOSTILE}{row % 50_000}" for row in range(count)]
    manifest = read_manifest(str(made / "32"))
    features = tuple(feature for feature in manifest.features if feature.role != "image")
    write_rows(str(tmp_path), many[["row", "id"]])
    start = time.perf_counter()
    manifest = dataclasses.replace(manifest, features=features)
    write_preview(str(tmp_path), [str(tmp_path)], [manifest], many, 0)
    assert time.perf_counter() - start < 20
    assert (tmp_path / "preview.html").stat().st_size < 1e6
