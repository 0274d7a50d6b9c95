"""The formats: what each writes, and the runtime that proves it.

Each has one function that writes its files into a directory and says how they
are run. What a format needs is imported there: the others do without it.
"""

import functools
import importlib.metadata
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mobilebert_jax.export.check import Runtime
from mobilebert_jax.export.options import CALIBRATED, ExportOptions
from mobilebert_jax.export.source import Source
from mobilebert_jax.inference.graph import NAMES, Graph, Names
from mobilebert_jax.inference.quantization import Quantization
from mobilebert_jax.runtime import files
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.runtime.requirements import load


class Written(NamedTuple):
  """A file, or a directory that is read as one.

  Attributes:
    path: where it is, relative to the exported directory.
    quantization: 'none', or as what its values are stored (`ExportOptions`).
    open: makes a function of inputs from it, in its runtime.
    notes: sentences for the user.
  """

  path: str
  quantization: str
  open: Callable[[], Runtime]
  notes: tuple[str, ...] = ()


class Job(NamedTuple):
  """What a format writes.

  Attributes:
    graph: the served model.
    source: the model that it was made of.
    options: how.
    lengths: what texts are padded to, ascending.
    choices: of an example of multiple choice; None of other models.
    calibration: how it is rounded to integers; None: it is not.
  """

  graph: Graph
  source: Source
  options: ExportOptions
  lengths: tuple[int, ...]
  choices: int | None
  calibration: Quantization | None = None


class Format(NamedTuple):
  """A format of served models.

  Attributes:
    runtime: the package that runs its files, by the name of its distribution.
    extra: of this project, which has the packages (`requirements.load`).
    packages: those packages, as they are imported.
    write: writes its files.
    usage: the lines of Python that load the first file and call it.
  """

  runtime: str
  extra: str
  packages: tuple[str, ...]
  write: Callable[[Job, pathlib.Path], tuple[Written, ...]]
  usage: str

  def check_packages(self, options: ExportOptions):
    """Refuses to begin what cannot be finished.

    Raises:
      InputError: a package is missing; with the line that installs it.
    """
    packages = self.packages
    if options.format == 'litert' and options.python is None:
      packages += ('litert_converter',)
      # Calibrated integers come from the converter.
      is_made_smaller = options.quantize not in ('none', *CALIBRATED)
      packages += ('ai_edge_quantizer',) * is_made_smaller
    for package in packages:
      load(package, self.extra)

  def version(self) -> str:
    """Returns the runtime with its version."""
    return f'{self.runtime} {importlib.metadata.version(self.runtime)}'


def _onnx(job: Job, directory: pathlib.Path) -> tuple[Written, ...]:
  from mobilebert_jax.export import onnx

  names = NAMES[job.options.names]
  (directory / 'onnx').mkdir()
  written = []
  for kind in _kinds(job.options):
    path = directory / 'onnx' / onnx.FILES[None if kind == 'none' else kind]
    is_calibrated = kind in CALIBRATED
    onnx.save(
      job.graph,
      path,
      names,
      kind=None if kind == 'none' else kind,
      quantization=job.calibration if is_calibrated else None,
    )
    run = functools.partial(onnx.Loaded, path, names)
    written.append(Written(f'onnx/{path.name}', kind, run))
  return tuple(written)


def _kinds(options: ExportOptions) -> tuple[str, ...]:
  """The files that are written: the float one, and what is asked for beside."""
  asked = options.quantize
  return ('none',) if asked == 'none' else ('none', asked)


def _saved_model(job: Job, directory: pathlib.Path) -> tuple[Written, ...]:
  from mobilebert_jax.export import saved_model

  names = NAMES[job.options.names]
  # TF Serving takes the directory above, and the number for a version.
  path = directory / 'saved_model' / '1'
  path.parent.mkdir()
  saved_model.save(job.graph, path, names)
  return (
    Written(
      'saved_model/1',
      'none',
      functools.partial(saved_model.Loaded, path, names),
    ),
  )


def _stablehlo(job: Job, directory: pathlib.Path) -> tuple[Written, ...]:
  from mobilebert_jax.export import stablehlo

  path = directory / 'stablehlo' / 'model.stablehlo'
  path.parent.mkdir()
  is_inside = job.options.parameters == 'inside'
  stablehlo.save(job.graph, path, parameters_inside=is_inside)
  return (
    Written(
      'stablehlo/model.stablehlo',
      'none',
      functools.partial(stablehlo.Loaded, path),
    ),
  )


def _litert(job: Job, directory: pathlib.Path) -> tuple[Written, ...]:
  from mobilebert_jax.export import litert

  write, loaded, notes = _litert_writer(job)
  if job.source.labels:
    text = ''.join(f'{label}\n' for label in job.source.labels)
    files.write_text(directory / 'labels.txt', text)
  written = []
  for kind in _kinds(job.options):
    file = 'model.tflite' if kind == 'none' else f'model_{kind}.tflite'
    path = directory / file
    write(
      job.graph,
      path,
      quantization=None if kind == 'none' else kind,
      calibration=job.calibration,
    )
    run = functools.partial(litert.Loaded, path, loaded)
    written.append(Written(file, kind, run, notes))
    # Once is enough.
    notes = ()
  return tuple(written)


def _litert_writer(
  job: Job,
) -> tuple[Callable[..., None], Names, tuple[str, ...]]:
  """How a model of this kind is written: its client decides.

  Returns:
    A function of (graph, path, ...) as `litert.save`, the names in the file,
    and notes.
  """
  from mobilebert_jax.export import litert, mediapipe

  source, options, lengths = job.source, job.options, job.lengths
  python = options.python
  is_plain = len(lengths) == 1 and options.batch_size == 1
  names = NAMES[options.names]
  if options.names == 'mlperf' and is_plain:
    if lengths != (mediapipe.ANSWERING_LENGTH,):
      raise InputError(
        f'--names=mlperf has {mediapipe.ANSWERING_LENGTH} tokens, not '
        f'{lengths[0]}; leave --lengths out.'
      )
    write = functools.partial(
      mediapipe.save_question_answerer,
      tokenizer=source.tokenizer,
      python=python,
    )
    return write, names, ()
  if source.labels and not source.is_multi_label and is_plain:
    write = functools.partial(
      mediapipe.save_classifier,
      length=lengths[0],
      tokenizer=source.tokenizer,
      labels=source.labels,
      python=python,
    )
    return write, names, ()
  write = functools.partial(
    litert.save,
    lengths=lengths,
    batch_size=options.batch_size,
    choices=options.choices or job.choices or 2,
    names=names,
    python=python,
  )
  notes: tuple[str, ...] = ()
  if source.labels:
    notes = (
      "MediaPipe's TextClassifier does not take this file: it wants one "
      'length, one text a call, and labels that exclude each other.',
    )
  return write, names, notes


FORMATS: Mapping[str, Format] = {
  'litert': Format(
    'ai-edge-litert',
    'litert',
    ('ai_edge_litert',),
    _litert,
    """\
interpreter = ai_edge_litert.interpreter.Interpreter('{path}')
serve = interpreter.get_signature_runner()
outputs = serve(**inputs)""",
  ),
  'onnx': Format(
    'onnxruntime',
    'onnx',
    ('onnx', 'onnxruntime'),
    _onnx,
    """\
session = onnxruntime.InferenceSession('{path}')
inputs = tokenizer(texts, padding=True, return_tensors='np')
outputs = session.run(None, dict(inputs))""",
  ),
  'saved_model': Format(
    'tensorflow',
    'tf',
    ('tensorflow',),
    _saved_model,
    """\
serve = tf.saved_model.load('{path}').signatures['serving_default']
inputs = tokenizer(texts, padding=True, return_tensors='tf')
outputs = serve(**inputs)""",
  ),
  'stablehlo': Format(
    'jax',
    'stablehlo',
    ('flatbuffers',),
    _stablehlo,
    """\
data = pathlib.Path('{path}').read_bytes()
exported = jax.export.deserialize(bytearray(data))
outputs = exported.call(input_ids, attention_mask, token_type_ids)""",
  ),
}
