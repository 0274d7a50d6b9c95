"""Copies parts of a teacher into a student, by an explicit list."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mobilebert_jax import models
from mobilebert_jax.config.distillation import COPIED, PARTS
from mobilebert_jax.distillation.teacher import Teacher
from mobilebert_jax.models import partitioning
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.training.optimizer import Params


def shared(
  teacher: Params, student: nn.Module, parts: tuple[str, ...], name: str
) -> dict[str, jax.ShapeDtypeStruct]:
  """The student's parameters that come from its teacher; computes nothing.

  Args:
    teacher: the teacher's parameters, or their shapes.
    student: the student.
    parts: keys of `PARTS`; those that the student has not are left out, and
      out of the default list also those that the teacher has not.
    name: what errors call the teacher.

  Returns:
    path, with '/', -> the shape and dtype in the student.

  Raises:
    InputError: the teacher lacks a part, or has it in another shape.
  """
  own = flatten_dict(models.abstract_params(student), sep='/')
  theirs = flatten_dict(teacher, sep='/')
  found = {}
  for part in parts:
    start = f'{PARTS[part]}/'
    if parts == COPIED and not any(path.startswith(start) for path in theirs):
      continue
    for path, wanted in own.items():
      if not path.startswith(start):
        continue
      value = theirs.get(path)
      if value is None or value.shape != wanted.shape:
        has = 'no' if value is None else f'{value.shape} in'
        raise InputError(
          f'config.distillation.copy names {part}, but the teacher '
          f'{name} has {has} {path}, which is {wanted.shape} in the '
          'student; leave it out.'
        )
      found[path] = wanted
  return found


def copied(
  teacher: Teacher, student: nn.Module, parts: tuple[str, ...]
) -> dict[str, np.ndarray]:
  """What `shared` says, as values: path -> the teacher's, on the host."""
  theirs = flatten_dict(teacher.params, sep='/')
  wanted = shared(teacher.params, student, parts, teacher.name)
  return {
    path: np.asarray(theirs[path], leaf.dtype) for path, leaf in wanted.items()
  }


def into(params: Params, values: dict[str, np.ndarray]) -> Params:
  """Parameters on their devices, some of them replaced; where they are stays.

  Args:
    params: arrays on a mesh.
    values: from `copied`.
  """
  flat: dict[str, Any] = flatten_dict(params, sep='/')
  old = {path: flat[path].sharding for path in values}
  flat |= partitioning.put_tree(dict(values), old)
  found = unflatten_dict(flat, sep='/')
  return jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(found))
