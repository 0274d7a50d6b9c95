"""Integers of 8 bits in a LiteRT file, from its weights alone.

Both kinds keep weights as int8, each row of a weight with a scale of its own,
the word table included, and inputs and outputs as they are. No texts are needed
to calibrate anything.
"""

import contextlib
import importlib
import io
from collections.abc import Callable, Mapping
from typing import Any

from mobilebert_jax.export.requirements import load
from mobilebert_jax.runtime.errors import InputError

_BITS = 8


def _dynamic_int8(quantizer: Any, operations: Any):
  quantizer.add_dynamic_config('.*', operations.ALL_SUPPORTED, _BITS)


def _weight_only_int8(quantizer: Any, operations: Any):
  quantizer.add_weight_only_config('.*', operations.ALL_SUPPORTED, _BITS)
  # The same values, but only the rows that are looked up become floats instead
  # of the whole table.
  quantizer.add_dynamic_config('.*', operations.EMBEDDING_LOOKUP, _BITS)


KINDS: Mapping[str, Callable[[Any, Any], None]] = {
  # Activations become int8 on the way into each product: fast.
  'dynamic_int8': _dynamic_int8,
  # Weights become floats again before each product: exact but for the weights.
  'weight_only_int8': _weight_only_int8,
}


def quantize(data: bytes, kind: str) -> bytes:
  """Returns a file with integer weights.

  What is packed behind the file (`mediapipe.append_files`) is lost: quantise
  first.

  Args:
    data: a file in float32.
    kind: a key of `KINDS`.

  Raises:
    InputError: there is no such kind, or `ai_edge_quantizer` is not installed.
  """
  if kind not in KINDS:
    raise InputError(f'no quantisation is called {kind}: {", ".join(KINDS)}.')
  load('ai_edge_quantizer', 'litert')
  module = importlib.import_module('ai_edge_quantizer.quantizer')
  types = importlib.import_module('ai_edge_quantizer.qtyping')
  quantizer = module.Quantizer(data)
  KINDS[kind](quantizer, types.TFLOperationName)
  # One of its progress bars has no option.
  with contextlib.redirect_stderr(io.StringIO()):
    result = quantizer.quantize(
      enable_progress_bar=False, enable_progress_report=False
    )
  return bytes(result.quantized_model)
