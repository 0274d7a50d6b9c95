"""FLOPs of matrix products by formula, from the architecture alone.

Two FLOPs for a multiplication and its addition. A backward pass takes twice
the products of the forward pass: one for the gradient of each factor. (That is
how Chowdhery et al. 2022, arXiv 2204.02311, appendix B, and most others define
the model FLOPs of MFU.) It counts padding, as the device does.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mobilebert_jax import models
from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.config.run import TrainConfig
from mobilebert_jax.distillation.method import uses_teacher
from mobilebert_jax.distillation.objective import has_soft_labels
from mobilebert_jax.distillation.stages import Stage
from mobilebert_jax.distillation.teacher import layers_of

_BACKWARD = 2
_TRIGRAM = 3


class Workload(NamedTuple):
  """What a step runs, as far as its FLOPs depend on it.

  Attributes:
    architecture: of the model.
    head: the model class, such as `MobileBertForMaskedLM`.
    rows: sequences in the batch (choices count one by one).
    length: positions of a sequence, padding included.
    examples: pooled outputs that the head reads: `rows`, or with packing the
      slots for examples.
    scored: tokens of the batch that a head of tokens reads: those of
      'masked_positions'; None: all.
  """

  architecture: MobileBertConfig
  head: type[Any]
  rows: int
  length: int
  examples: int
  scored: int | None = None

  @property
  def tokens(self) -> int:
    """Positions in the batch, padding included."""
    return self.rows * self.length


def workload(
  architecture: MobileBertConfig, head: type[Any], batch: Mapping[str, Any]
) -> Workload:
  """Returns the workload of a step over a batch.

  Args:
    architecture: of the model.
    head: the model class.
    batch: arrays, or their shapes, as the model reads them.
  """
  ids, masked = batch['input_ids'], batch.get('masked_positions')
  length = ids.shape[-1]
  rows = ids.size // length
  pooled = batch.get('cls_positions')
  return Workload(
    architecture,
    head,
    rows,
    length,
    rows if pooled is None else pooled.size,
    None if masked is None else masked.size,
  )


def forward(work: Workload) -> int:
  """Returns the FLOPs of a forward pass.

  2 (T E + L T B + S H_t + N H_p) for T tokens, L blocks, S scored tokens and
  N examples, where E, B, H_t and H_p are the multiplications of embeddings,
  block, token head and pooled head for each of them.
  """
  c, tokens = work.architecture, work.tokens
  scored = tokens if work.scored is None else work.scored
  macs = tokens * _embeddings(c)
  macs += c.num_hidden_layers * tokens * _block(c, work.length)
  macs += scored * _token_head(c, work.head)
  return 2 * (macs + work.examples * _pooled(c, work.head))


def model_flops(work: Workload) -> int:
  """Returns the FLOPs of a training step without recomputation, for MFU."""
  return (1 + _BACKWARD) * forward(work)


def training(config: TrainConfig, work: Workload) -> int:
  """Returns the FLOPs of a training step with what `config.remat` repeats.

  'full' repeats a block's forward pass in its backward pass, but for its last
  product where only sums follow it: its result is needed for the gradient of a
  norm's scale, and a folded norm has none of its own. 'narrow' keeps the
  results of products that have fewer features than they read, and of attention.
  'dots' repeats only the products of attention, which have no parameters;
  'attention' only the first of the two, the scores.
  """
  c = work.architecture
  attention = _attention(c, work.length)
  layers = _dense_layers(c)
  if config.norms == 'fold' and c.normalization_type == 'no_norm':
    layers = layers[:-1]
  again = {
    'none': 0,
    'attention': attention // 2,
    'dots': attention,
    'narrow': attention // 2 + sum(i * o for i, o in layers if i <= o),
    'full': attention + sum(i * o for i, o in layers),
  }
  repeated = 2 * c.num_hidden_layers * work.tokens * again[config.remat]
  return model_flops(work) + repeated


def kept_bytes(
  config: TrainConfig, c: MobileBertConfig, rows: int, *, has_scores: bool
) -> int:
  """Returns at least how many bytes the forward pass keeps for the backward.

  Only what `config.remat` must keep of the blocks: each one's input; but with
  'full' also the results of its products with parameters, of which 'narrow'
  keeps some; with 'none' also the probabilities of attention. Real programs
  keep more.

  Args:
    config: the run.
    c: the architecture.
    rows: sequences of a chip's micro-batch.
    has_scores: whether attention has scores in memory; a kernel has not.
  """
  length = config.data.max_length
  width = 2 if config.dtype == 'bfloat16' else 4
  kept = c.hidden_size
  if config.remat == 'narrow':
    kept += sum(o for i, o in _dense_layers(c) if i > o)
  elif config.remat != 'full':
    kept += c.true_hidden_size * (4 + c.num_feedforward_networks)
  if config.remat == 'none' and has_scores:
    kept += c.num_attention_heads * length
  return c.num_hidden_layers * rows * length * kept * width


def distillation(
  config: TrainConfig, teacher: MobileBertConfig, stage: Stage, work: Workload
) -> tuple[int, int]:
  """Returns the FLOPs of a stage's step: without recomputation, and with it.

  Where a stage does not count the task, neither model has a head, and both run
  the blocks up to the last one that is compared; frozen ones have no backward
  pass. The teacher has a forward pass alone, where it is read at all; whole
  where all of its layers are read, and with its head where it labels.

  Args:
    config: the run.
    teacher: the teacher's architecture.
    stage: the stage.
    work: of the whole student.
  """
  settings = config.distillation
  c = work.architecture
  headless = work._replace(examples=0, scored=0)
  student = work
  if not stage.has_task:
    student = headless._replace(
      architecture=c.replace(num_hidden_layers=stage.layers[-1] + 1)
    )
  plain, repeating = model_flops(student), training(config, student)
  if stage.is_progressive and stage.layers[0] and not settings.previous_layers:
    frozen = headless._replace(
      architecture=c.replace(num_hidden_layers=stage.layers[0])
    )
    plain -= model_flops(frozen) - forward(frozen)
    repeating -= training(config, frozen) - forward(frozen)
  if uses_teacher(config, stage):
    is_labelling = has_soft_labels(settings, stage)
    read = work if is_labelling else headless
    of_teacher = teacher
    if not (is_labelling or settings.reads_whole_teacher):
      layers = layers_of(
        settings,
        c.num_hidden_layers,
        teacher.num_hidden_layers,
        config.init_layers,
      )
      last = layers[stage.layers[-1]]
      of_teacher = teacher.replace(num_hidden_layers=last + 1)
    teaching = forward(read._replace(architecture=of_teacher))
    plain, repeating = plain + teaching, repeating + teaching
  return plain, repeating


def attention_transfer(
  config: TrainConfig, teacher: MobileBertConfig, stage: Stage, work: Workload
) -> int:
  """Returns the FLOPs of comparing attention from queries and keys.

  All of them repeat what the models compute anyway, where a kernel computes it:
  the scores of both, and from the student's the gradients of its queries and
  keys. Remat 'full' keeps nothing, and repeats them.

  Args:
    config: the run.
    teacher: the teacher's architecture.
    stage: the stage.
    work: of the whole student.
  """
  scores = work.length * teacher.true_hidden_size
  own = work.length * work.architecture.true_hidden_size
  macs = scores + 3 * own
  if config.remat == 'full':
    macs += scores + own
  return 2 * len(stage.layers) * work.tokens * macs


def _embeddings(c: MobileBertConfig) -> int:
  """Returns the multiplications of each token before the first block."""
  if not c.trigram_input and c.embedding_size == c.hidden_size:
    return 0
  width = c.embedding_size * (_TRIGRAM if c.trigram_input else 1)
  return width * c.hidden_size


def _block(c: MobileBertConfig, length: int) -> int:
  """Returns those of each token in a block."""
  return sum(i * o for i, o in _dense_layers(c)) + _attention(c, length)


def _attention(c: MobileBertConfig, length: int) -> int:
  """Returns those of each token without parameters."""
  # Scores, and the sum of the values: each row of one meets all of the other.
  return 2 * length * c.true_hidden_size


def _dense_layers(c: MobileBertConfig) -> list[tuple[int, int]]:
  """Returns the features (in, out) of a block's products with parameters."""
  wide, narrow = c.hidden_size, c.true_hidden_size
  query = value = wide
  before, behind = [], []
  if c.use_bottleneck:
    before, behind = [(wide, narrow)], [(narrow, wide)]
    if c.use_bottleneck_attention:
      query = value = narrow
    elif c.key_query_shared_bottleneck:
      before = 2 * before
      query = narrow
  attention = [
    (query, narrow), (query, narrow), (value, narrow), (narrow, narrow)
  ]  # fmt: skip
  network = [(narrow, c.intermediate_size), (c.intermediate_size, narrow)]
  networks = c.num_feedforward_networks * network
  return [*before, *attention, *networks, *behind]


def _token_head(c: MobileBertConfig, head: type[Any]) -> int:
  """Returns those of each token behind the last block."""
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
  """Returns those of each pooled output."""
  if not head.has_pooler:
    return 0
  pooler = c.hidden_size**2 if c.classifier_activation else 0
  if issubclass(head, models.MobileBertForSequenceClassification):
    return pooler + c.hidden_size * c.num_labels
  if issubclass(head, models.MobileBertForMultipleChoice):
    return pooler + c.hidden_size
  return pooler + c.hidden_size * 2
