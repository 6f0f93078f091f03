"""What `train` and `qat` do."""
