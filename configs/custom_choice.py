"""Your own questions with choices.

Command:  python train.py --config=configs/custom_choice.py \
            --config.data.path=DIR --config.options.answer=letter \
            "--config.options.choice_columns=('a', 'b', 'c', 'd')"
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased. DIR holds train.csv with a question, a
column for each choice and the right answer (its index, its letter or its
text), or train.jsonl with a list of choices; perhaps validation.* and test.*.
Without validation.* a tenth of the questions is held out.

Variants from scratch, for two CPU cores:
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.custom(
    'custom_choice', learning_rate=3e-5, batch_size=16
  )
  return config.config_dict(**config.choose(variant, variants))
