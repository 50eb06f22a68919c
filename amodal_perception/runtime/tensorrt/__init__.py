"""TensorRT engines: built from ONNX files, described by manifests, kept in a private folder."""
