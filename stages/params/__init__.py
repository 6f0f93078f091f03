"""params.yaml, typed: a module for each block, and `document` for the whole file."""
