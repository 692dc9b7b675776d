"""Step 8, proof: how well routers decide on recorded outcomes, by the published protocols."""
