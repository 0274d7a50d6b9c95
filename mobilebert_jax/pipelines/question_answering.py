"""Question answering: the span of a text that answers a question."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mobilebert_jax.metrics.probabilities import log_softmax
from mobilebert_jax.metrics.spans import best_spans
from mobilebert_jax.models import MobileBertForQuestionAnswering
from mobilebert_jax.pipelines.base import (
  Pipeline,
  check_count,
  encoded_rows,
)
from mobilebert_jax.runtime.errors import InputError


class QuestionAnswering(Pipeline):
  """Extracts answers (`QuestionAnsweringPipeline` of transformers 4)."""

  model_class = MobileBertForQuestionAnswering

  def __call__(
    self,
    question: Any = None,
    context: Any = None,
    *,
    top_k: int = 1,
    doc_stride: int | None = None,
    max_answer_len: int = 15,
    max_seq_len: int | None = None,
    handle_impossible_answer: bool = False,
    align_to_words: bool = True,
  ) -> Any:
    """Answers questions from texts.

    Args:
      question: a question or a list of them; or, without `context`, a mapping
        with `question` and `context`, or a list of those.
      context: the text, or one for each question.
      top_k: how many answers.
      doc_stride: tokens that the parts of a long text share; None is half of
        `max_seq_len`, at most 128.
      max_answer_len: tokens of an answer.
      max_seq_len: tokens of a part with its question; None is 384 or what the
        model takes.
      handle_impossible_answer: also offer "no answer", the empty string.
      align_to_words: widen answers to whole words.

    Returns:
      Per question a mapping with `score`, `start`, `end` (characters of the
      text) and `answer`, or a list of those if several are wanted and found;
      for several questions a list.

    Raises:
      InputError: an empty or missing question or context, or lengths that
        leave no room for the text.
    """
    check_count('top_k', top_k)
    check_count('max_answer_len', max_answer_len)
    if max_seq_len is None:
      max_seq_len = min(self.max_length, 384)
    if doc_stride is None:
      doc_stride = min(max_seq_len // 2, 128)
    examples = _examples(question, context)
    encodings = [
      self.tokenize(
        [asked],
        [text],
        truncation='only_second',
        max_length=max_seq_len,
        stride=doc_stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
      )
      for asked, text in examples
    ]
    parts = [encoded_rows(encoded) for encoded in encodings]
    picked = iter(self.run([row for rows in parts for row in rows]))
    results = []
    for (_, text), encoded, rows in zip(examples, encodings, parts):
      computed = list(itertools.islice(picked, len(rows)))
      answers = self._answers(
        text, encoded, computed, top_k, max_answer_len, align_to_words
      )
      if not handle_impossible_answer:
        answers = [a for a in answers if a['answer']]
      answers = sorted(answers, key=lambda a: a['score'], reverse=True)[:top_k]
      results.append(answers[0] if len(answers) == 1 else answers)
    return results[0] if len(results) == 1 else results

  def _answers(
    self,
    text: str,
    encoded: Any,
    computed: Sequence[Mapping[str, np.ndarray]],
    top_k: int,
    max_answer_len: int,
    align_to_words: bool,
  ) -> list[dict[str, Any]]:
    """Returns candidates of all parts of a text, and the empty answer."""
    answers: list[dict[str, Any]] = []
    null_score = 1.0
    for part, picked in enumerate(computed):
      start, end, null = _log_probabilities(picked, encoded.sequence_ids(part))
      null_score = min(null_score, null)
      for first, last, score in _spans(start, end, top_k, max_answer_len):
        begin, stop = _characters(encoded, part, first, last, align_to_words)
        answers.append(
          {
            'score': score,
            'start': begin,
            'end': stop,
            'answer': text[begin:stop],
          }
        )
    # Every part must find nothing for the text to have no answer.
    answers.append({'score': null_score, 'start': 0, 'end': 0, 'answer': ''})
    return answers

  def select(self, outputs: Any, batch: Mapping[str, jax.Array]) -> Any:
    """Returns start and end logits."""
    return {'start': outputs.start_logits, 'end': outputs.end_logits}


def _examples(question: Any, context: Any) -> list[tuple[str, str]]:
  """Returns the accepted forms as pairs of a question and a text."""
  if context is None:
    items = [question] if isinstance(question, Mapping) else question
    if not isinstance(items, (list, tuple)) or not all(
      isinstance(item, Mapping) for item in items
    ):
      raise InputError('give question and context, or mappings with both.')
    pairs = [(item.get('question'), item.get('context')) for item in items]
  else:
    questions = [question] if isinstance(question, str) else question
    if not isinstance(questions, (list, tuple)):
      raise InputError(
        f'question must be a string or a list, got {question!r}.'
      )
    contexts = (
      [context] * len(questions) if isinstance(context, str) else context
    )
    if not isinstance(contexts, (list, tuple)) or (
      len(contexts) != len(questions)
    ):
      raise InputError(
        f'context must be one text or {len(questions)}, one per question.'
      )
    pairs = list(zip(questions, contexts))
  for i, pair in enumerate(pairs):
    for name, text in zip(('question', 'context'), pair):
      if not isinstance(text, str) or not text:
        raise InputError(
          f'the {name} of example {i} is {text!r}; it must be a string that '
          'is not empty.'
        )
  return pairs


def _log_probabilities(
  picked: Mapping[str, np.ndarray], sequence_ids: list[int | None]
) -> tuple[np.ndarray, np.ndarray, float]:
  """Returns log p(start), log p(end) [S] and the score of no answer."""
  allowed = np.array([i == 1 for i in sequence_ids])
  # [CLS] stands for no answer and takes its share of the probability.
  allowed[0] = True
  start, end = (
    log_softmax(np.where(allowed, wide[: len(allowed)], -np.inf))
    for wide in (picked[name].astype(np.float64) for name in ('start', 'end'))
  )
  null = float(np.exp(start[0] + end[0]))
  start[0] = end[0] = -np.inf
  return start, end, null


def _spans(
  start: np.ndarray, end: np.ndarray, top_k: int, longest: int
) -> list[tuple[int, int, float]]:
  """Returns the best spans of at most `longest` tokens, best first.

  Sums of logarithms rank spans whose probabilities underflow, which the large
  logits of MobileBERT can cause.
  """
  result = best_spans(start[None], end[None], longest=longest, count=top_k)
  return [
    (int(first), int(last), float(np.exp(score)))
    for first, last, score in zip(*(column[0] for column in result))
    if np.isfinite(score)
  ]


def _characters(
  encoded: Any, part: int, first: int, last: int, align_to_words: bool
) -> tuple[int, int]:
  """Returns the characters of a span of tokens."""
  if align_to_words:
    words = encoded.word_ids(part)
    begin = encoded.word_to_chars(part, words[first], 1)
    stop = encoded.word_to_chars(part, words[last], 1)
    return begin.start, stop.end
  offsets = encoded['offset_mapping'][part]
  return offsets[first][0], offsets[last][1]
