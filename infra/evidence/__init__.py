"""Commands that measure what the documents claim, and write it under docs/evidence/."""
