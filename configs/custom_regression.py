"""A number for each of your own texts, or pairs of texts.

Command:  python train.py --config=configs/custom_regression.py \
            --config.data.path=DIR --config.options.text_column=sentence1 \
            --config.options.pair_column=sentence2 \
            --config.options.label_column=similarity
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased. DIR holds train.csv (or .tsv, .jsonl,
also gzipped), perhaps validation.* and test.*; without validation.* a tenth of
the rows is held out.

Variants from scratch, for two CPU cores:
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.custom('custom_regression', learning_rate=3e-5)
  return config.config_dict(**config.choose(variant, variants))
