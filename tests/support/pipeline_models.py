"""Small random models that transformers writes, for pipelines to read."""

import pathlib
from typing import Any

import torch
import transformers

from mobilebert_jax.tokenizer import MobileBertTokenizerFast

_WORDS = (
  '[PAD] [UNK] [CLS] [SEP] [MASK] paris is the capital of france . , ? where '
  'i live in berlin a b c d e un ##aff ##able ##s this example good bad'
).split()


def write(path: pathlib.Path, class_name: str, **config: Any) -> pathlib.Path:
  """Writes a model, with a tokenizer beside it.

  Args:
    path: A directory.
    class_name: transformers' class.
    **config: Fields of its config beside the sizes.

  Returns:
    `path`.
  """
  torch.manual_seed(0)
  settings = transformers.MobileBertConfig(
    vocab_size=len(_WORDS),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    embedding_size=16,
    intra_bottleneck_size=16,
    max_position_embeddings=128,
    **config,
  )
  model = getattr(transformers, class_name)(settings).eval()
  with torch.no_grad():
    for parameter in model.parameters():
      parameter.add_(0.1 * torch.randn_like(parameter))
  model.save_pretrained(path)
  MobileBertTokenizerFast(_WORDS, model_max_length=128).save_pretrained(path)
  return path
