"""File formats of weights, one module each.

safetensors, torch_bin: read and write one file.
tf1: reads TensorFlow 1 checkpoints.
shards: one model in several files, and their index.
"""
