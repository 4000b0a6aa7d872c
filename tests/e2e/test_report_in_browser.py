"""The report in Chromium: a quiet console, nothing cut off, whatever ids and labels hold.

The page's policy lets no script run, so a copy without it is measured, in a frame of the width.
"""

import dataclasses
import html
import json
import re
import shutil
import subprocess

import pytest

from pipeline.predictions import write_predictions
from pipeline.records.manifest import read_rows
from predictions_factory import BINARY, toy_predictions
from records_factory import write_toy_records
from trainer.report.__main__ import main

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars", "--enable-logging=stderr",
]  # fmt: skip
EVIL = "<script>document.title='broken'</script>"
MEASURE = """<iframe width="WIDTH" height="900" style="border: 0" srcdoc="PAGE"></iframe><script>
onload = () => {
  const inside = frames[0], page = inside.document;
  const isHidden = e => {
    const box = e.getBoundingClientRect();
    return box.width < 20 || box.height < 20 || box.left < 0 || box.right > inside.innerWidth
      || (e.tagName === 'IMG' && !e.naturalWidth);
  };
  const measured = {
    inner: inside.innerWidth, page: page.documentElement.scrollWidth,
    pictures: page.images.length, charts: page.querySelectorAll('svg').length,
    hidden: [...page.querySelectorAll('svg, img')].filter(isHidden).length,
    cut: [...page.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth)
      .map(e => e.innerText),
    scripts: page.scripts.length, title: page.title,
    asked: inside.performance.getEntriesByType('resource').map(e => e.name.slice(0, 40))
      .filter(name => !name.startsWith('data:')),
  };
  const out = document.createElement('pre');
  out.textContent = JSON.stringify(measured);
  document.body.replaceChildren(out);
};
</script>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report with pictures and subgroups, of rows and classes that hold markup."""
    folder = tmp_path_factory.mktemp("page")
    write_toy_records(folder / "records", rows=200)
    rows = read_rows(str(folder / "records"))
    keys = {name: rows[name].to_numpy() for name in ("id", "part", "fold", "target")}
    label = dataclasses.replace(BINARY, classes=("benign", EVIL), positive=(EVIL,))
    whole = toy_predictions(label, rows=200)
    frame = whole.frame.assign(**keys, group=[f"{EVIL}{row // 2}" for row in range(200)])
    file = folder / f"{EVIL.replace('/', '')}.parquet"
    write_predictions(str(file), dataclasses.replace(whole, frame=frame))
    output = folder / "report.html"
    flags = ["--records", str(folder / "records"), "--draws", "20", "--point", f"{EVIL}=74.1,60"]
    assert main([str(file), "--output", str(output), *flags]) == 0
    return output


def browse(folder, page, *flags):
    """What Chromium prints, and what it says on stderr."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'user'}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, done.stderr


@pytest.mark.parametrize("width", [400, 1400])
def test_every_figure_is_on_the_page_and_no_text_became_markup(page, tmp_path, width):
    text = page.read_text()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', text)[0]
    free = html.escape(text.replace(policy, ""))
    copy = tmp_path / "copy.html"
    copy.write_text(MEASURE.replace("WIDTH", str(width)).replace("PAGE", free))
    printed, _ = browse(tmp_path, copy, "--window-size=1500,1000", "--dump-dom")
    measured = json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", printed)[1]))
    assert measured["inner"] == width
    assert measured["page"] <= width
    assert measured["scripts"] == 0
    assert measured["title"].startswith("report of ")
    assert measured["pictures"] >= 25
    assert measured["charts"] >= 5
    assert (measured["hidden"], measured["asked"]) == (0, [])
    if width > 1000:  # where it is narrow, tables of many columns scroll in a box of their own
        assert not measured["cut"]


def test_the_page_says_nothing_on_the_console(page, tmp_path):
    printed, said = browse(tmp_path, page, "--window-size=800,900", "--dump-dom")
    assert "Figures" in printed
    assert "CONSOLE" not in said
    # And it would be seen: the policy forbids a script, and Chromium says so.
    copy = tmp_path / "copy.html"
    copy.write_text(page.read_text().replace("</body>", "<script>1</script></body>"))
    assert "CONSOLE" in browse(tmp_path, copy, "--dump-dom")[1]
