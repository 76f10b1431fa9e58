"""Rows of a pool in groups of what is alike."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def kmeans(vectors: Any, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The k centres of k-means (Lloyd, begun by k-means++ with the seed), and each row's group.

    Args:
        vectors: (m, d), an array or a CSR matrix, m at least k.
        k: how many groups; where there are fewer different vectors, some stay empty.
        seed: of the first centres.
    """
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # The order in which threads add their shares to a centre is not the same every time.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(k, n_init=1, random_state=seed).fit(vectors)
    return found.cluster_centers_.astype(np.float32), found.labels_


def clusters(vectors: Any, k: int, seed: int) -> list[list[int]]:
    """The rows of each of k groups by `kmeans`, those nearest to its centre first; equals in order of row.

    The largest group comes first, of equally large ones the one with the first row. There are fewer than k groups
    where there are fewer than k different vectors.

    >>> import numpy as np
    >>> clusters(np.array([[1.0, 0], [0, 1], [0.3, 0.7], [0.1, 0.9], [0.9, 0.1]]), 2, seed=0)
    [[3, 1, 2], [0, 4]]
    """
    import numpy as np

    centres, labels = kmeans(vectors, k, seed)
    found = []
    for i, centre in enumerate(centres.astype(np.float64)):
        rows = np.flatnonzero(labels == i)
        mine = vectors[rows]
        square = mine**2 if isinstance(mine, np.ndarray) else mine.multiply(mine)
        # Squared distances without the centre's own length, which all have in common.
        far = np.asarray(square.sum(axis=1)).ravel() - 2 * np.asarray(mine @ centre).ravel()
        found.append(rows[np.argsort(far.round(6), kind="stable")].tolist())
    return sorted((rows for rows in found if rows), key=lambda rows: (-len(rows), min(rows)))
