"""Read the first sheet of an ``.xlsx`` workbook.

VL-RouterBench comes in workbooks. They are ZIP files of XML, and this is all that is needed of
them: no formulas, dates or formats.
"""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Cell = str | float | bool | None

_SHEET = "xl/worksheets/sheet1.xml"
_STRINGS = "xl/sharedStrings.xml"
_TEXT_KINDS = frozenset({"str", "d"})
"""Results of formulas, and dates."""


def read_rows(path: Path) -> Iterator[dict[str, Cell]]:
    """Yield each row below the header by column name; every number is a float.

    Raises:
        InvalidInputError: If the file is no workbook.
    """
    try:
        with zipfile.ZipFile(path) as book:
            strings = _shared_strings(book)
            rows = _rows(book, strings)
            header = next(rows, {})
            names = {column: str(name) for column, name in header.items() if name is not None}
            for row in rows:
                yield {name: row.get(column) for column, name in names.items()}
    except (OSError, zipfile.BadZipFile, KeyError, IndexError, ValueError, ET.ParseError) as error:
        raise InvalidInputError(f"{path} is not a workbook: {error}", path.name) from error


def _elements(book: zipfile.ZipFile, name: str, tag: str) -> Iterator[ET.Element]:
    """Yield the elements of a tag in a part of the workbook, each freed afterwards."""
    with book.open(name) as part:
        # Expat of 2.4 and later stops at the entity bombs that S314 warns of.
        for _, element in ET.iterparse(part):  # noqa: S314 - the user's own file
            if element.tag.endswith(f"}}{tag}"):
                yield element
                element.clear()


def _shared_strings(book: zipfile.ZipFile) -> list[str]:
    """Return the texts that cells refer to by number."""
    if _STRINGS not in book.namelist():
        return []
    return [_text(element) for element in _elements(book, _STRINGS, "si")]


def _rows(book: zipfile.ZipFile, strings: list[str]) -> Iterator[dict[str, Cell]]:
    """Yield the cells of each row by column letter; empty ones are left out."""
    for row in _elements(book, _SHEET, "row"):
        yield {
            re.sub(r"\d", "", cell.get("r", "")): _value(cell, strings)
            for cell in row
            if len(cell)
        }


def _value(cell: ET.Element, strings: list[str]) -> Cell:
    """Return what a cell holds."""
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return _text(cell)
    text = next((child.text for child in cell if child.tag.endswith("}v")), None)
    if text is None or kind == "e":
        return None
    if kind == "s":
        return strings[int(text)]
    if kind == "b":
        return text == "1"
    return text if kind in _TEXT_KINDS else float(text)


def _text(element: ET.Element) -> str:
    """Return the text of an element, all its runs together."""
    return "".join(child.text or "" for child in element.iter() if child.tag.endswith("}t"))
