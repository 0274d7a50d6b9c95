"""Fill-mask: what may stand in the place of [MASK]."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mobilebert_jax.models import MobileBertForMaskedLM
from mobilebert_jax.pipelines.base import (
  ItemError,
  Pipeline,
  as_texts,
  check_count,
  encoded_rows,
)
from mobilebert_jax.runtime.errors import InputError

_LOG = logging.getLogger(__name__)


class FillMask(Pipeline):
  """Guesses masked tokens (transformers' `FillMaskPipeline`)."""

  model_class = MobileBertForMaskedLM

  def __call__(
    self,
    inputs: str | Sequence[str],
    targets: str | Sequence[str] | None = None,
    top_k: int = 5,
    **tokenizer_options: Any,
  ) -> list:
    """Fills the masks of texts.

    Args:
      inputs: a text with at least one mask token, or a list of those.
      targets: tokens to choose from; None is the whole vocabulary.
      top_k: how many guesses.
      **tokenizer_options: such as `truncation=True`.

    Returns:
      Per text a list of guesses, best first, each with `score`, `token`,
      `token_str` and `sequence`; a list of such lists if the text has several
      masks. One text (also in a list) gives its result alone.

    Raises:
      InputError: a text without mask or too long, or no usable target.
    """
    check_count('top_k', top_k)
    texts = as_texts(inputs)
    rows: list[dict[str, Any]] = []
    for i, row in enumerate(
      encoded_rows(self.tokenize(texts, **tokenizer_options))
    ):
      mask_positions = [
        p
        for p, token in enumerate(row['input_ids'])
        if token == self.tokenizer.mask_token_id
      ]
      if not mask_positions:
        raise ItemError(
          i,
          f'has no mask token: put {self.tokenizer.mask_token} where a token '
          'is to be guessed.',
        )
      rows.append({**row, 'mask_positions': mask_positions})
    chosen = None if targets is None else self._target_ids(targets)
    results = [
      self._guesses(row, picked['probabilities'], chosen, top_k)
      for row, picked in zip(rows, self.run(rows))
    ]
    return results[0] if len(results) == 1 else results

  def select(self, outputs: Any, batch: Mapping[str, jax.Array]) -> Any:
    """Returns probabilities at the masks alone: [B, S, V] is large."""
    mask_positions = batch['mask_positions']
    logits = jnp.take_along_axis(
      outputs.logits, mask_positions[..., None], axis=1
    )
    return {'probabilities': jax.nn.softmax(logits, axis=-1)}

  def _guesses(
    self,
    row: Mapping[str, Any],
    probabilities: np.ndarray,
    chosen: np.ndarray | None,
    top_k: int,
  ) -> list:
    results = []
    for place, scores in zip(row['mask_positions'], probabilities):
      ids = np.arange(len(scores)) if chosen is None else chosen
      best = ids[np.argsort(-scores[ids], kind='stable')[:top_k]]
      results.append(
        [
          self._guess(row, place, int(token), float(scores[token]))
          for token in best
        ]
      )
    return results[0] if len(results) == 1 else results

  def _guess(
    self, row: Mapping[str, Any], place: int, token: int, score: float
  ) -> dict[str, Any]:
    ids = list(row['input_ids'])
    ids[place] = token
    kept = [i for i in ids if i != self.tokenizer.pad_token_id]
    # Other masks are special tokens, too, and must stay to be seen.
    single = len(row['mask_positions']) == 1
    return {
      'score': score,
      'token': token,
      'token_str': self.tokenizer.decode([token]),
      'sequence': self.tokenizer.decode(kept, skip_special_tokens=single),
    }

  def _target_ids(self, targets: str | Sequence[str]) -> np.ndarray:
    """Returns the targets' ids; of a word of several tokens the first."""
    vocab = self.tokenizer.get_vocab()
    ids = []
    for target in as_texts(targets, 'targets'):
      index = vocab.get(target)
      if index is None:
        pieces = self.tokenizer.encode(target, add_special_tokens=False)
        if not pieces:
          _LOG.warning('the target %r is no token and is left out', target)
          continue
        index = pieces[0]
        _LOG.warning(
          'the target %r is no token; %r is taken for it',
          target,
          self.tokenizer.convert_ids_to_tokens(index),
        )
      ids.append(index)
    if not ids:
      raise InputError(f'none of the targets {targets!r} is a token.')
    return np.array(sorted(set(ids)))
