"""Files that other programs load, made of the served model (`inference`).

In the order in which to read:

  onnx: ONNX files, float or of 8 bits.
  stablehlo: StableHLO by jax.export.
  saved_model: TensorFlow SavedModels.
  litert: LiteRT (.tflite) files.
  litert_operations: what they are traced with.
  litert_quantized: their integers, as calibrated.
  litert_tools: the programs that make them, here or in another Python.
  mediapipe: such files for MediaPipe and the Task Library.
  bert_metadata: what these files say of their tensors.
  mediapipe_tokenizer: how MediaPipe reads a text.

and from a model to a directory:

  options: the settings of an export.
  source: the model that is exported, with its tokenizer.
  texts: real texts as it reads them.
  serving: which parameters, folded, on which grids.
  formats: what each format writes, and the runtime that proves it.
  check: what was written, compared with the model.
  judge: the scores of both on the task.
  run: `export`, from beginning to end.

  from mobilebert_jax.export import ExportOptions, export

  report = export(ExportOptions('runs/glue_sst2', 'onnx', 'sst2_onnx'))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from mobilebert_jax.export.options import ExportOptions
  from mobilebert_jax.export.run import File, Report, export

__all__ = ['ExportOptions', 'File', 'Report', 'export']
_PLACES = {'ExportOptions': 'options'}


def __getattr__(name: str) -> Any:
  """Imports a public name when it is first used (PEP 562)."""
  if name not in __all__:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_PLACES.get(name, "run")}')
  return getattr(module, name)
