"""Reads TensorFlow 1 checkpoints, of both formats that TensorFlow had.

With `export.saved_model`, the only module that imports tensorflow. No
maintained library reads the format without it.
"""

import os
import types

import numpy as np

from mobilebert_jax.runtime.errors import InputError

# What TensorFlow 2 writes beside the variables of objects.
_OBJECTS = '_CHECKPOINTABLE_OBJECT_GRAPH'


def _tensorflow() -> types.ModuleType:
  try:
    import tensorflow
  except ImportError:
    raise InputError(
      'a TensorFlow checkpoint needs tensorflow, which is not installed: run '
      "`pip install 'mobilebert_jax[tf]'`."
    ) from None
  return tensorflow


def read(prefix: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads all variables of a checkpoint, with optimizer slots and counters.

  Args:
    prefix: the path that was given to TensorFlow's saver: `X` for the files
      `X.index` and `X.data-00000-of-00001`, or for the single file `X`.

  Returns:
    variable name -> array.

  Raises:
    InputError: tensorflow is missing, or there is no intact checkpoint.
  """
  tensorflow = _tensorflow()
  try:
    reader = tensorflow.train.load_checkpoint(os.fspath(prefix))
    names = reader.get_variable_to_shape_map()
    if _OBJECTS not in names:
      return {name: reader.get_tensor(name) for name in names}
  except (
    tensorflow.errors.OpError, ValueError, RuntimeError, IndexError
  ) as error:  # fmt: skip
    reason = (str(error) or type(error).__name__).splitlines()[0]
    raise InputError(
      f'{prefix} is no intact TensorFlow checkpoint ({reason}).'
    ) from None
  raise InputError(
    f'{prefix} is an object-based checkpoint of TensorFlow 2, whose variables '
    'are named by the program that made it: load it there, and save the model '
    'with transformers or with tf.compat.v1.train.Saver.'
  )
