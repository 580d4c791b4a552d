"""The clusterer as scikit-learn's own checks see it."""

import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import batchwright as bw
from batchwright.sklearn import ModalityClusterer


@parametrize_with_checks([ModalityClusterer(n_modalities=3)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_modalities_are_clusters():
    x, y = make_blobs(900, centers=3, cluster_std=0.5, random_state=0)
    clusterer = ModalityClusterer().fit(x)
    assert clusterer.n_modalities_ == 3 and clusterer.clear_ and 0 <= clusterer.confidence_ <= 1
    assert clusterer.interval_[0] <= 3 <= clusterer.interval_[1]
    assert adjusted_rand_score(y, clusterer.labels_) > 0.99
    assert np.array_equal(clusterer.predict(x), clusterer.labels_)
    assert clusterer.cluster_centers_.shape == (3, 2)
    assert np.array_equal(ModalityClusterer().fit_predict(x), clusterer.labels_)


def test_it_is_the_plans_answer():
    x = load_digits().data.astype(np.float32)
    clusterer = ModalityClusterer(n_modalities=10, random_state=1).fit(x)
    plan = bw.plan(x, modalities=10, seed=1)
    assert np.array_equal(clusterer.labels_, plan.modality(np.arange(len(x))))


def test_it_pickles_to_another_machine(tmp_path):
    x, _ = make_blobs(300, centers=2, random_state=0)
    clusterer = ModalityClusterer(n_modalities=2).fit(x)
    again = pickle.loads(pickle.dumps(clusterer))
    assert np.array_equal(again.predict(x), clusterer.labels_)
    assert pickle.dumps(again) == pickle.dumps(clusterer)
    (tmp_path / "c").write_bytes(pickle.dumps(clusterer))
    np.save(tmp_path / "x.npy", x)
    program = "import pickle, sys, numpy; print(*pickle.load(open(sys.argv[1] + '/c', 'rb')).predict(numpy.load(sys.argv[1] + '/x.npy')))"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(m) for m in clusterer.labels_]
    folder = pathlib.Path(again._open().path)
    del again
    assert not folder.exists()
