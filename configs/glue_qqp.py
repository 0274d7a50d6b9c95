"""QQP: do two questions ask the same? (GLUE, accuracy and F1).

Command:  python train.py --config=configs/glue_qqp.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased; the data comes from TFDS, or from the
official files with --config.data.source=files --config.data.path=DIR. The
settings lie in the range that the paper searches (batches of 16, 32 and 48,
rates from 1e-5 to 10e-5, 2 to 10 epochs); python -m mobilebert_jax.sweep
searches it.

TFDS and transformers' reader leave out the training rows that are cut off in
the official file; so does this task, with a warning.

Variants from scratch, for two CPU cores (with official files):
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.glue(
    'qqp',
    buckets=(16, 24, 32, 48, 64, 128),
    learning_rate=3e-5,
    batch_size=32,
    num_epochs=4.0,
    small_epochs=1.0,
    eval_every=4000,
  )
  return config.config_dict(**config.choose(variant, variants))
