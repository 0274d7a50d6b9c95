"""From start and end scores of windows to the answers of questions.

And to the prediction files, as google-research's run_squad writes them.
"""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num

from mobilebert_jax.config.task_options import SpanOptions
from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.readers.squad import Question
from mobilebert_jax.metrics.probabilities import softmax
from mobilebert_jax.metrics.spans import best_spans
from mobilebert_jax.runtime import files
from mobilebert_jax.tasks.squad import windows
from mobilebert_jax.tasks.task import Predictions

# Windows searched at once.
_CHUNK = 256
_CLS = 0


class Span(NamedTuple):
  """An answer.

  Attributes:
    text: its text.
    start_logit: of its first token.
    end_logit: of its last token.
    begin: its first character in the context.
    end: the character behind it.
  """

  text: str
  start_logit: float
  end_logit: float
  begin: int = 0
  end: int = 0

  @property
  def score(self) -> float:
    """What answers are compared by."""
    return self.start_logit + self.end_logit


class SpanPrediction(NamedTuple):
  """What the model says to a question.

  Attributes:
    spans: answers with different texts, best first; none if the text has no
      token.
    null: the answer '', with the logits of [CLS] in the window where they are
      lowest: only a text all of whose windows say so has no answer.
  """

  spans: tuple[Span, ...]
  null: Span

  @property
  def best(self) -> Span:
    """The best answer that is not ''."""
    return self.spans[0] if self.spans else self.null

  @property
  def null_odds(self) -> float:
    """How much more no answer scores than the best answer."""
    return self.null.score - self.best.score


def find(
  options: SpanOptions,
  predictions: Predictions,
  examples: Sequence[Question],
  features: Features,
  count: int,
) -> list[SpanPrediction]:
  """Searches the answers of every question in all of its windows.

  Args:
    options: the longest answer.
    predictions: 'start_logits' and 'end_logits', one row per window, at least
      as long as the window.
    examples: the questions.
    features: what `windows.encode` made of them.
    count: how many answers to find.
  """
  owners = features.scalars[windows.EXAMPLE]
  limits = np.searchsorted(owners, np.arange(len(examples) + 1))
  candidates = list(_candidates(options, predictions, features, count))
  cls = np.stack(
    [predictions[f'{side}_logits'][:, _CLS] for side in ('start', 'end')], 1
  ).astype(np.float64)
  predicted = []
  for example, first, behind in zip(examples, limits, limits[1:]):
    # A stable sort: of equal scores the earlier window's come first.
    offered = sorted(
      (c for row in candidates[first:behind] for c in row),
      key=lambda c: -(c[2] + c[3]),
    )
    spans: dict[str, Span] = {}
    for begin, end, start_logit, end_logit in offered:
      text = example.context[begin:end]
      spans.setdefault(text, Span(text, start_logit, end_logit, begin, end))
      if len(spans) == count:
        break
    lowest = first + int(np.argmin(cls[first:behind].sum(axis=1)))
    null = Span('', *cls[lowest].tolist())
    predicted.append(SpanPrediction(tuple(spans.values()), null))
  return predicted


_Candidate = tuple[int, int, float, float]


def _candidates(
  options: SpanOptions,
  predictions: Predictions,
  features: Features,
  count: int,
) -> Iterator[list[_Candidate]]:
  """Yields the best spans of each window: characters and logits."""
  length = predictions['start_logits'].shape[1]
  for first in range(0, len(features), _CHUNK):
    rows = np.arange(first, min(first + _CHUNK, len(features)))
    begins, ends = (
      _padded(features.sequences[name], rows, length)
      for name in (windows.BEGINS, windows.ENDS)
    )
    start, end = (
      np.where(chars >= 0, predictions[name][rows].astype(np.float64), -np.inf)
      for name, chars in (('start_logits', begins), ('end_logits', ends))
    )
    spans = best_spans(
      start, end, longest=options.max_answer_length, count=count
    )
    # What fills a window with few spans may end behind the row.
    last = np.minimum(spans.ends, length - 1)
    columns = (
          _at(begins, spans.starts), _at(ends, last),
          _at(start, spans.starts), _at(end, last),
        )  # fmt: skip
    exists = np.isfinite(spans.scores)
    for i in range(len(rows)):
      chosen = [column[i, exists[i]].tolist() for column in columns]
      yield list(zip(*chosen))


def _padded(column: Ragged, rows: np.ndarray, length: int) -> np.ndarray:
  starts = np.arange(len(rows)), np.zeros(len(rows), np.int64)
  return column.take(rows).laid_out((len(rows), length), *starts, -1)


def _at(
  values: Num[np.ndarray, 'N S'], positions: Num[np.ndarray, 'N K']
) -> Num[np.ndarray, 'N K']:
  return np.take_along_axis(values, positions, axis=1)


def write_files(
  directory: pathlib.Path,
  split: str,
  examples: Sequence[Question],
  result: Sequence[SpanPrediction],
  answers: Sequence[str],
  *,
  n_best: int,
  with_null: bool,
) -> pathlib.Path:
  """Writes the files that the official scripts read, and the n-best list.

  predictions.json: the answer to each question, by its id.
  nbest_predictions.json: the best answers to each, with their logits and
    probabilities (a softmax over the answers listed), best first.
  null_odds.json (SQuAD 2.0): how much more no answer scores than the best
    answer; for --na-prob-file of evaluate-v2.0.py.

  The names of another split than 'validation' begin with it.

  Args:
    directory: where.
    split: name of the split.
    examples: the questions.
    result: what the model says to them.
    answers: the answer that is given to each, '' for none.
    n_best: answers to list.
    with_null: whether a text may not answer a question.

  Returns:
    The file of predictions.
  """
  ids = [example.id for example in examples]
  nbest = [_nbest(one, n_best, with_null) for one in result]
  contents: dict[str, dict[str, Any]] = {
    'nbest_predictions.json': dict(zip(ids, nbest))
  }
  if with_null:
    contents['null_odds.json'] = {
      id_: one.null_odds for id_, one in zip(ids, result)
    }
  contents['predictions.json'] = dict(zip(ids, answers))
  prefix = '' if split == 'validation' else f'{split}_'
  for name, content in contents.items():
    path = directory / f'{prefix}{name}'
    files.write_text(path, files.json_text(content, indent=4) + '\n')
  return path


def _nbest(
  result: SpanPrediction, n_best: int, with_null: bool
) -> list[dict[str, Any]]:
  spans = list(result.spans[:n_best])
  if with_null or not spans:
    ranked = sorted([*spans, result.null], key=lambda span: -span.score)
    spans = ranked[:n_best]
    # No answer is always listed.
    if result.null not in spans:
      spans.append(result.null)
  scores = np.array([span.score for span in spans])
  return [
    {
      'text': span.text,
      'probability': probability,
      'start_logit': span.start_logit,
      'end_logit': span.end_logit,
    }
    for span, probability in zip(spans, softmax(scores).tolist())
  ]
