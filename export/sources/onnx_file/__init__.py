"""An ONNX file of any trained denoiser, adapted to revstep's interface."""
