"""WordPiece tokenization with transformers' call signature and results."""

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
