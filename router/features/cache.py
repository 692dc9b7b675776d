"""A bounded memory of vectors by content hash."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


class VectorCache:
    """Forgets the least recently used vector first; safe to share between threads.

    Two threads that miss the same key both compute it: cheaper than making either wait, and the
    results are equal.
    """

    num_hits: int = 0
    """Vectors found since the start."""

    num_misses: int = 0
    """Vectors computed since the start."""

    def __init__(self, capacity: int) -> None:
        """Hold at most ``capacity`` vectors; 0 remembers nothing."""
        self._capacity = capacity
        self._vectors: OrderedDict[str, Vector] = OrderedDict()
        self._lock = Lock()

    def get_or_compute(self, key: str, compute: Callable[[], Vector]) -> Vector:
        """Return the vector of ``key``, read-only, computing it if it is not remembered."""
        with self._lock:
            if (known := self._vectors.get(key)) is not None:
                self._vectors.move_to_end(key)
                self.num_hits += 1
                return known
            self.num_misses += 1
        vector = compute()
        vector.setflags(write=False)
        with self._lock:
            self._vectors[key] = vector
            while len(self._vectors) > self._capacity:
                self._vectors.popitem(last=False)
        return vector
