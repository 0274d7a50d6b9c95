"""Brings the names in a source to the table's spelling.

Sources of different ages and authors spell one tensor differently, keep
tensors twice, and hold more than the model: this is where that ends.
"""

import re
from collections.abc import Mapping
from typing import Literal

import numpy as np

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.convert import names
from mobilebert_jax.runtime.errors import InputError

Dialect = Literal['hf', 'tf1']
Tensors = Mapping[str, np.ndarray]

HEADED = 'mobilebert'

_OLD_NAMES = (
  ('LayerNorm.gamma', 'LayerNorm.weight'),
  ('LayerNorm.beta', 'LayerNorm.bias'),
)
# Once a saved buffer; it only counted 0, 1, 2, ...
_HF_IGNORED = frozenset({'embeddings.position_ids'})
# What google-research's training leaves beside the model: the optimizer's
# slots and counters, the teacher, and the untrained norms of its losses.
_TF1_IGNORED = re.compile(
  r'(.*/)?(adam|lamb)_[mv]|(.*/)?(AdamWeightDecay|LAMB)Optimizer(_\d+)?(/.*)?'
  r'|(.*/)?global_step|teacher/.*|hidden_distill_\d+/.*'
)


def canonical(
  tensors: Tensors, dialect: Dialect, where: str
) -> dict[str, np.ndarray]:
  """The tensors under the table's names, without what is always ignored.

  Drops the `mobilebert.` of headed models, renames gamma and beta, and gives
  both of google-research's norms one name.

  Args:
    tensors: name -> array, as the source has them.
    dialect: whose names these are.
    where: what to call the source in errors.

  Raises:
    InputError: two tensors end up with one name.
  """
  spell = _hf if dialect == 'hf' else _tf1
  renamed: dict[str, np.ndarray] = {}
  for name, tensor in tensors.items():
    new = spell(name)
    if new is None:
      continue
    if new in renamed:
      raise InputError(f'{where} has {new} twice, once as {name}.')
    renamed[new] = tensor
  return renamed


def _hf(name: str) -> str | None:
  new = name.removeprefix(f'{HEADED}.')
  for old, current in _OLD_NAMES:
    if new.endswith(old):
      new = new.removesuffix(old) + current
  return None if new in _HF_IGNORED else new


def _tf1(name: str) -> str | None:
  if _TF1_IGNORED.fullmatch(name):
    return None
  return name.replace('FakeLayerNorm', 'LayerNorm').removeprefix('classifier/')


def merge_tied(
  tensors: Tensors, config: MobileBertConfig, where: str
) -> dict[str, np.ndarray]:
  """The tensors with each tied pair under its first name alone.

  Args:
    tensors: name -> array under the table's names.
    config: says whether the embeddings are tied.
    where: what to call the source in errors.

  Returns:
    A new dict. Untied tensors stay, except that a decoder bias that was not
    saved is the other bias, because transformers 4 makes the two one even
    when nothing is tied.

  Raises:
    InputError: two tensors that must be one differ.
  """
  merged = dict(tensors)
  if not config.tie_word_embeddings:
    one, other = names.TIED[1]
    if one in tensors:
      merged.setdefault(other, tensors[one])
    elif other in tensors:
      merged[one] = tensors[other]
    return merged
  for kept, copy in names.TIED:
    if copy not in merged:
      continue
    tensor = merged.pop(copy)
    if not _same(merged.setdefault(kept, tensor), tensor):
      raise InputError(
        f'{where}: {kept} and {copy} differ, but tie_word_embeddings is set; '
        'set it to False to keep both.'
      )
  return merged


def _same(one: np.ndarray, other: np.ndarray) -> bool:
  """Equal values; nan equals nan where the bits are the same."""
  if np.array_equal(one, other):
    return True
  return one.dtype == other.dtype and one.tobytes() == other.tobytes()
