"""A task's loss with labels from the data and from a teacher together.

With r = `ground_truth_ratio`, a prediction's labels are r x those of the data +
(1 - r) x the teacher's probabilities. Cross-entropy is linear in its labels, so
that is r x the task's own loss + (1 - r) x the cross-entropy with the teacher,
over the predictions that count in the former. One rule serves masked words,
classes, tags, answers and choices alike; for numbers, where the task's loss is
a squared error, the teacher's number takes the place of its probabilities.

Next-sentence prediction beside masked words is learnt from the data's labels
alone, as in google-research's `run_pretraining.py`.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Float

from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.distillation import losses
from mobilebert_jax.losses import IGNORE_INDEX, Term, Terms
from mobilebert_jax.models import outputs, packing
from mobilebert_jax.models.typing import Batch

NamedTerms = dict[str, Term]


class _Soft(NamedTuple):
  """The teacher's side of one term of a task's loss.

  Attributes:
    term: its soft twin.
    agreement: how often both models predict the same; None for numbers.
  """

  term: Term
  agreement: Term | None


def soft_terms(
  hard: Terms,
  student: Any,
  teacher: Any,
  batch: Batch,
  config: DistillationConfig,
  problem_type: str | None = None,
) -> tuple[NamedTerms, NamedTerms]:
  """Returns the terms of a distilled loss.

  Args:
    hard: the task's own terms.
    student: the student's outputs, of which `hard` was made.
    teacher: the teacher's outputs; None: the labels are the data's alone.
    batch: a batch as `Task.loss` gets it.
    config: ratio and temperature.
    problem_type: `Task.problem_type`.

  Returns:
    The terms of the loss by name; and those that are only logged: how often
    both models predict the same.
  """
  names = _names(student)
  if teacher is None:
    return dict(zip(names, hard, strict=True)), {}
  ratio = config.ground_truth_ratio
  temperature = 1.0
  if config.temperature_on == 'logits':
    temperature = config.temperature
  soft = _soft(student, teacher, batch, problem_type, temperature)
  terms: NamedTerms = {}
  logged: NamedTerms = {}
  for name, one, twin in zip(names, hard, soft, strict=True):
    if twin is None:
      terms[name] = one
      continue
    terms[f'{name}_hard'] = one._replace(scale=ratio * one.scale)
    terms[f'{name}_soft'] = twin.term._replace(scale=(1 - ratio) * one.scale)
    if twin.agreement is not None:
      logged[f'{name}_agreement'] = twin.agreement
  return terms, logged


def _names(student: Any) -> tuple[str, ...]:
  """Returns the names of the terms of a task's loss, in their order."""
  match student:
    case outputs.MobileBertForPreTrainingOutput():
      return 'masked_lm', 'next_sentence'
    case outputs.MaskedLMOutput():
      return ('masked_lm',)
    case outputs.QuestionAnsweringModelOutput():
      return 'start', 'end'
  return ('task',)


def _soft(
  student: Any,
  teacher: Any,
  batch: Batch,
  problem_type: str | None,
  temperature: float,
) -> tuple[_Soft | None, ...]:
  """Returns the soft twins of the terms of a task's loss, in their order."""

  def classes(teacher: Array, student: Array, weights: Array) -> _Soft:
    return _Soft(
      losses.soft_cross_entropy(teacher, student, weights, temperature),
      losses.agreement(teacher, student, weights),
    )

  match student:
    case outputs.MobileBertForPreTrainingOutput():
      pair = _words(teacher), student.prediction_logits
      return classes(*pair, _token_weights(batch)), None
    case outputs.MaskedLMOutput():
      pair = _words(teacher), student.logits
      return (classes(*pair, _token_weights(batch)),)
    case outputs.TokenClassifierOutput():
      pair = teacher.logits, student.logits
      return (classes(*pair, _token_weights(batch)),)
    case outputs.QuestionAnsweringModelOutput():
      return tuple(
        classes(
          packing.example_logits(getattr(teacher, f'{end}_logits'), batch),
          packing.example_logits(getattr(student, f'{end}_logits'), batch),
          _span_weights(batch, end),
        )
        for end in ('start', 'end')
      )
  compared = (teacher.logits, student.logits, batch['weights'])
  if problem_type == 'regression':
    return (_Soft(losses.squared_error(*compared), None),)
  if problem_type == 'multi_label_classification':
    term = losses.soft_binary_cross_entropy(*compared, temperature)
    return (_Soft(term, None),)
  return (classes(*compared),)


def _words(output: Any) -> Float[Array, '...']:
  """Returns scores of the vocabulary; the teacher may have either head."""
  if isinstance(output, outputs.MaskedLMOutput):
    return output.logits
  return output.prediction_logits


def _token_weights(batch: Batch) -> Float[Array, '...']:
  """Returns the weight of each token; 0 where its label does not count."""
  return packing.token_weights(batch) * (batch['labels'] != IGNORE_INDEX)


def _span_weights(batch: Batch, end: str) -> Float[Array, ' B']:
  """Returns the weight of each answer; 0 if it is outside of the sequence."""
  inside = batch[f'{end}_positions'] < batch['input_ids'].shape[-1]
  return batch['weights'] * inside
