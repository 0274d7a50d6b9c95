"""Configs of tagging and multiple choice, on tiny official files."""

import json

import pytest

from tests.support import choice_files, custom_runs, tagging_files

# Whole runs.
pytestmark = pytest.mark.slow

WORDS = ('empire', 'state', 'esb', '=', 'door', 'bank', 'mall', 'library')


def train(config, root, *flags):
  custom_runs.write_vocab(root, WORDS)
  workdir = root / 'run'
  arguments = custom_runs.flags(config, root, *flags)
  assert (
    custom_runs.command('train', *arguments, f'--workdir={workdir}') == 0
  )  # fmt: skip
  results = json.loads((workdir / 'results.json').read_text())
  return workdir, results, arguments


def test_tags(tmp_path, capsys):
  tagging_files.write(tmp_path / 'data', 'wnut17', tagging_files.WNUT * 8)
  workdir, results, arguments = train(
    'wnut17.py', tmp_path, '--config.options.stride=2',
    '--config.options.labels=()', '--config.data.buckets=()',
    '--config.data.batching=packed',
  )  # fmt: skip
  assert results['primary_metric'] == 'validation/f1'
  names = {'validation.conll', 'validation_types.txt', 'test.conll'}
  assert names <= {path.name for path in (workdir / 'predictions').iterdir()}
  lines = (workdir / 'predictions' / 'test.conll').read_text().split('\n')
  assert len(lines) == 8 * 6 + 1
  config = json.loads((workdir / 'model' / 'config.json').read_text())
  assert config['id2label']['1'] == 'B-location'
  capsys.readouterr()
  arguments.append(f'--checkpoint={workdir}')
  assert custom_runs.command('eval', *arguments) == 0
  scores = json.loads(capsys.readouterr().out)
  assert scores == results['final']


def test_choices(tmp_path, capsys):
  questions = [
    choice_files.changed(choice_files.QUESTION, ['id'], f'q{i}')
    for i in range(16)
  ]
  del questions[3]['question']['choices'][2]
  (tmp_path / 'data').mkdir()
  choice_files.write_csqa(tmp_path / 'data', *questions)
  workdir, results, arguments = train(
    'commonsenseqa.py', tmp_path, '--config.data.buckets=()'
  )
  # The answer is always the same one.
  assert results['best']['validation/accuracy'] == 1.0
  predictions = workdir / 'predictions'
  assert (predictions / 'test.csv').read_text() == 'q1,A\n'
  assert len((predictions / 'validation.csv').read_text().split()) == 16
  capsys.readouterr()
  arguments.append(f'--checkpoint={workdir}')
  assert custom_runs.command('eval', *arguments) == 0
  assert json.loads(capsys.readouterr().out) == results['final']
