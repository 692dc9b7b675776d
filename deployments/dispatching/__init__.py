"""The chosen candidate is called, and the next one if it fails before the first byte."""
