"""Tags for the words of your own sentences, such as the names in them.

Command:  python train.py --config=configs/custom_tagging.py \
            --config.data.path=DIR --config.options.tokens_column=words
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased. DIR holds train.jsonl with a list of
words and a list of tags (B-TYPE, I-TYPE, O) on each line, or train.conll with
a word and its tag on each line and blank lines between sentences; perhaps
validation.* and test.*. Without validation.* a tenth of the sentences is held
out. The scheme of the tags is found.

Variants from scratch, for two CPU cores:
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.custom('custom_tagging', learning_rate=5e-5)
  return config.config_dict(**config.choose(variant, variants))
