"""The command: what it writes, what it says, and how it refuses."""

import csv
import json
import pathlib
import types

import jax.export
import numpy as np
import pytest

from mobilebert_jax.convert.pretrained import from_pretrained, save_pretrained
from mobilebert_jax.export import __main__ as command
from mobilebert_jax.export import check, stablehlo
from mobilebert_jax.export.options import ExportOptions
from mobilebert_jax.export.run import export
from mobilebert_jax.runtime import exit_status, requirements
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from tests.support import hub_server, marks, served

CLASSIFY = 'MobileBertForSequenceClassification'
ANSWER = 'MobileBertForQuestionAnswering'


def run(*arguments):
  return exit_status.run(command.main, ['export', *map(str, arguments)])


def flags(model, output, *more):
  return (
    f'--model={model}', '--format=stablehlo', f'--output={output}', *more,
  )  # fmt: skip


@pytest.mark.parametrize(
  'head',
  marks.slow_but(
    ('MobileBertForMaskedLM',),
    ['MobileBertModel', 'MobileBertForPreTraining', 'MobileBertForMaskedLM'],
  ),
)
def test_classes_without_real_texts(head, models, tmp_path, capsys):
  output = tmp_path / 'out'
  assert run(*flags(models(head), output, '--check=2')) == 0
  told = capsys.readouterr().out
  assert 'sequences of tokens that are made up' in told
  assert 'give some as --texts' in told
  assert (head == 'MobileBertModel') == ('decisions that differ' not in told)
  if head != 'MobileBertModel':
    assert 'decisions that differ: 0 of' in told
  assert f'wrote {output}' in told
  names = {path.name for path in output.iterdir()}
  assert {'stablehlo', 'config.json', 'vocab.txt', 'tokenizer.json'} <= names
  stored = json.loads((output / 'config.json').read_text())
  assert stored['architectures'] == [head]


def test_the_lines_that_it_prints_load_the_file(models, tmp_path, monkeypatch):
  output = tmp_path / 'out'
  options = ExportOptions(
    str(models(CLASSIFY)), 'stablehlo', str(output), check=2
  )
  report = export(options)
  model, params = from_pretrained(None, models(CLASSIFY))
  tokenizer = MobileBertTokenizerFast.from_pretrained(output)
  inputs = tokenizer(['paris is good.', 'bad'], padding=True,
                     return_tensors='np')  # fmt: skip
  monkeypatch.chdir(output)
  known = {name: np.int32(value) for name, value in inputs.items()}
  known |= {'jax': jax, 'pathlib': pathlib}
  exec(report.usage, known)
  wanted = model.apply({'params': params}, **inputs).logits
  np.testing.assert_allclose(
    known['outputs']['logits'], wanted, rtol=1e-4, atol=1e-5
  )


@pytest.mark.slow
def test_real_texts_from_a_file(models, tmp_path, capsys):
  path = tmp_path / 'texts.csv'
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['question', 'context'])
    for place in ('berlin', 'paris', 'france'):
      writer.writerow([f'where is {place}?', f'i live in {place}. ' * 2])
  output = tmp_path / 'out'
  assert run(*flags(models(ANSWER), output, f'--texts={path}')) == 0
  told = capsys.readouterr().out
  assert '2 texts to check with and 1 to fold with, of up to 32' in told
  assert str(path) in told
  assert 'decisions that differ: 0 of 4, in 2 texts' in told


@pytest.mark.slow
def test_choices_from_a_file(models, tmp_path, capsys):
  head = 'MobileBertForMultipleChoice'
  path = tmp_path / 'texts.jsonl'
  lines = [
    {'question': 'where?', 'choices': ['in paris', 'in berlin', 'not']},
    {'question': 'who wrote it?', 'choices': ['ada', 'a', 'b']},
  ]
  path.write_text('\n'.join(map(json.dumps, lines)))
  assert run(*flags(models(head), tmp_path / 'out', f'--texts={path}')) == 0
  assert 'decisions that differ: 0 of 1, in 1 texts' in capsys.readouterr().out
  lines[1]['choices'].pop()
  path.write_text('\n'.join(map(json.dumps, lines)))
  assert run(*flags(models(head), tmp_path / 'two', f'--texts={path}')) == 2
  assert 'examples have 2 to 3 choices' in capsys.readouterr().err


@pytest.mark.slow
def test_more_outputs_and_parameters_outside(models, tmp_path):
  output = tmp_path / 'out'
  more = ('--hidden_states', '--attentions', '--parameters=outside')
  assert run(*flags(models(CLASSIFY), output, *more, '--check=2')) == 0
  loaded = stablehlo.Loaded(output / 'stablehlo' / 'model.stablehlo')
  batch = served.make_batch(CLASSIFY, vocab=30)
  outputs = loaded(batch)
  assert outputs['hidden_states.2'].shape == (3, 7, 16)
  assert outputs['attentions.1'].shape == (3, 2, 7, 7)
  # Not where a reader of transformers would take it for a model.
  assert not (output / 'model.safetensors').exists()


@pytest.mark.slow
def test_force_replaces_and_keeps_the_rest(models, tmp_path, capsys):
  output = tmp_path / 'out'
  arguments = flags(models(CLASSIFY), output, '--check=2')
  assert run(*arguments) == 0
  (output / 'mine.txt').write_text('kept')
  before = (output / 'stablehlo' / 'model.stablehlo').stat().st_ino
  assert run(*arguments) == 2
  assert 'is not empty; pass --force' in capsys.readouterr().err
  assert run(*arguments, '--force') == 0
  assert (output / 'stablehlo' / 'model.stablehlo').stat().st_ino != before
  assert (output / 'mine.txt').read_text() == 'kept'
  assert not [p for p in tmp_path.iterdir() if p != output]


@pytest.mark.slow
def test_upload(models, tmp_path, monkeypatch, capsys):
  output = tmp_path / 'out'
  pushed = ('--push_to_hub=anna/films', '--private', '--check=2')
  arguments = flags(models(CLASSIFY), output, *pushed)
  with hub_server.used(monkeypatch, tmp_path / 'hub') as server:
    # Before anything is written.
    assert run(*arguments) == 2
    assert 'needs an access token' in capsys.readouterr().err
    assert run(*flags(models(CLASSIFY), output, '--push_to_hub=a/b/c')) == 2
    assert 'is no name on the hub' in capsys.readouterr().err
    assert not output.exists()
    token = f'--token={hub_server.TOKEN}'
    server.refused['/api/repos/create'] = 403
    assert run(*arguments, token) == 2
    assert f'The files are in {output}' in capsys.readouterr().err
    server.refused.clear()
    assert run(*arguments, token, '--force') == 0
    assert 'uploaded to http://127.0.0.1' in capsys.readouterr().out
    assert server.private == {'anna/films': True}
    there = server.repos['anna/films', 'main']
    assert there['README.md'] == (output / 'README.md').read_bytes()
    assert 'stablehlo/model.stablehlo' in there


@pytest.mark.slow
def test_a_regression_and_several_labels_at_once(tmp_path, capsys):
  one = served.write(tmp_path / 'one', CLASSIFY, num_labels=1)
  assert run(*flags(one, tmp_path / 'a', '--check=2')) == 0
  assert 'decisions' not in capsys.readouterr().out
  several = served.write(
    tmp_path / 'several', CLASSIFY, num_labels=5,
    problem_type='multi_label_classification',
  )  # fmt: skip
  assert run(*flags(several, tmp_path / 'b', '--check=2')) == 0
  assert 'decisions that differ: 0 of 10, in 2' in capsys.readouterr().out


WRONG = {
  'no model': (['--model=./nowhere'], 'nowhere does not exist'),
  'no format': (['--format=tflite'], '--format'),
  'unknown flag': (['--quantise=int8'], 'quantise'),
  'quantised stablehlo': (
    ['--quantize=dynamic'], 'does not go with --format=stablehlo',
  ),
  'weight-only onnx': (
    ['--format=onnx', '--quantize=weight_only'],
    'which takes none or float16 or dynamic',
  ),
  'no such quantisation': (
    ['--format=onnx', '--quantize=int2'], "--quantize is 'int2'",
  ),
  'calibration of nothing': (
    ['--format=onnx', '--quantize=dynamic', '--calibration=texts.txt'],
    '--calibration is for --quantize=int8 or int8x16 or int4x8',
  ),
  'no calibration examples': (
    ['--format=onnx', '--quantize=int8', '--calibration_examples=0'],
    'at least 1',
  ),
  'a negative score': (
    ['--format=onnx', '--quantize=int8', '--score=-1'], 'at least 0',
  ),
  'quantised SavedModel': (
    ['--format=saved_model', '--quantize=float16'],
    'does not go with --format=saved_model',
  ),
  'lengths of stablehlo': (
    ['--lengths=32'], '--lengths is for --format=litert',
  ),
  'a batch of onnx': (
    ['--format=onnx', '--batch_size=2'], '--batch_size is for --format=litert',
  ),
  'no batch': (['--format=litert', '--batch_size=0'], 'at least 1'),
  'a length twice': (['--format=litert', '--lengths=32,32'], '--lengths'),
  'no length': (['--format=litert', '--lengths=()'], '--lengths'),
  'no texts': (['--texts=missing.txt'], 'missing.txt'),
  'texts of no kind': (['--texts=texts.pdf'], 'must end in'),
  'an empty file of texts': (['--texts=empty.txt'], 'empty.txt'),
  'no column of texts': (['--texts=labels.csv'], 'labels.csv'),
  'parameters outside onnx': (
    ['--format=onnx', '--parameters=outside'], 'is for --format=stablehlo',
  ),
  'names of stablehlo': (['--names=mlperf'], 'does not go with --format'),
  'no check': (['--check=0'], 'at least 1'),
  'another class': (['--architecture=BertModel'], 'MobileBertForMaskedLM'),
  'a class without weights': (
    ['--architecture=MobileBertForMaskedLM'], 'has no weights for',
  ),
  'private without push': (['--private'], '--private is for --push_to_hub'),
}  # fmt: skip


@pytest.mark.parametrize('case', WRONG)
def test_wrong_use(case, models, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  more, told = WRONG[case]
  given = {'texts.pdf': '', 'empty.txt': '', 'labels.csv': 'label\n1\n'}
  for name, content in given.items():
    (tmp_path / name).write_text(content)
  assert run(*flags(models(CLASSIFY), 'out', *more)) == 2
  error = capsys.readouterr().err
  assert told in error
  assert error.startswith('error: ') and error.count('\n') == 1
  assert {path.name for path in tmp_path.iterdir()} == {*given}


@pytest.mark.parametrize('name', ['missing.txt', 'empty.txt', 'labels.csv'])
def test_calibration_without_texts(name, models, tmp_path, capsys, monkeypatch):
  """Said before the format's package is of any use."""
  monkeypatch.setattr(requirements.importlib, 'import_module', types.ModuleType)
  given = {'empty.txt': '', 'labels.csv': 'label\n1\n'}
  for file, content in given.items():
    (tmp_path / file).write_text(content)
  asked = (
    '--format=onnx',
    '--quantize=int8',
    f'--calibration={tmp_path / name}',
  )
  assert run(*flags(models(CLASSIFY), tmp_path / 'out', *asked)) == 2
  error = capsys.readouterr().err
  assert name in error
  assert error.startswith('error: ') and error.count('\n') == 1
  assert {path.name for path in tmp_path.iterdir()} == {*given}


def test_an_output_that_is_a_file_or_cannot_be_made(models, tmp_path, capsys):
  path = tmp_path / 'file'
  path.touch()
  for output in (path, path / 'below'):
    assert run(*flags(models(CLASSIFY), output)) == 2
    assert str(path) in capsys.readouterr().err
  assert {*tmp_path.iterdir()} == {path}


def test_a_damaged_model(models, tmp_path, capsys):
  damaged = tmp_path / 'damaged'
  damaged.mkdir()
  for file in models(CLASSIFY).iterdir():
    (damaged / file.name).write_bytes(file.read_bytes())
  weights = damaged / 'model.safetensors'
  weights.write_bytes(weights.read_bytes()[:-100])
  assert run(*flags(damaged, tmp_path / 'out')) == 2
  assert 'model.safetensors' in capsys.readouterr().err
  assert not (tmp_path / 'out').exists()


def test_numbers_that_float32_does_not_hold(models, tmp_path, capsys):
  model, params = from_pretrained(None, models(CLASSIFY))
  kernel = params['classifier']['kernel']
  params['classifier']['kernel'] = np.full_like(kernel, 3e38)
  path = tmp_path / 'huge'
  tokenizer = MobileBertTokenizerFast(served.WORDS)
  save_pretrained(path, model, params, tokenizer)
  assert run(*flags(path, tmp_path / 'out', '--check=4')) == 2
  assert 'computes values that are no numbers' in capsys.readouterr().err
  assert {p.name for p in tmp_path.iterdir()} == {'huge'}


def test_a_file_that_computes_something_else(models, tmp_path, monkeypatch):
  """No export is published that its runtime does not confirm."""
  right = stablehlo.Loaded.__call__

  def wrong(self, inputs):
    outputs = right(self, inputs)
    return {name: value * 1.01 for name, value in outputs.items()}

  monkeypatch.setattr(stablehlo.Loaded, '__call__', wrong)
  options = ExportOptions(
    str(models(CLASSIFY)), 'stablehlo', str(tmp_path / 'out'), check=2
  )
  with pytest.raises(InputError, match='outputs differ from those in float64'):
    export(options)
  assert not [*tmp_path.iterdir()]


def test_a_missing_package(models, tmp_path, monkeypatch, capsys):
  def missing(name):
    raise ImportError(f'No module named {name!r}')

  monkeypatch.setattr(requirements.importlib, 'import_module', missing)
  assert run(*flags(models(CLASSIFY), tmp_path / 'out')) == 2
  assert "pip install 'mobilebert_jax[stablehlo]'" in capsys.readouterr().err


@pytest.mark.slow
def test_interrupted_half_way(models, tmp_path, monkeypatch, capsys):
  def interrupted(*args):
    raise KeyboardInterrupt

  monkeypatch.setattr(check, 'compare', interrupted)
  assert run(*flags(models(CLASSIFY), tmp_path / 'out')) == 130
  assert not [*tmp_path.iterdir()]


def test_a_tokenizer_of_more_words(models, tmp_path, capsys):
  words = [*served.WORDS, *(f'word{i}' for i in range(40))]
  MobileBertTokenizerFast(words).save_pretrained(tmp_path / 'words')
  wrong = f'--tokenizer={tmp_path / "words"}'
  assert run(*flags(models(CLASSIFY), tmp_path / 'out', wrong)) == 2
  assert 'the tokenizer has' in capsys.readouterr().err


def test_a_run_without_a_model_yet(tmp_path, capsys):
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'model_config.json').write_text('{}')
  assert run(*flags(tmp_path / 'run', tmp_path / 'out')) == 2
  assert 'has no model/ yet' in capsys.readouterr().err
