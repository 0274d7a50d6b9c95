"""Questions about a text, answered by a span of it: SQuAD 1.1 and 2.0."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from mobilebert_jax import losses
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import NullSpanOptions, SpanOptions
from mobilebert_jax.data.readers import bad_rows, remarks, squad
from mobilebert_jax.data.readers.squad import Question
from mobilebert_jax.metrics import squad as squad_metrics
from mobilebert_jax.metrics.probabilities import softmax
from mobilebert_jax.models import MobileBertForQuestionAnswering, packing
from mobilebert_jax.reporting.outcomes import Breakdown, Outcome
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import summary
from mobilebert_jax.tasks.squad import answers, windows
from mobilebert_jax.tasks.squad import answers as squad_answers
from mobilebert_jax.tasks.squad.answers import SpanPrediction
from mobilebert_jax.tasks.task import (
  Baseline,
  Examples,
  Predictions,
  Splits,
  Task,
  TaskSpec,
)

# The test sets are not public.
SPLITS = Splits(test=())
_NO_ANSWER = '(no answer)'
# Answers among which the given one has its probability.
_COMPARED = 5
_QUESTION_WORDS = frozenset({
  'how', 'what', 'when', 'where', 'which', 'who', 'whom', 'whose', 'why',
})  # fmt: skip
# Characters of the text on either side of an answer in a report.
_EXCERPT = 60


def span_task(
  name: str,
  options: SpanOptions,
  *,
  load: Callable[[DataConfig, str], Examples],
  splits: Splits = SPLITS,
) -> Task:
  """Makes the task of answering questions by spans of texts.

  Args:
    name: the task's name.
    options: with `NullSpanOptions` a text may not answer its question, and
      the scores are those of SQuAD 2.0; else those of SQuAD 1.1.
    load: `Task.load`, giving `Question`s.
    splits: names of the splits.
  """
  return Task(
    name=name,
    head=MobileBertForQuestionAnswering,
    labels=(),
    primary_metric=f'{splits.evaluation[0]}/f1',
    load=load,
    encode=functools.partial(windows.encode, options),
    loss=loss,
    predict=predict,
    score=functools.partial(score, options),
    write_predictions=functools.partial(write_predictions, options),
    texts=texts,
    outcomes=functools.partial(outcomes, options),
    dummy_examples=dummy_examples,
    baseline=functools.partial(baseline, options),
    breakdown=functools.partial(breakdown, options),
    error_name='1 - F1',
    long_texts='windows',
    summarize=summary.of_questions,
    splits=splits,
    usage_params=functools.partial(usage_params, options, splits.evaluation[0]),
  )


def usage_params(
  options: SpanOptions, split: str, scores: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
  """Returns how texts are cut and answers chosen; see `Task`.

  A threshold that the options leave open is the one with the best F1 on the
  split, as soon as it is known.
  """
  params = dataclasses.asdict(options)
  if params.get('null_score_threshold', 0.0) is None:
    params['null_score_threshold'] = scores.get(f'{split}/best_f1_thresh')
  return {'question-answering': params}


def dummy_examples(words: int) -> tuple[Question, ...]:
  """Makes one question, answered by its text's first word; see `Task`."""
  text = ' '.join(['word'] * words)
  return (Question('0', 'word', text, (squad.Answer('word', 0),)),)


def load_squad(
  version: str, with_null: bool, data: DataConfig, split: str
) -> tuple[Question, ...]:
  """Loads a split of SQuAD.

  As run_squad does, this leaves out training questions whose answer does not
  stand in the text where it should (`Question.span`), and says how many.

  Raises:
    InputError: the data is not there, is wrong, or no answer is in its text.
  """
  is_train = split == SPLITS.train
  if data.source == 'tfds':
    place = f'squad/v{version}'
    questions = list(
      squad.read_tfds(place, split, data.path, with_null=with_null)
    )
  elif data.source == 'files' and data.path is not None:
    stem = f'{"train" if is_train else "dev"}-v{version}'
    file = squad.find_file(data.path, stem)
    place = str(file)
    with bad_rows.collect(file, data.bad_rows) as bad:
      questions = list(squad.read_file(file, with_null=with_null, bad=bad))
  else:
    raise InputError(
      f'config.data.source={data.source!r} does not fit SQuAD; use "tfds", or '
      '"files" '
      'with config.data.path.'
    )
  if is_train:
    questions = _trainable(questions, place)
  return tuple(questions[: data.limit(is_train=is_train)])


def loss(outputs: Any, batch: Mapping[str, Array]) -> tuple[losses.Term, ...]:
  """Returns the cross-entropy of first and last token, over each window.

  Padding takes no part in the softmax (in run_squad and transformers it
  does), so that the loss does not depend on how windows are batched.
  """
  start, end = (
    packing.example_logits(logits, batch)
    for logits in (outputs.start_logits, outputs.end_logits)
  )
  return losses.question_answering_loss(
    start,
    end,
    batch['start_positions'],
    batch['end_positions'],
    batch['weights'],
  )


def predict(
  outputs: Any, batch: Mapping[str, Array]
) -> dict[str, Float[Array, 'B S']]:
  """Keeps the logits."""
  del batch
  return {
    'start_logits': outputs.start_logits,
    'end_logits': outputs.end_logits,
  }


def score(
  options: SpanOptions,
  predictions: Predictions,
  examples: Sequence[Question],
  features: windows.Features,
) -> dict[str, float]:
  """Scores the best answers: `metrics.squad.scores_v1` or `scores_v2`.

  Raises:
    InputError: the answers of a question are not known.
  """
  predicted = answers.find(options, predictions, examples, features, count=1)
  texts = [one.best.text for one in predicted]
  golds = _golds(examples)
  if not isinstance(options, NullSpanOptions):
    return squad_metrics.scores_v1(texts, golds)
  odds = [one.null_odds for one in predicted]
  return squad_metrics.scores_v2(
    texts, golds, odds, options.null_score_threshold
  )


def write_predictions(
  options: SpanOptions,
  directory: pathlib.Path,
  split: str,
  predictions: Predictions,
  examples: Sequence[Question],
  features: windows.Features,
) -> pathlib.Path:
  """Writes predictions, n-best lists and null odds (`answers.write_files`)."""
  predicted = answers.find(
    options, predictions, examples, features, options.n_best
  )
  return squad_answers.write_files(
    directory,
    split,
    examples,
    predicted,
    _given(options, predicted, examples),
    n_best=options.n_best,
    with_null=isinstance(options, NullSpanOptions),
  )


def texts(example: Question) -> tuple[str, str]:
  """Returns question and text."""
  return example.question, example.context


def outcomes(
  options: SpanOptions,
  predictions: Predictions,
  examples: Sequence[Question],
  features: windows.Features,
) -> list[Outcome]:
  """Compares answer and gold of each question; the error is 1 - F1.

  The confidence is a probability among the answers that score best, and no
  answer where that is one.
  """
  with_null = isinstance(options, NullSpanOptions)
  predicted = answers.find(options, predictions, examples, features, _COMPARED)
  outcomes = []
  for example, known, answer, one in zip(
    examples, _golds(examples), _given(options, predicted, examples), predicted
  ):
    golds = squad_metrics.golds_v2(known) if with_null else known
    shared = squad_metrics.f1(answer, golds, wordless_match=with_null)
    outcomes.append(
      Outcome(
        text=f'{example.question} | {_excerpt(example)}',
        expected=' / '.join(dict.fromkeys(g or _NO_ANSWER for g in golds)),
        predicted=answer or _NO_ANSWER,
        error=1.0 - shared,
        is_right=squad_metrics.exact_match(answer, golds) == 1.0,
        confidence=_confidence(one, answer, with_null),
      )
    )
  return outcomes


def _confidence(result: SpanPrediction, answer: str, with_null: bool) -> float:
  listed = [*result.spans]
  if with_null or not listed:
    listed.append(result.null)
  probabilities = softmax(np.array([span.score for span in listed]))
  place = [span.text for span in listed].index(answer)
  return float(probabilities[place])


def breakdown(
  options: SpanOptions,
  predictions: Predictions,
  examples: Sequence[Question],
  features: windows.Features,
) -> Breakdown:
  """Scores the questions of each question word; see `Task`."""
  with_null = isinstance(options, NullSpanOptions)
  predicted = answers.find(options, predictions, examples, features, count=1)
  parts: dict[str, list[tuple[float, float]]] = {}
  for example, known, answer in zip(
    examples, _golds(examples), _given(options, predicted, examples)
  ):
    golds = squad_metrics.golds_v2(known) if with_null else known
    scores = (
      squad_metrics.exact_match(answer, golds),
      squad_metrics.f1(answer, golds, wordless_match=with_null),
    )
    names = [question_word(example.question)]
    if with_null:
      names.append('(no answer in the text)' if not known else '(answered)')
    for name in names:
      parts.setdefault(name, []).append(scores)
  rows = sorted(parts.items(), key=lambda item: -len(item[1]))
  return Breakdown(
    'Kinds of questions',
    ('question word', 'questions', 'exact match', 'F1'),
    tuple((name, len(s), *np.mean(s, axis=0).tolist()) for name, s in rows),
  )


def question_word(question: str) -> str:
  """Returns the first of the words that ask, in lower case, or 'other'."""
  words = re.findall(r'\w+', question.lower())
  return next((word for word in words if word in _QUESTION_WORDS), 'other')


def baseline(
  options: SpanOptions,
  train: Sequence[Question],
  train_features: windows.Features,
  predictions: Predictions,
  examples: Sequence[Question],
  features: windows.Features,
) -> Baseline:
  """Scores no answer to any question; see `Task`."""
  del train, train_features, predictions, features
  golds, nothing = _golds(examples), [''] * len(examples)
  if not isinstance(options, NullSpanOptions):
    return Baseline('no answer', squad_metrics.scores_v1(nothing, golds))
  scores = squad_metrics.scores_v2(nothing, golds, [0.0] * len(golds), 0.0)
  # What depends on a threshold says nothing of a constant.
  kept = {k: v for k, v in scores.items() if not k.startswith('best_')}
  return Baseline('no answer', kept)


def _given(
  options: SpanOptions,
  result: Sequence[SpanPrediction],
  examples: Sequence[Question],
) -> list[str]:
  """Returns the answer to each question, '' where none scores higher."""
  texts = [one.best.text for one in result]
  if not isinstance(options, NullSpanOptions):
    return texts
  odds = [one.null_odds for one in result]
  threshold = options.null_score_threshold
  if threshold is None:
    threshold = 0.0
    if all(example.answers is not None for example in examples):
      scores = squad_metrics.scores_v2(texts, _golds(examples), odds)
      threshold = scores['best_f1_thresh']
  return ['' if odd > threshold else text for odd, text in zip(odds, texts)]


def _golds(examples: Sequence[Question]) -> list[list[str]]:
  for example in examples:
    if example.answers is None:
      raise InputError(
        f'question {example.id!r} has no known answers and cannot be scored.'
      )
  return [[a.text for a in example.answers or ()] for example in examples]


def _excerpt(example: Question) -> str:
  """Returns the text around the answer; its beginning if there is none."""
  start, end = example.span() or (0, _EXCERPT)
  first, last = max(0, start - _EXCERPT), end + _EXCERPT
  words = ' '.join(example.context[first:last].split())
  before = '...' if first else ''
  return f'{before}{words}{"..." if last < len(example.context) else ""}'


def _trainable(questions: list[Question], place: str) -> list[Question]:
  kept = [q for q in questions if not q.answers or q.span()]
  lost = len(questions) - len(kept)
  if not kept:
    raise InputError(
      f'{place}: none of the {lost} answers stands in its text at answer_start.'
    )
  if lost:
    first = next(q.id for q in questions if q.answers and not q.span())
    remarks.say(
      f'{place}: {lost} of {len(questions)} training questions are left out, '
      'since their answer does not stand in the text at answer_start (the '
      f'first is {first!r}).'
    )
  return kept


def squad_task(
  name: str, version: str, options: SpanOptions, data: DataConfig
) -> Task:
  """Makes the task of a version of SQuAD; see `TaskSpec`."""
  del data
  with_null = isinstance(options, NullSpanOptions)
  load = functools.partial(load_squad, version, with_null)
  return span_task(name, options, load=load)


SQUAD_V1 = TaskSpec(
  'squad_v1', functools.partial(squad_task, 'squad_v1', '1.1')
)
SQUAD_V2 = TaskSpec(
  'squad_v2', functools.partial(squad_task, 'squad_v2', '2.0')
)
