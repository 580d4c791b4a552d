"""Modalities as clusters of scikit-learn.

    from batchwright.sklearn import ModalityClusterer

    clusterer = ModalityClusterer().fit(X)
    clusterer.n_modalities_, clusterer.interval_, clusterer.clear_
    clusterer.predict(new)"""

import io
import os
import tempfile
import weakref
import zipfile
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from batchwright._calls import remove
from batchwright._core import Plan
from batchwright.functions import plan as make_plan

__all__ = ["ModalityClusterer"]


class ModalityClusterer(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Counts the modalities of rows, and says which one a row belongs to.

    Pickles with what `predict` needs (about 20 bytes a row of the training data), not with a path.

    Args:
        n_modalities: their number; None: counted.
        estimator: how they are counted, as `--estimator`; None: the default, or k-means where the number is given.
        resolution: rows of a sample block; with more rows, finer modes can be told apart.
        random_state: seed of all random decisions, a whole number from 0 on.

    Attributes:
        labels_: modality of every row of the training data, shape (n,), from 0 on.
        n_modalities_: their number.
        interval_: where it lies, as (least, most); confidence_: how far halves of the data agree, 0 to 1.
        clear_: False where the data has no clear number of modalities.
        cluster_centers_: centre of every modality, shape (modalities, dims)."""

    def __init__(
        self, n_modalities: int | None = None, *, estimator: str | None = None, resolution: int | None = None, random_state: int | None = 0
    ) -> None:
        self.n_modalities = n_modalities
        self.estimator = estimator
        self.resolution = resolution
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "ModalityClusterer":
        """`X`: numbers of shape (n, dims), at least two rows. Raises as `batchwright.plan`."""
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        plan = make_plan(
            X,
            modalities=self.n_modalities,
            estimator=self.estimator,  # type: ignore[arg-type]
            resolution=self.resolution,
            seed=self.random_state,
            epochs=0,
            batch_size=1,
            candidates=[1],
            progress=False,
        )
        self.labels_ = plan.modality(np.arange(len(X)))
        found = plan.manifest["estimator"]
        self.n_modalities_ = plan.modalities
        self.interval_ = tuple(found["interval"])
        self.confidence_ = float(found["confidence"])
        self.clear_ = plan.clear
        self.cluster_centers_ = plan.table("modalities").to_numpy("center")
        self._plan = _packed(plan.path)
        _OPENED.pop(self, None)
        return self

    def predict(self, X: Any) -> np.ndarray[Any, Any]:
        """Modality of every row of `X`, shape (n,): that of the nearest prototype."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        modality: np.ndarray[Any, Any] = self._open().assign(X).modality
        return modality

    def _open(self) -> Plan:
        opened = _OPENED.get(self)
        if opened is None:
            folder = tempfile.mkdtemp(prefix="batchwright-")
            with zipfile.ZipFile(io.BytesIO(self._plan)) as files:
                files.extractall(folder)
            opened = _OPENED[self] = Plan.open(folder)
            weakref.finalize(opened, remove, folder, os.getpid())
        return opened


_OPENED: "weakref.WeakKeyDictionary[ModalityClusterer, Plan]" = weakref.WeakKeyDictionary()
"""Plans that `predict` has opened: no part of an estimator's state."""


def _packed(folder: str) -> bytes:
    """The files of a plan."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as files:
        for root, _, names in os.walk(folder):
            for name in sorted(names):
                path = os.path.join(root, name)
                # Times of files would make equal estimators differ.
                with open(path, "rb") as file:
                    files.writestr(zipfile.ZipInfo(os.path.relpath(path, folder)), file.read())
    return packed.getvalue()
