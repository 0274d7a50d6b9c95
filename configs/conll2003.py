"""CoNLL-2003: persons, places, organisations and others in English news.

Command:  python train.py --config=configs/conll2003.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased; the data comes from TFDS (where it is in
IOB2), or from files with --config.data.source=files --config.data.path=DIR:
train.txt, valid.txt and test.txt, or the original eng.train, eng.testa and
eng.testb, which are in IOB1: that is found and said.

Variants from scratch, for two CPU cores (with files):
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.fine_tuning(
    small_epochs=3.0,
    task='conll2003',
    options={
      'labels': (
        'O', 'B-LOC', 'I-LOC', 'B-MISC', 'I-MISC', 'B-ORG', 'I-ORG', 'B-PER',
        'I-PER',
      ),
      'stride': 32,
    },
    data={
      'source': 'tfds',
      'max_length': 128,
      'buckets': (16, 24, 32, 48, 64, 96, 128),
    },
    optimizer={'learning_rate': 5e-5},
    batch_size=32,
    eval_batch_size=64,
    num_epochs=5.0,
  )  # fmt: skip
  return config.config_dict(**config.choose(variant, variants))
