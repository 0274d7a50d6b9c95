"""From a task's name and a model to its pipeline."""

import logging
import os
from typing import Any

from mobilebert_jax.pipelines.base import Pipeline
from mobilebert_jax.pipelines.feature_extraction import FeatureExtraction
from mobilebert_jax.pipelines.fill_mask import FillMask
from mobilebert_jax.pipelines.multiple_choice import MultipleChoice
from mobilebert_jax.pipelines.question_answering import QuestionAnswering
from mobilebert_jax.pipelines.text_classification import TextClassification
from mobilebert_jax.pipelines.token_classification import TokenClassification
from mobilebert_jax.pipelines.zero_shot import ZeroShotClassification
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast, comparison
from mobilebert_jax.tokenizer.pretrained import known_vocabulary

_log = logging.getLogger(__name__)

PIPELINES: dict[str, type[Pipeline]] = {
  'feature-extraction': FeatureExtraction,
  'fill-mask': FillMask,
  'multiple-choice': MultipleChoice,
  'question-answering': QuestionAnswering,
  'text-classification': TextClassification,
  'token-classification': TokenClassification,
  'zero-shot-classification': ZeroShotClassification,
}
_ALIASES = {
  'sentiment-analysis': 'text-classification',
  'ner': 'token-classification',
}


def pipeline(
  task: str,
  model: Any,
  tokenizer: Any = None,
  *,
  batch_size: int = 8,
  dtype: str = 'float32',
  **options: Any,
) -> Any:
  """Makes a function from text to results.

  Results are those of transformers' pipelines with their default
  `batch_size=1`, whatever the batch size here: MobileBERT reads the embedding
  of a following [PAD] into the last token of a text, so in transformers
  padding changes the numbers. Here rows are padded with zero vectors, which
  is exactly what the model sees behind the end of an unpadded text; lengths
  are rounded up to a few buckets, so that few programs are compiled.

  Args:
    task: 'fill-mask', 'text-classification' ('sentiment-analysis'),
      'token-classification' ('ner'), 'question-answering',
      'multiple-choice', 'feature-extraction' or 'zero-shot-classification'.
    model: a hub name or path, or the pair `(model, params)`.
    tokenizer: a tokenizer, or a name or path; None is the model's own.
    batch_size: rows computed together.
    dtype: compute dtype of a model that is loaded: 'float32' or 'bfloat16'.
    **options: further arguments of both `from_pretrained`: `revision`,
      `token`, `cache_dir`, `local_files_only`, `subfolder`.

  Returns:
    The pipeline; its `__call__` says what it takes and returns.

  Raises:
    InputError: an unknown task, a model of another task, no tokenizer, or
      whatever loading them finds wrong.
  """
  name = _ALIASES.get(task, task)
  if name not in PIPELINES:
    raise InputError(
      f'unknown task {task!r}; choose from {", ".join(sorted(PIPELINES))}.'
    )
  kind = PIPELINES[name]
  if (
    isinstance(batch_size, bool)
    or not isinstance(batch_size, int)
    or (batch_size < 1)
  ):
    raise InputError(
      f'batch_size must be a positive integer, got {batch_size!r}.'
    )
  source: str | os.PathLike | None = None
  if tokenizer is None:
    tokenizer = model
  elif isinstance(model, (str, os.PathLike)) and tokenizer != model:
    source = model
  if isinstance(model, (str, os.PathLike)):
    # Only here: a model at hand needs nothing that reads files.
    from mobilebert_jax.convert.pretrained import from_pretrained

    model = from_pretrained(kind.model_class, model, dtype=dtype, **options)
  if not isinstance(model, tuple) or len(model) != 2:
    raise InputError(
      'model must be a hub name, a path or a pair (model, params), '
      f'got {type(model).__name__}.'
    )
  if isinstance(tokenizer, (str, os.PathLike)):
    tokenizer = MobileBertTokenizerFast.from_pretrained(tokenizer, **options)
  if not isinstance(tokenizer, MobileBertTokenizerFast):
    raise InputError(
      'tokenizer must be a MobileBertTokenizer, a name or a path; with a '
      '(model, params) pair it must be given.'
    )
  if source is not None:
    check_vocabulary(tokenizer, source, **options)
  return kind(*model, tokenizer, batch_size)


def check_vocabulary(
  tokenizer: MobileBertTokenizerFast,
  model: str | os.PathLike,
  **options: Any,
):
  """Compares a tokenizer with that of a model; logs what cannot be known.

  Args:
    tokenizer: what texts are to be encoded with.
    model: a hub name or path.
    **options: see `pipeline`.

  Raises:
    InputError: another vocabulary.
  """
  notes = comparison.check(
    tokenizer.tokens(),
    'the tokenizer',
    known_vocabulary(model, **options),
    str(model),
    'use its own tokenizer',
  )
  for note in notes:
    _log.warning('%s', note)
