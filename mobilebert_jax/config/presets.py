"""Settings that many config files share, as plain dictionaries.

A config file is run by itself and cannot import its neighbours, so what they
have in common is here.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mobilebert_jax.config.model import MobileBertConfig

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

# What google-research's README of MobileBERT gives for LAMB: a warm-up of
# 10,000 steps to 0.0015, then a line to a 10,000th of that, which counts from
# step 0. The decay is the code's own default, as are epsilon and the betas.
_ORIGINAL_LAMB: Settings = {
  'name': 'lamb',
  'bias_correction': False,
  'learning_rate': 0.0015,
  'warmup_steps': 10_000,
  'end_factor': 1e-4,
  'decay_from_start': True,
  'weight_decay': 0.01,
  'epsilon': 1e-6,
  'max_grad_norm': 1.0,
}
# What a small teacher and its student have in common, to learn from each other:
# the stream between the blocks, the number of blocks and heads, the words.
# Without dropout: in minutes they see no text twice.
_SMALL_STREAM: Settings = {
  'hidden_size': 128,
  'embedding_size': 64,
  'num_hidden_layers': 4,
  'num_attention_heads': 4,
  'max_position_embeddings': 128,
  'hidden_dropout_prob': 0.0,
  'attention_probs_dropout_prob': 0.0,
}


def pretraining(**settings: Any) -> Settings:
  """Settings of pre-training at full size, for `config.config_dict`.

  Args:
    **settings: fields of TrainConfig beside or instead of these; groups of
      fields are taken as they are.
  """
  return {
    'task': 'pretraining',
    'data': {
      'source': 'files',
      'path': 'data',
      'max_length': 512,
      'batching': 'padded',
      'eval_examples': 10_000,
    },
    'options': {'max_predictions_per_sequence': 20},
    'optimizer': _ORIGINAL_LAMB,
    'batch_size': 2048,
    'eval_batch_size': 512,
    'num_steps': 500_000,
    'eval_every': 10_000,
    'log_every': 100,
    'dtype': 'bfloat16',
    **settings,
  }


def teacher_pretraining() -> Settings:
  """Settings of the pre-training of IB-BERT_LARGE; see `pretraining`."""
  return pretraining(
    model=model_settings(MobileBertConfig.ib_bert_large()),
    batch_size=4096,
    remat='dots',
  )


def small_pretraining(**settings: Any) -> Settings:
  """Settings of pre-training in minutes on two CPU cores.

  Made for a vocabulary of about 4,096 tokens that is learnt from the text.
  AdamW, because LAMB is for large batches: in the first 200 steps on books the
  student's loss fell to 6.5 and 6.3 with AdamW at 0.002 and 0.006; with LAMB to
  7.4, 7.1, 6.7 and 6.5 at 0.003, 0.01, 0.03 and 0.06. The lower of AdamW's
  two, for a transfer's stages take three times the rate.

  Args:
    **settings: see `pretraining`.
  """
  return {
    'task': 'pretraining',
    'data': {
      'source': 'files',
      'path': 'data',
      'max_length': 64,
      'batching': 'padded',
    },
    'optimizer': {'learning_rate': 2e-3, 'epsilon': 1e-6},
    'batch_size': 32,
    'eval_batch_size': 64,
    'num_steps': 2_000,
    'eval_every': 500,
    'log_every': 50,
    **settings,
  }


def small_teacher() -> MobileBertConfig:
  """A teacher for two CPU cores, with inverted bottlenecks as IB-BERT_LARGE."""
  return MobileBertConfig.ib_bert_large(
    intra_bottleneck_size=128, intermediate_size=512, **_SMALL_STREAM
  )


def small_student() -> MobileBertConfig:
  """The student of `small_teacher`: blocks a quarter as wide."""
  return MobileBertConfig.mobilebert(
    intra_bottleneck_size=32,
    intermediate_size=128,
    num_feedforward_networks=2,
    **_SMALL_STREAM,
  )


# tensorflow/models' MobileBERT-EdgeTPU: fewer blocks that are wider. Steps for
# each layer of the transfer, and sizes.
_EDGE_TPU: Mapping[str, tuple[int, Settings]] = {
  's': (20_000, {'num_hidden_layers': 12}),
  'xs': (30_000, {'num_hidden_layers': 8}),
}


def distillation(strategy: str) -> dict[str, Settings]:
  """The variants of a config file that makes a student with a teacher.

  Args:
    strategy: how knowledge is transferred: 'progressive', 'joint', or
      'auxiliary', whose run is as long as theirs in all.

  Returns:
    For `config.choose`: '' is MobileBERT, 'tiny' the paper's smaller student,
    's' and 'xs' have the sizes of MobileBERT-EdgeTPU, 'small' is for two CPU
    cores.
  """

  def distilled(transfer: int, distil: int, settings: Settings) -> Settings:
    has_stages = strategy != 'auxiliary'
    return {
      **settings,
      'num_steps': transfer + distil,
      'distillation': {
        'teacher': 'runs/pretrain_teacher',
        'strategy': strategy,
        'transfer_steps': transfer if has_stages else 0,
      },
    }

  def full(architecture: MobileBertConfig) -> Settings:
    return pretraining(model=model_settings(architecture), remat='narrow')

  variants = {
    '': distilled(240_000, 500_000, full(MobileBertConfig.mobilebert())),
    'tiny': distilled(
      240_000, 500_000, full(MobileBertConfig.mobilebert_tiny())
    ),
  }
  for name, (steps, size) in _EDGE_TPU.items():
    student = MobileBertConfig.mobilebert(
      intra_bottleneck_size=256, intermediate_size=1024, **size
    )
    warmup = {**_ORIGINAL_LAMB, 'warmup_steps': 20_000}
    settings = {**full(student), 'optimizer': warmup}
    variants[name] = distilled(
      steps * size['num_hidden_layers'], 585_000, settings
    )
  small = small_pretraining(model=model_settings(small_student()))
  variants['small'] = distilled(2_000, 4_000, small)
  return variants


def model_settings(architecture: MobileBertConfig) -> Settings:
  """`config.model` of an architecture: what differs from the defaults.

  The vocabulary's size is left out: it is the tokenizer's.
  """
  default = MobileBertConfig()
  names = [field.name for field in dataclasses.fields(architecture)]
  return {
    name: getattr(architecture, name)
    for name in names
    if getattr(architecture, name) != getattr(default, name)
  }


def small(variant: str = 'small') -> Settings:
  """A small model from scratch, for a config file's variants.

  Args:
    variant: 'small' and 'small_layer_norm' are the same; 'small_no_norm' has
      the published model's normalization.

  Returns:
    init, batch_size, optimizer and model, for `config.config_dict`; how long to
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
    For `config.choose`: '' is google/mobilebert-uncased, and each of
    `SMALL_VARIANTS` a small model from scratch.
  """
  settings = {'init': 'google/mobilebert-uncased', **settings}
  length = {'num_epochs': small_epochs, 'eval_every': None}
  return {'': settings} | {
    variant: {**settings, **small(variant), **length}
    for variant in SMALL_VARIANTS
  }


def custom(
  task: str,
  *,
  learning_rate: float,
  max_length: int = 128,
  batch_size: int = 32,
  small_epochs: float = 10.0,
) -> dict[str, Settings]:
  """The variants of a config file for a user's own files.

  Args:
    task: a task that reads them from `data.path`.
    learning_rate: of the published model.
    max_length: tokens of an example.
    batch_size: of the published model.
    small_epochs: length of a run of the small model.

  Returns:
    For `config.choose`; see `fine_tuning`.
  """
  return fine_tuning(
    small_epochs=small_epochs,
    task=task,
    data={'source': 'files', 'path': 'data', 'max_length': max_length},
    optimizer={'learning_rate': learning_rate},
    batch_size=batch_size,
    eval_batch_size=64,
    num_epochs=3.0,
  )


def glue(
  task: str,
  *,
  buckets: tuple[int, ...],
  learning_rate: float,
  batch_size: int,
  num_epochs: float,
  small_epochs: float,
  **settings: Any,
) -> dict[str, Settings]:
  """The variants of a config file for one of GLUE's tasks.

  Args:
    task: its name.
    buckets: lengths of batches, in tokens; the last is the longest example's.
    learning_rate: of the published model.
    batch_size: of the published model.
    num_epochs: length of its run.
    small_epochs: length of a run of the small model.
    **settings: fields of TrainConfig beside these.

  Returns:
    For `config.choose`; see `fine_tuning`.
  """
  return fine_tuning(
    small_epochs=small_epochs,
    task=task,
    data={'source': 'tfds', 'max_length': buckets[-1], 'buckets': buckets},
    optimizer={'learning_rate': learning_rate},
    batch_size=batch_size,
    eval_batch_size=64,
    num_epochs=num_epochs,
    **settings,
  )


def squad(task: str) -> dict[str, Settings]:
  """The variants of SQuAD's config files.

  Args:
    task: 'squad_v1' or 'squad_v2'.

  Returns:
    For `config.choose`: '' is google/mobilebert-uncased with the settings that
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
