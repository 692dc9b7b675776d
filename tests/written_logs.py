"""Logs written at once, and what lies in their folders; for any test."""

import dataclasses

from monitoring.log_reader import read_table
from monitoring.outcome_log import SegmentWriter
from monitoring.segment_store import open_store


def write(root, table, rows, *, name="one"):
    """Append rows and write them at once."""
    writer = SegmentWriter(root, table, writer=name)
    for row in rows:
        writer.append(row)
    return writer.flush()


def segments(root):
    """Return the files of the log, temporary ones included, but not those of the spool."""
    paths = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(path for path in paths if path.parts[0] != ".spool")


def spooled(root):
    """Return the spool files."""
    return sorted((root / ".spool").rglob("*.spool"))


def hashes(root):
    """Return the query hashes in the log, as numbers, sorted."""
    column = read_table(root, "outcomes", columns=["query_sha256"])["query_sha256"]
    return sorted(int(value, 16) for value in column.to_pylist())


class Log:
    """A log with many small segments."""

    def __init__(self, root, outcome, label, decision):
        """Start without a file."""
        self.root, self.store = root, open_store(root)
        self._make, self._label, self._decision = outcome, label, decision
        self._writers = {
            table: SegmentWriter(root, table, writer="one") for table in ("outcomes", "labels")
        }

    def write(self, number, *, labelled=True, **changes):
        """Write an outcome and its label as a segment each."""
        name = f"d{number}"
        decision = dataclasses.replace(self._decision, decision_id=name)
        outcome = self._make(number, decision=decision, **changes)
        self._writers["outcomes"].append(outcome)
        if labelled:
            self._writers["labels"].append(self._label(number, days=changes.get("days", 0)))
        for writer in self._writers.values():
            writer.flush()

    def ids(self, table="outcomes"):
        """Return the decisions in a table, as numbers, sorted."""
        rows = read_table(self.root, table, columns=["decision_id"]).to_pylist()
        return sorted(int(row["decision_id"][1:]) for row in rows)

    def files(self, table="outcomes"):
        """Return the names of a table's files."""
        return [file.name for file in self.store.files(table)]
