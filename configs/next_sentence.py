"""Does the second text follow the first one? Pairs from your own documents.

Command:  python train.py --config=configs/next_sentence.py \
            --config.data.path=TEXTS --config.options.sentences=marks
Hardware: one TPU core or GPU.
Continues from google/mobilebert-uncased. TEXTS is a file or a directory of
*.txt and *.jsonl (both may be gzipped). In *.txt a blank line ends a document
(or --config.options.documents=file) and a line is a sentence (or
--config.options.sentences=marks: what a full stop ends). A twentieth of the
text is held out unless --config.options.validation_file=NAME names a file.

Variants from scratch, for two CPU cores:
  small             layer_norm, 2.4M parameters, 2.0M of them word vectors
  small_layer_norm  the same
  small_no_norm     the same with the published normalization
They need a vocabulary: --config.tokenizer=VOCAB (a vocab.txt or a directory).
"""

from mobilebert_jax import config


def get_config(variant: str = ''):
  variants = config.presets.custom(
    'next_sentence', learning_rate=3e-5, small_epochs=5.0
  )
  return config.config_dict(**config.choose(variant, variants))
