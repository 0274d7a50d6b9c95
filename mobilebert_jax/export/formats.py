"""The formats: what each writes, and the runtime that proves it.

Each has one function that writes its files into a directory and says how they
are run. What a format needs is imported there: the others do without it.
"""

import importlib.metadata
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mobilebert_jax.export.check import Runtime
from mobilebert_jax.export.graph import NAMES, Graph
from mobilebert_jax.export.options import ExportOptions
from mobilebert_jax.export.requirements import load
from mobilebert_jax.export.source import Source


class Written(NamedTuple):
  """A file, or a directory that is read as one.

  Attributes:
    path: where it is, relative to the exported directory.
    is_quantized: whether its weights are in 8 bits.
    open: makes a function of inputs from it, in its runtime.
    notes: sentences for the user.
  """

  path: str
  is_quantized: bool
  open: Callable[[], Runtime]
  notes: tuple[str, ...] = ()


class Format(NamedTuple):
  """A format of served models.

  Attributes:
    runtime: the package that runs its files, by the name of its distribution.
    needs: pairs of a package, as it is imported, and the extra that has it.
    write: writes its files.
    usage: the lines of Python that load the first file and call it.
  """

  runtime: str
  needs: tuple[tuple[str, str], ...]
  write: Callable[
    [Graph, Source, ExportOptions, tuple[int, ...], pathlib.Path],
    tuple[Written, ...],
  ]
  usage: str

  def check_packages(self):
    """Refuses to begin what cannot be finished.

    Raises:
      InputError: a package is missing; with the line that installs it.
    """
    for package, extra in self.needs:
      load(package, extra)

  def version(self) -> str:
    """Returns the runtime with its version."""
    return f'{self.runtime} {importlib.metadata.version(self.runtime)}'


def _onnx(graph, source, options, lengths, directory):
  from mobilebert_jax.export import onnx

  names = NAMES[options.names]
  path = directory / 'onnx' / 'model.onnx'
  path.parent.mkdir()
  onnx.save(graph, path, names)
  written = [
    Written('onnx/model.onnx', False, lambda: onnx.Loaded(path, names))
  ]
  if options.quantize != 'none':
    # What optimum and transformers.js call it.
    smaller = path.with_name('model_quantized.onnx')
    onnx.quantize(path, smaller)
    written.append(
      Written(
        'onnx/model_quantized.onnx', True, lambda: onnx.Loaded(smaller, names)
      )
    )
  return tuple(written)


def _saved_model(graph, source, options, lengths, directory):
  from mobilebert_jax.export import saved_model

  names = NAMES[options.names]
  # TF Serving takes the directory above, and the number for a version.
  path = directory / 'saved_model' / '1'
  path.parent.mkdir()
  saved_model.save(graph, path, names)
  return (
    Written('saved_model/1', False, lambda: saved_model.Loaded(path, names)),
  )


def _stablehlo(graph, source, options, lengths, directory):
  from mobilebert_jax.export import stablehlo

  path = directory / 'stablehlo' / 'model.stablehlo'
  path.parent.mkdir()
  is_inside = options.parameters == 'inside'
  stablehlo.save(graph, path, parameters_inside=is_inside)
  return (
    Written('stablehlo/model.stablehlo', False, lambda: stablehlo.Loaded(path)),
  )


FORMATS: Mapping[str, Format] = {
  'onnx': Format(
    'onnxruntime',
    (('onnx', 'onnx'), ('onnxruntime', 'onnx')),
    _onnx,
    """\
session = onnxruntime.InferenceSession('{path}')
inputs = tokenizer(texts, padding=True, return_tensors='np')
outputs = session.run(None, dict(inputs))""",
  ),
  'saved_model': Format(
    'tensorflow',
    (('tensorflow', 'tf'),),
    _saved_model,
    """\
serve = tf.saved_model.load('{path}').signatures['serving_default']
inputs = tokenizer(texts, padding=True, return_tensors='tf')
outputs = serve(**inputs)""",
  ),
  'stablehlo': Format(
    'jax',
    (('flatbuffers', 'stablehlo'),),
    _stablehlo,
    """\
data = pathlib.Path('{path}').read_bytes()
exported = jax.export.deserialize(bytearray(data))
outputs = exported.call(input_ids, attention_mask, token_type_ids)""",
  ),
}
