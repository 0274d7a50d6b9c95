"""Which blocks of a source a smaller model begins with: `config.init_layers`.

A number of blocks is spread evenly from the first block to the last one. With n
of L blocks, block i begins as block

  round(i (L - 1) / (n - 1)), halves upwards; the first one for n = 1.

The first block has learnt to read the embeddings and the last one to write for
the heads, which the smaller model keeps as well; every k-th block (Patient-KD,
arXiv 1908.09355) would leave one of them out. For 6 of 12 it is the choice of
DistilBERT's published script (arXiv 1910.01108): 0, 2, 4, 7, 9, 11.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mobilebert_jax.config import fields
from mobilebert_jax.config.distillation import DistillationConfig

# A number of blocks, or the blocks' numbers from 0.
Layers = int | Sequence[int]

_WHERE = fields.name('init_layers')


def check(layers: Layers, where: str = _WHERE):
  """Checks what needs no source to be known.

  Args:
    layers: how many blocks, or which.
    where: what errors call it.

  Raises:
    InputError: not one block, or one of them twice.
  """
  if isinstance(layers, int):
    if layers < 1:
      raise fields.wrong(where, layers, 'at least 1')
  elif not layers or min(layers) < 0 or len({*layers}) < len(layers):
    raise fields.wrong(
      where,
      tuple(layers),
      'numbers of blocks, at least one and none of them twice, the first block '
      'being 0',
    )


def check_run(
  layers: Layers,
  init: str,
  model: Mapping[str, Any],
  distillation: DistillationConfig,
):
  """Checks `config.init_layers` against the run's other settings.

  Args:
    layers: how many blocks, or which.
    init: `config.init`.
    model: `config.model`.
    distillation: `config.distillation`.

  Raises:
    InputError: wrong in itself, or it contradicts one of them.
  """
  if init == 'scratch':
    raise fields.wrong(
      _WHERE,
      layers,
      "None with config.init 'scratch', which has no blocks to take",
    )
  check(layers)
  taken = count(layers)
  depth = model.get('num_hidden_layers', taken)
  if depth != taken:
    raise fields.wrong(
      fields.name('model', 'num_hidden_layers'),
      depth,
      f'{taken}, the number of blocks that {_WHERE} takes, or not set',
    )
  strategy = distillation.strategy
  is_taught = strategy != 'none' and not distillation.teacher_layers
  is_ordered = isinstance(layers, int) or list(layers) == sorted(layers)
  if is_taught and not is_ordered:
    raise fields.wrong(
      _WHERE,
      layers,
      f"ascending with config.distillation.strategy '{strategy}', in which "
      'each block learns from the one that it was, or '
      'config.distillation.teacher_layers must be set',
    )


def count(layers: Layers) -> int:
  """Returns how many blocks are taken."""
  return layers if isinstance(layers, int) else len(layers)


def spread(number: int, available: int) -> tuple[int, ...]:
  """Returns numbers of blocks from the first to the last, evenly spread.

  Args:
    number: how many, from 1 to `available`.
    available: blocks of the source.
  """
  if number == 1:
    return (0,)
  gaps = number - 1
  return tuple(
    (2 * i * (available - 1) + gaps) // (2 * gaps) for i in range(number)
  )


def resolve(
  layers: Layers, available: int, source: str, where: str = _WHERE
) -> tuple[int, ...]:
  """Returns the source's block for each block of the smaller model.

  Args:
    layers: how many blocks, or which.
    available: the source's number of blocks.
    source: what errors call the source.
    where: what errors call `layers`.

  Raises:
    InputError: the source has not so many blocks, or not these.
  """
  check(layers, where)
  if isinstance(layers, int):
    if layers > available:
      raise fields.wrong(
        where, layers, f'at most {available}, the number of blocks of {source}'
      )
    return spread(layers, available)
  if max(layers) >= available:
    raise fields.wrong(
      where,
      tuple(layers),
      f'numbers from 0 to {available - 1}, those of the blocks of {source}',
    )
  return tuple(layers)


def describe(layers: Layers | None, source: str) -> str:
  """Returns what a model began with, such as '12 blocks of X'; None: all."""
  if layers is None:
    return source
  if isinstance(layers, int):
    return f'{layers} {"block" if layers == 1 else "blocks"} of {source}'
  return f'{named(layers)} of {source}'


def named(layers: Sequence[int]) -> str:
  """Returns 'block 3', or 'blocks 0, 3, 5'."""
  numbers = ', '.join(map(str, layers))
  return f'{"block" if len(layers) == 1 else "blocks"} {numbers}'
