"""What the training loop knows about a task: a record of functions.

The loop never looks inside an example. It asks a `Task` to load examples, to
encode them as `Features`, for the loss of a batch, for what to keep of the
model's outputs, and for scores and a prediction file at the end. So a task of
another kind (regression, spans, tags, multiple choice) is another record and
no change of the loop:

- regression: `labels=()`, scalar float32 labels;
- question answering: `encode` may cut an example into several rows (windows);
  `score` receives one prediction per row together with the features, which
  say what each row was made of;
- tags: the labels are a sequence column, padded with -100, and predictions
  have a second axis of positions;
- multiple choice: `Features.choices` sequences per row, batches [B, C, S].

Batches may be packed, several examples in a row
(`mobilebert_jax.models.packing`). A loss of examples notices nothing; a loss of
tokens takes
`packing.token_weights(batch)`, a loss over an example's positions (spans) takes
`packing.example_logits(logits, batch)`.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from mobilebert_jax.config import task_options
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import SubmissionOptions
from mobilebert_jax.data.batching.features import Features
from mobilebert_jax.losses import Term
from mobilebert_jax.models.heads import HeadedModel
from mobilebert_jax.reporting.outcomes import (
  LOG_PROBABILITY,
  Breakdown,
  Outcome,
)
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import summary
from mobilebert_jax.tasks.summary import SplitSummary

Examples = tuple[Any, ...]
Predictions = Mapping[str, np.ndarray]
# See `Task.write_predictions`.
WritePredictions = Callable[
  [pathlib.Path, str, Predictions, Examples, Features], pathlib.Path
]


@dataclasses.dataclass(frozen=True)
class Baseline:
  """What is scored without learning anything: the best constant answer.

  Attributes:
    answer: which one that is, such as "always 'positive'".
    scores: its scores on an evaluation split, by their names; those that it
      has none of are missing.
  """

  answer: str
  scores: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Splits:
  """The names of a task's splits.

  Attributes:
    train: The split to learn from.
    evaluation: Splits with labels to report; the first is the main one.
    test: Splits without public labels, for which predictions are written.
  """

  train: str = 'train'
  evaluation: tuple[str, ...] = ('validation',)
  test: tuple[str, ...] = ('test',)

  def all(self) -> tuple[str, ...]:
    """Returns every split, in the order train, evaluation, test."""
    return (self.train, *self.evaluation, *self.test)


SPLITS = Splits()


def wanted_splits(
  options: SubmissionOptions, splits: Splits = SPLITS
) -> Splits:
  """Returns the splits of a benchmark, with those without answers if wanted."""
  if options.predict_test:
    return splits
  return dataclasses.replace(splits, test=())


@dataclasses.dataclass(frozen=True)
class Task:
  """One task as the training loop sees it.

  Attributes:
    name: The key in `tasks.TASKS`.
    head: The model class, for instance `MobileBertForSequenceClassification`.
    labels: Names of the classes, in the order of the logits; empty for a task
      without classes.
    primary_metric: '<evaluation split>/<score>'. It chooses the best
      checkpoint; `metrics.ranking` says which values are better.
    load: `load(data_config, split)` gives the examples in a fixed order, as a
      tuple or, where they stay on disk, as something that has a length; an
      `InputError` says what is wrong with the data or where to get it.
    encode: `encode(examples, tokenizer, max_length, progress=None)` gives the
      model's inputs and the labels, as far as the examples have any.
    loss: `loss(outputs, batch)` gives the terms of the loss, traceable.
    predict: `predict(outputs, batch)` keeps what scoring needs, traceable. For
      a head with `outputs_per` 'example': arrays with a row for each example.
      For 'token': arrays [rows, S, ...] with a value for each position, each
      from its own position alone; the evaluator cuts them into one row per
      example, as long as the longest example and zero behind the last token.
      For 'both': arrays of either kind, and `token_outputs` tells which.
    score: `score(predictions, examples, features)` gives scores by name;
      `predictions` has one row per row of `features`, in their order.
    write_predictions: `write_predictions(directory, split, predictions,
      examples, features)` writes the task's official submission format and
      returns the file.
    texts: `texts(example)` gives the texts of an example, from which a
      vocabulary may be learnt.
    outcomes: `outcomes(predictions, examples, features)` gives an `Outcome` of
      each example, for the report.
    summarize: `summarize(examples)` tells what is in a split, for the start of
      a run.
    dummy_examples: `dummy_examples(words)` makes labelled examples up, with
      texts of at least that many words: what batches look like without data.
    token_outputs: For a head with `outputs_per` 'both': the names of those
      arrays of `predict` that have a value for each position; empty for others.
    splits: The names of the splits.
    problem_type: transformers' `problem_type` for a sequence classification
      head, else None.
    baseline: `baseline(train, train_features, predictions, examples,
      features)` gives the scores of the best constant answer that the training
      examples suggest, on an evaluation split with these predictions (whose
      logits are not read). None: there is none.
    breakdown: `breakdown(predictions, examples, features)` gives scores of
      parts of a split, for the report. None: there are none but the classes.
    error_name: What `Outcome.error` is, for people.
    long_texts: What becomes of a text longer than `max_length`: it is 'cut',
      or read in several 'windows'; or texts are 'joined' before they are
      divided, so that none is too long.
    usage_params: `usage_params(scores)` gives `task_specific_params` of the
      model's config: how it is used, by the name of a pipeline. Its argument
      are the scores of the evaluation that the weights are saved after, {}
      before there is one.
  """

  name: str
  head: type[HeadedModel]
  labels: tuple[str, ...]
  primary_metric: str
  load: Callable[[DataConfig, str], Any]
  encode: Callable[..., Features]
  loss: Callable[[Any, Mapping[str, jax.Array]], tuple[Term, ...]]
  predict: Callable[[Any, Mapping[str, jax.Array]], dict[str, jax.Array]]
  score: Callable[[Predictions, Examples, Features], dict[str, float]]
  write_predictions: WritePredictions
  texts: Callable[[Any], Sequence[str]]
  outcomes: Callable[[Predictions, Examples, Features], Sequence[Outcome]]
  dummy_examples: Callable[[int], Examples]
  summarize: Callable[[Sequence[Any]], SplitSummary] = summary.of_rows
  token_outputs: frozenset[str] = frozenset()
  splits: Splits = SPLITS
  problem_type: str | None = None
  baseline: Callable[..., Baseline] | None = None
  breakdown: Callable[[Predictions, Examples, Features], Breakdown] | None = (
    None
  )
  error_name: str = LOG_PROBABILITY
  long_texts: Literal['cut', 'windows', 'joined'] = 'cut'
  usage_params: Callable[[Mapping[str, float]], Mapping[str, Any]] | None = None

  def __post_init__(self):
    """Refuses a task that the loop could not score."""
    if (self.head.outputs_per == 'both') != bool(self.token_outputs):
      raise ValueError(
        f'task {self.name}: token_outputs are {set(self.token_outputs) or "{}"}'
        f', but {self.head.__name__} has outputs per {self.head.outputs_per}; '
        "they are named if there are 'both' kinds, and only then"
      )
    split = self.primary_metric.partition('/')[0]
    if split not in self.splits.evaluation:
      raise ValueError(
        f'task {self.name}: primary_metric {self.primary_metric!r} must begin '
        f'with an evaluation split, one of {self.splits.evaluation}'
      )

  def model_overrides(self) -> dict[str, Any]:
    """Returns the fields of `MobileBertConfig` that the task decides."""
    # What the model came with is about the task that it came from.
    overrides: dict[str, Any] = {'task_specific_params': None}
    if self.usage_params:
      overrides['task_specific_params'] = self.usage_params({})
    if self.problem_type:
      overrides['problem_type'] = self.problem_type
      overrides['num_labels'] = len(self.labels) or 1
    if self.labels:
      overrides['num_labels'] = len(self.labels)
      overrides['id2label'] = dict(enumerate(self.labels))
      overrides['label2id'] = {name: i for i, name in enumerate(self.labels)}
    return overrides


def keep_logits(
  outputs: Any, batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
  """`Task.predict` of a head with one array of logits: keeps it."""
  del batch
  return {'logits': outputs.logits}


def custom_path(data: DataConfig, kind: str) -> pathlib.Path:
  """The file or directory that a task on the user's own data reads.

  Args:
    data: `source` must be 'files'.
    kind: what is wanted there, such as 'text'.

  Raises:
    InputError: another source, or no path.
  """
  if data.source != 'files' or data.path is None:
    raise InputError(
      f'config.data.source={data.source!r} does not fit a task on your own '
      f'{kind}; use "files" and set config.data.path to a file or a directory.'
    )
  return files.path(data.path)


@dataclasses.dataclass(frozen=True)
class TaskSpec:
  """A task that a config can name, before its options are known.

  Attributes:
    name: What `config.task` says.
    make: `make(options, data_config)` gives the task; it may read the data,
      for instance to find the labels. Its options are those that
      `config.task_options.OPTIONS` has for the name.
  """

  name: str
  make: Callable[[Any, DataConfig], Task]

  @property
  def options(self) -> type:
    """The dataclass of the task's options."""
    return task_options.OPTIONS[self.name]

  def make_task(self, options: Mapping[str, Any], data: DataConfig) -> Task:
    """Makes the task with these options.

    Raises:
      InputError: an unknown option, a wrong value, or wrong data.
    """
    return self.make(task_options.make(self.name, options), data)


def fixed(task: Task) -> TaskSpec:
  """Makes the spec of a task without options."""
  return TaskSpec(task.name, lambda options, data: task)
