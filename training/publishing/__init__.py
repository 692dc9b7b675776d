"""Router versions, profiles and their pages, on the way into MLflow."""
