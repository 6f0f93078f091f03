"""How a model runs: a folder for each runtime, and what is equal for all of them."""
