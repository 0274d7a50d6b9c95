"""The loss of each model with a head, as transformers computes it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from mobilebert_jax.config.model import PROBLEM_TYPES
from mobilebert_jax.losses.terms import (
  Term,
  Terms,
  Weights,
  at_least_float32,
  cross_entropy,
)
from mobilebert_jax.runtime.errors import InputError


def resolve_problem_type(
  problem_type: str | None, num_labels: int, labels: Num[Array, '...']
) -> str:
  """Returns which loss sequence classification uses (transformers' rule).

  One label is regression, integer labels are one class each, and float labels
  are one number for each class.

  Raises:
    InputError: an unknown problem type.
  """
  if problem_type is not None:
    if problem_type not in PROBLEM_TYPES:
      raise InputError(
        f'problem_type is {problem_type!r}, but must be None or one of '
        f'{", ".join(PROBLEM_TYPES)}.'
      )
    return problem_type
  if num_labels == 1:
    return 'regression'
  if jnp.issubdtype(labels.dtype, jnp.integer):
    return 'single_label_classification'
  return 'multi_label_classification'


def classification_loss(
  logits: Float[Array, 'B C'],
  labels: Num[Array, 'B'] | Num[Array, 'B C'],
  problem_type: str | None = None,
  weights: Weights = None,
) -> Terms:
  """Computes the loss of `MobileBertForSequenceClassification`.

  Cross-entropy for one label; (logits - labels)^2 for regression; for several
  labels the binary cross-entropy
  -(labels log p + (1 - labels) log(1 - p)), p = sigmoid(logits).

  Args:
    logits: the head's output.
    labels: class ids [B]; or numbers, [B] or [B, C], for regression; or
      targets from 0 to 1, [B, C], for several labels at once.
    problem_type: one of the config's, or None (see `resolve_problem_type`).
    weights: a factor for each example, or None.

  Returns:
    Cross-entropy, squared error, or binary cross-entropy.

  Raises:
    InputError: an unknown problem type, or labels of a wrong shape.
  """
  kind = resolve_problem_type(problem_type, logits.shape[-1], labels)
  if kind == 'single_label_classification':
    return (cross_entropy(logits, labels.reshape(-1), weights),)
  logits = at_least_float32(logits)
  targets = labels.astype(logits.dtype)
  if targets.ndim == 1 and logits.shape[-1] == 1:
    targets = targets[:, None]
  if targets.shape != logits.shape:
    raise InputError(
      f'labels have shape {labels.shape}, but {kind} needs {logits.shape}.'
    )
  if kind == 'regression':
    losses = jnp.square(logits - targets)
  else:
    # torch's stable form of binary cross-entropy with logits.
    losses = jax.nn.relu(logits) - logits * targets
    losses = losses + jnp.log1p(jnp.exp(-jnp.abs(logits)))
  counts = jnp.ones_like(losses)
  if weights is not None:
    counts = counts * weights.astype(losses.dtype)[:, None]
  losses = jnp.where(counts > 0, losses * counts, 0.0)
  return (Term(jnp.sum(losses), jnp.sum(counts)),)


def token_loss(
  logits: Float[Array, 'B S C'],
  labels: Int[Array, 'B S'],
  weights: Weights | Float[Array, 'B S'] = None,
) -> Terms:
  """Computes the loss of token classification and masked language models.

  Cross-entropy over the positions whose label counts.

  Args:
    logits: scores at each position.
    labels: class ids; -100 does not count.
    weights: a factor for each example or for each position (such as
      `packing.token_weights`), or None.
  """
  if weights is not None and weights.ndim == 1:
    weights = jnp.broadcast_to(weights[:, None], labels.shape)
  return (cross_entropy(logits, labels, weights),)


masked_lm_loss = token_loss


def next_sentence_loss(
  logits: Float[Array, 'B 2'], labels: Int[Array, '*B'], weights: Weights = None
) -> Terms:
  """Computes next-sentence prediction's loss: 0 follows, 1 is random."""
  return (cross_entropy(logits, labels.reshape(-1), weights),)


def multiple_choice_loss(
  logits: Float[Array, 'B N'], labels: Int[Array, ' B'], weights: Weights = None
) -> Terms:
  """Computes multiple choice's loss: cross-entropy over the choices."""
  return (cross_entropy(logits, labels, weights),)


def pretraining_loss(
  prediction_logits: Float[Array, 'B S V'],
  seq_relationship_logits: Float[Array, 'N 2'],
  labels: Int[Array, 'B S'],
  next_sentence_label: Int[Array, '*N'],
  weights: Weights = None,
  label_weights: Float[Array, 'B S'] | None = None,
) -> Terms:
  """Computes pre-training's loss: masked LM plus next sentence.

  Args:
    prediction_logits: scores at each position, or at the masked ones.
    seq_relationship_logits: whether B follows A, for each example.
    labels: token ids at the same positions; -100 does not count.
    next_sentence_label: 0 follows, 1 is random.
    weights: a factor for each example, or None.
    label_weights: a factor for each label (such as `packing.token_weights`);
      None: that of its row's example.
  """
  if label_weights is None:
    label_weights = weights
  return (
    *masked_lm_loss(prediction_logits, labels, label_weights),
    *next_sentence_loss(seq_relationship_logits, next_sentence_label, weights),
  )


def question_answering_loss(
  start_logits: Float[Array, 'B S'],
  end_logits: Float[Array, 'B S'],
  start_positions: Int[Array, '*B'],
  end_positions: Int[Array, '*B'],
  weights: Weights = None,
) -> Terms:
  """Computes question answering's loss: the mean of start's and end's.

  Positions are clamped to [0, S]; S, outside the sequence, does not count.
  """
  length = start_logits.shape[-1]

  def half(logits, positions):
    positions = jnp.clip(positions.reshape(-1), 0, length)
    term = cross_entropy(logits, positions, weights, ignore_index=length)
    return term._replace(scale=0.5)

  return (
    half(start_logits, start_positions),
    half(end_logits, end_positions),
  )
