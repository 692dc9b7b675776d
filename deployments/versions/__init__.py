"""Router versions and newcomers' profiles: taken up from the registry, compared."""
