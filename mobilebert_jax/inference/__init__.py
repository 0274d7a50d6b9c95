"""The model as it is served: one graph over folded weights, for any backend.

In the order in which to read:

  graph: the forward pass, written once for every backend.
  folding: parameters become its weights: NoNorm and large constants vanish.
  operations: what a backend must have; NumPy's and JAX's.
  activations: transformers' activations in a backend's operations.
  ranges: what values its tensors have on real inputs.
  equalization: channels are rescaled, and it stays the same function.
  float16: parameters whose values float16 can hold.
  quantization: integers in place of floats: which tensors, on which grid.
  costs: what rounding each tensor costs.
  scanned_blocks: folding and the forward pass within a step that learns.
  quantized_model: a model that learns as it is served, folded and rounded.
"""
