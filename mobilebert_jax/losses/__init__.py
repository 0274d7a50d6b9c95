"""Losses with transformers' semantics, as sums and weights.

In the order in which to read:

  terms: a loss as sums and weights; `total`; cross-entropy.
  heads: the loss of each model with a head.
"""

from mobilebert_jax.losses.heads import (
  classification_loss,
  masked_lm_loss,
  multiple_choice_loss,
  next_sentence_loss,
  pretraining_loss,
  question_answering_loss,
  resolve_problem_type,
  token_loss,
)
from mobilebert_jax.losses.terms import (
  IGNORE_INDEX,
  Term,
  Terms,
  Weights,
  cross_entropy,
  total,
)

__all__ = [
  'IGNORE_INDEX',
  'Term',
  'Terms',
  'Weights',
  'classification_loss',
  'cross_entropy',
  'masked_lm_loss',
  'multiple_choice_loss',
  'next_sentence_loss',
  'pretraining_loss',
  'question_answering_loss',
  'resolve_problem_type',
  'token_loss',
  'total',
]
