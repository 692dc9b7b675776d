"""From the image paths that a source names to files that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class ImageFolder:
    """The folder that a source's image paths start from, and may not leave.

    Args:
        root: The folder.
        source: The file and column that name the images, for errors.
    """

    def __init__(self, root: Path, source: str) -> None:
        """Follow links once, so that every path is compared with the real folder."""
        self._root = root
        self._real_root = root.resolve()
        self._source = source

    def files(self, names: str | Sequence[str] | None) -> tuple[Path, ...]:
        """Return the files of one query; none for None or an empty path.

        Raises:
            InvalidInputError: If a path leaves the folder or leads to no file.
        """
        listed = [names] if isinstance(names, str) else names or []
        return tuple(self._file(name) for name in listed if name)

    def _file(self, name: str) -> Path:
        path = self._root / name
        if not path.resolve().is_relative_to(self._real_root):
            raise InvalidInputError(
                f"{self._source}: {name!r} leaves {self._root}; copy the image into it and give a "
                "relative path",
                "image_path",
            )
        if not path.is_file():
            raise InvalidInputError(
                f"{self._source}: {name!r} is no file in {self._root}; add the image, or leave "
                "the path null if the question has none",
                "image_path",
            )
        return path
