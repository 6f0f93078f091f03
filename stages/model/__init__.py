"""Any model to a SavedModel and an ONNX file; knows no runtime."""
