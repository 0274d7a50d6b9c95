"""WordPiece tokenization with transformers' call signature and results.

In the order in which to read:

  tokenizer: the class `MobileBertTokenizerFast`: its arguments and its call.
  batch_encoding: what a call returns.
  encoding: which forms of text a call accepts; text to ids.
  padding_truncation: the strategies' arguments; padding of encoded rows.
  decoding: ids to tokens and text.
  special_tokens: `cls_token` and the like; added tokens; `[CLS] A [SEP]`.
  construction: BERT's pipeline of the `tokenizers` library, from arguments.
  vocabulary: reads `vocab.txt` and `tokenizer.json`.
  pretrained: `from_pretrained`, `save_pretrained`.
  wordpiece_training: learns a new vocabulary from text.
"""

from tokenizers import AddedToken

from mobilebert_jax.tokenizer.batch_encoding import BatchEncoding
from mobilebert_jax.tokenizer.tokenizer import (
  MobileBertTokenizer,
  MobileBertTokenizerFast,
)
from mobilebert_jax.tokenizer.wordpiece_training import train_wordpiece

__all__ = [
  'AddedToken',
  'BatchEncoding',
  'MobileBertTokenizer',
  'MobileBertTokenizerFast',
  'train_wordpiece',
]
