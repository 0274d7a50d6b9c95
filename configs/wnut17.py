"""WNUT-17: new and rare entities in social media.

Command:  python train.py --config=configs/wnut17.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased; the official files wnut17train.conll,
emerging.dev.conll and emerging.test.annotated (github.com/leondz/
emerging_entities_17) lie in data/wnut17, or --config.data.path=DIR. TFDS does
not have them.

Variants from scratch, for two CPU cores:
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.fine_tuning(
    small_epochs=10.0,
    task='wnut17',
    options={
      'labels': (
        'O', 'B-corporation', 'I-corporation', 'B-creative-work',
        'I-creative-work', 'B-group', 'I-group', 'B-location', 'I-location',
        'B-person', 'I-person', 'B-product', 'I-product',
      ),
    },
    data={
      'source': 'files',
      'path': 'data/wnut17',
      'max_length': 128,
      'buckets': (16, 24, 32, 48, 64, 96, 128),
    },
    optimizer={'learning_rate': 5e-5},
    batch_size=32,
    eval_batch_size=64,
    num_epochs=5.0,
  )  # fmt: skip
  return config.config_dict(**config.choose(variant, variants))
