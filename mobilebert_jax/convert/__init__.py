"""Weights and configs, in and out: one table of names, one file per format.

In the order in which to read:

  pretrained: `from_pretrained`, `save_pretrained`, other sizes of a model;
    loading is source, mapping, and initial values for what is missing.
  names: the one table of parameter names; a source's keys to the table's.
  mapping: tensors to parameters and back, by the table.
  source: finds the weights behind a name, and the class they are of.
  save: whole directories, or none.
  formats: safetensors, torch's .bin, TensorFlow 1, sharded files.
"""
