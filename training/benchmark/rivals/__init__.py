"""Step 8, proof: every way of deciding that Pointsman is held against, behind one protocol."""
