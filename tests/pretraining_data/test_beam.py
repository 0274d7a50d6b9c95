"""The pipeline of Apache Beam writes what the command writes."""

import os
import subprocess
import sys

import pytest

from mobilebert_jax.pretraining_data import beam
from mobilebert_jax.runtime.errors import InputError
from tests.support import pretraining_text
from tests.support.pretraining_sets import contents, write


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


MISSPELT = {
  '--max_lenght=512': r'no flag --max_lenght; did you mean --max_length\?',
  '--max-lenght=512': 'did you mean --max_length',
  '--tokeniser=x': 'did you mean --tokenizer',
  '--no_next_sentense': r'did you mean --next_sentence\?',
  '--mask_prob=0.2': 'did you mean --mask_probability',
  '--shard=0/2': 'no flag --shard here: the runner divides the work',
  '--workers=8': 'no flag --workers here.*--direct_num_workers or',
  '--worker=8': 'no flag --worker here: the runner',
}


@pytest.mark.parametrize('flag', MISSPELT)
def test_flags_that_are_ours_do_not_go_to_the_runner(flag, tmp_path):
  given = ['x', *flags(tmp_path, tmp_path / 'out'), '--runner=X', flag]
  with pytest.raises(InputError, match=MISSPELT[flag]):
    beam.main(given)


def test_flags_of_runners_go_there(tmp_path):
  pretraining_text.write_vocab(tmp_path)
  rest = [
    '--runner=DirectRunner', '--direct_num_workers=2', '--num_workers', '4',
    '--max_num_workers=8', '--worker_machine_type=n1', '--worker_zone=a',
    '--temp_location=gs://b/tmp', '--output_executable_path=x', '--project=p',
    '--sdk_container_image=i', '--job_name=max_lenght', '--no_auth', '--',
  ]  # fmt: skip
  given = beam.COMMAND.parse([*flags(tmp_path, 'out'), *rest])
  assert given.others == tuple(rest) and given['max_length'] == 32


def test_other_spellings_of_our_flags(tmp_path):
  more = ['--max-length=16', '--no_next_sentence', '--runner=X']
  given = beam.COMMAND.parse([*flags(tmp_path, 'out'), *more])
  assert given['max_length'] == 16 and given['next_sentence'] is False
  assert given.others == ('--runner=X',)


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
