"""What the examples are that are made out of text."""

import dataclasses
import json

import numpy as np
import pytest

from mobilebert_jax import pretraining_data
from mobilebert_jax.data.records import prepared, records
from mobilebert_jax.pretraining_data import PretrainingDataOptions, blocks
from mobilebert_jax.runtime.errors import InputError
from tests.support import pretraining_text
from tests.support.pretraining_sets import (
  SMALL,
  TOKENIZER,
  read_all,
  write,
  write_two_files,
)


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


@pytest.mark.slow
def test_a_file_of_many_documents_is_not_one(tmp_path):
  """It would be one block, which nobody shares and no memory holds."""
  lines = '\n'.join(['One two three. ' * 4] * 40_000)
  (tmp_path / 'a.txt').write_text(lines + '\n')
  (tmp_path / 'b.txt').write_text('\n\n'.join([lines] * 14))
  options = PretrainingDataOptions(**SMALL)
  message = r'b\.txt:1: one document has more than 32,000,000 .* --document'
  with pytest.raises(InputError, match=message):
    blocks.plan([tmp_path], options)
  for change in ({'documents': 'paragraph'}, {'block_size': 2_000_000}):
    changed = dataclasses.replace(options, **change)
    plan = blocks.plan([tmp_path], changed)
    assert plan.documents == (15 if 'documents' in change else 2)


def test_a_block_is_read_in_any_directory(tmp_path, monkeypatch):
  """A worker of a cluster has another one; links keep their names."""
  options = PretrainingDataOptions(**SMALL)
  text = tmp_path / 'text'
  text.mkdir()
  write_two_files(text)
  expected = blocks.plan([text], options)
  for name in ('a', 'b'):
    (text / f'{name}.jsonl').rename(tmp_path / f'{name}-content')
    (text / f'{name}.jsonl').symlink_to(tmp_path / f'{name}-content')
  monkeypatch.chdir(text)
  plan = blocks.plan(['.'], options)
  assert plan == expected
  monkeypatch.chdir(tmp_path)
  found = [d for block in plan.blocks for d in blocks.read(block, options)]
  assert len(found) == 21


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


def predicted(examples):
  """Tokens, places to predict, which of them count; tokens seen and meant."""
  ids = examples.integers('input_ids', 512)
  positions = examples.integers('masked_lm_positions', 77)
  counts = examples.floats('masked_lm_weights', 77) > 0
  seen = np.take_along_axis(ids, positions, axis=1)[counts]
  targets = examples.integers('masked_lm_ids', 77)[counts]
  return ids, positions, counts, seen, targets


@pytest.mark.slow
def test_a_million_tokens_are_masked_as_bert_says(million):
  """15%, and of these 80% [MASK], 10% random, 10% kept, to 0.2 points."""
  examples, summary = million
  _, _, _, seen, targets = predicted(examples)
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


@pytest.mark.slow
def test_no_special_token_is_predicted_or_drawn(million):
  examples, _ = million
  ids, positions, counts, seen, targets = predicted(examples)
  special = list(TOKENIZER.all_special_ids)
  assert not np.isin(targets, special).any()
  others = [i for i in special if i != TOKENIZER.mask_token_id]
  assert not np.isin(seen, others).any()
  # Nothing but what is predicted has become [MASK], each place once.
  masked = (ids == TOKENIZER.mask_token_id).sum()
  assert masked == (seen == TOKENIZER.mask_token_id).sum()
  rows = np.nonzero(counts)[0]
  places = rows * 512 + positions[counts]
  assert len(set(places.tolist())) == len(places)


@pytest.mark.slow
def test_pairs_that_must_be_random_are_counted(text, tmp_path):
  """What has no such is half random: the label is that of `sequences.draw`."""
  forced = tmp_path / 'a.jsonl'
  forced.write_text('{"text": "W1 w2 w3."}\n' * 9)
  counts = write(forced, tmp_path / 'forced')['counts']
  assert counts['forced_next'] == counts['random_next'] == 9
  counts = write(text, tmp_path / 'set', duplicates=20)['counts']
  assert 0 < counts['forced_next'] < counts['random_next']
  others = counts['examples'] - counts['forced_next']
  share = (counts['random_next'] - counts['forced_next']) / others
  assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(others)


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


def test_duplicates_are_other_examples_of_the_same_text(text, tmp_path):
  one = write(text, tmp_path / 'one', block_size=10**9)['counts']
  five = write(text, tmp_path / 'five', duplicates=5, block_size=10**9)
  assert five['counts']['tokens'] == one['tokens']
  assert 4 < five['counts']['examples'] / one['examples'] < 6
  ids = read_all(tmp_path / 'five').integers('input_ids', 32)
  assert len(np.unique(ids, axis=0)) > 0.9 * len(ids)
  # They are mixed: neighbours are of other documents and passes.
  assert (np.diff(ids[:, 1]) != 0).mean() > 0.9


def lines_of(path, *texts):
  path.write_text(''.join(json.dumps({'text': t}) + '\n' for t in texts))
  return path


EMPTY = '\u200b' * 7000


def test_a_block_without_tokens_has_no_records(tmp_path):
  """As of empty pages; one document alone makes no pair."""
  full = 'W1 w2. W3 w4. ' * 500
  texts = [full, full, EMPTY, EMPTY, EMPTY, full, full, full]
  path = lines_of(tmp_path / 'a.jsonl', *texts)
  summary = write(path, tmp_path / 'set')
  per_block = summary['examples_per_block']
  assert [count > 0 for count in per_block] == [True, False, False, True]
  found = records.find(tmp_path / 'set')
  assert len(found) == sum(per_block) and len(found.sources) == 2
  assert write(path, tmp_path / 'set') == summary


UNKNOWN = {
  'another language': (
    ('\u0436 \u0436.', '\u0437.'),
    r"all \d tokens are \[UNK\]; .* text's language",
  ),
  'nothing': ((EMPTY, EMPTY), 'none of the 2 documents has a token'),
  'a document alone': (
    (EMPTY, 'w1', EMPTY), 'of 3 documents one alone has .*--no-next_sentence'
  ),
  'blocks of their own': (
    (*['w1 w1. ' * 70, *[EMPTY] * 50] * 2,), 'the 2 documents .*--block_size'
  ),
}  # fmt: skip


@pytest.mark.parametrize('is_pair', [True, False])
@pytest.mark.parametrize('case', UNKNOWN)
def test_text_that_the_tokenizer_does_not_know(tmp_path, case, is_pair):
  texts, cause = UNKNOWN[case]
  path = lines_of(tmp_path / 'a.jsonl', *texts)
  vocab = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'w1']
  tokenizer = type(TOKENIZER)(vocab={t: i for i, t in enumerate(vocab)})
  options = PretrainingDataOptions(**SMALL, next_sentence=is_pair)
  folder = tmp_path / 'set'
  if case in ('a document alone', 'blocks of their own') and not is_pair:
    pretraining_data.write(options, [path], folder, tokenizer)
    assert len(records.find(folder)) >= 1
    return
  needed = 'two documents with a token' if is_pair else 'a token'
  message = (
    f'no block of the text has {needed} that the tokenizer knows, .* no '
    f'example: {cause}'
  )
  # The same command is told the same.
  for _ in range(2):
    with pytest.raises(InputError, match=message):
      pretraining_data.write(options, [path], folder, tokenizer)
  assert not (folder / prepared.DATASET).exists()
