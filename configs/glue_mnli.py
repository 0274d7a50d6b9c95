"""MNLI of GLUE: does a premise entail or contradict a hypothesis, or neither?

Command:  python train.py --config=configs/glue_mnli.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased; the data comes from TFDS, or from the
official files with --config.data.source=files --config.data.path=DIR. The
settings lie in the range that the paper searches (batches of 16, 32 and 48,
rates from 1e-5 to 10e-5, 2 to 10 epochs); python -m mobilebert_jax.sweep
searches it.

Where GLUE's diagnostics are beside the data (AX.tsv or diagnostic.tsv, or
TFDS's glue/ax), the model answers them too.

Variants from scratch, for two CPU cores (with official files):
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.glue(
    'mnli',
    buckets=(32, 48, 64, 96, 128),
    learning_rate=3e-5,
    batch_size=32,
    num_epochs=4.0,
    small_epochs=1.0,
    eval_every=4000,
  )
  return config.config_dict(**config.choose(variant, variants))
