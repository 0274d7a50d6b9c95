"""The quickstart's task: entailment between generated sentences."""

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.generated import entailment
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.classification import (
  Submission,
  TextExample,
  classification_task,
  submission_writer,
)
from mobilebert_jax.tasks.targets import SingleLabel

_TRAIN_EXAMPLES = 12_000
_EVAL_EXAMPLES = 900


def load(data: DataConfig, split: str) -> tuple[TextExample, ...]:
  """`Task.load`: pairs made on the spot, the same in every run.

  Raises:
    InputError: `data.source` is not 'generated'.
  """
  if data.source != 'generated':
    raise InputError(
      f'config.data.source={data.source!r} does not fit the task entailment; '
      'use '
      '"generated"'
    )
  is_train = split == 'train'
  count = data.limit(is_train=is_train) or (
    _TRAIN_EXAMPLES if is_train else _EVAL_EXAMPLES
  )
  return tuple(
    TextExample(
      str(number),
      pair.premise,
      pair.hypothesis,
      entailment.LABELS.index(pair.label),
    )
    for number, pair in enumerate(entailment.generate(split, count))
  )


_TARGET = SingleLabel(entailment.LABELS)

ENTAILMENT = classification_task(
  'entailment',
  _TARGET,
  load=load,
  write_predictions=submission_writer(
    _TARGET,
    Submission(
      files={
        'validation': 'entailment-validation.tsv',
        'test': 'entailment.tsv',
      },
      word=entailment.LABELS.__getitem__,
    ),
  ),
)
