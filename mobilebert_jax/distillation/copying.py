"""Copies parts of a teacher into a student, by an explicit list."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mobilebert_jax import models, sharding
from mobilebert_jax.distillation.teacher import Teacher
from mobilebert_jax.distillation_config import PARTS
from mobilebert_jax.errors import InputError
from mobilebert_jax.optimizer import Params


def copied(
  teacher: Teacher, student: nn.Module, parts: tuple[str, ...]
) -> dict[str, np.ndarray]:
  """The student's parameters that come from its teacher.

  Args:
    teacher: the teacher.
    student: the student.
    parts: keys of `PARTS`; those that the student has not are left out.

  Returns:
    path, with '/', -> the teacher's value.

  Raises:
    InputError: the teacher lacks a part, or has it in another shape.
  """
  shapes = flatten_dict(models.abstract_params(student), sep='/')
  there = flatten_dict(teacher.params, sep='/')
  found = {}
  for part in parts:
    for path, wanted in shapes.items():
      if not path.startswith(f'{PARTS[part]}/'):
        continue
      value = there.get(path)
      if value is None or value.shape != wanted.shape:
        has = 'no' if value is None else f'{value.shape} in'
        raise InputError(
          f'config.distillation.copy names {part}, but the teacher '
          f'{teacher.name} has {has} {path}, which is {wanted.shape} in the '
          'student; leave it out.'
        )
      found[path] = np.asarray(value, wanted.dtype)
  return found


def into(params: Params, values: dict[str, np.ndarray]) -> Params:
  """Parameters on their devices, some of them replaced; where they are stays.

  Args:
    params: arrays on a mesh.
    values: from `copied`.
  """
  flat: dict[str, Any] = flatten_dict(params, sep='/')
  old = {path: flat[path].sharding for path in values}
  flat |= sharding.put_tree(dict(values), old)
  found = unflatten_dict(flat, sep='/')
  return jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(found))
