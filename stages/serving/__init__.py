"""A variant outside the pipeline: in MLflow, TensorFlow Serving, Triton."""
