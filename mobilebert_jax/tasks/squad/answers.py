"""From start and end scores of windows to the answers of questions."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from mobilebert_jax.config.task_options import SpanOptions
from mobilebert_jax.data.batching.features import Features, Ragged
from mobilebert_jax.data.readers.squad import Question
from mobilebert_jax.metrics.spans import best_spans
from mobilebert_jax.tasks.squad import windows
from mobilebert_jax.tasks.task import Predictions

# Windows searched at once.
_CHUNK = 256
_CLS = 0


class Span(NamedTuple):
  """An answer: its text and the logits of its first and last token."""

  text: str
  start_logit: float
  end_logit: float

  @property
  def score(self) -> float:
    """What answers are compared by."""
    return self.start_logit + self.end_logit


class Found(NamedTuple):
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
) -> list[Found]:
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
  found = []
  for example, first, behind in zip(examples, limits, limits[1:]):
    # A stable sort: of equal scores the earlier window's come first.
    offered = sorted(
      (c for row in candidates[first:behind] for c in row),
      key=lambda c: -(c[2] + c[3]),
    )
    spans: dict[str, Span] = {}
    for begin, end, start_logit, end_logit in offered:
      text = example.context[begin:end]
      spans.setdefault(text, Span(text, start_logit, end_logit))
      if len(spans) == count:
        break
    lowest = first + int(np.argmin(cls[first:behind].sum(axis=1)))
    null = Span('', *cls[lowest].tolist())
    found.append(Found(tuple(spans.values()), null))
  return found


_Candidate = tuple[int, int, float, float]


def _candidates(
  options: SpanOptions,
  predictions: Predictions,
  features: Features,
  count: int,
) -> Iterator[list[_Candidate]]:
  """Of each window: characters, start and end logit of the best spans."""
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
  places = np.arange(len(rows)), np.zeros(len(rows), np.int64)
  return column.take(rows).laid_out((len(rows), length), *places, -1)


def _at(
  values: Num[np.ndarray, 'N S'], positions: Num[np.ndarray, 'N K']
) -> Num[np.ndarray, 'N K']:
  return np.take_along_axis(values, positions, axis=1)
