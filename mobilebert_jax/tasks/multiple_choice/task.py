"""Multiple choice: which of several texts belongs to a text?"""

import csv
import functools
import io
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mobilebert_jax import losses
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.data.readers.choice_files import ChoiceExample
from mobilebert_jax.metrics import classification
from mobilebert_jax.models import MobileBertForMultipleChoice
from mobilebert_jax.reporting.outcome import Outcome
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.files import write_lines
from mobilebert_jax.tasks import targets
from mobilebert_jax.tasks.multiple_choice.rows import MASK, Cut, encode
from mobilebert_jax.tasks.task import (
  SPLITS,
  Examples,
  Predictions,
  Splits,
  Task,
)

# Makes the rows of a prediction file from the questions and the chosen keys.
Rows = Callable[[Sequence[ChoiceExample], Sequence[str]], Iterable[Sequence]]


def choice_task(
  name: str,
  *,
  load: Callable[[Any, str], Examples],
  cut: Cut = 'longest_first',
  rows: Rows | None = None,
  splits: Splits = SPLITS,
  choices: int = 4,
) -> Task:
  """Makes the task of choosing one of several texts.

  Args:
    name: The task's name.
    load: `Task.load`, giving `ChoiceExample`s; their numbers of choices may
      differ.
    cut: Which text is cut if a pair is too long; see `cut_pair`.
    rows: The rows of '<split>.csv'; None: `id_and_key`.
    splits: Names of the splits.
    choices: Choices of a question, as far as they are known without data.
  """
  return Task(
    name=name,
    head=MobileBertForMultipleChoice,
    labels=(),
    primary_metric=f'{splits.evaluation[0]}/accuracy',
    load=load,
    encode=functools.partial(encode, cut),
    loss=loss,
    predict=predict,
    score=score,
    write_predictions=functools.partial(write_predictions, rows or id_and_key),
    texts=texts,
    outcomes=outcomes,
    specimens=functools.partial(specimens, choices),
    splits=splits,
  )


def specimens(choices: int, words: int) -> tuple[ChoiceExample, ...]:
  """`Task.specimens`: one question with so many choices."""
  keys = tuple(map(str, range(choices)))
  text = ' '.join(['word'] * words)
  return (ChoiceExample('0', text, (text,) * choices, keys, answer=0),)


def loss(outputs: Any, batch: Mapping[str, Array]) -> tuple[losses.Term, ...]:
  """Cross-entropy over the choices that are there."""
  return losses.multiple_choice_loss(
    _without_fillers(outputs, batch), batch['labels'], batch['weights']
  )


def predict(
  outputs: Any, batch: Mapping[str, Array]
) -> dict[str, Float[Array, 'B N']]:
  """Keeps the logits; a filler's is the dtype's lowest number."""
  return {'logits': _without_fillers(outputs, batch)}


def score(
  predictions: Predictions,
  examples: Sequence[ChoiceExample],
  features: Features,
) -> dict[str, float]:
  """The share of right answers: 'accuracy', and 'accuracy_<group>'.

  Raises:
    InputError: A question has no answer.
  """
  del features
  predicted, answers = _chosen(predictions), _answers(examples)
  scores = {'accuracy': classification.accuracy(predicted, answers)}
  groups = np.array([example.group or '' for example in examples])
  for group in sorted({*groups} - {''}):
    inside = groups == group
    scores[f'accuracy_{group}'] = classification.accuracy(
      predicted[inside], answers[inside]
    )
  return scores


def write_predictions(
  rows: Rows,
  directory: pathlib.Path,
  split: str,
  predictions: Predictions,
  examples: Sequence[ChoiceExample],
  features: Features,
) -> pathlib.Path:
  """Writes '<split>.csv'."""
  del features
  chosen = _chosen(predictions)
  keys = [example.keys[i] for example, i in zip(examples, chosen, strict=True)]
  text = io.StringIO()
  csv.writer(text, lineterminator='\n').writerows(rows(examples, keys))
  lines = text.getvalue().removesuffix('\n').split('\n')
  return write_lines(directory / f'{split}.csv', lines)


def id_and_key(
  examples: Sequence[ChoiceExample], keys: Sequence[str]
) -> Iterable[Sequence[str]]:
  """Id and chosen key, without a header: what CommonsenseQA asks for."""
  return zip((example.id for example in examples), keys, strict=True)


def texts(example: ChoiceExample) -> tuple[str, ...]:
  """The question and its choices."""
  return (example.text, *example.choices)


def outcomes(
  predictions: Predictions,
  examples: Sequence[ChoiceExample],
  features: Features,
) -> list[Outcome]:
  """What became of each question; the badness is -log p of the answer.

  Raises:
    InputError: A question has no answer.
  """
  del features
  answers, chosen = _answers(examples), _chosen(predictions)
  badness = targets.negative_log_likelihood(predictions['logits'], answers)
  return [
    Outcome(
      text=' | '.join(texts(example)),
      expected=example.choices[answer],
      predicted=example.choices[choice],
      badness=float(cost),
      is_right=bool(answer == choice),
    )
    for example, answer, choice, cost in zip(
      examples, answers, chosen, badness, strict=True
    )
  ]


def _without_fillers(
  outputs: Any, batch: Mapping[str, Array]
) -> Float[Array, 'B N']:
  logits = outputs.logits
  return jnp.where(batch[MASK] > 0, logits, jnp.finfo(logits.dtype).min)


def _chosen(predictions: Predictions) -> Int[np.ndarray, 'N']:
  return np.argmax(predictions['logits'], axis=-1)


def _answers(examples: Sequence[ChoiceExample]) -> Int[np.ndarray, 'N']:
  answers = [example.answer for example in examples]
  if None in answers:
    raise InputError('a split without answers cannot be scored')
  return np.array(answers, np.int64)
