"""SQuAD 2.0: answers to questions about paragraphs that may not answer them.

Command:  python train.py --config=configs/squad_v2.py
Hardware: one TPU core or GPU.
Starts from google/mobilebert-uncased with the settings that google-research
publishes for MobileBERT; the data comes from TFDS (squad/v2.0), or from
train-v2.0.json and dev-v2.0.json (or .json.gz) with --config.data.source=files
--config.data.path=DIR. predictions/predictions.json in the workdir is what
evaluate-v2.0.py reads. How much better "no answer" must score to be given is
chosen for the best F1 on the evaluation split;
--config.options.null_score_threshold=X fixes it.

Variant from scratch, for two CPU cores (with official files):
  small  layer_norm, 2.4M parameters, windows of 128 tokens, the first 20,000
         questions
It needs a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  return config.config_dict(
    **config.choose(variant, config.presets.squad('squad_v2'))
  )
