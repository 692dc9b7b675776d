"""A bounded memory of vectors by content hash."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


class VectorCache:
    """Forgets the least recently used vector first; safe to share between threads.

    All memory is taken at the start, so that a long-lived process does not grow as it fills. Two
    threads that miss the same key both compute it: cheaper than making either wait, and the
    results are equal.

    Args:
        capacity: C, the most vectors held; 0 remembers nothing.
        dim: E of each.
    """

    num_hits: int = 0
    """Vectors found since the start."""

    num_misses: int = 0
    """Vectors computed since the start."""

    def __init__(self, capacity: int, dim: int) -> None:
        """Touch every page once."""
        self._vectors_CE = np.empty((capacity, dim), np.float32)
        self._vectors_CE.fill(0.0)
        self._places: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def get_or_compute(self, key: str, compute: Callable[[], Vector]) -> Vector:
        """Return the vector of ``key``, shape (E,), computing it if it is not remembered."""
        with self._lock:
            if (place := self._places.get(key)) is not None:
                self._places.move_to_end(key)
                self.num_hits += 1
                return self._vectors_CE[place].copy()
            self.num_misses += 1
        vector_E = compute()
        with self._lock:
            self._vectors_CE[self._place(key)] = vector_E
        return vector_E

    def _place(self, key: str) -> int | slice:
        """Return the row for a key: its own, a new one, or that of whoever waited longest."""
        capacity = len(self._vectors_CE)
        if not capacity:
            return slice(0)
        place = self._places.pop(key, None)
        if place is None:
            is_full = len(self._places) == capacity
            place = self._places.popitem(last=False)[1] if is_full else len(self._places)
        self._places[key] = place
        return place
