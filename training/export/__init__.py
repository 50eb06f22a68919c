"""Trained networks as ONNX files, in float32 and in fewer bits."""
