"""Scores of entities; the one module that knows seqeval."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mobilebert_jax.runtime.errors import InputError

Tags = Sequence[Sequence[str]]


class EntityScore(NamedTuple):
  """How well entities were found.

  Attributes:
    precision: The share of the predicted entities that are right; 0 if none
      was predicted.
    recall: The share of the gold entities that were found; 0 if there are
      none.
    f1: Their harmonic mean; 0 if both are 0.
    support: The number of gold entities.
  """

  precision: float
  recall: float
  f1: float
  support: int


def strict(gold: Tags, predicted: Tags, scheme: str) -> EntityScore:
  """Scores entities that count only if the scheme allows their tags.

  seqeval's mode 'strict': in IOB2 an I- without its B- is no entity.

  Args:
    gold: The tags of each sentence.
    predicted: Tags of the same lengths.
    scheme: 'IOB1' or 'IOB2'.

  Raises:
    InputError: There is no sentence.
  """
  from seqeval.metrics import v1

  result = _entities(gold, predicted, scheme)
  return _score(v1.precision_recall_fscore_support, gold, predicted, **result)


def lenient(gold: Tags, predicted: Tags) -> EntityScore:
  """Scores entities as the official conlleval does (seqeval's default mode).

  An I- without its B- begins an entity.

  Raises:
    InputError: There is no sentence.
  """
  from seqeval.metrics import sequence_labeling

  return _score(
    sequence_labeling.precision_recall_fscore_support, gold, predicted
  )


def by_type(gold: Tags, predicted: Tags, scheme: str) -> dict[str, EntityScore]:
  """Scores each type of entity as `strict` does, in alphabetical order."""
  from seqeval.metrics import v1

  result = _entities(gold, predicted, scheme)
  names = sorted(
    result['entities_true'].unique_tags | result['entities_pred'].unique_tags
  )
  columns = v1.precision_recall_fscore_support(
    _lists(gold), _lists(predicted), average=None, zero_division=0, **result
  )
  return {
    name: EntityScore(float(p), float(r), float(f), int(support))
    for name, p, r, f, support in zip(names, *columns, strict=True)
  }


def entities(tags: Sequence[str], scheme: str) -> list[tuple[str, int, int]]:
  """Returns the entities of `strict`: type, first word, word after the last."""
  from seqeval import scheme as schemes

  result = schemes.Tokens(list(tags), getattr(schemes, scheme)).entities
  return [(entity.tag, entity.start, entity.end) for entity in result]


def _entities(gold: Tags, predicted: Tags, scheme: str) -> dict[str, Any]:
  from seqeval import scheme as schemes

  kind = getattr(schemes, scheme)
  return {
    'scheme': kind,
    'entities_true': schemes.Entities(_lists(gold), kind),
    'entities_pred': schemes.Entities(_lists(predicted), kind),
  }


def _score(
  function: Any, gold: Tags, predicted: Tags, **options: Any
) -> EntityScore:
  if not len(gold):
    raise InputError('there is no sentence to score; give at least one.')
  precision, recall, f1, support = function(
    _lists(gold), _lists(predicted), average='micro', zero_division=0, **options
  )
  return EntityScore(float(precision), float(recall), float(f1), int(support))


def _lists(tags: Tags) -> list[list[str]]:
  """Returns plain lists, since seqeval takes nothing else."""
  return [list(sentence) for sentence in tags]
