"""SQuAD 1.1: answers to questions, as spans of paragraphs from Wikipedia.

Command:  python train.py --config=configs/squad_v1.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased with the settings that google-research
publishes for MobileBERT; the data comes from TFDS (squad/v1.1), or from
train-v1.1.json and dev-v1.1.json (or .json.gz) with --config.data.source=files
--config.data.path=DIR. predictions/predictions.json in the workdir is what
evaluate-v1.1.py reads.

Variant from scratch, for two CPU cores (with official files):
  small  layer_norm, 2.4M parameters, windows of 128 tokens, the first 20,000
         questions
It needs a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  return config.config_dict(
    **config.choose(variant, config.presets.squad('squad_v1'))
  )
