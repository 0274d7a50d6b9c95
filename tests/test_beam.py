"""The pipeline of Apache Beam writes what the command writes."""

import os
import subprocess
import sys

import pretraining_text
import pytest
from pretraining_sets import contents, write

from mobilebert_jax.errors import InputError
from mobilebert_jax.pretraining_data import beam


def flags(root, output):
  return [
    f'--input={root / "a.jsonl"}', f'--output={output}', '--max_length=32',
    f'--tokenizer={root / "vocab.txt"}', '--block_size=6000',
    '--masking=static', '--duplicates=2',
  ]  # fmt: skip


@pytest.fixture
def expected(tmp_path):
  """The files of the ordinary command."""
  text = pretraining_text.write_text(tmp_path / 'a.jsonl', 24)
  pretraining_text.write_vocab(tmp_path)
  write(text, tmp_path / 'set', masking='static', duplicates=2)
  return contents(tmp_path / 'set')


def test_without_beam_one_sentence_says_what_to_do(tmp_path, monkeypatch):
  pretraining_text.write_vocab(tmp_path)
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  with pytest.raises(InputError, match=r"extra 'mobilebert_jax\[beam\]'"):
    beam.main(['x', *flags(tmp_path, tmp_path / 'out'), '--runner=Other'])
  assert not (tmp_path / 'out').exists()


@pytest.mark.long
def test_the_pipeline_writes_the_same_bytes(tmp_path, expected, repo):
  pytest.importorskip('apache_beam', exc_type=ImportError)

  def run():
    command = [sys.executable, '-m', 'mobilebert_jax.pretraining_data.beam']
    more = ['--runner=DirectRunner', '--direct_num_workers=2',
            '--direct_running_mode=multi_processing']  # fmt: skip
    return subprocess.run(
      [*command, *flags(tmp_path, tmp_path / 'out'), *more],
      env=os.environ | {'PYTHONPATH': str(repo), 'JAX_PLATFORMS': 'cpu'},
      capture_output=True,
      text=True,
    )

  done = run()
  assert done.returncode == 0, done.stderr
  assert 'tokens in 24 documents.' in done.stdout
  assert contents(tmp_path / 'out') == expected
  # Only what is missing is written again.
  kept = next((tmp_path / 'out').glob('examples-00000-*.array_record'))
  before = kept.stat().st_mtime_ns
  for path in (tmp_path / 'out').glob('examples-00001-*'):
    path.unlink()
  done = run()
  assert done.returncode == 0, done.stderr
  assert contents(tmp_path / 'out') == expected
  assert kept.stat().st_mtime_ns == before
