"""Knowledge transfer: the outputs of both models' blocks, compared.

For layer l of the student, that is up to the weights of positions

  feature_map |N(t) - N(s)|^2 / D + attention CE(softmax a_t, softmax a_s)
  + mean (m_t - m_s)^2 + variance |v_t - v_s|

with hidden states t and s, their layer normalisation N, mean m and variance v
over the D features, and attention scores a; the four factors are the config's
(arXiv 2004.02984, section 3.3; each term in `losses`).

A stage of the progressive transfer runs both models up to the blocks that it
compares and no further. Where all layers are compared, both models advance
together, in one loop, and each block of either runs once. Without a gradient it
keeps sums and means alone; for a gradient also what the student's blocks are
compared with: a feature map and the attention scores of the teacher for each.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mobilebert_jax.config.distillation import DistillationConfig
from mobilebert_jax.distillation import attention_transfer, blocks, losses
from mobilebert_jax.distillation.blocks import DropoutKey, Output
from mobilebert_jax.models import packing
from mobilebert_jax.models.attention import Mask, choice
from mobilebert_jax.models.remat import REMAT_POLICIES
from mobilebert_jax.models.typing import Batch, Params

Sums = dict[str, Array]
# Means and variances of feature maps, perhaps of several.
Statistics = tuple[Float[Array, '*K B S'], Float[Array, '*K B S']]


class Pair(NamedTuple):
  """Both models, and how they are compared.

  Attributes:
    student: learns.
    teacher: is only read.
    teacher_layers: the teacher's layer for each of the student's, ascending.
    config: the terms.
  """

  student: nn.Module
  teacher: nn.Module
  teacher_layers: tuple[int, ...]
  config: DistillationConfig


class Keys(NamedTuple):
  """Where dropout's masks come from; None: no dropout."""

  student: DropoutKey = None
  teacher: DropoutKey = None


class Compared(NamedTuple):
  """Both models after all of their blocks.

  Attributes:
    sums: the terms' sums over what counts, [L] each.
    student: the last block's output.
    teacher: the teacher's, if it was asked for; else that of the last block
      that was compared.
  """

  sums: Sums
  student: Float[Array, 'B S D']
  teacher: Float[Array, 'B S D']


def counts(config: DistillationConfig, batch: Batch) -> Float[Array, 'B S']:
  """Returns the weight of each position in a transfer term.

  Args:
    config: whether padding counts.
    batch: a batch; an example's weight is that of its positions.
  """
  # Of all positions, not of the masked ones.
  positions = dict(batch)
  positions.pop('masked_positions', None)
  weights = packing.token_weights(positions)
  if config.count_padding:
    return weights
  return weights * (jnp.asarray(batch['attention_mask']) != 0)


def one_layer(
  pair: Pair,
  params: Params,
  teacher_params: Params,
  batch: Batch,
  layer: int,
  keys: Keys,
) -> Sums:
  """Compares one of the student's layers with the teacher's.

  Args:
    pair: the models.
    params: the student's; those of later layers are not read, and those of
      earlier ones get no gradient if they are frozen.
    teacher_params: the teacher's.
    batch: a batch.
    layer: the student's layer.
    keys: for dropout.

  Returns:
    The sum of each term that is on.
  """
  t, teacher_mask = blocks.embed(
    pair.teacher, teacher_params, batch, keys.teacher
  )
  stop = pair.teacher_layers[layer] + 1
  until = blocks.stacked(teacher_params, 0, stop)
  target, statistics = _last_of(pair, until, t, teacher_mask, keys.teacher)
  if pair.config.reads_whole_teacher:
    rest = blocks.stacked(teacher_params, stop)
    key = _fold(keys.teacher, stop)
    _, others = _rest_of(pair, rest, target.hidden, teacher_mask, key)
    statistics = _concatenate(losses.moments(t[None]), statistics, others)
  student = pair.student
  x, mask = blocks.embed(student, params, batch, keys.student)
  before = blocks.stacked(params, 0, layer)
  x = blocks.run(student, before, x, mask, keys.student).last_hidden_state
  if not pair.config.previous_layers:
    x = jax.lax.stop_gradient(x)
  compare = _make_compare(student, pair.config, prevent_cse=True)
  block = blocks.stacked(params, layer, layer + 1)
  key = _fold(keys.student, layer)
  weights = counts(pair.config, batch)
  _, sums, moments = compare(block, x, mask, key, target, weights)
  if statistics is None:
    return sums
  return sums | _statistics_sums(pair.config, statistics, moments, weights)


def all_layers(
  pair: Pair,
  params: Params,
  teacher_params: Params,
  batch: Batch,
  keys: Keys,
  *,
  to_the_end: bool,
) -> Compared:
  """Compares every layer of the student with the teacher's.

  Args:
    pair: the models.
    params: the student's.
    teacher_params: the teacher's.
    batch: a batch.
    keys: for dropout.
    to_the_end: run the teacher's blocks behind the last one that teaches.
  """
  config = pair.config
  x, mask = blocks.embed(pair.student, params, batch, keys.student)
  t, teacher_mask = blocks.embed(
    pair.teacher, teacher_params, batch, keys.teacher
  )
  weights = counts(config, batch)
  is_loop = pair.student.compute.layers == 'loop'
  compare = _make_compare(pair.student, config, prevent_cse=is_loop)

  def body(carry, inputs):
    x, t = carry
    layer, block, teacher_blocks = inputs
    key = _fold(keys.teacher, layer)
    target, statistics = _last_of(pair, teacher_blocks, t, teacher_mask, key)
    key = _fold(keys.student, layer)
    x, sums, moments = compare(block, x, mask, key, target, weights)
    return (x, target.hidden), (sums, moments, statistics)

  compared = []
  every: list[Statistics | None] = []
  if config.reads_whole_teacher:
    every.append(losses.moments(t[None]))
  for group in _groups(pair.teacher_layers):
    inputs = (
      jnp.arange(*group.student),
      _group(blocks.stacked(params, *group.student), 1),
      _group(blocks.stacked(teacher_params, *group.teacher), group.stride),
    )
    (x, t), (sums, moments, statistics) = jax.lax.scan(
      body, (x, t), inputs, unroll=is_loop
    )
    compared.append((sums, moments))
    # Of K blocks for each of the student's: [N, K, B, S].
    every.append(
      jax.tree.map(lambda s: s.reshape(-1, *s.shape[2:]), statistics)
    )
  if to_the_end or config.reads_whole_teacher:
    rest = blocks.stacked(teacher_params, pair.teacher_layers[-1] + 1)
    key = _fold(keys.teacher, len(pair.teacher_layers))
    t, others = _rest_of(pair, rest, t, teacher_mask, key)
    every.append(others)
  sums, moments = _concatenate(*compared)
  if config.has_statistics:
    each = jax.vmap(
      functools.partial(_statistics_sums, config),
      in_axes=(None if config.reads_whole_teacher else 0, 0, None),
    )
    sums |= each(_concatenate(*every), moments, weights)
  return Compared(sums, x, t)


class _Group(NamedTuple):
  """Layers of the student that are equally far apart in the teacher.

  Attributes:
    student: first layer, and the first one after.
    teacher: the same of the teacher's blocks up to the last one that teaches.
    stride: blocks of the teacher for each of the student's.
  """

  student: tuple[int, int]
  teacher: tuple[int, int]
  stride: int


def _groups(teacher_layers: tuple[int, ...]) -> Iterator[_Group]:
  """Cuts the layers into runs that one loop serves."""
  ends = [layer + 1 for layer in teacher_layers]
  strides = [end - start for start, end in zip([0, *ends], ends)]
  layer = 0
  for stride, same in itertools.groupby(strides):
    after = layer + len(list(same))
    yield _Group(
      (layer, after), (ends[layer] - stride, ends[after - 1]), stride
    )
    layer = after


def _group(layers: Params, stride: int) -> Params:
  """Reshapes [N, ...] to [N / stride, stride, ...]."""
  return jax.tree.map(lambda x: x.reshape(-1, stride, *x.shape[1:]), layers)


def _last_of(
  pair: Pair, layers: Params, x: Array, mask: Mask, key: DropoutKey
) -> tuple[Output, Statistics | None]:
  """Runs blocks of the teacher.

  Returns:
    What the last of them gives; and the statistics that are compared: of the
    last one's feature map, or of those of all.
  """
  last = jax.tree.leaves(layers)[0].shape[0] - 1
  before, last_block = (
    jax.tree.map(lambda p, part=part: p[part], layers)
    for part in (slice(0, last), slice(last, None))
  )
  x, statistics = _rest_of(pair, before, x, mask, key)
  output = blocks.run_one(
    pair.teacher,
    last_block,
    x,
    mask,
    _fold(key, last),
    compared_attention(pair.student, pair.config, x.shape),
  )
  if not pair.config.has_statistics:
    return output, None
  return output, _concatenate(statistics, losses.moments(output.hidden[None]))


def _rest_of(
  pair: Pair, layers: Params, x: Array, mask: Mask, key: DropoutKey
) -> tuple[Array, Statistics | None]:
  """Runs blocks of the teacher, perhaps none, that teach no layer.

  Returns:
    The last one's output; and the statistics of all, if they are compared.
  """
  output = blocks.run(
    pair.teacher,
    layers,
    x,
    mask,
    key,
    output_hidden_states=pair.config.reads_whole_teacher,
  )
  hidden = output.hidden_states
  return (
    output.last_hidden_state,
    None if hidden is None else losses.moments(hidden),
  )


def _concatenate(*parts: Any) -> Any:
  """Concatenates trees of arrays along axis 0, but for those that are None."""
  trees = [part for part in parts if part is not None]
  return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)


def _fold(key: DropoutKey, number) -> DropoutKey:
  return None if key is None else jax.random.fold_in(key, number)


def _make_compare(
  student: nn.Module, config: DistillationConfig, *, prevent_cse: bool
):
  """Returns a function that runs a block of the student and compares it.

  With rematerialisation the backward pass runs that block and the comparison
  again, but not the teacher.

  Args:
    student: the student.
    config: the terms.
    prevent_cse: whether the compiler could undo the rematerialisation: not
      within a loop.

  Returns:
    (the block's parameters, [1, ...], its input, mask, dropout key, what the
    teacher's block gives, weights of the positions) -> the block's output; the
    sums of the terms that read more of it than statistics; and those of its
    feature map, [B, S] each, or None if they are not compared.
  """
  policy = REMAT_POLICIES[student.compute.remat]
  plain = student if policy is None else blocks.without_remat(student)

  def compare(layer, x, mask, key, target, weights):
    attention = compared_attention(student, config, x.shape)
    output = blocks.run_one(plain, layer, x, mask, key, attention)
    heads = student.config.num_attention_heads
    sums = _output_sums(config, target, output, weights, mask, heads)
    moments = None
    if config.has_statistics:
      moments = losses.moments(output.hidden)
    return output.hidden, sums, moments

  if policy is None:
    return compare
  return jax.checkpoint(compare, policy=policy, prevent_cse=prevent_cse)


def compared_attention(
  student: nn.Module, config: DistillationConfig, shape: tuple[int, ...]
) -> blocks.AttentionOutput | None:
  """Returns what attention is compared by: no scores if a kernel has none.

  Args:
    student: the student.
    config: the terms.
    shape: of what blocks read, [B, S, D].
  """
  if not config.has_attention:
    return None
  heads = student.config.num_attention_heads
  kind = choice.kind(student.compute, shape, heads, is_dropping=True)
  return 'inputs' if kind == 'fused' else 'scores'


def _output_sums(
  config: DistillationConfig,
  teacher: Output,
  student: Output,
  weights: Array,
  mask: Mask,
  heads: int,
) -> Sums:
  """Returns the sums of the terms that are on and read whole outputs."""
  factors = config.factors
  terms = {}
  if 'feature_map' in factors:
    terms['feature_map'] = losses.feature_map(
      teacher.hidden, student.hidden, weights, config.norm_epsilon
    )
  sums = {}
  if 'attention' in factors and student.inputs is not None:
    assert teacher.inputs is not None
    sums['attention'] = attention_transfer.cross_entropy_sum(
      teacher.inputs, student.inputs, mask, weights, heads
    )
  elif 'attention' in factors:
    assert teacher.scores is not None and student.scores is not None
    terms['attention'] = losses.attention(
      teacher.scores, student.scores, weights
    )
  return sums | {name: term.sum for name, term in terms.items()}


def _statistics_sums(
  config: DistillationConfig,
  teacher: Statistics,
  student: Statistics,
  weights: Array,
) -> Sums:
  """Returns the sums of the terms that are on and read statistics."""
  terms = {'mean': losses.mean, 'variance': losses.variance}
  return {
    name: term(of_teacher, of_student, weights).sum
    for (name, term), of_teacher, of_student in zip(
      terms.items(), teacher, student
    )
    if name in config.factors
  }
