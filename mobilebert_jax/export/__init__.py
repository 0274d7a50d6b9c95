"""The model as it is served, and the files that others load.

In the order in which to read:

  graph: the forward pass, written once for every backend.
  folding: parameters become its weights: NoNorm and large constants vanish.
  operations: what a backend must have; NumPy's and JAX's.
  activations: transformers' activations in a backend's operations.
  onnx: ONNX files.
  stablehlo: StableHLO by jax.export.
  requirements: packages that only a format needs.
"""
