"""FLOPs of matrix products by formula, from the architecture alone.

Two FLOPs for a multiplication and its addition. A backward pass takes twice
the products of the forward pass: one for the gradient of each factor. (That is
how Chowdhery et al. 2022, arXiv 2204.02311, appendix B, and most others define
the model FLOPs of MFU.) It counts padding, as the device does.
"""

from typing import Any

from mobilebert_jax import models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.distillation.method import uses_teacher
from mobilebert_jax.distillation.objective import has_soft_labels
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.teacher import layers_of

_BACKWARD = 2
_TRIGRAM = 3


def forward(
  c: MobileBertConfig,
  head: type[Any],
  rows: int,
  length: int,
  examples: int,
  scored: int | None = None,
) -> int:
  """FLOPs of a forward pass.

  Args:
    c: the architecture.
    head: the model class, such as `MobileBertForMaskedLM`.
    rows: sequences in the batch (choices count one by one).
    length: positions of a sequence, padding included.
    examples: pooled outputs that the head reads: `rows`, or with packing the
      slots for examples.
    scored: tokens of the batch that a head of tokens reads: those of
      'masked_positions'; None: all.
  """
  tokens = rows * length
  scored = tokens if scored is None else scored
  macs = tokens * _embeddings(c)
  macs += c.num_hidden_layers * tokens * sum(_block(c, length))
  return 2 * (
    macs + scored * _token_head(c, head) + examples * _pooled(c, head)
  )


def model_flops(
  c: MobileBertConfig,
  head: type[Any],
  rows: int,
  length: int,
  examples: int,
  scored: int | None = None,
) -> int:
  """FLOPs of a training step without any recomputation, for MFU."""
  return (1 + _BACKWARD) * forward(c, head, rows, length, examples, scored)


def training(
  config: TrainConfig,
  c: MobileBertConfig,
  head: type[Any],
  rows: int,
  length: int,
  examples: int,
  scored: int | None = None,
) -> int:
  """FLOPs of a training step with what `config.remat` computes again.

  'full' repeats a block's forward pass in its backward pass; 'dots' only the
  products of attention, which have no parameters.
  """
  dense, attention = _block(c, length)
  again = {'none': 0, 'dots': attention, 'full': dense + attention}
  repeated = 2 * c.num_hidden_layers * rows * length * again[config.remat]
  return model_flops(c, head, rows, length, examples, scored) + repeated


def distillation(
  config: TrainConfig,
  teacher: MobileBertConfig,
  stage: Stage,
  c: MobileBertConfig,
  head: type[Any],
  rows: int,
  length: int,
  examples: int,
  scored: int | None = None,
) -> tuple[int, int]:
  """FLOPs of a stage's step: without recomputation, and with it.

  Where a stage does not count the task, neither model has a head, and both run
  the blocks up to the last one that is compared; frozen ones have no backward
  pass. The teacher has a forward pass alone, where it is read at all; whole
  where all of its layers are read, and with its head where it labels.
  """
  settings = config.distillation
  own = c
  if not stage.has_task:
    own = c.replace(num_hidden_layers=stage.layers[-1] + 1)
  counted = (examples, scored) if stage.has_task else (0, 0)
  shape = (own, head, rows, length, *counted)
  plain, repeating = model_flops(*shape), training(config, *shape)
  if stage.is_progressive and stage.layers[0] and not settings.previous_layers:
    part = c.replace(num_hidden_layers=stage.layers[0])
    frozen = (part, head, rows, length, 0, 0)
    plain -= model_flops(*frozen) - forward(*frozen)
    repeating -= training(config, *frozen) - forward(*frozen)
  if uses_teacher(config, stage):
    is_labelling = has_soft_labels(settings, stage)
    counted = (examples, scored) if is_labelling else (0, 0)
    theirs = teacher
    if not (is_labelling or settings.reads_whole_teacher):
      layers = layers_of(
        settings, c.num_hidden_layers, teacher.num_hidden_layers
      )
      last = layers[stage.layers[-1]]
      theirs = teacher.replace(num_hidden_layers=last + 1)
    teaching = forward(theirs, head, rows, length, *counted)
    plain, repeating = plain + teaching, repeating + teaching
  return plain, repeating


def _embeddings(c: MobileBertConfig) -> int:
  """Multiplications for each token before the first block."""
  if not c.trigram_input and c.embedding_size == c.hidden_size:
    return 0
  width = c.embedding_size * (_TRIGRAM if c.trigram_input else 1)
  return width * c.hidden_size


def _block(c: MobileBertConfig, length: int) -> tuple[int, int]:
  """Multiplications for each token in a block: dense layers, attention."""
  wide, narrow = c.hidden_size, c.true_hidden_size
  query = value = wide
  bottlenecks = 0
  if c.use_bottleneck:
    # The input's and the output's.
    bottlenecks = 2 * wide * narrow
    if c.use_bottleneck_attention:
      query = value = narrow
    elif c.key_query_shared_bottleneck:
      bottlenecks += wide * narrow
      query = narrow
  projections = (2 * query + value + narrow) * narrow
  feed_forward = c.num_feedforward_networks * 2 * narrow * c.intermediate_size
  # Scores, and the sum of the values: each row of one meets all of the other.
  attention = 2 * length * narrow
  return bottlenecks + projections + feed_forward, attention


def _token_head(c: MobileBertConfig, head: type[Any]) -> int:
  """Multiplications for each token behind the last block."""
  if issubclass(
    head, models.MobileBertForMaskedLM | models.MobileBertForPreTraining
  ):
    return c.hidden_size * (c.hidden_size + c.vocab_size)
  if issubclass(head, models.MobileBertForTokenClassification):
    return c.hidden_size * c.num_labels
  if issubclass(head, models.MobileBertForQuestionAnswering):
    return c.hidden_size * 2
  return 0


def _pooled(c: MobileBertConfig, head: type[Any]) -> int:
  """Multiplications for each pooled output."""
  if not head.has_pooler:
    return 0
  pooler = c.hidden_size**2 if c.classifier_activation else 0
  if issubclass(head, models.MobileBertForSequenceClassification):
    return pooler + c.hidden_size * c.num_labels
  if issubclass(head, models.MobileBertForMultipleChoice):
    return pooler + c.hidden_size
  return pooler + c.hidden_size * 2
