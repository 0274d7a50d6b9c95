"""Next-sentence prediction on the user's own text.

Devlin et al. 2019, section 3.1: half of the time B is what follows A, half of
the time it comes from another document. Labels as in transformers: 0 follows,
1 is random.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Array

from mobilebert_jax import losses
from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.config.task_options import NextSentenceOptions
from mobilebert_jax.data.random_streams import Stream, philox
from mobilebert_jax.data.readers import sentences as sentence_ends
from mobilebert_jax.data.readers.documents import Document
from mobilebert_jax.metrics import classification as classification_metrics
from mobilebert_jax.models import MobileBertForNextSentencePrediction
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import classification
from mobilebert_jax.tasks.classification import TextExample
from mobilebert_jax.tasks.prediction_files import class_writer
from mobilebert_jax.tasks.pretraining import load as pretraining_load
from mobilebert_jax.tasks.targets import SingleLabel
from mobilebert_jax.tasks.task import Task, TaskSpec, keep_logits

FOLLOWS, RANDOM = 0, 1


def segments(
  document: Document, *, lines: bool, sentences: int
) -> tuple[str, ...]:
  """Cuts a document into segments of so many sentences, or fewer.

  Args:
    document: The text.
    lines: Whether each line is a sentence, as in BERT's own format; else
      `data.sentences` tells where sentences end.
    sentences: Sentences in a segment.
  """
  parts = document.lines() if lines else sentence_ends.split(document.text)
  parts = [part.strip() for part in parts if part.strip()]
  return tuple(
    ' '.join(parts[start : start + sentences])
    for start in range(0, len(parts), sentences)
  )


def make_pairs(
  documents: Sequence[Document],
  segmented: Sequence[Sequence[str]],
  seed: int,
) -> tuple[TextExample, ...]:
  """Makes one pair for every segment that another one follows.

  Whether B follows is a fair coin; a random B is a random segment of a random
  other document. The result depends on the arguments alone.

  Args:
    documents: Where the segments come from.
    segmented: The segments of each document.
    seed: Of the coins.

  Raises:
    InputError: Fewer than two documents have a segment, or none has two.
  """
  full = [i for i, parts in enumerate(segmented) if parts]
  neighbours = [(i, j) for i in full for j in range(len(segmented[i]) - 1)]
  if len(full) < 2 or not neighbours:
    raise InputError(
      f'{len(full)} documents with text, {len(neighbours)} pairs of '
      'neighbouring segments; next-sentence prediction needs two documents and '
      'a pair (see config.options.documents, config.options.sentences and '
      'config.options.sentences_per_segment).'
    )
  position = {document: n for n, document in enumerate(full)}
  words = philox(Stream.SENTENCE_PAIRS, seed).random_raw(len(neighbours) * 3)
  examples = []
  for (i, j), (coin, other, segment) in zip(
    neighbours, words.reshape(-1, 3).tolist(), strict=True
  ):
    label, second = FOLLOWS, segmented[i][j + 1]
    if coin >> 63:
      # Any document but this one.
      step = 1 + other % (len(full) - 1)
      chosen = segmented[full[(position[i] + step) % len(full)]]
      label, second = RANDOM, chosen[segment % len(chosen)]
    id_ = f'{documents[i].id}#{j}'
    examples.append(TextExample(id_, segmented[i][j], second, label))
  return tuple(examples)


_TARGET = SingleLabel(('follows', 'random'))
_SCORES = {'accuracy': classification_metrics.accuracy}


def make(options: NextSentenceOptions, data: DataConfig) -> Task:
  """Makes the task with these options."""
  del data
  return Task(
    name='next_sentence',
    head=MobileBertForNextSentencePrediction,
    labels=_TARGET.labels,
    primary_metric='validation/accuracy',
    load=functools.partial(load, options),
    encode=functools.partial(classification.encode, _TARGET),
    loss=loss,
    predict=keep_logits,
    score=functools.partial(classification.score, _TARGET, _SCORES),
    # The id is 'document#segment'.
    write_predictions=class_writer(lambda example: _TARGET.labels),
    texts=classification.texts,
    outcomes=functools.partial(classification.outcomes, _TARGET),
    dummy_examples=functools.partial(classification.dummy_examples, _TARGET),
    baseline=functools.partial(
      classification.baseline, _TARGET, _SCORES, 'accuracy'
    ),
    summarize=functools.partial(classification.summarize, _TARGET),
    splits=pretraining_load.SPLITS,
  )


NEXT_SENTENCE = TaskSpec('next_sentence', make)


def load(
  options: NextSentenceOptions, data: DataConfig, split: str
) -> tuple[TextExample, ...]:
  """Loads the pairs of a split; the limits count pairs.

  Raises:
    InputError: Missing or wrong text, or too little of it.
  """
  unlimited = dataclasses.replace(data, train_examples=None, eval_examples=None)
  documents = pretraining_load.load_documents(options, unlimited, split)
  segmented = [
    segments(
      document,
      lines=options.sentences == 'lines',
      sentences=options.sentences_per_segment,
    )
    for document in documents
  ]
  pairs = make_pairs(documents, segmented, options.seed)
  is_train = split == pretraining_load.SPLITS.train
  return pairs[: data.limit(is_train=is_train)]


def loss(outputs: Any, batch: Mapping[str, Array]) -> losses.Terms:
  """Returns the cross-entropy over the pairs of weight 1."""
  return losses.next_sentence_loss(
    outputs.logits, batch['labels'], batch['weights']
  )
