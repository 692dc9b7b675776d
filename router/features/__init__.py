"""Step 2, features: text and pictures come in, one vector of known layout goes out."""
