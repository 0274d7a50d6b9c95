"""A tiny teacher and student, their batches, and runs that take seconds."""

import dataclasses
import pathlib

import jax
import numpy as np

from mobilebert_jax import models
from mobilebert_jax.config import run as run_config
from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.convert.pretrained import save_pretrained
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from tests.support.tiny import SPECIAL

WORDS = ('anna', 'ben', 'sees', 'likes', 'the', 'dog', 'cat', 'tree', '.')
TEACHER = {
  'vocab_size': len(SPECIAL) + len(WORDS), 'hidden_size': 16,
  'intra_bottleneck_size': 24, 'embedding_size': 8, 'num_hidden_layers': 4,
  'num_attention_heads': 2, 'intermediate_size': 32,
  'num_feedforward_networks': 1, 'max_position_embeddings': 16,
  'normalization_type': 'layer_norm', 'hidden_act': 'gelu',
  'key_query_shared_bottleneck': False, 'hidden_dropout_prob': 0.1,
  'initializer_range': 0.3,
}  # fmt: skip
STUDENT = {
  **TEACHER, 'intra_bottleneck_size': 8, 'intermediate_size': 8,
  'num_feedforward_networks': 2, 'normalization_type': 'no_norm',
  'hidden_act': 'relu', 'key_query_shared_bottleneck': True,
  'num_hidden_layers': 2, 'classifier_activation': False,
  'hidden_dropout_prob': 0.0,
}  # fmt: skip


def write(
  directory: pathlib.Path, head=models.MobileBertForMaskedLM, **teacher
) -> pathlib.Path:
  """Text, vocabulary and a teacher with random weights."""
  rng = np.random.default_rng(0)
  lines = [' '.join(rng.choice(WORDS, 8)) for _ in range(60)]
  (directory / 'text.txt').write_text('\n'.join(lines) + '\n')
  vocab = directory / 'vocab.txt'
  vocab.write_text('\n'.join([*SPECIAL, *WORDS]) + '\n')
  model = head(MobileBertConfig(**TEACHER | teacher))
  params = models.init_params(model, jax.random.key(7))
  save_pretrained(
    directory / 'teacher', model, params, MobileBertTokenizerFast(vocab)
  )
  return directory


def config(directory: pathlib.Path, **settings) -> TrainConfig:
  """A run on what `write` wrote; `distillation` and the like are dicts."""
  values = {
    'task': 'masked_lm',
    'data': {
      'source': 'files', 'path': str(directory / 'text.txt'), 'max_length': 12,
      'batching': 'padded',
    },
    'options': {'documents': 'line', 'validation_fraction': 0.2},
    'optimizer': {
      'name': 'lamb', 'learning_rate': 0.02, 'warmup_steps': 2,
      'bias_correction': False,
    },
    'model': STUDENT,
    'batch_size': 8, 'eval_batch_size': 16, 'num_steps': 12, 'eval_every': 12,
    'checkpoint_every': 2, 'log_every': 1,
  }  # fmt: skip
  distillation = {
    'teacher': str(directory / 'teacher'),
    'strategy': 'progressive',
    'transfer_steps': 8,
    'teacher_dtype': 'float32',
  }
  values['distillation'] = distillation | settings.pop('distillation', {})
  return run_config.from_dict(values | settings)


def settings(**changed) -> DistillationConfig:
  """Settings of a comparison, without a run."""
  found = DistillationConfig(
    teacher='x', strategy='joint', transfer_steps=2, teacher_dtype='float32'
  )
  return dataclasses.replace(found, **changed)


def pair(head=models.MobileBertForMaskedLM):
  """Both models and their parameters."""
  built = [head(MobileBertConfig(**config)) for config in (STUDENT, TEACHER)]
  drawn = [
    models.init_params(model, jax.random.key(i))
    for i, model in enumerate(built)
  ]
  return (*built, *drawn)


def batch(rows: int = 4, length: int = 7, masked: int = 2):
  """Sentences of different lengths with masked words."""
  rng = np.random.default_rng(1)
  lengths = rng.integers(3, length + 1, rows)
  lengths[0] = length
  ids = rng.integers(5, TEACHER['vocab_size'], (rows, length))
  mask = np.arange(length) < lengths[:, None]
  labels = rng.integers(5, TEACHER['vocab_size'], (rows, masked))
  labels[1, 1:] = -100
  return {
    'input_ids': np.where(mask, ids, 0).astype(np.int32),
    'attention_mask': mask.astype(np.int32),
    'token_type_ids': np.zeros((rows, length), np.int32),
    'masked_positions': rng.integers(0, 3, (rows, masked)).astype(np.int32),
    'labels': labels.astype(np.int32),
    'next_sentence_label': rng.integers(0, 2, rows).astype(np.int32),
    'weights': np.ones(rows, np.float32),
  }
