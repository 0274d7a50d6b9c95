"""The notebooks: valid, without outputs, and every cell runs offline."""

import ast
import json
import re
import sys
import tomllib
import urllib.request

import pytest

from tests.support import one_device

_NAMES = ('glue', 'squad', 'convert', 'export')
_KEYS = {
  'code': {
    'cell_type', 'id', 'metadata', 'source', 'execution_count', 'outputs'
  },
  'markdown': {'cell_type', 'id', 'metadata', 'source'},
}  # fmt: skip


def read(repo, name):
  path = repo / 'notebooks' / f'{name}.ipynb'
  return json.loads(path.read_text(encoding='utf-8'))


def code_cells(notebook):
  return [
    ''.join(cell['source'])
    for cell in notebook['cells']
    if cell['cell_type'] == 'code'
  ]


def execute(notebook, name, directory, monkeypatch):
  """Runs the code cells in order in one namespace, as a kernel would."""
  monkeypatch.setenv('MOBILEBERT_NOTEBOOK_SMOKE', str(directory))
  # A relative path that a cell forgot must not reach the checkout.
  (directory / 'elsewhere').mkdir()
  monkeypatch.chdir(directory / 'elsewhere')

  def no_network(*args, **kwargs):
    raise AssertionError('a cell wants the network')

  monkeypatch.setattr(urllib.request, 'urlopen', no_network)
  monkeypatch.setattr(urllib.request, 'urlretrieve', no_network)
  space = {'__name__': '__main__'}
  for number, source in enumerate(code_cells(notebook)):
    exec(compile(source, f'{name}.ipynb, code cell {number}', 'exec'), space)
  assert not list((directory / 'elsewhere').iterdir())
  return space


def printed(name, repo, directory, monkeypatch, capsys):
  """Runs a notebook; returns what it prints."""
  execute(read(repo, name), name, directory, monkeypatch)
  return capsys.readouterr().out


def test_all_notebooks_are_known(repo):
  assert {p.stem for p in (repo / 'notebooks').iterdir()} == set(_NAMES)


@pytest.mark.parametrize('name', _NAMES)
def test_form(repo, name):
  """What nbformat 4.5 wants, nothing run, and no magic."""
  notebook = read(repo, name)
  assert (notebook['nbformat'], notebook['nbformat_minor']) == (4, 5)
  assert notebook['metadata']['kernelspec']['name'] == 'python3'
  ids = [cell['id'] for cell in notebook['cells']]
  assert len(set(ids)) == len(ids)
  assert all(re.fullmatch(r'[A-Za-z0-9_-]{1,64}', id_) for id_ in ids)
  for cell in notebook['cells']:
    assert set(cell) == _KEYS[cell['cell_type']]
    lines = cell['source']
    assert all(line.endswith('\n') for line in lines[:-1])
    assert lines and not lines[-1].endswith('\n')
    if cell['cell_type'] == 'code':
      assert cell['outputs'] == [] and cell['execution_count'] is None
      ast.parse(''.join(lines))
  tags = [cell['metadata'].get('tags', []) for cell in notebook['cells']]
  assert tags.count(['parameters']) == 1


@pytest.mark.parametrize('name', _NAMES)
def test_badge_and_installation_name_the_repository(repo, name):
  project = tomllib.loads((repo / 'pyproject.toml').read_text())['project']
  url = project['urls']['Repository']
  notebook = read(repo, name)
  text = json.dumps(notebook['cells'])
  slug = url.removeprefix('https://github.com/')
  badge = (
    f'https://colab.research.google.com/github/{slug}/blob/main/notebooks/'
    f'{name}.ipynb'
  )
  assert f']({badge})' in ''.join(notebook['cells'][0]['source'])
  assert f"REPOSITORY = '{url}'" in text
  assert set(re.findall(r'https://github\.com/[\w/-]+', text)) == {url}


def test_the_installation_follows_the_accelerator(repo, monkeypatch):
  """On another machine: what is asked of pip."""
  calls = []
  found = {'libtpu': object()}
  monkeypatch.setattr('importlib.util.find_spec', found.get)
  monkeypatch.setattr('subprocess.run', calls.append)
  monkeypatch.setattr('shutil.which', lambda name: None)
  [source] = {code_cells(read(repo, name))[0] for name in _NAMES}
  exec(source, {})
  found.clear()
  monkeypatch.setattr('shutil.which', lambda name: name)
  exec(source, {})
  tpu, gpu = ([word for word in call if 'pip' not in word] for call in calls)
  assert tpu[-1].startswith('mobilebert_jax[tpu] @ git+https://')
  assert (
    gpu[-2].startswith('mobilebert_jax @ git+') and gpu[-1] == 'jax[cuda12]'
  )


@pytest.mark.slow
def test_glue(repo, tmp_path, monkeypatch, capsys):
  with one_device.used():
    out = printed('glue', repo, tmp_path, monkeypatch, capsys)
  assert 'entailment: validation/accuracy went from' in out
  assert '## Worst mistakes on validation' in out
  assert re.search(r'\(0\.\d{3}\): A delight from start to end', out)
  assert (tmp_path / 'runs/sst2/report/confusion.png').is_file()


@pytest.mark.slow
def test_squad(repo, tmp_path, monkeypatch, capsys):
  with one_device.used():
    out = printed('squad', repo, tmp_path, monkeypatch, capsys)
  assert "'validation/f1':" in out
  assert '(expected: Ada Lovelace)' in out
  for name in ('report/certainty.png', 'predictions/predictions.json'):
    assert (tmp_path / 'runs/squad_v1' / name).is_file()


def test_convert(repo, tmp_path, monkeypatch, capsys):
  # An import of None fails as that of a missing package does.
  for name in ('torch', 'transformers'):
    monkeypatch.setitem(sys.modules, name, None)
  out = printed('convert', repo, tmp_path, monkeypatch, capsys)
  assert "'config.json', 'model.safetensors'" in out
  assert 'nothing to compare with' in out


@pytest.mark.slow
def test_export(repo, tmp_path, monkeypatch, capsys):
  with one_device.used():
    execute(read(repo, 'export'), 'export', tmp_path, monkeypatch)
  out = capsys.readouterr().out
  assert '12 texts to check with and 12 to fold with' in out
  assert 'stablehlo/model.stablehlo: 0.' in out
  assert re.search('stablehlo: (entail|neutral|contra).*: Two hours', out)


@pytest.mark.parity
def test_convert_with_transformers(repo, tmp_path, monkeypatch, capsys):
  pytest.importorskip('transformers')
  out = printed('convert', repo, tmp_path, monkeypatch, capsys)
  assert 'largest difference: ' in out
