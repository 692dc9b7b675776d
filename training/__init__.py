"""Learning: from the outcome log to a router artifact. Ray lives in the shells alone."""
