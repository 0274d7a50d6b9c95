"""The command, in every format for every class, and what its clients say.

`export` runs each file in its runtime and compares; here it is called for
all of them. Each client's own tests have more: `test_onnx`, `test_mediapipe`,
`test_saved_model`, `test_transformers_js`.
"""

import json
import os
import shutil
import sys

import numpy as np
import pytest

from mobilebert_jax.export import ExportOptions, export
from mobilebert_jax.export import __main__ as command
from mobilebert_jax.export.options import CALIBRATED
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.runtime.errors import InputError
from tests.support import served

pytestmark = pytest.mark.clients
CLASSIFY = 'MobileBertForSequenceClassification'
PACKAGES = {
  'litert': ('ai_edge_litert', 'litert_converter', 'ai_edge_quantizer'),
  'onnx': ('onnx', 'onnxruntime'),
  'saved_model': ('tensorflow',),
  'stablehlo': ('flatbuffers',),
}


def needs(format_):
  for package in PACKAGES[format_]:
    pytest.importorskip(package)


@pytest.mark.parametrize('head', served.HEADS)
@pytest.mark.parametrize('format_', PACKAGES)
def test_every_class_in_every_format(format_, head, models, tmp_path):
  needs(format_)
  options = ExportOptions(
    str(models(head)), format_, str(tmp_path / 'out'), check=4
  )
  report = export(options)
  [file] = report.files
  assert file.comparison.file.logits < 1e-5
  assert file.comparison.differ == 0
  assert file.comparison.texts == 4
  assert (tmp_path / 'out' / 'README.md').is_file()


@pytest.mark.parametrize(
  ('format_', 'kind', 'names'),
  [
    ('onnx', 'dynamic', ['onnx/model.onnx', 'onnx/model_quantized.onnx']),
    ('onnx', 'float16', ['onnx/model.onnx', 'onnx/model_fp16.onnx']),
    ('onnx', 'int8', ['onnx/model.onnx', 'onnx/model_int8.onnx']),
    ('litert', 'dynamic', ['model.tflite', 'model_dynamic.tflite']),
    ('litert', 'weight_only', ['model.tflite', 'model_weight_only.tflite']),
    ('litert', 'int4x8', ['model.tflite', 'model_int4x8.tflite']),
  ],
)
def test_quantised(format_, kind, names, models, tmp_path, capfd):
  needs(format_)
  output = tmp_path / 'out'
  arguments = (
    f'--model={models(CLASSIFY)}', f'--format={format_}',
    f'--output={output}', f'--quantize={kind}', '--check=4',
  )  # fmt: skip
  if kind in CALIBRATED:
    texts = tmp_path / 'texts.txt'
    texts.write_text('paris is good .\ni live in berlin\nbad film , ada\n')
    assert exit_status.run(command.main, ['export', *arguments]) == 2
    assert 'is no run that has some: give some' in capfd.readouterr().err
    missing = f'--calibration={tmp_path / "missing.txt"}'
    assert exit_status.run(command.main, ['export', *arguments, missing]) == 2
    assert 'missing.txt' in capfd.readouterr().err
    assert not output.exists()
    arguments += (f'--calibration={texts}',)
  assert exit_status.run(command.main, ['export', *arguments]) == 0
  told = capfd.readouterr().out
  for name in names:
    assert (output / name).is_file()
    assert f'{name}: 0.' in told
    assert f'- `{name}`' in (output / 'README.md').read_text()
  is_named = 'these cost most of the logits: ' in told
  assert is_named == (kind in CALIBRATED)


def test_lengths_and_batches_of_a_phone(models, tmp_path):
  needs('litert')
  options = ExportOptions(
    str(models('MobileBertForMultipleChoice')),
    'litert',
    str(tmp_path / 'out'),
    lengths=(32, 16),
    batch_size=2,
    choices=2,
    check=6,
  )
  assert export(options).files[0].comparison.differ == 0
  from mobilebert_jax.export import litert

  beside = json.loads((tmp_path / 'out/tokenizer_config.json').read_text())
  assert beside['model_max_length'] == 32
  loaded = litert.Loaded(tmp_path / 'out' / 'model.tflite')
  assert loaded.shapes == [(2, 2, 16), (2, 2, 32)]
  with pytest.raises(InputError, match='lengths=33 is more than the 32'):
    export(
      ExportOptions(
        str(models(CLASSIFY)), 'litert', str(tmp_path / 'b'), lengths=(33,)
      )
    )


def test_answers_for_mlperf(tmp_path):
  needs('litert')
  model = served.write(
    tmp_path / 'm',
    'MobileBertForQuestionAnswering',
    max_position_embeddings=384,
  )
  options = ExportOptions(
    str(model), 'litert', str(tmp_path / 'out'), names='mlperf', check=2
  )
  [file] = export(options).files
  assert file.comparison.differ == 0
  from ai_edge_litert import interpreter

  loaded = interpreter.Interpreter(str(tmp_path / 'out' / file.path))
  assert [d['shape'].tolist() for d in loaded.get_input_details()] == [
    [1, 384]
  ] * 3
  assert len(loaded.get_output_details()) == 2


def test_tools_in_another_python(models, tmp_path):
  """Here with the same one, isolated: nothing of this package is at hand."""
  needs('litert')
  options = ExportOptions(
    str(models(CLASSIFY)),
    'litert',
    str(tmp_path / 'out'),
    quantize='dynamic',
    python=sys.executable,
    check=2,
  )
  float_file, small_file = export(options).files
  assert small_file.bytes < float_file.bytes
  for python, told in (
    (shutil.which('false'), 'cannot convert: no message'),
    (str(tmp_path / 'nowhere'), 'cannot be run: No such file'),
  ):
    with pytest.raises(InputError, match=told):
      export(
        ExportOptions(
          str(models(CLASSIFY)), 'litert', str(tmp_path / 'b'), python=python
        )
      )
  assert not (tmp_path / 'b').exists()


def test_probabilities_of_a_phone_are_the_models(models, tmp_path):
  needs('litert')
  export(ExportOptions(str(models(CLASSIFY)), 'litert', str(tmp_path / 'out')))
  from ai_edge_litert import interpreter

  path = os.fspath(tmp_path / 'out' / 'model.tflite')
  serve = interpreter.Interpreter(path).get_signature_runner()
  ids = np.ones((1, 32), np.int32)
  names = ('input_ids', 'attention_mask', 'token_type_ids')
  [probabilities] = serve(**dict.fromkeys(names, ids)).values()
  np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-6)
