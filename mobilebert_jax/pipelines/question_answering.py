"""Question answering: the span of a text that answers a question.

There are two ways to cut long texts and to choose among their parts' answers:
that of transformers' pipeline, and, for a model that says how it was trained
and scored (`task_specific_params` of its config), that of run_squad, which
training and eval.py follow.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from mobilebert_jax.config import fields
from mobilebert_jax.config.task_options import NullSpanOptions, SpanOptions
from mobilebert_jax.data.readers.squad import Question
from mobilebert_jax.metrics.probabilities import log_softmax, softmax
from mobilebert_jax.metrics.spans import best_spans
from mobilebert_jax.models import MobileBertForQuestionAnswering
from mobilebert_jax.pipelines.base import (
  ItemError,
  Pipeline,
  check_count,
  encoded_rows,
)
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks.squad import answers as span_answers
from mobilebert_jax.tasks.squad import windows
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

_INPUTS = ('input_ids', 'token_type_ids')
# The longest answer, where nothing else is said: transformers' default.
_MAX_ANSWER_LEN = 15
# [CLS] question [SEP] text [SEP]
_SPECIAL = 3
_NO_ANSWER = {'score': 0.0, 'start': 0, 'end': 0, 'answer': ''}


class QuestionAnswering(Pipeline):
  """Extracts answers (`QuestionAnsweringPipeline` of transformers 4).

  Attributes:
    rules: how the model was trained to answer, from its config; None: it does
      not say.
  """

  model_class = MobileBertForQuestionAnswering

  def __init__(
    self,
    model: nn.Module,
    params: Mapping[str, Any],
    tokenizer: MobileBertTokenizerFast,
    batch_size: int = 8,
  ):
    super().__init__(model, params, tokenizer, batch_size)
    self.rules = _rules(self.config.task_specific_params or {})

  def __call__(
    self,
    question: Any = None,
    context: Any = None,
    *,
    top_k: int = 1,
    doc_stride: int | None = None,
    max_answer_len: int | None = None,
    max_seq_len: int | None = None,
    handle_impossible_answer: bool | None = None,
    align_to_words: bool | None = None,
  ) -> Any:
    """Answers questions from texts.

    A model that says how it was trained answers as eval.py does, unless
    `doc_stride`, `max_seq_len` or `align_to_words` is given; any other, as
    transformers' pipeline does.

    Args:
      question: a question or a list of them; or, without `context`, a mapping
        with `question` and `context`, or a list of those.
      context: the text, or one for each question.
      top_k: how many answers.
      doc_stride: tokens that the parts of a long text share; None is half of
        `max_seq_len`, at most 128.
      max_answer_len: tokens of an answer; None is what the model says, or 15.
      max_seq_len: tokens of a part with its question; None is 384 or what the
        model takes.
      handle_impossible_answer: also offer "no answer", the empty string; None
        is no, unless the model learnt to tell when there is none.
      align_to_words: widen answers to whole words; None is yes, but for a
        model that says how it was trained.

    Returns:
      Per question a mapping with `score`, `start`, `end` (characters of the
      text) and `answer`, or a list of those if several are wanted and found;
      for several questions a list. Where nothing can be the answer, such as in
      a text of spaces alone, it is the empty one with the score 0. The score
      is a probability: among the spans of a part of the text, or, as in
      eval.py's nbest_predictions.json, among the best answers.

    Raises:
      InputError: an empty or missing question or context, or lengths that
        leave no room for the text.
    """
    check_count('top_k', top_k)
    if max_answer_len is not None:
      check_count('max_answer_len', max_answer_len)
    examples = _examples(question, context)
    cutting = (doc_stride, max_seq_len, align_to_words)
    if self.rules is not None and cutting == (None, None, None):
      rules = self.rules
      if max_answer_len is not None:
        rules = dataclasses.replace(rules, max_answer_length=max_answer_len)
      results = self._answer_by_rules(
        rules, examples, top_k, handle_impossible_answer
      )
      return results[0] if len(results) == 1 else results
    if max_answer_len is None:
      max_answer_len = _MAX_ANSWER_LEN
    if align_to_words is None:
      align_to_words = True
    if max_seq_len is None:
      max_seq_len = min(self.max_length, 384)
    if doc_stride is None:
      doc_stride = min(max_seq_len // 2, 128)
    encodings = [
      self._parts(index, asked, text, max_seq_len, doc_stride)
      for index, (asked, text) in enumerate(examples)
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
      results.append(_one_or_several(answers, top_k))
    return results[0] if len(results) == 1 else results

  def _parts(
    self, index: int, asked: str, text: str, max_length: int, stride: int
  ) -> Any:
    """Returns the encoded parts of a text, each with its question.

    Raises:
      ItemError: The question leaves no room for a part.
      InputError: Lengths that leave none for any question.
    """
    try:
      return self.tokenize(
        [asked],
        [text],
        truncation='only_second',
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
      )
    except InputError:
      count = len(self.tokenizer(asked, add_special_tokens=False)['input_ids'])
      room = max_length - count - _SPECIAL
      # Otherwise the stride is to blame, which says so itself.
      if room <= min(stride, max_length // 2):
        raise ItemError(
          index,
          f'has a question of {count} tokens; in rows of {max_length} that '
          f'leaves {max(room, 0)} for the text, of which parts have {stride} '
          'in common: shorten the question, or take longer rows or a smaller '
          'stride.',
        ) from None
      raise

  def _answer_by_rules(
    self,
    rules: SpanOptions,
    examples: Sequence[tuple[str, str]],
    top_k: int,
    may_be_impossible: bool | None,
  ) -> list[Any]:
    """Returns the answers that evaluation gives (`tasks.squad`)."""
    questions = [
      Question(str(i), asked, text) for i, (asked, text) in enumerate(examples)
    ]
    features = windows.encode(rules, questions, self.tokenizer, self.max_length)
    columns = [features.sequences[name] for name in _INPUTS]
    rows = [
      {
        name: column.values[column.offsets[i] : column.offsets[i + 1]].tolist()
        for name, column in zip(_INPUTS, columns)
      }
      for i in range(len(features))
    ]
    picked = self.run(rows)
    predictions = {
      f'{side}_logits': _stacked([row[side] for row in picked])
      for side in ('start', 'end')
    }
    result = span_answers.find(
      rules, predictions, questions, features, max(top_k, rules.n_best)
    )
    threshold = None
    if isinstance(rules, NullSpanOptions) and may_be_impossible is None:
      may_be_impossible = True
    if may_be_impossible:
      threshold = getattr(rules, 'null_score_threshold', None) or 0.0
    chosen = [_ranked(one, threshold)[:top_k] for one in result]
    return [_one_or_several(listed, top_k) for listed in chosen]

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


def _rules(params: Mapping[str, Any]) -> SpanOptions | None:
  """Returns what a config says about questions; None: nothing of ours.

  Raises:
    InputError: a value that is none.
  """
  known = {field.name for field in dataclasses.fields(NullSpanOptions)}
  values = params.get('question-answering')
  if not isinstance(values, Mapping) or not values or set(values) - known:
    return None
  kind = NullSpanOptions if 'null_score_threshold' in values else SpanOptions
  rules = kind(**values)
  fields.check(rules, 'task_specific_params.question-answering')
  return rules


def _one_or_several(answers: list[dict[str, Any]], wanted: int) -> Any:
  """Returns one answer as it is; where one is wanted, there always is one.

  A text without any token, of spaces alone, has the empty one.
  """
  if len(answers) == 1:
    return answers[0]
  if not answers and wanted == 1:
    return dict(_NO_ANSWER)
  return answers


def _stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
  """Returns rows of any lengths as one array; nothing reads what fills it."""
  stacked = np.zeros((len(rows), max(map(len, rows))), np.float32)
  for i, row in enumerate(rows):
    stacked[i, : len(row)] = row
  return stacked


def _ranked(
  result: span_answers.SpanPrediction, threshold: float | None
) -> list[dict[str, Any]]:
  """Returns answers, best first.

  Args:
    result: what the model says to a question.
    threshold: no answer comes first where its odds are above; None: it is no
      answer.
  """
  spans = list(result.spans)
  if threshold is not None:
    is_first = result.null_odds > threshold or not spans
    spans.insert(0 if is_first else 1, result.null)
  if not spans:
    return []
  scores = softmax(np.array([span.score for span in spans]))
  answers: list[dict[str, Any]] = [
    {
      'score': float(score),
      'start': span.begin,
      'end': span.end,
      'answer': span.text,
    }
    for span, score in zip(spans, scores)
  ]
  # The first one is decided by the threshold, the others by their scores.
  return answers[:1] + sorted(
    answers[1:], key=lambda answer: answer['score'], reverse=True
  )


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
