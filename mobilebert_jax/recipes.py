"""Settings that many config files share, as plain dictionaries.

A config file is run by itself and cannot import its neighbours, so what they
have in common is here.
"""

from collections.abc import Mapping
from typing import Any

Settings = dict[str, Any]

# 2.4M parameters, 2.0M of them in the word table.
_SMALL_MODEL: Settings = {
  'hidden_size': 128,
  'intra_bottleneck_size': 64,
  'embedding_size': 64,
  'num_hidden_layers': 3,
  'num_attention_heads': 4,
  'intermediate_size': 256,
  'num_feedforward_networks': 2,
  'hidden_dropout_prob': 0.1,
  'attention_probs_dropout_prob': 0.1,
}
# Variant of a config file -> the model's normalization.
SMALL_VARIANTS: Mapping[str, str] = {
  'small': 'layer_norm',
  'small_layer_norm': 'layer_norm',
  'small_no_norm': 'no_norm',
}


def small(variant: str = 'small') -> Settings:
  """A small model from scratch, for a config file's variants.

  Args:
    variant: 'small' and 'small_layer_norm' are the same; 'small_no_norm' has
      the published model's normalization.

  Returns:
    init, batch_size, optimizer and model, for `cli.config_dict`; how long to
    train is the task's.
  """
  normalization = SMALL_VARIANTS[variant]
  return {
    'init': 'scratch',
    'batch_size': 64,
    'optimizer': {'learning_rate': 1e-3},
    'model': {**_SMALL_MODEL, 'normalization_type': normalization},
  }


def fine_tuning(*, small_epochs: float, **settings: Any) -> dict[str, Settings]:
  """The variants of a config file that fine-tunes the published model.

  Args:
    small_epochs: length of a run of the small model.
    **settings: fields of TrainConfig for the published model; the small one
      takes over those that `small` does not give.

  Returns:
    For `cli.choose`: '' is google/mobilebert-uncased, and each of
    `SMALL_VARIANTS` a small model from scratch.
  """
  settings = {'init': 'google/mobilebert-uncased', **settings}
  length = {'num_epochs': small_epochs, 'eval_every': None}
  return {'': settings} | {
    variant: {**settings, **small(variant), **length}
    for variant in SMALL_VARIANTS
  }


def squad(task: str) -> dict[str, Settings]:
  """The variants of SQuAD's config files.

  Args:
    task: 'squad_v1' or 'squad_v2'.

  Returns:
    For `cli.choose`: '' is google/mobilebert-uncased with the settings that
    google-research publishes for MobileBERT, 'small' a small model from
    scratch on shorter windows.
  """
  published: Settings = {
    'task': task,
    'init': 'google/mobilebert-uncased',
    'data': {
      'source': 'tfds',
      'max_length': 384,
      'buckets': (128, 192, 256, 384),
    },
    'options': {
      'doc_stride': 128,
      'max_query_length': 64,
      'max_answer_length': 30,
      'n_best': 20,
    },
    'optimizer': {'learning_rate': 4e-5, 'epsilon': 1e-6},
    'batch_size': 32,
    'eval_batch_size': 64,
    'num_epochs': 5.0,
  }
  from_scratch = {
    **published,
    **small(),
    'data': {
      'source': 'tfds',
      'max_length': 128,
      'buckets': (64, 96, 128),
      'train_examples': 20_000,
    },
    'options': {'doc_stride': 64, 'max_query_length': 32},
    'batch_size': 32,
    'num_epochs': 3.0,
  }
  return {'': published, 'small': from_scratch}
