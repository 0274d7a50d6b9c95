"""Classification of texts, or of pairs of texts, and regression on them."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array

from mobilebert_jax import losses
from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.examples.chunks import (
  Progress,
  in_chunks,
  room_for_text,
)
from mobilebert_jax.metrics import classification, ranking
from mobilebert_jax.models import MobileBertForSequenceClassification
from mobilebert_jax.reporting.outcomes import Outcome
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import summary
from mobilebert_jax.tasks.summary import SplitSummary
from mobilebert_jax.tasks.targets import Label, Target
from mobilebert_jax.tasks.task import (
  SPLITS,
  Baseline,
  Examples,
  Predictions,
  Splits,
  Task,
  WritePredictions,
  keep_logits,
)
from mobilebert_jax.tokenizer import MobileBertTokenizer

# A score of (decisions, truth), both as the target makes them.
Score = Callable[[np.ndarray, np.ndarray], float]

# What is reported unless a task says otherwise; the first chooses the best
# checkpoint.
SCORES: Mapping[str, Mapping[str, Score]] = {
  'single_label_classification': {'accuracy': classification.accuracy},
  'multi_label_classification': {
    'micro_f1': classification.micro_f1,
    'macro_f1': classification.macro_f1,
    'accuracy': classification.exact_match,
  },
  'regression': {
    'pearson': classification.pearson,
    'spearman': classification.spearman,
  },
}
# Training examples from which the best constant answer is chosen.
_BASELINE_ROWS = 100_000
# A label that every target of this kind has.
_ANY_LABEL: Mapping[str, Label] = {
  'single_label_classification': 0,
  'multi_label_classification': (0,),
  'regression': 0.0,
}


@dataclasses.dataclass(frozen=True)
class TextExample:
  """One or two texts and what they are labelled with.

  Attributes:
    id: What the example is called in a file of predictions.
    text: The first text.
    pair: The second text, if the task is about pairs.
    label: Index of the class; for several labels at once the indices of those
      that apply; for regression a number; None where it is not public.
  """

  id: str
  text: str
  pair: str | None = None
  label: Label | None = None


@dataclasses.dataclass(frozen=True)
class Submission:
  """How predictions are written for a benchmark's server.

  Attributes:
    files: File name for each split.
    word: What is written for one decision of the target, such as a class.
  """

  files: Mapping[str, str]
  word: Callable[[Any], str]


def classification_task(
  name: str,
  target: Target,
  *,
  load: Callable[[Any, str], Examples],
  write_predictions: WritePredictions,
  splits: Splits = SPLITS,
  primary_metric: str | None = None,
  scores: Mapping[str, Score] | None = None,
) -> Task:
  """Makes the task of labelling a text or a pair of texts.

  Args:
    name: The task's name.
    target: What the labels are: `SingleLabel(names)`, `MultiLabel(names)` or
      `Regression()`.
    load: `Task.load`, giving `TextExample`s with labels of that kind.
    write_predictions: See `Task`; for instance `submission_writer`'s.
    splits: Names of the splits.
    primary_metric: See `Task`; None: the first evaluation split's first score.
    scores: Functions of (decisions, truth) by name; None: `SCORES`.
  """
  scores = scores or SCORES[target.problem_type]
  first = f'{splits.evaluation[0]}/{next(iter(scores))}'
  chooses = (primary_metric or first).partition('/')[2]
  return Task(
    name=name,
    head=MobileBertForSequenceClassification,
    labels=target.labels,
    primary_metric=primary_metric or first,
    load=load,
    encode=functools.partial(encode, target),
    loss=functools.partial(loss, target),
    predict=keep_logits,
    score=functools.partial(score, target, scores),
    write_predictions=write_predictions,
    texts=texts,
    outcomes=functools.partial(outcomes, target),
    dummy_examples=functools.partial(dummy_examples, target),
    error_name=target.error_name,
    baseline=functools.partial(baseline, target, scores, chooses),
    splits=splits,
    summarize=functools.partial(summarize, target),
    problem_type=target.problem_type,
  )


def encode(
  target: Target,
  examples: Sequence[TextExample],
  tokenizer: MobileBertTokenizer,
  max_length: int,
  progress: Progress | None = None,
) -> Features:
  """Tokenises the texts, the longer one cut first where both are too long.

  Args:
    target: What the labels are.
    examples: What to encode; either all have a pair or none has.
    tokenizer: Makes the tokens.
    max_length: Longest sequence, special tokens included.
    progress: Called with the examples done and all of them.

  Returns:
    Columns input_ids and token_type_ids, and labels if every example has one.

  Raises:
    InputError: `max_length` leaves no room for text.
  """
  ids: list[list[int]] = []
  types: list[list[int]] = []
  paired = bool(examples) and examples[0].pair is not None
  room_for_text(max_length, special=3 if paired else 2)
  for _, chunk in in_chunks(examples, progress):
    encoded = tokenizer(
      [example.text for example in chunk],
      [example.pair for example in chunk] if paired else None,
      truncation='longest_first',
      max_length=max_length,
      padding=False,
    )
    ids += encoded['input_ids']
    types += encoded['token_type_ids']
  labels = [example.label for example in examples]
  return Features(
    sequences={
      'input_ids': Ragged.from_rows(ids),
      'token_type_ids': Ragged.from_rows(types),
    },
    scalars={} if None in labels else {'labels': target.column(labels)},
    pad={'input_ids': tokenizer.pad_token_id, 'token_type_ids': 0},
    max_length=max_length,
  )


def dummy_examples(target: Target, words: int) -> tuple[TextExample, ...]:
  """Makes one text with a label of the target's kind; see `Task`."""
  text = ' '.join(['word'] * words)
  return (TextExample('0', text, label=_ANY_LABEL[target.problem_type]),)


def loss(
  target: Target, outputs: Any, batch: Mapping[str, Array]
) -> tuple[losses.Term, ...]:
  """Returns the target's loss of the logits, over the rows of weight 1."""
  return losses.classification_loss(
    outputs.logits, batch['labels'], target.problem_type, batch['weights']
  )


def score(
  target: Target,
  scores: Mapping[str, Score],
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Features,
) -> dict[str, float]:
  """Scores what the logits decide.

  Raises:
    InputError: An example has no label.
  """
  del features
  decided, truth = (
    target.decide(predictions['logits']),
    _truth(target, examples),
  )
  return {name: function(decided, truth) for name, function in scores.items()}


def submission_writer(
  target: Target, submission: Submission
) -> WritePredictions:
  """Makes the writer of GLUE's format: a table of index, prediction."""
  return functools.partial(write_submission, target, submission)


def write_submission(
  target: Target,
  submission: Submission,
  directory: pathlib.Path,
  split: str,
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Features,
) -> pathlib.Path:
  """Writes a header and one line per example: its id and the decision."""
  del features
  words = map(submission.word, target.decide(predictions['logits']))
  rows = zip((example.id for example in examples), words, strict=True)
  lines = ['index\tprediction', *(f'{id_}\t{word}' for id_, word in rows)]
  return files.write_lines(directory / submission.files[split], lines)


def texts(example: TextExample) -> tuple[str, ...]:
  """Returns the one or two texts."""
  return tuple(t for t in (example.text, example.pair) if t is not None)


def outcomes(
  target: Target,
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Features,
) -> list[Outcome]:
  """Compares prediction and label of each example.

  Raises:
    InputError: An example has no label.
  """
  del features
  logits, truth = predictions['logits'], _truth(target, examples)
  decided, error = target.decide(logits), target.error(logits, truth)
  return [
    Outcome(
      text=' | '.join(texts(example)),
      expected=target.describe(right),
      predicted=target.describe(guess),
      error=float(cost),
      is_right=target.is_right(guess, right),
    )
    for example, right, guess, cost in zip(
      examples, truth, decided, error, strict=True
    )
  ]


def baseline(
  target: Target,
  scores: Mapping[str, Score],
  chooses: str,
  train: Sequence[TextExample],
  train_features: Features,
  predictions: Predictions,
  examples: Sequence[TextExample],
  features: Features,
) -> Baseline:
  """Scores the constant that is best on the training examples; see `Task`.

  Args:
    target: What the labels are.
    scores: Functions of (decisions, truth) by name.
    chooses: Which of them decides.
    train: The training examples, of which the first are looked at.
    train_features: Their features.
    predictions: Those for `examples`.
    examples: What is scored.
    features: Their features.
  """
  del train_features, predictions, features
  seen = _truth(target, train[:_BASELINE_ROWS])

  def value(constant: Any) -> float:
    score = scores[chooses](_repeated(constant, len(seen)), seen)
    return ranking.rank(chooses, score)

  # Of equally good ones the first: the largest class.
  best = max(target.constants(seen), key=value)
  truth = _truth(target, examples)
  decided = _repeated(best, len(truth))
  name = target.describe(best)
  return Baseline(
    f'always {name!r}' if isinstance(name, str) else f'always {name:.4g}',
    {name: score(decided, truth) for name, score in scores.items()},
  )


def _repeated(constant: Any, count: int) -> np.ndarray:
  value = np.asarray(constant)
  return np.broadcast_to(value, (count, *value.shape))


def summarize(target: Target, examples: Sequence[TextExample]) -> SplitSummary:
  """Returns counts of the classes, or the range of the numbers."""
  labels = [example.label for example in examples]
  if target.problem_type == 'regression':
    return summary.of_numbers(labels)  # type: ignore[arg-type]
  return summary.of_classes(target.labels, labels)


def _truth(target: Target, examples: Sequence[TextExample]) -> np.ndarray:
  labels = [example.label for example in examples]
  if None in labels:
    raise InputError('a split without labels cannot be scored.')
  return target.truth(labels)
