"""The quickstart's task: entailment between generated sentences."""

from typing import TYPE_CHECKING

from mobilebert_jax.data import entailment
from mobilebert_jax.errors import InputError
from mobilebert_jax.tasks.classification import (
  Submission,
  TextExample,
  classification_task,
)

if TYPE_CHECKING:
  from mobilebert_jax.run_config import DataConfig

_TRAIN_EXAMPLES = 12_000
_EVAL_EXAMPLES = 900


def load(data: 'DataConfig', split: str) -> tuple[TextExample, ...]:
  """`Task.load`: pairs made on the spot, the same in every run.

  Raises:
    InputError: `data.source` is not 'generated'.
  """
  if data.source != 'generated':
    raise InputError(
      f'data.source={data.source!r} does not fit the task entailment; use '
      '"generated"'
    )
  if split == 'train':
    count = data.train_examples or _TRAIN_EXAMPLES
  else:
    count = data.eval_examples or _EVAL_EXAMPLES
  return tuple(
    TextExample(
      str(number),
      pair.premise,
      pair.hypothesis,
      entailment.LABELS.index(pair.label),
    )
    for number, pair in enumerate(entailment.generate(split, count))
  )


ENTAILMENT = classification_task(
  'entailment',
  labels=entailment.LABELS,
  load=load,
  submission=Submission(
    files={
      'validation': 'entailment-validation.tsv',
      'test': 'entailment.tsv',
    },
    labels=entailment.LABELS,
  ),
)
