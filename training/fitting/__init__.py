"""A training set comes in, a router artifact goes out."""
