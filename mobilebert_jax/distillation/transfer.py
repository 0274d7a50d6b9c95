"""Knowledge transfer: what blocks of both models give, compared.

A stage of the progressive transfer runs both models up to the blocks that it
compares and no further. Where all layers are compared, both models advance
together, in one loop that keeps the comparison's sums and no feature map or
attention map of the teacher beyond its turn.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mobilebert_jax import packing
from mobilebert_jax.distillation import blocks, losses
from mobilebert_jax.distillation.blocks import DropoutKey, Output
from mobilebert_jax.distillation_config import DistillationConfig
from mobilebert_jax.gradients import Batch
from mobilebert_jax.models.compute import REMAT_POLICIES
from mobilebert_jax.optimizer import Params

Sums = dict[str, Array]
# Means and variances of several feature maps: [K, B, S] each.
Statistics = tuple[Float[Array, 'K B S'], Float[Array, 'K B S']]


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
  """The weight of each position in a transfer term.

  Args:
    config: whether padding counts.
    batch: a batch; an example's weight is that of its positions.
  """
  # Of all positions, not of the masked ones.
  own = {name: x for name, x in batch.items() if name != 'masked_positions'}
  weights = packing.token_weights(own)
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
  """Compares one of the student's layers with its teacher.

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
  target, statistics = _teacher_at(
    pair, teacher_params, batch, pair.teacher_layers[layer], keys.teacher
  )
  student = pair.student
  x, mask = blocks.embed(student, params, batch, keys.student)
  before = blocks.stacked(params, 0, layer)
  x = blocks.run(student, before, x, mask, keys.student).last_hidden_state
  if not pair.config.previous_layers:
    x = jax.lax.stop_gradient(x)
  compare = _comparison(pair, prevent_cse=True)
  own = blocks.stacked(params, layer, layer + 1)
  key = _fold(keys.student, layer)
  weights = counts(pair.config, batch)
  return compare(own, x, mask, key, target, weights, statistics)[1]


def all_layers(
  pair: Pair,
  params: Params,
  teacher_params: Params,
  batch: Batch,
  keys: Keys,
  *,
  to_the_end: bool,
) -> Compared:
  """Compares every layer of the student with its teacher.

  Args:
    pair: the models.
    params: the student's.
    teacher_params: the teacher's.
    batch: a batch.
    keys: for dropout.
    to_the_end: run the teacher's blocks behind the last one that teaches.
  """
  statistics = None
  if pair.config.teacher_average_statistics:
    # Every layer is compared with all of them, so they come first.
    _, statistics = _teacher_at(pair, teacher_params, batch, 0, keys.teacher)
  x, mask = blocks.embed(pair.student, params, batch, keys.student)
  t, theirs = blocks.embed(pair.teacher, teacher_params, batch, keys.teacher)
  weights = counts(pair.config, batch)
  is_loop = pair.student.compute.layers == 'loop'
  compare = _comparison(pair, prevent_cse=is_loop)

  def body(carry, inputs):
    x, t = carry
    layer, own, teachers = inputs
    target = _last_of(pair, teachers, t, theirs, _fold(keys.teacher, layer))
    key = _fold(keys.student, layer)
    x, sums = compare(own, x, mask, key, target, weights, statistics)
    return (x, target.hidden), sums

  found = []
  for group in _groups(pair.teacher_layers):
    inputs = (
      jnp.arange(*group.student),
      _apart(blocks.stacked(params, *group.student), 1),
      _apart(blocks.stacked(teacher_params, *group.teacher), group.stride),
    )
    (x, t), sums = jax.lax.scan(body, (x, t), inputs, unroll=is_loop)
    found.append(sums)
  if to_the_end:
    rest = blocks.stacked(teacher_params, pair.teacher_layers[-1] + 1)
    key = _fold(keys.teacher, len(pair.teacher_layers))
    t = blocks.run(pair.teacher, rest, t, theirs, key).last_hidden_state
  sums = {n: jnp.concatenate([part[n] for part in found]) for n in found[0]}
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


def _apart(layers: Params, stride: int) -> Params:
  """[N, ...] to [N / stride, stride, ...]."""
  return jax.tree.map(lambda x: x.reshape(-1, stride, *x.shape[1:]), layers)


def _last_of(pair, layers, x, mask, key) -> Output:
  """Runs blocks of the teacher; what the last of them gives."""
  last = jax.tree.leaves(layers)[0].shape[0] - 1
  before, own = (
    jax.tree.map(lambda p, part=part: p[part], layers)
    for part in (slice(0, last), slice(last, None))
  )
  x = blocks.run(pair.teacher, before, x, mask, key).last_hidden_state
  return blocks.run_one(
    pair.teacher, own, x, mask, _fold(key, last), _has_scores(pair)
  )


def _teacher_at(
  pair: Pair, params: Params, batch: Batch, layer: int, key: DropoutKey
) -> tuple[Output, Statistics | None]:
  """What a block of the teacher gives, and statistics if they are all asked."""
  x, mask = blocks.embed(pair.teacher, params, batch, key)
  if not pair.config.teacher_average_statistics:
    layers = blocks.stacked(params, 0, layer + 1)
    return _last_of(pair, layers, x, mask, key), None
  found = blocks.run(
    pair.teacher,
    blocks.stacked(params),
    x,
    mask,
    key,
    output_hidden_states=True,
    output_attention_scores=_has_scores(pair),
  )
  assert found.hidden_states is not None
  hidden = jnp.concatenate([x[None], found.hidden_states])
  scores = found.attention_scores
  target = Output(
    found.hidden_states[layer], None if scores is None else scores[layer]
  )
  return target, losses.moments(hidden)


def _comparison(pair: Pair, *, prevent_cse: bool):
  """A function that runs a block of the student and compares it.

  With rematerialisation the backward pass runs that block and the comparison
  again, but not the teacher.
  """
  student = blocks.without_remat(pair.student)

  def compare(layer, x, mask, key, target, weights, statistics):
    own = blocks.run_one(student, layer, x, mask, key, _has_scores(pair))
    return own.hidden, _sums(pair.config, target, own, weights, statistics)

  remat = pair.student.compute.remat
  if remat == 'none':
    return compare
  return jax.checkpoint(
    compare, policy=REMAT_POLICIES[remat], prevent_cse=prevent_cse
  )


def _sums(
  config: DistillationConfig,
  teacher: Output,
  student: Output,
  weights: Array,
  statistics: Statistics | None,
) -> Sums:
  """The sum of each term that is on."""
  factors = config.factors
  terms = {}
  if 'feature_map' in factors:
    terms['feature_map'] = losses.feature_map(
      teacher.hidden, student.hidden, weights, config.norm_epsilon
    )
  if 'attention' in factors:
    assert teacher.scores is not None and student.scores is not None
    terms['attention'] = losses.attention(
      teacher.scores, student.scores, weights
    )
  if 'mean' in factors or 'variance' in factors:
    theirs = statistics or losses.moments(teacher.hidden)
    own = losses.moments(student.hidden)
    for name, term, theirs_, own_ in zip(
      ('mean', 'variance'), (losses.mean, losses.variance), theirs, own
    ):
      if name in factors:
        terms[name] = term(theirs_, own_, weights)
  return {name: term.sum for name, term in terms.items()}


def _has_scores(pair: Pair) -> bool:
  return 'attention' in pair.config.factors


def _fold(key: DropoutKey, number) -> DropoutKey:
  return None if key is None else jax.random.fold_in(key, number)
