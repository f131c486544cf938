"""Networks as programs for other software: ONNX and Paddle Inference."""
