"""SWAG: which of four endings goes on from a caption of a video?

Command:  python train.py --config=configs/swag.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased; the official files train.csv, val.csv
and test.csv (github.com/rowanz/swagaf) lie in data/swag, or
--config.data.path=DIR. TFDS does not have them. Without the test file:
--config.options.predict_test=False

Variants from scratch, for two CPU cores:
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.fine_tuning(
    small_epochs=1.0,
    task='swag',
    data={
      'source': 'files',
      'path': 'data/swag',
      'max_length': 80,
      'buckets': (32, 48, 64, 80),
    },
    optimizer={'learning_rate': 5e-5},
    batch_size=16,
    eval_batch_size=32,
    num_epochs=3.0,
  )
  return config.config_dict(**config.choose(variant, variants))
