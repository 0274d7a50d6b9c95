"""Which class a checkpoint was saved from."""

import json
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from mobilebert_jax import models
from mobilebert_jax.convert import key_normalisation
from mobilebert_jax.convert.source import Source
from mobilebert_jax.runtime.errors import InputError

CLASSES: Mapping[str, type[nn.Module]] = {
  cls.__name__: cls
  for cls in (
    models.MobileBertModel,
    models.MobileBertForPreTraining,
    models.MobileBertForMaskedLM,
    models.MobileBertForNextSentencePrediction,
    models.MobileBertForSequenceClassification,
    models.MobileBertForMultipleChoice,
    models.MobileBertForTokenClassification,
    models.MobileBertForQuestionAnswering,
  )
}
# Heads in a checkpoint, by the tensor that only they have -> the class.
_BY_HEADS = {
  ('predictions', 'seq_relationship'): models.MobileBertForPreTraining,
  ('predictions',): models.MobileBertForMaskedLM,
  ('seq_relationship',): models.MobileBertForNextSentencePrediction,
  ('qa_outputs',): models.MobileBertForQuestionAnswering,
  (): models.MobileBertModel,
}
_MARKS = {
  'hf': {
    'predictions': 'cls.predictions.bias',
    'seq_relationship': 'cls.seq_relationship.bias',
    'qa_outputs': 'qa_outputs.bias',
    'classifier': 'classifier.bias',
  },
  'tf1': {
    'predictions': 'cls/predictions/output_bias',
    'seq_relationship': 'cls/seq_relationship/output_bias',
    'qa_outputs': 'cls/squad/output_bias',
    'classifier': 'output_bias',
  },
}


def detect(
  source: Source, tensors: Mapping[str, Any]
) -> tuple[type[nn.Module], dict[str, Any]]:
  """The class named in the config, else the one that the tensors tell.

  Args:
    source: where the tensors come from.
    tensors: all its tensors.

  Returns:
    The class, and what else its constructor needs.

  Raises:
    InputError: the config does not say which class, and the tensors fit
      several.
  """
  found = key_normalisation.canonical(tensors, source.dialect, source.name)
  cls = _named(source) or _told(source, found)
  if cls is models.MobileBertModel:
    pooler = {'hf': 'pooler.dense.bias', 'tf1': 'bert/pooler/dense/bias'}
    return cls, {'add_pooling_layer': pooler[source.dialect] in found}
  return cls, {}


def _named(source: Source) -> type[nn.Module] | None:
  if source.config is None:
    return None
  try:
    values = json.loads(source.config.read_text(encoding='utf-8'))
    names = values.get('architectures') or [None]
  except (OSError, ValueError, AttributeError) as error:
    raise InputError(f'{source.config} cannot be read: {error}.') from None
  return CLASSES.get(names[0])


def _told(source: Source, found: Mapping[str, Any]) -> type[nn.Module]:
  marks = _MARKS[source.dialect]
  heads = tuple(head for head, name in marks.items() if name in found)
  if heads == ('classifier',) and source.dialect == 'tf1':
    # google-research has no other model with a classifier.
    return models.MobileBertForSequenceClassification
  if heads not in _BY_HEADS:
    raise InputError(
      f'{source.name} has the heads {", ".join(heads)}, which fit several '
      f'classes, and no config that names one; choose one of '
      f'{", ".join(CLASSES)}.'
    )
  return _BY_HEADS[heads]
