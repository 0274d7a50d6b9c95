"""CoLA: is a sentence acceptable English? (GLUE, Matthews's correlation).

Command:  python train.py --config=configs/glue_cola.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased; the data comes from TFDS, or from the
official files with --config.data.source=files --config.data.path=DIR. The
settings lie in the range that the paper searches (batches of 16, 32 and 48,
rates from 1e-5 to 10e-5, 2 to 10 epochs); python -m mobilebert_jax.sweep
searches it.

Variants from scratch, for two CPU cores (with official files):
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.glue(
    'cola',
    buckets=(8, 16, 24, 32, 48, 64),
    learning_rate=5e-5,
    batch_size=16,
    num_epochs=10.0,
    small_epochs=10.0,
  )
  return config.config_dict(**config.choose(variant, variants))
