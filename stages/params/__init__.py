"""params.yaml, typed and checked once."""
