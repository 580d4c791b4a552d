"""Reports opened in a headless Chromium: light and dark, 1200 and 400 pixels wide.

tests/report/browse.mjs drives the browser and says what it saw. It needs Node, the packages of tests/report (scripts/test puts
them below the target directory) and Chromium or Chrome; BATCHWRIGHT_CHROMIUM names the program. Without them these tests are
skipped. BATCHWRIGHT_SHOTS names a directory to keep screenshots in."""
import json
import os
import pathlib
import shlex
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import FIXTURES, ROOT

MODULES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "node"
MODULES = pathlib.Path(os.environ.get("BATCHWRIGHT_NODE", MODULES)).resolve()
CHROMIUM = os.environ.get("BATCHWRIGHT_CHROMIUM") or next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"])), None
)
EVIL = [
    "</script><script>globalThis.pwned = true</script>",
    "<img src=x onerror='globalThis.pwned = true'>",
    "\"quotes\" & 'apostrophes' <!-- \\ ${x} {{data}} {{script}}",
    "\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u2028 \U0001f980\u200d\U0001f525 \x07",
]
SECTIONS = ["answer", "sizes", "map", "profile", "centrality", "batches", "scores", "accumulation", "weights", "candidates", "gain", "provenance"]
CHARTS = {"chart-map", "chart-distance", "chart-centrality", "chart-strata", "chart-scores", "chart-updates", "chart-weights", "chart-beta", "chart-effective", "chart-gain"}
# As far as the report shows it, the JSON output of `check`.
DRIFT = {
    "answer": "drifted",
    "compared": 1000,
    "diagnosis": [{"symptom": "grown", "subject": "modality 3", "text": f"2 modalities have grown {EVIL[0]}"}],
    "findings": [{"id": "modality-shares", "group": "modalities", "subject": "", "answer": "drifted", "level": "error", "named": [], "setting": None, "effect": 0.21, "threshold": 0.1,
                  "interval": [0.18, 0.24], "p": 1e-9, "formula": "max |now - then|", "message": EVIL[1]}],
    "modalities": [{"modality": m, "name": "", "then": 0.1, "now": 0.1 + 0.02 * m} for m in range(5)],
}


@pytest.fixture(scope="module")
def reports(batchwright, plan, tmp_path_factory):
    """Name -> the report of a plan."""
    folder = tmp_path_factory.mktemp("reports")
    rng = np.random.default_rng(5)
    kind = rng.integers(0, 4, 900)
    points = (rng.normal(size=(900, 3)) + 12 * np.eye(4, 3)[kind]).astype(np.float32)
    evil = pa.table({
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), 3),
        EVIL[0]: [EVIL[k] for k in kind],
        EVIL[2]: [None if i % 7 == 0 else EVIL[i % 4] for i in range(900)],
        "mean=3": [f"mean={k}" for k in kind],
        "empty": [""] * 900,
        "name": [f"{EVIL[i % 4]} {i}" for i in range(900)],
    })
    pq.write_table(evil, folder / "evil & 'quoted'.parquet")
    points = rng.normal(size=(2000, 16)).astype(np.float32)
    cloud = pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), 16), "id": [f"row {i}" for i in range(2000)]})
    pq.write_table(cloud, folder / "cloud.parquet")
    done = batchwright("synth", "-o", folder / "many.parquet", "--rows", 12000, "--dims", 4, "--modalities", 320, "--skew", 0.7)
    assert done.returncode == 0, done.stderr
    plans = {
        "digits": (plan(FIXTURES / "digits.parquet", "--label", "label"), "--drift", folder / "drift.json"),
        "cloud": (plan(folder / "cloud.parquet", "--id", "id"),),
        "many": (plan(folder / "many.parquet", "--modalities", "320", "--id", "id"),),
        "evil": (plan(folder / "evil & 'quoted'.parquet", "--features", "embedding", "--id", "name"),),
    }
    of_digits = json.loads((plans["digits"][0] / "plan.json").read_text())["plan"]
    (folder / "drift.json").write_text(json.dumps({**DRIFT, "plan_id": of_digits}))
    made = {}
    folder.joinpath("plans.json").write_text(json.dumps({name: str(where) for name, (where, *_) in plans.items()}))
    for name, (where, *flags) in plans.items():
        made[name] = folder / f"{name}.html"
        done = batchwright("report", where, "-o", made[name], *flags)
        assert done.returncode == 0, done.stderr
        assert not list(folder.glob(".*")), "nothing is left beside the report"
    return made


@pytest.fixture(scope="module")
def seen(reports):
    """(report, scheme, width) -> what the browser saw."""
    if not shutil.which("node"):
        pytest.skip("there is no node to drive a browser with; on Debian: apt install nodejs npm")
    if not (MODULES / "node_modules").is_dir():
        pytest.skip(f"no packages in {MODULES}; scripts/test installs them where there is npm")
    if not CHROMIUM:
        pytest.skip("there is no Chromium; on Debian: apt install chromium; or set BATCHWRIGHT_CHROMIUM")
    shots = os.environ.get("BATCHWRIGHT_SHOTS", "-")
    command = ["node", ROOT / "tests/report/browse.mjs", MODULES, CHROMIUM, shots, *reports.values()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert len(lines) == 3 * len(reports)
    return {(line["report"], line["scheme"], line["width"]): line for line in lines}


@pytest.fixture(params=[("light", 1200), ("dark", 1200), ("light", 400)], ids=["light", "dark", "narrow"])
def view(request, seen):
    return {report: seen[report, *request.param] for report in ["digits", "cloud", "many", "evil"]}


def test_nothing_is_said_and_nothing_is_asked_for(view):
    for report, page in view.items():
        assert page["console"] == [] and page["requests"] == [], report
        assert page["pwned"] is False and page["elements"] == 0, report


def test_every_section_and_chart_is_there(view):
    for report, page in view.items():
        missing = set(SECTIONS) - set(page["sections"])
        assert not missing, f"{report}: no {missing}"
        assert page["contents"] == page["sections"], "the table of contents has every section"
        charts = {chart["id"]: chart for chart in page["charts"]}
        assert CHARTS <= charts.keys(), f"{report}: no {CHARTS - charts.keys()}"
        for chart in charts.values():
            assert chart["shapes"] > 2 and chart["title"] and len(chart["name"]) > 10, (report, chart)
        assert charts["chart-map"]["painted"] > 300, report
    assert {"chart-evidence", "chart-sizes", "chart-composition", "chart-drift"} <= {c["id"] for c in view["digits"]["charts"]}
    assert {"chart-ranks", "chart-composition"} <= {c["id"] for c in view["many"]["charts"]}


def test_charts_answer_to_pointer_and_keyboard(view):
    for report, page in view.items():
        assert len(page["hover"]) >= len(CHARTS) - 1, report
        for chart, said in page["hover"].items():
            assert said["keyboard"] and said["pointer"] and not said["gone"], (report, chart, said)
    assert view["many"]["highlighted"] is True and 0 < view["many"]["filtered"] <= 12


def test_every_chart_has_its_numbers(view):
    for report, page in view.items():
        for chart in page["charts"]:
            assert chart["id"] == "chart-interval" or page["tables"][chart["id"]] > 0, (report, chart["id"])


def test_it_fits_and_prints(view):
    for report, page in view.items():
        assert page["overflow"] <= 0 and page["open_overflow"] <= 0, (report, page["overflow"])
        assert page["background"] != page["toggled"], "the button changes the theme"
        assert page["printed"] == {"background": "rgb(255, 255, 255)", "nav": "none"}, report
        assert page["scroll"] == "auto", "no motion for those who asked for none"


def test_axe_finds_nothing(view):
    for report, page in view.items():
        assert page["violations"] == [], report


def test_the_answer_comes_first(seen):
    digits, cloud, many = (seen[report, "light", 1200] for report in ["digits", "cloud", "many"])
    about = digits["headline"]
    assert about.endswith(" communities") and "the number is a resolution, not a count" in digits["text"] and "confidence" in digits["text"][:200], digits["text"][:200]
    assert cloud["headline"] == "No clear number of modalities" and "carry the stratification instead" in cloud["text"]
    assert many["headline"] == "320 modalities" and "a given number" in many["text"][:200]
    assert "batchwright plan digits.parquet -o PLAN --features embedding --label label" in digits["text"]
    assert "2 modalities have grown" in digits["text"] and "max |now - then|" in digits["text"]


def test_user_text_is_shown_as_it_is(seen):
    text = seen["evil", "light", 1200]["text"]
    for evil in EVIL[:3]:
        assert evil in text, evil
    assert "\u05e9\u05dc\u05d5\u05dd" in text and "\U0001f980" in text
    assert "evil & 'quoted'.parquet" in text


def test_the_file_is_small_and_equal(reports, batchwright):
    for report, path in reports.items():
        assert path.stat().st_size < 5_000_000, report
        text = path.read_text()
        assert text.startswith("<!doctype html>") and text.count("</script>") == 2, report
    plans = json.loads(reports["cloud"].parent.joinpath("plans.json").read_text())
    again = batchwright("report", plans["cloud"], "-o", "-")
    assert again.stdout == reports["cloud"].read_text(), "the same plan gives the same bytes"


@pytest.mark.parametrize("report", ["digits", "evil", "many"])
def test_the_command_makes_the_plan_again(reports, batchwright, tmp_path, report):
    folder = reports[report].parent
    page = reports[report].read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    program, verb, *words = shlex.split(data["command"])
    assert (program, verb) == ("batchwright", "plan")
    where = FIXTURES if report == "digits" else folder
    done = batchwright(verb, *[tmp_path / "again" if word == "PLAN" else word for word in words], cwd=where)
    assert done.returncode == 0, (data["command"], done.stderr)
    old = json.loads(folder.joinpath("plans.json").read_text())[report]
    ids = [json.loads((pathlib.Path(place) / "plan.json").read_text())["plan"] for place in (old, tmp_path / "again")]
    assert ids[0] == ids[1] == data["plan"]["id"]


def test_only_reports_are_replaced(reports, batchwright, plan, tmp_path):
    where = plan(FIXTURES / "packages-2k.parquet", "--id", "package")
    other = tmp_path / "precious.html"
    other.write_text("<!doctype html>\nmine")
    refused = batchwright("report", where, "-o", other)
    assert refused.returncode == 2 and "is not a batchwright report" in refused.stderr and "--force" in refused.stderr
    assert other.read_text() == "<!doctype html>\nmine"
    assert batchwright("report", where, "-o", other, "--force").returncode == 0
    assert batchwright("report", where, "-o", other, "-q").stdout == "", "a report is replaced by a newer one"
    for bad, code, word in [
        ([tmp_path, "-o", tmp_path / "x.html"], 3, "is not a plan"),
        ([where, "-o", tmp_path], 2, "is a directory"),
        ([where, "-o", tmp_path / "none" / "x.html"], 2, "does not exist"),
        ([where, "-o", tmp_path / "y.html", "--drift", other], 3, "is not the JSON output of `check`"),
        ([where, "-o", tmp_path / "y.html", "--drift", reports["digits"].parent / "drift.json"], 3, "another plan"),
    ]:
        done = batchwright("report", *bad)
        assert done.returncode == code and word in done.stderr, (bad, done.stderr)
    assert [p.name for p in tmp_path.iterdir()] == ["precious.html"]
