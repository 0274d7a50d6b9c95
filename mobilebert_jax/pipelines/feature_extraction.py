"""Feature extraction: the last hidden states of texts."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax

from mobilebert_jax.models import MobileBertModel
from mobilebert_jax.pipelines.base import Pipeline, as_texts, encoded_rows


class FeatureExtraction(Pipeline):
  """Computes token vectors (transformers' `FeatureExtractionPipeline`)."""

  model_class = MobileBertModel

  def __call__(
    self,
    inputs: str | Sequence[str],
    return_tensors: bool = False,
    **tokenizer_options: Any,
  ) -> Any:
    """Computes the vectors of texts' tokens.

    Args:
      inputs: a text or a list of texts.
      return_tensors: give NumPy arrays instead of nested lists.
      **tokenizer_options: such as `truncation=True`.

    Returns:
      Per text a nested list of floats [1, S, hidden_size], with S counting
      special tokens; for a list of texts a list of those.

    Raises:
      InputError: an input that is no text or too long.
    """
    texts = as_texts(inputs)
    rows = encoded_rows(self.tokenize(texts, **tokenizer_options))
    arrays = [
      picked['hidden'][None, : len(row['input_ids'])]
      for row, picked in zip(rows, self.run(rows))
    ]
    results = arrays if return_tensors else [a.tolist() for a in arrays]
    return results[0] if isinstance(inputs, str) else results

  def select(self, outputs: Any, batch: Mapping[str, jax.Array]) -> Any:
    """Returns the last hidden states."""
    return {'hidden': outputs.last_hidden_state}
