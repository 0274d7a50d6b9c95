"""RACE: reading comprehension from exams of Chinese pupils, four options.

Command:  python train.py --config=configs/race.py
Hardware: a TPU or GPU with 16 GB.
Starts from google/mobilebert-uncased; the data comes from TFDS (race/middle
and race/high, which only TensorFlow can prepare, but which are read without
it), or with --config.data.source=files --config.data.path=DIR from the official
directories train, dev and test. Articles are cut to fit, questions and options
are not.

Variants from scratch, for two CPU cores (hours; shorter with
--config.data.train_examples=N):
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.fine_tuning(
    small_epochs=1.0,
    task='race',
    data={
      'source': 'tfds',
      'max_length': 512,
      'buckets': (128, 256, 384, 512),
    },
    optimizer={'learning_rate': 5e-5},
    batch_size=16,
    eval_batch_size=16,
    num_epochs=3.0,
  )
  return config.config_dict(**config.choose(variant, variants))
