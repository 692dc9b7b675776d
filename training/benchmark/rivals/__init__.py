"""Every way of deciding that Pointsman is held against, behind one protocol."""
