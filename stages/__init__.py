"""The pipeline: one module per DVC stage, beside the rooms they share."""
