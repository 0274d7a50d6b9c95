"""The programs that make LiteRT files: litert-converter, ai-edge-quantizer.

They may be in another Python than this package, since the converter asks for an
older typing-extensions than chex does. So this file imports nothing of the
package: `main`, run from this file by the other one, reads a request from a
directory and writes the result there.
"""

import contextlib
import importlib
import io
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

RESULT = 'model.tflite'
_REQUEST = 'request.json'
_BITS = 8


def convert(
  signatures: Mapping[str, bytes],
  inputs: Sequence[str],
  outputs: Sequence[str],
  integers: bool = False,
) -> bytes:
  """Returns a file with a signature for each StableHLO module.

  The converter's interface is not documented: what `litert_torch` calls.

  Args:
    signatures: modules by the names of their signatures.
    inputs: names of the inputs of each.
    outputs: names of the outputs.
    integers: whether operations between marked tensors ('quant.fake_quant')
      become those of integers; otherwise the marks are left out.
  """
  converter, ir, passes, stablehlo = (
    importlib.import_module(f'litert_converter.{name}')
    for name in (
      'converter_api_ext', 'mlir.ir', 'mlir.passmanager',
      'mlir.dialects.stablehlo',
    )
  )  # fmt: skip
  context = ir.Context()
  converter.prepare_mlir_context(context)
  with context, ir.Location.unknown():
    modules = []
    for name, data in signatures.items():
      module = stablehlo.deserialize_portable_artifact(context, data)
      if not isinstance(module, ir.Module):
        module = ir.Module(module)
      converter.set_signature(
        module.operation,
        signature_name=name,
        input_names=list(inputs),
        output_names=list(outputs),
      )
      modules.append(module)
    merged = converter.merge_modules(modules)
    settings = converter.ConvertToTFLConfig()
    settings.strict_qdq_mode = integers
    converter.run_convert_to_tfl_passes(merged, passes.PassManager(), settings)
    return converter.export_flatbuffer_to_bytes(merged.operation)


def _float16(quantizer: Any, types: Any):
  half = types.TensorQuantizationConfig(
    num_bits=16, dtype=types.TensorDataType.FLOAT
  )
  config = types.OpQuantizationConfig(
    weight_tensor_config=half,
    compute_precision=types.ComputePrecision.FLOAT,
    explicit_dequantize=True,
  )
  operations = types.TFLOperationName
  for operation in (operations.FULLY_CONNECTED, operations.EMBEDDING_LOOKUP):
    quantizer.update_quantization_recipe(
      '.*', operation, config, algorithm_key='float_casting'
    )


def _dynamic(quantizer: Any, types: Any):
  operations = types.TFLOperationName
  quantizer.add_dynamic_config('.*', operations.ALL_SUPPORTED, _BITS)


def _weight_only(quantizer: Any, types: Any):
  operations = types.TFLOperationName
  quantizer.add_weight_only_config('.*', operations.ALL_SUPPORTED, _BITS)
  # The same values, but only the rows that are looked up become floats instead
  # of the whole table.
  quantizer.add_dynamic_config('.*', operations.EMBEDDING_LOOKUP, _BITS)


# What a file may be beside float32, and how the quantiser makes it; None: the
# converter does, of a graph whose tensors are marked (`litert_quantized`).
KINDS: Mapping[str, Callable[[Any, Any], None] | None] = {
  # Weights in 16 bits; runtimes make float32 of them where they must.
  'float16': _float16,
  # Activations become int8 on the way into each product: fast.
  'dynamic': _dynamic,
  # Weights become floats again before each product: exact but for the weights.
  'weight_only': _weight_only,
  # Weights and activations; 'int4x8': weights of 4 bits, 'int8x16': activations
  # of 16.
  'int8': None,
  'int4x8': None,
  'int8x16': None,
}


def quantize(data: bytes, kind: str) -> bytes:
  """Returns a file with smaller weights; integers have a scale for each row.

  The word table is among them; inputs and outputs stay as they are. No texts
  are needed to calibrate anything.

  Args:
    data: a file in float32, without anything packed behind it.
    kind: a key of `KINDS` that the quantiser makes.
  """
  recipe = KINDS[kind]
  assert recipe is not None
  module = importlib.import_module('ai_edge_quantizer.quantizer')
  types = importlib.import_module('ai_edge_quantizer.qtyping')
  quantizer = module.Quantizer(data)
  recipe(quantizer, types)
  # One of its progress bars has no option.
  with contextlib.redirect_stderr(io.StringIO()):
    result = quantizer.quantize(
      enable_progress_bar=False, enable_progress_report=False
    )
  return bytes(result.quantized_model)


def write_request(directory: pathlib.Path, task: str, **arguments: Any):
  """Writes what `main` does: the arguments of a function of this file.

  Args:
    directory: an empty directory.
    task: 'convert' or 'quantize'.
    **arguments: its arguments; bytes become files.
  """
  signatures = arguments.pop('signatures', {})
  if 'data' in arguments:
    signatures = {'data': arguments.pop('data')}
  for i, data in enumerate(signatures.values()):
    (directory / str(i)).write_bytes(data)
  request = {'task': task, 'files': list(signatures), 'arguments': arguments}
  (directory / _REQUEST).write_text(json.dumps(request))


def main(name: str):
  """Does what the request in a directory says; writes `RESULT` there."""
  directory = pathlib.Path(name)
  request = json.loads((directory / _REQUEST).read_text())
  read = {
    name: (directory / str(i)).read_bytes()
    for i, name in enumerate(request['files'])
  }
  if request['task'] == 'convert':
    result = convert(read, **request['arguments'])
  else:
    result = quantize(read['data'], **request['arguments'])
  (directory / RESULT).write_bytes(result)
