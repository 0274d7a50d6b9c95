"""Masked language modelling on your own text.

Command:  python train.py --config=configs/masked_lm.py \
            --config.data.path=TEXTS --config.options.whole_word=True
Hardware: one TPU core or GPU.
Continues from google/mobilebert-uncased. TEXTS is a file or a directory of
*.txt and *.jsonl (both may be gzipped); a twentieth of the text is held out
unless --config.options.validation_file=NAME names a file or directory in TEXTS.

Variants from scratch, for two CPU cores:
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.custom(
    'masked_lm', learning_rate=1e-4, batch_size=64
  )
  return config.config_dict(**config.choose(variant, variants))
