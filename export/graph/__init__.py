"""One module as one ONNX graph, checked."""
