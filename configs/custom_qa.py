"""Questions about your own texts, answered by a span of the text.

Command:  python train.py --config=configs/custom_qa.py \
            --config.data.path=DIR --config.options.answers_column=answer
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased. DIR holds train.jsonl (or .csv, .tsv)
with the columns question, context and answers, or train.json in SQuAD's
format; perhaps validation.* and test.*. Without validation.* a tenth of the
questions is held out. Questions without an answer:
--config.options.allow_no_answer=True.

Variants from scratch, for two CPU cores:
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.custom(
    'custom_qa', learning_rate=4e-5, max_length=384
  )
  return config.config_dict(**config.choose(variant, variants))
