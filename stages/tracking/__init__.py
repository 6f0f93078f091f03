"""MLflow: the runs and the model registry."""
