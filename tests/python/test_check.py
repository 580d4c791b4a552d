"""check, update and diff on 24 000 real rows, split into files and changed in known ways."""
import decimal
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xmlschema
import yaml

from conftest import DATA, FIXTURES, ROOT

PACKAGES = DATA / "packages.parquet"
SCHEMAS = pathlib.Path(__file__).parent / "schemas"
N = 20_000  # rows of the plan; the other 4000 are rows of the same distribution that it has not seen
packages = pytest.mark.skipif(not PACKAGES.exists(), reason="packages.parquet is not there")


class Data:
    """The rows in a random order, and ways to change them."""

    def __init__(self, seed):
        table = pq.read_table(PACKAGES)
        rng = np.random.default_rng(seed)
        order = rng.permutation(table.num_rows)
        self.rng, self.base, self.rest = rng, table.take(order[:N]), table.take(order[N:])

    def shuffled(self, table):
        return table.take(self.rng.permutation(table.num_rows))


def embeddings(table):
    return np.asarray(table["embedding"].combine_chunks().values).reshape(table.num_rows, -1)


def with_embeddings(table, points):
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(points, np.float32).ravel()), points.shape[1])
    return table.set_column(table.column_names.index("embedding"), "embedding", column).cast(table.schema)


def with_section(table, name):
    return table.set_column(table.column_names.index("section"), "section", pa.array([name] * table.num_rows))


def of_section(table, name):
    return table.filter(pa.compute.equal(table["section"], name))


def without_section(table, name):
    return table.filter(pa.compute.not_equal(table["section"], name))


def write(folder, table, files=4, row_group_size=2000):
    folder.mkdir(parents=True)
    cuts = [table.num_rows * i // files for i in range(files + 1)]
    for i, (a, b) in enumerate(zip(cuts, cuts[1:])):
        pq.write_table(table.slice(a, b - a), folder / f"part-{i}.parquet", row_group_size=row_group_size, compression="zstd")
    return folder


def rotation(dims, rng):
    return np.linalg.qr(rng.normal(size=(dims, dims)))[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory, batchwright):
    """A dataset of four files, its plan, and a maker of changed datasets: appended rows, or all rows rewritten."""
    if not PACKAGES.exists():
        pytest.skip("packages.parquet is not there")
    root = tmp_path_factory.mktemp("check")
    data = Data(1)
    write(root / "base", data.base)
    made = batchwright("plan", root / "base", "-o", root / "plan", "--label", "section", "--id", "package", "--resolution", "4000")
    assert made.returncode == 0, made.stderr

    class World:
        folder, plan = root, root / "plan"
        base, rest, rng = data.base, data.rest, data.rng

        def appended(self, name, table):
            # copy2 keeps modification times, as a folder that grows does.
            shutil.copytree(root / "base", root / name)
            pq.write_table(table, root / name / "part-9.parquet", row_group_size=2000, compression="zstd")
            return root / name

        def rewritten(self, name, table, **how):
            return write(root / name, table, **how)

        def check(self, folder, *flags):
            done = batchwright("check", self.plan, folder, *flags, "--output-format", "json")
            assert done.returncode in (0, 1, 4), done.stderr
            return done.returncode, json.loads(done.stdout)

        shuffled = staticmethod(data.shuffled)

    return World()


def causes(outcome):
    return [(d["symptom"], d["subject"]) for d in outcome["diagnosis"]]


def answers(outcome):
    return {f["id"]: f["answer"] for f in outcome["findings"]}


# ---------------------------------------------------------------- contract and coverage


@pytest.mark.parametrize("flags", [[], ["--quick"]])
def test_unchanged_data_holds_at_once(world, flags):
    began = time.monotonic()
    code, outcome = world.check(world.folder / "base", *flags)
    assert time.monotonic() - began < 2 and code == 0
    coverage = outcome["coverage"]
    assert coverage["unchanged"] == coverage["rows_then"] == coverage["rows_now"] == N and not coverage["row_groups"]
    # Nothing was compared, so nothing was decoded; hashing reads each byte once, --quick only the footers.
    size = sum(f.stat().st_size for f in (world.folder / "base").iterdir())
    assert outcome["compared"] == 0
    assert outcome["bytes_read"] < (size / 50 if flags else 1.1 * size)


def test_quick_does_not_trust_a_file_that_was_touched(world):
    folder = shutil.copytree(world.folder / "base", world.folder / "touched")
    size = sum(f.stat().st_size for f in folder.iterdir())
    os.utime(folder / "part-0.parquet")
    code, outcome = world.check(folder, "--quick")
    assert code == 0 and size / 8 < outcome["bytes_read"] < size / 2


def test_other_orders_other_bytes_and_other_rows_are_told_apart(world):
    code, outcome = world.check(world.rewritten("bytes", world.base, files=3, row_group_size=3000))
    assert code == 0 and outcome["coverage"]["rewritten"] == N, "the same rows in other row groups: the plan holds"

    code, outcome = world.check(world.rewritten("order", world.shuffled(world.base)))
    coverage = outcome["coverage"]
    assert code == 1 and coverage["reordered"] == N and coverage["gone"] == coverage["new"] == 0
    assert answers(outcome)["rows-in-place"] == "drifted" and "no row has changed" in str(outcome["findings"])

    points = embeddings(world.base).copy()
    points[7, 3] += 1e-3  # one number of one row
    code, outcome = world.check(world.rewritten("row", with_embeddings(world.base, points)))
    coverage = outcome["coverage"]
    assert code == 1 and coverage["reordered"] == 0 and coverage["gone"] == coverage["new"] == 2000
    assert [g["state"] for g in coverage["row_groups"]] == ["changed"]

    # A file renamed to the front: same rows, other numbers.
    folder = shutil.copytree(world.folder / "base", world.folder / "renamed")
    (folder / "part-3.parquet").rename(folder / "a.parquet")
    code, outcome = world.check(folder)
    assert code == 1 and outcome["coverage"]["moved"] == N and "moved to other numbers" in str(outcome["findings"])


def test_a_broken_contract_is_an_answer_not_an_error(world, batchwright):
    code, outcome = world.check(world.rewritten("columns", world.base.rename_columns(["package", "section", "description", "vector"])))
    assert code == 1 and "`embedding` is gone" in str(outcome["findings"])
    narrow = world.base.slice(0, 500)
    narrow = narrow.set_column(3, "embedding", pa.FixedSizeListArray.from_arrays(pa.array(embeddings(narrow)[:, :100].ravel()), 100))
    code, outcome = world.check(world.rewritten("narrow", narrow, files=1))
    assert code == 1 and "has 100 numbers a row" in str(outcome["findings"])
    code, outcome = world.check(world.appended("no-section-now", world.rest.slice(0, 2000)))
    assert code == 0
    # A damaged plan, a plan that is none, no data.
    bad = shutil.copytree(world.plan, world.folder / "bad-plan")
    with open(bad / "reference.arrow", "r+b") as f:
        f.seek(2000)
        f.write(b"\xff\xff")
    done = batchwright("check", bad, world.folder / "base")
    assert done.returncode == 1 and "is damaged" in done.stdout
    assert batchwright("check", world.folder, world.folder / "base").returncode == 3
    assert batchwright("check", world.plan, world.folder / "nowhere").returncode == 3
    assert batchwright("check", world.plan, world.folder / "base", "--alpha", "2").returncode == 2
    assert batchwright("check", world.plan, world.folder / "base", "--output-format", "pdf").returncode == 2
    two = ["--output-format", "human", "--output-format", "json"]
    assert batchwright("check", world.plan, world.folder / "base", *two).returncode == 2


def test_rows_that_cannot_be_used_are_counted(world):
    points = embeddings(world.rest.slice(0, 2000)).copy()
    points[:3, 0] = np.nan
    code, outcome = world.check(world.appended("nan", with_embeddings(world.rest.slice(0, 2000), points)))
    assert code == 1 and outcome["invalid"] == 3 and "NaN: 3 rows" in str(outcome["findings"])


# ---------------------------------------------------------------- drift


@packages
def test_more_of_the_same_holds(tmp_path, batchwright):
    """20 seeds, each its own split, plan and 10 % more rows: at most one false alarm."""
    held = 0
    for seed in range(20):
        data, folder = Data(100 + seed), tmp_path / str(seed)
        write(folder / "data", data.base)
        flags = ["--label", "section", "--resolution", "1000", "--epochs", "0"]
        assert batchwright("plan", folder / "data", "-o", folder / "plan", *flags).returncode == 0
        pq.write_table(data.rest.slice(0, N // 10), folder / "data" / "part-9.parquet")
        held += batchwright("check", folder / "plan", folder / "data").returncode == 0
        shutil.rmtree(folder)
    assert held >= 19


def assert_games_have_grown(outcome):
    """The section is named first; a modality that is that section has grown, too, and nothing else has happened."""
    found = causes(outcome)
    assert found[0] == ("grown", "section=games"), found
    assert all(symptom == "grown" and "section=games" in subject for symptom, subject in found), found


def test_sections_doubled_removed_and_new_are_named(world):
    games = of_section(world.base, "games")
    code, outcome = world.check(world.rewritten("doubled", world.shuffled(pa.concat_tables([world.base, games]))))
    assert code == 1
    assert_games_have_grown(outcome)
    code, outcome = world.check(world.appended("doubled-appended", games))
    assert code == 1 and ("grown", "section=games") in causes(outcome)

    for section in ("libs", "games"):
        code, outcome = world.check(world.rewritten(f"no-{section}", without_section(world.base, section)))
        found = causes(outcome)
        assert code == 1 and ("vanished", f"section={section}") in found, "one section removed"
        # A modality that had that section is gone or smaller, too, and nothing else is.
        assert all(symptom in ("vanished", "shrunk") and f"section={section}" in subject for symptom, subject in found), found

    # A new kind: five tight clusters where no row was, 5 % of the data.
    centres = world.rng.normal(size=(5, 384))
    points = centres[world.rng.integers(0, 5, 1000)] + 0.6 * world.rng.normal(size=(1000, 384))
    new = with_embeddings(with_section(world.rest.slice(0, 1000), "astro"), points / np.linalg.norm(points, axis=1, keepdims=True))
    code, outcome = world.check(world.appended("new-kind", pa.concat_tables([world.rest.slice(1000, 1000), new])))
    assert code == 1 and causes(outcome) == [("new-modality", "modalities"), ("new", "section=astro")]


@pytest.mark.parametrize("way", ["rewritten", "appended"])
def test_scaled_and_rotated_embeddings_are_named(world, way):
    table = world.base if way == "rewritten" else world.rest.slice(0, 2000)
    points = embeddings(table)
    make = getattr(world, way)
    code, outcome = world.check(make(f"scaled-{way}", with_embeddings(table, 1.05 * points)))
    assert code == 1 and causes(outcome) == [("scaled", "features")] and "times 1.050" in outcome["diagnosis"][0]["text"]
    turned = with_embeddings(table, points @ rotation(384, world.rng))
    code, outcome = world.check(make(f"rotated-{way}", turned))
    assert code == 1 and causes(outcome) == [("rotated", "features")]


def test_rows_that_are_gone_are_compared_by_what_is_left(world, batchwright):
    folder, plan = world.rewritten("sorted", world.base.sort_by("section"), files=10), world.folder / "sorted-plan"
    assert batchwright("plan", folder, "-o", plan, "--resolution", "1000", "--epochs", "0").returncode == 0
    (folder / "part-5.parquet").unlink()  # mostly libs
    done = batchwright("check", plan, folder, "--json")
    outcome = json.loads(done.stdout)
    coverage = outcome["coverage"]
    assert done.returncode == 1 and coverage["gone"] == N // 10 and coverage["new"] == outcome["compared"] == 0
    assert [g["state"] for g in coverage["row_groups"]].count("gone") == 1
    assert next(f for f in outcome["findings"] if f["id"] == "composition")["p"] < 0.01


def test_few_rows_are_not_judged(world, batchwright):
    folder = world.appended("few", world.rest.slice(0, 24))
    code, outcome = world.check(folder)
    assert code == 4 and outcome["answer"] == "cannot-tell" and not outcome["diagnosis"]
    assert batchwright("check", world.plan, folder, "--strict").returncode == 1
    assert batchwright("check", world.plan, folder, "--exit-zero").returncode == 0


def test_thresholds_come_from_the_config_file(world, batchwright):
    folder = world.folder / "doubled"
    if not folder.exists():
        world.rewritten("doubled", world.shuffled(pa.concat_tables([world.base, of_section(world.base, "games")])))
    config = world.folder / "batchwright.toml"
    config.write_text("[check]\nalpha = 0.01\nshare = 0.5\n")
    _, outcome = world.check(folder, "--config", config)
    assert not causes(outcome) and outcome["limits"]["share"] == 0.5
    _, outcome = world.check(folder, "--config", config, "--share", "0.05")
    assert_games_have_grown(outcome)
    wrong = world.folder / "wrong.toml"
    wrong.write_text("[check]\nshare = -1\n")
    done = batchwright("check", world.plan, folder, "--config", wrong)
    assert done.returncode == 2 and "check.share" in done.stderr and "wrong.toml:2" in done.stderr


# ---------------------------------------------------------------- formats


def test_every_format_is_valid(world, batchwright):
    folder = world.appended("formats", pa.concat_tables([of_section(world.base, "games"), world.rest.slice(0, 300)]))
    out = world.folder / "out"
    out.mkdir()
    config = world.folder / "limits.toml"
    config.write_text("# thresholds\n[check]\n\nshare = 0.06\n")
    formats = [f"--output-format={f}={out / f}" for f in ("json", "junit", "sarif", "github", "markdown")]
    done = batchwright("check", world.plan, folder, "--config", config, "--output-format=human", *formats)
    assert done.returncode == 1 and "section" in done.stdout and "\x1b" not in done.stdout
    outcome = json.loads((out / "json").read_text())
    jsonschema.validate(outcome, json.loads((ROOT / "schemas" / "check.json").read_text()))

    junit = xmlschema.XMLSchema(SCHEMAS / "junit-10.xsd")
    junit.validate(out / "junit")
    tree = junit.to_dict(str(out / "junit"))
    assert int(tree["@tests"]) == len(outcome["findings"]) and int(tree["@failures"]) > 0

    sarif = json.loads((out / "sarif").read_text())
    jsonschema.validate(sarif, json.loads((SCHEMAS / "sarif-2.1.0-rtm.5.json").read_text()))
    of_values = [r for r in sarif["runs"][0]["results"] if r["ruleId"] == "column-values"]
    place = of_values[0]["locations"][0]["physicalLocation"]
    assert place["region"]["startLine"] == 4 and place["artifactLocation"]["uri"].endswith("limits.toml")

    annotations = [line for line in (out / "github").read_text().splitlines() if line.startswith("::")]
    assert 0 < len(annotations) <= 10 and any("limits.toml,line=4," in line for line in annotations)
    assert (out / "markdown").stat().st_size < 900_000
    for name in ("junit", "sarif", "github", "markdown"):
        assert "section" in (out / name).read_text()


def shell(script, env, cwd):
    """As a runner would: bash -e, pipefail."""
    return subprocess.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], env=env, cwd=cwd, capture_output=True, text=True)


def path_with(program, folder):
    """A PATH on which the program is called batchwright."""
    tools = folder / "bin"
    if not tools.exists():
        tools.mkdir()
        (tools / "batchwright").symlink_to(program)
    return {"PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(folder)}


def test_the_github_action_runs(world, program, tmp_path):
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    games = world.folder / "doubled-appended"
    if not games.exists():
        world.appended("doubled-appended", of_section(world.base, "games"))
    for data, expected in [(world.folder / "base", 0), (games, 1)]:
        given = {"plan": str(world.plan), "data": f"{data}\n\n", "reports": f"out-{expected}"}
        inputs = {k: str(given.get(k, v.get("default", ""))) for k, v in action["inputs"].items()}
        assert set(given) <= set(action["inputs"])
        env = path_with(program, tmp_path)
        env |= {"GITHUB_OUTPUT": str(tmp_path / f"output-{expected}"), "GITHUB_STEP_SUMMARY": str(tmp_path / f"summary-{expected}")}
        # The first step installs the package: python/tests/test_action.py.
        for step in action["runs"]["steps"][1:]:
            fill = lambda text: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda m: inputs[m[1]], text).replace("${{ github.action_path }}", str(ROOT))
            values = {k: fill(v) for k, v in step.get("env", {}).items()}
            assert not any("${{" in v for v in values.values()) and "${{" not in step["run"]
            done = shell(step["run"], env | values, tmp_path)
        assert done.returncode == expected, done.stderr
        outputs = dict(line.split("=", 1) for line in (tmp_path / f"output-{expected}").read_text().splitlines())
        assert outputs == {"answer": ["holds", "drifted"][expected], "exit-code": str(expected)}
        assert "batchwright check" in (tmp_path / f"summary-{expected}").read_text()
        assert {p.name for p in (tmp_path / f"out-{expected}").iterdir()} == {"check.md", "check.xml", "check.sarif", "check.json"}
    assert done.stdout.count("::error") >= 1


def document(mark):
    found = re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", (ROOT / "docs" / "check.md").read_text(), re.S)
    return yaml.safe_load(found[1])


def test_the_other_ci_snippets_run(world, program, tmp_path):
    (tmp_path / "plan").symlink_to(world.plan)
    (tmp_path / "data").symlink_to(world.folder / "base")
    env = path_with(program, tmp_path)
    job = document("gitlab")["drift"]
    for line in job["script"]:
        done = shell(line, env, tmp_path)
        assert done.returncode == 0, done.stderr
    xmlschema.XMLSchema(SCHEMAS / "junit-10.xsd").validate(tmp_path / job["artifacts"]["reports"]["junit"])

    steps = document("github")["steps"]
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert set(steps[1]["with"]) <= set(action["inputs"])

    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    use = document("pre-commit")["repos"][0]["hooks"][0]
    hook = {h["id"]: h for h in hooks}[use["id"]]
    assert {"id", "name", "entry", "language"} <= set(hook)
    done = shell(" ".join([hook["entry"], *use["args"]]), env, tmp_path)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- update and diff


def verify(plan, *data):
    oracle = ROOT / "tests" / "oracle" / "verify_plan.py"
    done = subprocess.run([sys.executable, oracle, plan, *map(str, data), "--column", "embedding", "--max-epochs", "1"], capture_output=True, text=True)
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if line.startswith("BROKEN")) + done.stderr


def table(plan, name):
    return pa.ipc.open_file(pa.memory_map(str(plan / name))).read_all()


def parts(folder):
    return sorted(folder.glob("*.parquet"))


def test_an_update_after_appending_reads_only_what_is_new(world, batchwright):
    folder = world.appended("grown", world.shuffled(world.rest).slice(0, N // 20))
    new = world.folder / "updated"
    done = batchwright("update", world.plan, folder, "-o", new, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["how"] == "appended" and told["rows_new"] == N // 20
    appended = (folder / "part-9.parquet").stat().st_size
    # Fingerprint, check, assignment, and the rows of the label and the profile: the new file a few times, never an old one.
    assert told["bytes_read"] < 6 * appended + 200_000 and told["bytes_read"] < told["bytes"] / 3, told["bytes_read"]
    assert f"{told['bytes_read']}" in batchwright("update", world.plan, folder, "-o", world.folder / "updated-2").stdout
    verify(new, *parts(folder))

    # Old rows are where they were, modalities are the same, new rows are planned.
    then, now = table(world.plan, "samples.arrow"), table(new, "samples.arrow")
    assert now.num_rows == N + N // 20
    for column in ("modality", "stratum", "distance"):
        assert now[column].slice(0, N).equals(then[column])
    assert now["modality"].slice(N).null_count == 0
    assert told["modalities"] == list(range(len(told["modalities"])))
    assert json.loads((new / "run.json").read_text())["made_from"]["how"] == "appended"

    # Merged statistics are those of all rows.
    points = embeddings(pa.concat_tables([pq.read_table(p) for p in parts(folder)])).astype(np.float64)
    stats = table(new, "statistics.arrow").filter(pa.compute.is_null(table(new, "statistics.arrow")["modality"]))
    assert np.allclose(stats["mean"], points.mean(0), atol=1e-9) and np.allclose(stats["variance"], points.var(0), atol=1e-9)
    profile = table(new, "profile.arrow").to_pylist()
    sections = {r["value"]: r["count"] for r in profile if r["modality"] is None and r["column"] == "section"}
    truth = pa.concat_tables([pq.read_table(p) for p in parts(folder)])["section"].value_counts().to_pylist()
    assert all(sections[t["values"]] == t["counts"] for t in truth if t["values"] in sections) and len(sections) > 50

    # The updated plan fits the grown data, and updating it again does nothing.
    assert batchwright("check", new, folder).returncode == 0
    again = json.loads(batchwright("update", new, folder, "-o", world.folder / "nothing", "--json").stdout)
    assert again["how"] == "unchanged" and not (world.folder / "nothing").exists()

    diff = json.loads(batchwright("diff", world.plan, new, "--json").stdout)
    jsonschema.validate(diff, json.loads((ROOT / "schemas" / "diff.json").read_text()))
    assert diff["rows"] == [N, N + N // 20] and diff["mapped_by"] == "made-from"
    assert diff["moved"] == {"common": N, "number": 0, "modality": 0, "stratum": 0, "planned": 0, "left_out": 0}
    assert all(m["then"] == m["now"] for m in diff["mapping"])
    human = batchwright("diff", world.plan, new).stdout
    assert "20,000 -> 21,000" in human and "modality then" in human
    assert "the same plan" in batchwright("diff", new, new).stdout


def test_rows_that_moved_by_an_earlier_file_keep_their_ids(world, batchwright):
    folder = shutil.copytree(world.folder / "base", world.folder / "earlier")
    pq.write_table(world.rest.slice(0, 1000), folder / "a.parquet", compression="zstd")
    new = world.folder / "earlier-plan"
    told = json.loads(batchwright("update", world.plan, folder, "-o", new, "--json").stdout)
    assert told["how"] == "appended"
    assert table(new, "samples.arrow")["stratum"].slice(1000).equals(table(world.plan, "samples.arrow")["stratum"])
    verify(new, *parts(folder))


def test_an_update_after_removing_reads_anew_and_keeps_ids(world, batchwright):
    folder = world.rewritten("fewer", world.base.slice(0, N - 3000), files=3)
    new = world.folder / "fewer-plan"
    told = json.loads(batchwright("update", world.plan, folder, "-o", new, "--json").stdout)
    assert told["how"] == "read anew"
    then, now = table(world.plan, "samples.arrow"), table(new, "samples.arrow")
    assert now["modality"].equals(then["modality"].slice(0, N - 3000)), "the same prototypes"
    verify(new, *parts(folder))
    assert batchwright("check", new, folder).returncode == 0


def test_a_refit_matches_modalities(batchwright, tmp_path):
    """Blobs whose numbers are known: a new one gets a new number, the others keep theirs."""
    rng = np.random.default_rng(3)
    centres = 10 * rng.normal(size=(6, 8))

    def blobs(which, rows):
        label = rng.choice(which, rows)
        points = (centres[label] + rng.normal(size=(rows, 8))).astype(np.float32)
        return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(points.ravel()), 8), "kind": pa.array(label)})

    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(blobs([0, 1, 2, 3], 4000), folder / "a.parquet")
    flags = ["--resolution", "2000"]
    assert batchwright("plan", folder, "-o", tmp_path / "plan", *flags).returncode == 0
    pq.write_table(blobs([0, 1, 2, 3, 4, 4, 5, 5], 4000), folder / "b.parquet")
    check = batchwright("check", tmp_path / "plan", folder, "--json")
    assert check.returncode == 1 and json.loads(check.stdout)["diagnosis"][0]["symptom"] == "new-modality"
    done = batchwright("update", tmp_path / "plan", folder, "-o", tmp_path / "new", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["how"] == "refitted" and told["modalities"][:4] == [0, 1, 2, 3] and set(told["modalities"][4:]) == {None}
    then = table(tmp_path / "plan", "samples.arrow")["modality"].to_numpy()
    now = table(tmp_path / "new", "samples.arrow")["modality"].to_numpy()
    assert (then == now[:4000]).mean() > 0.99
    verify(tmp_path / "new", *parts(folder))


def test_held_out_rows_stay_held_out(batchwright, tmp_path):
    rows = pq.read_table(FIXTURES / "digits.parquet")
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(rows.slice(0, 1500), folder / "a.parquet")
    made = batchwright("plan", folder, "-o", tmp_path / "plan", "--holdout", "0.1", "--resolution", "500")
    assert made.returncode == 0, made.stderr
    pq.write_table(rows.slice(1500), folder / "b.parquet")
    done = batchwright("update", tmp_path / "plan", folder, "-o", tmp_path / "new", "--json", "--far", "0.9")
    told = json.loads(done.stdout)
    assert told["how"] == "appended", told["why"]
    then = set(table(tmp_path / "plan", "holdout.arrow")["row"].to_pylist())
    now = set(table(tmp_path / "new", "holdout.arrow")["row"].to_pylist())
    assert {r for r in now if r < 1500} == then and len(now) - len(then) == pytest.approx(0.1 * (rows.num_rows - 1500), abs=2)


# ---------------------------------------------------------------- rows that are held out, however the data changes


def holdout_data(folder, rows=900, seed=0):
    r = np.random.default_rng(seed)
    centers = r.normal(size=(6, 8)) * 6
    kind = r.integers(0, 6, rows)
    x = (centers[kind] + r.normal(size=(rows, 8))).astype(np.float32)
    return x, kind


def write_rows(path, x, kind, **how):
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
    pq.write_table(pa.table({"v": vectors, "kind": kind}), path, **how)


def held_rows(plan, x):
    return {x[r].tobytes() for r in table(plan, "holdout.arrow")["row"].to_pylist()}


def batch_rows(plan, x):
    planned = table(plan, "samples.arrow")["modality"].is_valid().to_numpy()
    return {x[r].tobytes() for r in np.flatnonzero(planned)}


@pytest.mark.parametrize("change", ["as it is", "reordered", "rewritten", "changed", "appended", "prepended"])
@pytest.mark.parametrize("refit", [False, True])
def test_held_out_rows_stay_held_out_in_every_update(batchwright, tmp_path, change, refit):
    folder = tmp_path / "data"
    folder.mkdir()
    x, kind = holdout_data(folder)
    write_rows(folder / "b.parquet", x, kind, row_group_size=100)
    made = batchwright("plan", folder, "-o", tmp_path / "plan", "--holdout", "0.1", "--resolution", "500", "--transform", "standard")
    assert made.returncode == 0, made.stderr
    then = held_rows(tmp_path / "plan", x)
    assert len(then) == 90
    trained = batch_rows(tmp_path / "plan", x)
    more, more_kind = holdout_data(folder, 300, 0)
    copies = np.stack([np.frombuffer(row, np.float32) for row in sorted(then)[:5]])
    now = x
    if change == "reordered":
        order = np.random.default_rng(1).permutation(len(x))
        now = x[order]
        write_rows(folder / "b.parquet", now, kind[order], row_group_size=100)
    elif change == "rewritten":
        write_rows(folder / "b.parquet", x, kind, row_group_size=130, compression="zstd")
    elif change == "changed":  # a label of every tenth row, and some rows are new
        now = x.copy()
        gone = [r for r in range(0, 900, 30)]
        now[gone] += 0.5
        write_rows(folder / "b.parquet", now, np.where(np.arange(900) % 10 == 0, 0, kind), row_group_size=100)
    elif change in ("appended", "prepended"):
        added = np.concatenate([more + np.float32(0.25), copies])
        name = "c" if change == "appended" else "a"
        write_rows(folder / f"{name}.parquet", added, np.concatenate([more_kind, np.zeros(5, np.int64)]))
        now = np.concatenate([x, added] if change == "appended" else [added, x])
    done = batchwright("update", tmp_path / "plan", folder, "-o", tmp_path / "new", "--json", "--far", "0.9", *["--refit"] * refit)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    if told["how"] == "unchanged":
        assert change == "as it is" or change == "rewritten"
        return
    there = {row.tobytes() for row in now}
    assert not then & batch_rows(tmp_path / "new", now), f"{told['how']}: held-out rows came into the batches"
    held = held_rows(tmp_path / "new", now)
    assert then & there <= held
    assert not held & trained, "rows that were trained on are held out"
    if change in ("appended", "prepended"):
        rows = table(tmp_path / "new", "holdout.arrow").num_rows
        assert rows == pytest.approx(0.1 * len(now), abs=1), "old and new rows together meet the share"


def test_a_plan_of_format_1_0_knows_its_held_out_rows_by_number_alone(batchwright, tmp_path):
    import blake3

    folder = tmp_path / "data"
    folder.mkdir()
    x, kind = holdout_data(folder)
    write_rows(folder / "a.parquet", x, kind, row_group_size=100)
    plan = tmp_path / "plan"
    assert batchwright("plan", folder, "-o", plan, "--holdout", "0.1", "--resolution", "500", "--epochs", "0").returncode == 0
    older_format(plan, blake3.blake3)
    ok = batchwright("check", plan, folder)
    assert ok.returncode == 0 and "format 1.0" in ok.stdout, ok.stdout + ok.stderr
    write_rows(folder / "a.parquet", x[::-1].copy(), kind[::-1].copy(), row_group_size=100)
    refused = batchwright("update", plan, folder, "-o", tmp_path / "new")
    assert refused.returncode == 3 and "--deal-holdout" in refused.stderr, refused.stderr
    done = batchwright("update", plan, folder, "-o", tmp_path / "new", "--deal-holdout")
    assert done.returncode == 0, done.stderr
    assert table(tmp_path / "new", "holdout.arrow").num_rows == len(x) // 10, "as many rows are held out, dealt anew as was asked for"
    assert json.loads((tmp_path / "new" / "plan.json").read_text())["rows_planned"] == len(x) - len(x) // 10


def older_format(plan, blake3):
    """The plan without what format 1.1 added."""
    j = json.loads((plan / "plan.json").read_text())
    j["format"] = "1.0"
    del j["seal"]
    for name, new in (("sources.arrow", ["ordered", "types"]), ("holdout.arrow", ["content", "copies"])):
        # Not mapped: the file is written over.
        old = pa.ipc.open_file(pa.py_buffer((plan / name).read_bytes())).read_all().drop_columns(new)
        meta = {k: v for k, v in old.schema.metadata.items() if k != b"key"}
        options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V5)
        with pa.OSFile(str(plan / name), "wb") as f, pa.ipc.new_file(f, old.schema.with_metadata(meta), options=options) as w:
            w.write_table(old)
        entry = next(f for f in j["files"] if f["path"] == name)
        data = (plan / name).read_bytes()
        entry.update(bytes=len(data), blake3=blake3(data).hexdigest())
    canonical = json.dumps(j["config"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    text = f"format 1.0\nconfig {canonical}\n" + "".join(
        f"file {f['path']} {f['blake3']}\n" for f in sorted(j["files"], key=lambda f: f["path"]) if f["path"] != "sources.arrow"
    )
    j["plan"] = blake3(text.encode()).hexdigest()
    (plan / "plan.json").write_text(json.dumps(j, indent=2, ensure_ascii=False) + "\n")


def test_the_same_bytes_under_another_type_and_forged_sums_are_other_rows(batchwright, tmp_path):
    path = tmp_path / "a.parquet"
    x, kind = holdout_data(tmp_path, 300)

    def write(scale):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1])
        cents = pa.array([decimal.Decimal(i) for i in range(300)], pa.decimal128(9, 0))
        unscaled = pa.Array.from_buffers(pa.decimal128(9, scale), 300, cents.buffers())
        pq.write_table(pa.table({"v": vectors, "price": unscaled}), path, store_decimal_as_integer=True, write_statistics=False, compression="none")

    write(2)
    assert batchwright("plan", path, "-o", tmp_path / "plan", "--features", "v,price", "--resolution", "200").returncode == 0
    assert batchwright("check", tmp_path / "plan", path).returncode == 0
    write(1)
    other = batchwright("check", tmp_path / "plan", path)
    assert other.returncode == 1, other.stdout + other.stderr
