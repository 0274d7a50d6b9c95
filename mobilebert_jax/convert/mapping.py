"""Applies the table of names: foreign tensors to our arrays, and back.

Every difference between what a model needs and what a source holds is
collected, and listed in one error.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from mobilebert_jax.config.model import MobileBertConfig
from mobilebert_jax.convert import names
from mobilebert_jax.convert import names as convert_names
from mobilebert_jax.convert.names import HEADED, KeyFormat, Tensors
from mobilebert_jax.runtime.errors import InputError

Shapes = Mapping[str, Any]
# Foreign name, index on axis 0 or None, how it relates to ours.
_Tensor = tuple[str, int | None, names.Transform]

# How many names of a kind an error shows.
_SHOWN = 12


@dataclasses.dataclass(frozen=True)
class LoadReport:
  """What loading found out; each a sorted tuple of names.

  Attributes:
    newly_initialised: our parameters that the source lacks and that are drawn
      anew.
    unused: tensors of the source that belong to heads this model lacks.
    mismatched: those of `newly_initialised` that have another shape there.
    notes: sentences for the user: how labels were matched, what was left out.
  """

  newly_initialised: tuple[str, ...] = ()
  unused: tuple[str, ...] = ()
  mismatched: tuple[str, ...] = ()
  notes: tuple[str, ...] = dataclasses.field(default=(), compare=False)


@dataclasses.dataclass
class _Filling:
  """The state of one conversion: what is filled, and all that is wrong."""

  tensors: Tensors
  params: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  newly_initialised: list[str] = dataclasses.field(default_factory=list)
  mismatched: list[str] = dataclasses.field(default_factory=list)
  missing: list[str] = dataclasses.field(default_factory=list)
  wrong: list[str] = dataclasses.field(default_factory=list)

  def fill(
    self,
    path: str,
    shape: tuple[int, ...],
    tensors: list[_Tensor],
    *,
    may_lack: bool,
    may_differ: bool,
    is_fresh: bool,
  ) -> None:
    """Sets one parameter, or notes why not."""
    # A key format may have no name for a parameter at all: then it is absent.
    needed = [name for name, _, _ in tensors] or [path]
    absent = [name for name in needed if name not in self.tensors]
    if absent and 0 in shape:
      # google-research does not create arrays without elements.
      self.params[path] = np.zeros(shape, np.float32)
    elif absent:
      if may_lack and len(absent) == len(needed):
        self.newly_initialised.append(path)
      else:
        self.missing += absent
    elif not (wrong := _wrong(tensors, self.tensors, shape)):
      if is_fresh:
        self.newly_initialised.append(path)
      else:
        self.params[path] = _assemble(tensors, self.tensors)
    elif may_differ or is_fresh:
      self.newly_initialised.append(path)
      self.mismatched.append(path)
    else:
      self.wrong += wrong


def to_params(
  tensors: Tensors,
  expected: Shapes,
  config: MobileBertConfig,
  *,
  key_format: KeyFormat = 'hf',
  where: str = 'the checkpoint',
  resizable: Collection[str] = (),
  redrawn: Collection[str] = (),
  ignore_mismatched_sizes: bool = False,
) -> tuple[dict[str, np.ndarray], LoadReport]:
  """Converts a source's tensors to our parameters.

  A head that the source lacks entirely is left out and reported as newly
  initialised; so are parameters that no model reads. Any other difference is
  an error.

  Args:
    tensors: name -> array, as the source has them.
    expected: path with '/' -> something with a shape, for every parameter of
      the model (`models.abstract_params`, flattened).
    config: the config of the model.
    key_format: whose names the tensors have.
    where: what to call the source in errors.
    resizable: heads that may have another shape in the source, and are then
      newly initialised: those whose number of labels was changed on purpose.
    redrawn: heads that are newly initialised though the source has them: those
      for other labels. In another shape they are reported as mismatched.
    ignore_mismatched_sizes: the same for every parameter.

  Returns:
    path -> array in its stored dtype, without those to be initialised; and the
    report.

  Raises:
    InputError: missing, unused and mis-shaped tensors, all listed; tied
      tensors that differ.
  """
  result = convert_names.normalise_keys(tensors, key_format, where)
  if key_format == 'hf':
    result = convert_names.merge_tied(result, config, where)
  table = _by_path(config, key_format)
  head_of = {
    name: names.head_of(path) for path, ts in table.items() for name, _, _ in ts
  }
  heads = {head_of.get(name) for name in result}
  filling = _Filling(result)
  used: set[str] = set()
  for path, target in expected.items():
    bare = path.removeprefix(f'{HEADED}/')
    head = names.head_of(bare)
    filling.fill(
      path,
      tuple(target.shape),
      table[bare],
      may_lack=names.is_dead(bare, config)
      or (head is not None and head not in heads),
      may_differ=ignore_mismatched_sizes or head in resizable,
      is_fresh=head in redrawn,
    )
    used.update(name for name, _, _ in table[bare])
  own_heads = {head_of[name] for name in used} | {None}
  left = sorted(set(result) - used)
  _check(
    where,
    filling.missing,
    [name for name in left if head_of.get(name) in own_heads],
    filling.wrong,
    ' (ignore_mismatched_sizes=True draws mis-shaped ones anew)',
  )
  return filling.params, LoadReport(
    newly_initialised=tuple(sorted(filling.newly_initialised)),
    unused=tuple(left),
    mismatched=tuple(sorted(filling.mismatched)),
  )


def to_tensors(
  params: Mapping[str, Any],
  expected: Shapes,
  config: MobileBertConfig,
  *,
  tied_copies: bool,
) -> dict[str, np.ndarray]:
  """Converts our parameters to a transformers state dict.

  Args:
    params: path with '/' -> array.
    expected: path -> something with a shape, as for `to_params`.
    config: the config of the model.
    tied_copies: also write the second names of tied tensors, as a torch state
      dict has them; safetensors files leave them out.

  Returns:
    name -> C-contiguous array in the parameter's own dtype.

  Raises:
    InputError: missing, unused and mis-shaped parameters, all listed.
  """
  _check(
    'the parameters do not fit the model',
    [path for path in expected if path not in params],
    [path for path in params if path not in expected],
    [
      f'{path} is {np.shape(params[path])} instead of {tuple(target.shape)}'
      for path, target in expected.items()
      if path in params and np.shape(params[path]) != tuple(target.shape)
    ],
  )
  table = _by_path(config, 'hf')
  tensors = {}
  for path, value in params.items():
    array = np.asarray(value)
    bare = path.removeprefix(f'{HEADED}/')
    prefix = '' if bare == path else f'{HEADED}.'
    for name, layer, transform in table[bare]:
      one = array if layer is None else array[layer]
      # Not ascontiguousarray, which gives a scalar one dimension.
      tensors[prefix + name] = np.asarray(transform.to_foreign(one), order='C')
  if (
    tied_copies and config.tie_word_embeddings and 'predictions/bias' in params
  ):
    for kept, copy in names.TIED:
      named = kept if kept in tensors else f'{HEADED}.{kept}'
      tensors[copy] = tensors[named]
  return tensors


def _check(
  where: str,
  missing: list[str],
  unused: list[str],
  wrong: list[str],
  hint: str = '',
) -> None:
  """Raises the one error that lists everything, the first of each kind."""
  lists = (('missing', missing), ('unused', unused), ('mis-shaped', wrong))
  differences = '; '.join(
    f'{what}: {_listed(result)}' for what, result in lists if result
  )
  if differences:
    raise InputError(f'{where}: {differences}{hint if wrong else ""}.')


def _listed(names: list[str]) -> str:
  more = f', ... ({len(names)})' if len(names) > _SHOWN else ''
  return ', '.join(sorted(names)[:_SHOWN]) + more


def _by_path(
  config: MobileBertConfig, key_format: KeyFormat
) -> dict[str, list[_Tensor]]:
  """Returns path -> its foreign tensors, in layer order."""
  table: dict[str, list[_Tensor]] = {}
  for entry in names.entries(config):
    tensors = table.setdefault(entry.ours, [])
    if key_format == 'hf':
      tensors.append((entry.hf, entry.layer, entry.hf_transform))
    elif entry.tf1:
      tensors.append((entry.tf1, entry.layer, entry.tf1_transform))
  return table


def _wrong(
  tensors: list[_Tensor], result: Tensors, shape: tuple[int, ...]
) -> list[str]:
  """Returns a phrase for each tensor of a wrong shape or kind of number."""
  wrong = []
  for name, layer, transform in tensors:
    needed = transform.foreign_shape(shape if layer is None else shape[1:])
    tensor = result[name]
    if tensor.shape != needed:
      wrong.append(f'{name} is {tensor.shape} instead of {needed}')
    elif not jnp.issubdtype(tensor.dtype, jnp.floating):
      wrong.append(f'{name} is {tensor.dtype} instead of floating point')
  return wrong


def _assemble(tensors: list[_Tensor], result: Tensors) -> np.ndarray:
  arrays = [transform.to_ours(result[name]) for name, _, transform in tensors]
  if tensors[0][1] is None:
    return np.asarray(arrays[0], order='C')
  return np.stack(arrays)
