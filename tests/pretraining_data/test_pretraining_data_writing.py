"""How examples get to disk: the command, its processes, what stops them."""

import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from mobilebert_jax.data.records import prepared, records
from mobilebert_jax.pretraining_data import (
  PretrainingDataOptions,
  __main__,
  blocks,
  writing,
)
from mobilebert_jax.runtime import exit_status, files
from mobilebert_jax.runtime.errors import InputError, RunError
from tests.support import faults, pretraining_text
from tests.support.pretraining_sets import (
  SMALL,
  TOKENIZER,
  contents,
  write,
)


@pytest.mark.slow
def test_any_number_of_processes_and_machines_write_the_same_bytes(
  text, tmp_path, static
):
  expected = contents(static[0])
  options = {'masking': 'static', 'duplicates': 2}
  write(text, tmp_path / 'workers', workers=2, **options)
  assert contents(tmp_path / 'workers') == expected
  shared = tmp_path / 'shards'
  for index in (2, 0):
    assert write(text, shared, (index, 3), **options) is None
  assert prepared.DATASET not in contents(shared)
  with pytest.raises(InputError, match=r'not complete, \d of \d blocks'):
    records.find(shared)
  assert write(text, shared, (1, 3), **options) == static[1]
  assert contents(shared) == expected
  # Another seed, other records.
  write(text, tmp_path / 'seed', seed=1, **options)
  name = prepared.records_name(0, static[1]['blocks'])
  assert contents(tmp_path / 'seed')[name] != expected[name]


def wait_for(happens, seconds=60):
  end = time.monotonic() + seconds
  while not happens():
    assert time.monotonic() < end
    time.sleep(0.02)


KILLED = """
import os, signal
from mobilebert_jax.pretraining_data import __main__, examples
from mobilebert_jax.runtime import exit_status
features = examples.Writer._features
def deadly(self, ids, types, number, index, counts):
  if (number, index) == (2, 7):
    os.kill(os.getpid(), signal.SIGKILL)
  return features(self, ids, types, number, index, counts)
examples.Writer._features = deadly
exit_status.run(__main__.main)
"""


@pytest.mark.slow
def test_a_killed_command_goes_on(text, tmp_path, static, repo, monkeypatch):
  vocab = pretraining_text.write_vocab(tmp_path)
  arguments = [
    f'--input={text}', f'--output={tmp_path / "set"}', '--max_length=32',
    f'--tokenizer={vocab}', '--block_size=6000', '--masking=static',
    '--duplicates=2',
  ]  # fmt: skip
  killed = subprocess.run(
    [sys.executable, '-c', KILLED, *arguments],
    env=os.environ | {'PYTHONPATH': str(repo), 'JAX_PLATFORMS': 'cpu'},
  )
  assert killed.returncode == -signal.SIGKILL
  done = contents(tmp_path / 'set')
  assert 'examples-00001-of-' in ''.join(done) and prepared.DATASET not in done
  # A half-written file has another name.
  third = prepared.records_name(2, static[1]['blocks'])
  assert files.partials(tmp_path / 'set').popitem()[1] == third
  assert third not in done
  first = tmp_path / 'set' / prepared.records_name(0, static[1]['blocks'])
  before = first.stat().st_mtime_ns
  monkeypatch.setattr(sys, 'argv', ['x', *arguments])
  assert exit_status.run(__main__.main) == 0
  assert contents(tmp_path / 'set') == contents(static[0])
  assert first.stat().st_mtime_ns == before


SLOW = """
import time
from mobilebert_jax.pretraining_data import __main__
from mobilebert_jax.pretraining_data import writing
from mobilebert_jax.runtime import exit_status
write = writing.Job.write
class SlowJob(writing.Job):
  def write(self, block):
    if block.number == 1:
      time.sleep(30)
    return write(self, block)
writing.Job = SlowJob
if __name__ == '__main__':
  import sys
  sys.exit(exit_status.run(__main__.main))
"""


def children(pid):
  """The processes that a process has begun, but for its helpers."""
  found = pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
  lines = {
    int(c): pathlib.Path(f'/proc/{c}/cmdline').read_text() for c in found
  }
  return [child for child, line in lines.items() if 'spawn_main' in line]


@pytest.mark.faults
def test_workers_are_killed_or_lose_their_command(
  text, tmp_path, static, repo, monkeypatch
):
  vocab = pretraining_text.write_vocab(tmp_path)
  script = tmp_path / 'slow.py'
  script.write_text(SLOW)
  folder = tmp_path / 'set'
  arguments = [
    f'--input={text}', f'--output={folder}', '--max_length=32',
    f'--tokenizer={vocab}', '--block_size=6000', '--masking=static',
    '--duplicates=2',
  ]  # fmt: skip
  others = static[1]['blocks'] - 1

  def begun():
    """A command whose other blocks are written, and its workers."""
    run = subprocess.Popen(
      [sys.executable, script, *arguments, '--workers=2'],
      env=os.environ | {'PYTHONPATH': str(repo), 'JAX_PLATFORMS': 'cpu'},
      stderr=subprocess.PIPE,
      text=True,
    )
    wait_for(lambda: len(list(folder.glob('examples-*.json'))) == others)
    found = children(run.pid)
    assert len(found) == 2
    return run, found

  run, workers = begun()
  os.kill(workers[0], signal.SIGKILL)
  message = run.communicate(timeout=20)[1]
  assert run.returncode == 1
  assert message.count('\n') == 1 and 'a worker process was killed' in message
  wait_for(lambda: not any(map(faults.is_alive, workers)))
  # One block would need no workers.
  (folder / prepared.counts_name(0, others + 1)).unlink()
  run, workers = begun()
  run.kill()
  run.communicate(timeout=20)
  try:
    wait_for(lambda: not any(map(faults.is_alive, workers)))
  finally:
    for worker in filter(faults.is_alive, workers):
      os.kill(worker, signal.SIGKILL)
  monkeypatch.setattr(sys, 'argv', ['x', *arguments])
  assert exit_status.run(__main__.main) == 0
  assert contents(folder) == contents(static[0])


def test_writers_of_one_block_do_not_meet(text, tmp_path, static, monkeypatch):
  """One ends while another is about to, as when a cluster tries twice."""
  options = PretrainingDataOptions(**SMALL, masking='static', duplicates=2)
  plan = blocks.plan([text], options)
  block = plan.blocks[1]
  job = writing.Job(tmp_path, len(plan.blocks), options, TOKENIZER)
  replace, replaced = os.replace, []

  def overtaken(source, target):
    replaced.append(target)
    if replaced.count(target) == 1:
      job.write(block)
    replace(source, target)

  monkeypatch.setattr(os, 'replace', overtaken)
  job.write(block)
  assert len(replaced) > 3 and len(contents(tmp_path)) == 2
  assert contents(tmp_path).items() < contents(static[0]).items()


def test_what_killed_writers_left_is_removed_where_it_is_in_no_use(
  text, tmp_path
):
  folder = tmp_path / 'set'
  write(text, folder, shard=(0, 2))
  number = json.loads((folder / prepared.SETTINGS).read_text())['blocks']
  targets = (
    prepared.records_name(0, number),
    prepared.counts_name(0, number),
    prepared.records_name(1, number),
  )
  marks = ('', f'{"0a" * 16}.')
  names = [f'{target}.{m}partial' for target in targets for m in marks]

  def left():
    for name in names:
      (folder / name).write_text('x')
    write(text, folder, shard=(0, 2))
    return [name for name in names if (folder / name).exists()]

  # Those of the other shard may be in use, and all where there are others.
  assert left() == names[4:]
  for other in ('shard-1-of-3', 'beam'):
    with writing.only_writer(folder, other):
      assert left() == names
  with writing.only_writer(folder, 'shard-1-of-2'):
    assert left() == names[4:]


def test_counts_of_another_version_are_made_again(text, tmp_path, static):
  folder = tmp_path / 'set'
  shutil.copytree(static[0], folder)
  path = folder / prepared.counts_name(1, static[1]['blocks'])
  counts = json.loads(path.read_text())
  del counts['forced_next']
  path.write_text(json.dumps(counts))
  write(text, folder, masking='static', duplicates=2)
  assert contents(folder) == contents(static[0])


def test_a_full_disk_is_one_sentence_and_leaves_no_half_file(text, tmp_path):
  """A limit on the size of files stands for a disk without room."""
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
  try:
    with pytest.raises(RunError, match=r'array_record cannot be written: .*'
                       'File too large.*; the same command'):  # fmt: skip
      write(text, tmp_path / 'set')
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert list(contents(tmp_path / 'set')) == [prepared.SETTINGS]
  assert write(text, tmp_path / 'set') is not None


def test_a_shard_has_one_writer(text, tmp_path):
  with writing.only_writer(tmp_path / 'set', 'shard-0-of-2'):
    with pytest.raises(InputError, match='in use by another process'):
      write(text, tmp_path / 'set', shard=(0, 2))
    assert write(text, tmp_path / 'set', shard=(1, 2)) is None
  assert write(text, tmp_path / 'set', shard=(0, 2)) is not None
  assert not list((tmp_path / 'set').glob('*.lock'))


def test_another_data_set_is_not_written_over(text, static, tmp_path):
  folder, _ = static
  before = contents(folder)
  with pytest.raises(InputError, match=r'another data set \(duplicates is 2 '
                     'there and 3 here; seed is 12345 there'):  # fmt: skip
    write(text, folder, masking='static', duplicates=3, seed=3)
  changed = pretraining_text.write_text(tmp_path / 'a.jsonl', 12, seed=3)
  with pytest.raises(InputError, match='the text is another one'):
    write(changed, folder, masking='static', duplicates=2)
  assert contents(folder) == before


def run(monkeypatch, capsys, *arguments):
  monkeypatch.setattr(sys, 'argv', ['x', *arguments])
  status = exit_status.run(__main__.main)
  return status, capsys.readouterr()


WRONG = {
  'no flags': ([], 'the flags --input, --output, --tokenizer are m'),
  'no such flag': (['--colour=x'], 'there is no flag --colour; see'),
  'misspelt': (['--inputs=x'], r'no flag --inputs; did you mean --input\?'),
  'a word': (['--max_length=long'], "--max_length is 'long', but must be"),
  'masking': (['--masking=both'], "masking is 'both', but must be one of"),
  'too short': (['--max_length=4'], 'max_length is 4, but must be at least 5'),
  'of static': (['--whole_word'], r'whole_word is True, but must be left'),
  'negative': (['--seed=-1'], '--seed is -1, but must be at least 0'),
  'shard': (['--shard=2/2'], r'--shard=2/2: the first number must be'),
  'no shard': (['--shard=2'], r'--shard=2: write it as 0/8'),
  'no workers': (['--workers=0'], '--workers=0: there must be at least 1'),
  'no input': (['--input=absent'], 'absent: there is no such file or'),
  'twice': (['--input', '{text}', '{text}'], 'the file is named twice'),
  'no column': (
    ['--text_column=body'], r"a.jsonl:1: there is no 'body' \(--text_column\)",
  ),
  'no tokenizer': (['--tokenizer=absent.txt'], 'absent.txt'),
  'a file': (['--output={text}/a.jsonl'], 'a.jsonl is a file; give a dir'),
  'not empty': (['--output={text}'], r'holds something else \(a.jsonl\); name'),
  'one document': (['--input={one}'], 'is one document alone, but pairs'),
  'surrogate': (['--input={bad}'], 'bad.jsonl:2: .* half of a surrogate pair'),
}  # fmt: skip


@pytest.mark.parametrize('case', WRONG)
def test_wrong_flags_and_text_are_one_sentence(
  case, text, tmp_path, monkeypatch, capsys
):
  flags, message = WRONG[case]
  one, bad = tmp_path / 'one.txt', tmp_path / 'bad.jsonl'
  one.write_text('One. Two.\n')
  bad.write_text('{"text": "w1"}\n{"text": "w\\ud800"}\n')
  vocab = pretraining_text.write_vocab(tmp_path)
  places = {'text': text, 'one': one, 'bad': bad}
  flags = [flag.format(**places) for flag in flags]
  usual = [f'--input={text}', f'--output={tmp_path / "set"}',
           f'--tokenizer={vocab}', '--max_length=32']  # fmt: skip
  given = [*usual, *flags] if flags else []
  status, printed = run(monkeypatch, capsys, *given)
  assert status == 2
  assert printed.out == '' and printed.err.count('\n') == 1
  assert printed.err.startswith('error: ')
  with pytest.raises(AssertionError, match=message):
    raise AssertionError(printed.err)
  assert not (tmp_path / 'set').exists()


def test_the_command_says_what_it_did(text, tmp_path, monkeypatch, capsys):
  vocab = pretraining_text.write_vocab(tmp_path)
  flags = [
    f'--input={text}', f'--output={tmp_path / "set"}', '--max_length=32',
    f'--tokenizer={vocab}', '--no-next_sentence', '--block_size=9000',
  ]  # fmt: skip
  status, printed = run(monkeypatch, capsys, *flags, '--shard=0/2')
  assert status == 0 and 'those of other shards are not' in printed.out
  status, printed = run(monkeypatch, capsys, *flags, '--shard=1/2')
  assert status == 0 and 'tokens in 21 documents.' in printed.out
  status, printed = run(monkeypatch, capsys, '--help')
  assert status == 0
  names = [f'--{name}' for name in PretrainingDataOptions.__annotations__]
  told = printed.out.replace('--[no]', '--')
  assert all(name in told for name in names)
