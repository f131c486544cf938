"""Arithmetic on the CPU where Paddle's own kernels are slow: compiled loops over NumPy arrays, and MKL's products.

Maps are *channels-last* here unless said otherwise, [B, h, w, C]: a pixel's channels lie side by side, so a 1×1
convolution is one matrix product and a shift of the map moves whole rows of channels. `residual.py`, `dilated.py`,
`depthwise.py`, `halving.py` and `softmax.py` are what networks and losses call; `bridge.py` is where tensors become
arrays; the rest knows nothing of Paddle.
"""
