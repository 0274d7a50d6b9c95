"""The command that makes examples for pre-training out of text."""

import json
import os
import resource
import signal
import subprocess
import sys

import numpy as np
import pretraining_text
import pytest

from mobilebert_jax import exit_status, lock, pretraining_data
from mobilebert_jax.data import prepared, records
from mobilebert_jax.data.tf_example import Examples
from mobilebert_jax.errors import InputError, RunError
from mobilebert_jax.pretraining_data import (
  PretrainingDataOptions,
  __main__,
  blocks,
)

TOKENIZER = pretraining_text.tokenizer()
SMALL = {'max_length': 32, 'block_size': 6000}


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  """Two files of documents, about 35,000 characters in all."""
  folder = tmp_path_factory.mktemp('text')
  pretraining_text.write_text(folder / 'a.jsonl', 12, seed=0)
  pretraining_text.write_text(folder / 'b.jsonl', 9, seed=1)
  return folder


def write(text, output, shard=(0, 1), workers=1, **options):
  return pretraining_data.write(
    PretrainingDataOptions(**{**SMALL, **options}), [text], output, TOKENIZER,
    shard, workers,
  )  # fmt: skip


def contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def read_all(folder):
  found = records.find(folder)
  return Examples(found.read(np.arange(len(found))))


@pytest.fixture(scope='module')
def static(text, tmp_path_factory):
  """A data set with masks."""
  folder = tmp_path_factory.mktemp('static') / 'set'
  return folder, write(text, folder, masking='static', duplicates=2)


def test_blocks_are_whole_documents(text):
  options = PretrainingDataOptions(**SMALL)
  plan = blocks.plan([text], options)
  assert len(plan.blocks) > 3
  found = [list(blocks.read(block, options)) for block in plan.blocks]
  names = [document.id for block in found for document in block]
  expected = [f'a.jsonl:{n}' for n in range(1, 13)]
  assert names == expected + [f'b.jsonl:{n}' for n in range(1, 10)]
  for block in found[:-1]:
    sizes = [len(document.text) for document in block]
    assert len(block) >= 2 and sum(sizes) >= 6000
    assert sum(sizes[:-1]) < 6000 or len(block) == 2
  # Some block has documents of both files.
  assert any(len(block.parts) == 2 for block in plan.blocks)


@pytest.mark.parametrize('unit', ['paragraph', 'line', 'file'])
def test_blocks_of_plain_text(tmp_path, unit):
  for name in ('a', 'b', 'c'):
    lines = '\n\n\n'.join(f'{name}{i}\n{name}{i}.' for i in range(9))
    (tmp_path / f'{name}.txt').write_text(lines + '\n')
  options = PretrainingDataOptions(block_size=20, documents=unit)
  plan = blocks.plan([tmp_path], options)
  found = [d for block in plan.blocks for d in blocks.read(block, options)]
  assert '\n'.join(d.text for d in found).split() == [
    f'{name}{i}{end}' for name in 'abc' for i in range(9) for end in ('', '.')
  ]
  assert len(found) == {'file': 3, 'paragraph': 27, 'line': 54}[unit]
  # The last document joins the block before it if it is alone.
  assert all(block.documents >= 2 for block in plan.blocks)


def test_a_data_set_says_what_it_holds(static):
  folder, summary = static
  assert json.loads((folder / prepared.DATASET).read_text()) == summary
  examples = read_all(folder)
  counts = summary['counts']
  assert counts['examples'] == sum(summary['examples_per_block'])
  assert counts['examples'] == len(examples.integers('input_ids', 32))
  mask = examples.integers('input_mask', 32)
  assert counts['example_tokens'] == mask.sum()
  assert (
    counts['random_next'] == examples.integers('next_sentence_labels').sum()
  )
  assert counts['predicted'] == examples.floats('masked_lm_weights').sum()
  assert summary['documents'] == 21 and summary['blocks'] > 3


def test_records_are_those_of_bert(static):
  examples = read_all(static[0])
  assert examples.names() == [
    'input_ids', 'input_mask', 'masked_lm_ids', 'masked_lm_positions',
    'masked_lm_weights', 'next_sentence_labels', 'segment_ids',
  ]  # fmt: skip
  ids = examples.integers('input_ids', 32)
  mask = examples.integers('input_mask', 32)
  types = examples.integers('segment_ids', 32)
  special = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id
  sizes = mask.sum(axis=1)
  assert (ids[:, 0] == special[0]).all()
  assert ((ids == special[1]).sum(axis=1) == 2).all()
  assert (ids[np.arange(len(ids)), sizes - 1] == special[1]).all()
  assert (ids[mask == 0] == TOKENIZER.pad_token_id).all()
  # [CLS] A [SEP] have type 0, B [SEP] type 1, padding 0.
  first = np.argmax(ids == special[1], axis=1)
  places = np.arange(32)
  inside = (places > first[:, None]) & (places < sizes[:, None])
  np.testing.assert_array_equal(types, inside)


@pytest.fixture(scope='module')
def million(tmp_path_factory):
  """A million tokens in masked records of 512."""
  folder = tmp_path_factory.mktemp('million')
  text = pretraining_text.write_text(folder / 'a.jsonl', 60, 100)
  summary = write(
    text, folder / 'set', masking='static', duplicates=14, max_length=512,
    max_predictions_per_sequence=77, block_size=10**9,
  )  # fmt: skip
  assert summary['counts']['maskable'] > 1_000_000
  return read_all(folder / 'set'), summary


def test_a_million_tokens_are_masked_as_bert_says(million):
  """15%, and of these 80% [MASK], 10% random, 10% kept, to 0.2 points."""
  examples, summary = million
  ids = examples.integers('input_ids', 512)
  positions = examples.integers('masked_lm_positions', 77)
  targets = examples.integers('masked_lm_ids', 77)
  counts = examples.floats('masked_lm_weights', 77) > 0
  seen = np.take_along_axis(ids, positions, axis=1)[counts]
  targets = targets[counts]
  ordinary = (examples.integers('input_mask', 512).sum(axis=1) - 3).sum()
  is_mask, is_kept = seen == TOKENIZER.mask_token_id, seen == targets
  shares = {
    'predicted': len(targets) / ordinary,
    'mask': is_mask.mean(),
    'kept': is_kept.mean(),
    'random': (~is_mask & ~is_kept).mean(),
  }
  expected = {'predicted': 0.15, 'mask': 0.8, 'kept': 0.1, 'random': 0.1}
  for name, share in expected.items():
    assert abs(shares[name] - share) < 0.002, (name, shares[name])
  # What dataset.json says is the same.
  told = summary['counts']
  assert told['maskable'] == ordinary and told['predicted'] == len(targets)
  assert told['masked'] == is_mask.sum() and told['kept'] == is_kept.sum()
  assert told['replaced'] == (~is_mask & ~is_kept).sum()


def test_no_special_token_is_predicted_or_drawn(million):
  examples, _ = million
  ids = examples.integers('input_ids', 512)
  positions = examples.integers('masked_lm_positions', 77)
  targets = examples.integers('masked_lm_ids', 77)
  counts = examples.floats('masked_lm_weights', 77) > 0
  special = list(TOKENIZER.all_special_ids)
  assert not np.isin(targets[counts], special).any()
  seen = np.take_along_axis(ids, positions, axis=1)[counts]
  others = [i for i in special if i != TOKENIZER.mask_token_id]
  assert not np.isin(seen, others).any()
  # Nothing but what is predicted has become [MASK], each place once.
  masked = (ids == TOKENIZER.mask_token_id).sum()
  assert masked == (seen == TOKENIZER.mask_token_id).sum()
  rows = np.nonzero(counts)[0]
  places = rows * 512 + positions[counts]
  assert len(set(places.tolist())) == len(places)


def test_next_sentences_are_balanced(million):
  """Half of the pairs are random, within four standard deviations.

  But for chunks of one sentence alone, of which there are few: sequences have
  512 tokens, or a random length one time in ten.
  """
  labels = million[0].integers('next_sentence_labels', 1)
  assert len(labels) > 2000
  forced = 0.1 * 17 / 510
  bound = 4 * 0.5 / np.sqrt(len(labels)) + forced
  assert abs(labels.mean() - 0.5) < bound


def test_whole_words_are_masked_together(text, tmp_path):
  write(text, tmp_path / 'set', masking='static', whole_word=True,
        duplicates=1)  # fmt: skip
  examples = read_all(tmp_path / 'set')
  ids = examples.integers('input_ids', 32)
  positions = examples.integers('masked_lm_positions', 20)
  counts = examples.floats('masked_lm_weights', 20) > 0
  targets = examples.integers('masked_lm_ids', 20)
  names = TOKENIZER.convert_ids_to_tokens(list(range(len(TOKENIZER))))
  pieces = 0
  for row in range(len(ids)):
    chosen = dict(zip(positions[row][counts[row]], targets[row][counts[row]]))
    old = [chosen.get(i, token) for i, token in enumerate(ids[row])]
    for i, token in enumerate(old):
      if names[token].startswith('##') and old[i - 1] != TOKENIZER.cls_token_id:
        is_split = old[i - 1] == TOKENIZER.sep_token_id
        assert is_split or (i in chosen) == (i - 1 in chosen)
        pieces += i in chosen
  assert pieces > 50


def test_full_sentences_have_one_segment(text, tmp_path):
  summary = write(text, tmp_path / 'set', next_sentence=False,
                  short_probability=0.0)  # fmt: skip
  examples = read_all(tmp_path / 'set')
  assert examples.names() == ['input_ids', 'input_mask', 'segment_ids']
  assert not examples.integers('segment_ids', 32).any()
  # Every token of the text is in one record, and all get [CLS] and [SEP].
  counts = summary['counts']
  assert counts['example_tokens'] == counts['tokens'] + 2 * counts['examples']


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


KILLED = """
import os, signal
from mobilebert_jax.pretraining_data import __main__, examples
from mobilebert_jax import exit_status
features = examples.Writer._features
def deadly(self, ids, types, number, index, counts):
  if (number, index) == (2, 7):
    os.kill(os.getpid(), signal.SIGKILL)
  return features(self, ids, types, number, index, counts)
examples.Writer._features = deadly
exit_status.run(__main__.main, '')
"""


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
  third = f'examples-00002-of-{static[1]["blocks"]:05d}.array_record'
  assert f'{third}.partial' in done and third not in done
  first = tmp_path / 'set' / prepared.records_name(0, static[1]['blocks'])
  before = first.stat().st_mtime_ns
  monkeypatch.setattr(sys, 'argv', ['x', *arguments])
  assert exit_status.run(__main__.main, '') == 0
  assert contents(tmp_path / 'set') == contents(static[0])
  assert first.stat().st_mtime_ns == before


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


def test_duplicates_are_other_examples_of_the_same_text(text, tmp_path):
  one = write(text, tmp_path / 'one', block_size=10**9)['counts']
  five = write(text, tmp_path / 'five', duplicates=5, block_size=10**9)
  assert five['counts']['tokens'] == one['tokens']
  assert 4 < five['counts']['examples'] / one['examples'] < 6
  ids = read_all(tmp_path / 'five').integers('input_ids', 32)
  assert len(np.unique(ids, axis=0)) > 0.9 * len(ids)
  # They are mixed: neighbours are of other documents and passes.
  assert (np.diff(ids[:, 1]) != 0).mean() > 0.9


def run(monkeypatch, capsys, *arguments):
  monkeypatch.setattr(sys, 'argv', ['x', *arguments])
  status = exit_status.run(__main__.main, __main__.__doc__)
  return status, capsys.readouterr()


WRONG = {
  'no flags': ([], 'are required: --input, --output, --tokenizer; see python'),
  'no such flag': (['--inputs=x'], 'there is no flag --inputs=x; see'),
  'a word': (['--max_length=long'], "--max_length: invalid int value: 'long'"),
  'masking': (['--masking=both'], "masking is 'both', but must be one of"),
  'too short': (['--max_length=4'], 'max_length is 4, but must be at least 5'),
  'of static': (['--whole_word'], r'whole_word is True, but must be left'),
  'negative': (['--seed=-1'], 'options.seed is -1, but must be at least 0'),
  'shard': (['--shard=2/2'], r'--shard=2/2: the first number must be'),
  'no shard': (['--shard=2'], r'--shard=2: write it as 0/8'),
  'no workers': (['--workers=0'], '--workers=0: there must be at least 1'),
  'no input': (['--input=absent'], 'absent: there is no such file or'),
  'twice': (['--input', '{text}', '{text}'], 'the file is named twice'),
  'no column': (['--text_column=body'], r"a.jsonl:1: there is no 'body'"),
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


def test_a_shard_has_one_writer(text, tmp_path):
  with lock.only_writer(tmp_path / 'set', 'settings.json.shard-0-of-2.lock'):
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


def test_text_that_the_tokenizer_does_not_know(tmp_path):
  path = tmp_path / 'a.jsonl'
  path.write_text('{"text": "\u0436 \u0436."}\n{"text": "\u0437."}\n' * 9)
  tokenizer = type(TOKENIZER)(vocab={
    t: i for i, t in enumerate(('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'))
  })  # fmt: skip
  with pytest.raises(InputError, match='has no token that the tokenizer knows'):
    pretraining_data.write(
      PretrainingDataOptions(**SMALL), [path], tmp_path / 'set', tokenizer
    )


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
  told = printed.out.replace('--[no-]', '--')
  assert all(name in told for name in names)
