"""The tokenizer without transformers: known facts, golden results, files.

Against transformers 4.49 (`tests/golden/compare_tokenizer_v4.py`, 10,000
strings, uncased, cased, accents kept, no CJK words): ids, token types, masks
and offsets equal those of its fast tokenizer everywhere, and what either side
saves the other one loads with equal ids. Its slow tokenizer differs from its
own fast one, and so from this one, in strings with unassigned or very new
characters (Python's Unicode tables drop or split them, Rust's do not), with
U+001C to U+001F (spaces to Python), and, where accents are kept, in strings
that NFC would compose (only the slow one does). Version 4 joins contractions
when decoding ("don't") unless told otherwise, version 5 and this one do not
("don ' t"). `do_basic_tokenize=False` and `never_split` work as in version 4's
slow tokenizer, except that a word of `never_split` may touch punctuation; the
fast tokenizers ignore both.
"""

import copy
import json
import pickle
import threading

import jax
import numpy as np
import pytest

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import (
  AddedToken,
  MobileBertTokenizer,
  MobileBertTokenizerFast,
)

_SMALL = (
  '[PAD] [UNK] [CLS] [SEP] [MASK] un ##want ##ed , runn ##ing hello world ! a '
  'b c d e f . naive ##s'
).split()


@pytest.fixture
def small():
  return MobileBertTokenizerFast(_SMALL)


@pytest.fixture(scope='module')
def full(shared_data):
  return MobileBertTokenizerFast(shared_data / 'vocab' / 'vocab.txt')


def test_both_names_are_one_class():
  assert MobileBertTokenizer is MobileBertTokenizerFast


def test_golden(repo):
  path = repo / 'tests' / 'golden' / 'tokenizer_golden.json'
  golden = json.loads(path.read_text(encoding='utf-8'))
  for case in golden['cases']:
    tokenizer = MobileBertTokenizerFast(golden['vocab'], **case['options'])
    texts = golden['texts'][:: case['texts']]
    encoded = tokenizer(texts, return_offsets_mapping=True, **case['call'])
    expected = dict(case['expected'])
    decoded = expected.pop('decoded', None)
    for name, value in expected.items():
      assert json.loads(json.dumps(encoded[name])) == value
    if decoded is not None:
      assert decoded == tokenizer.batch_decode(
        encoded['input_ids'], skip_special_tokens=True
      )


@pytest.mark.data
def test_facts_of_the_published_vocabulary(full):
  assert full.vocab_size == len(full) == 30522
  ids = ('pad', 'unk', 'cls', 'sep', 'mask')
  assert [getattr(full, f'{name}_token_id') for name in ids] == [
    0, 100, 101, 102, 103,
  ]  # fmt: skip
  encoded = full(
    'A, na\u00efve [MASK] AllenNLP sentence.', return_offsets_mapping=True
  )
  assert encoded.tokens() == (
    '[CLS] a , naive [MASK] allen ##nl ##p sentence . [SEP]'.split()
  )
  assert encoded['offset_mapping'] == [
    (0, 0), (0, 1), (1, 2), (3, 8), (9, 15), (16, 21), (21, 23), (23, 24),
    (25, 33), (33, 34), (0, 0),
  ]  # fmt: skip
  assert full('this is a nice puppet')['input_ids'][0] == 101
  assert full.tokenize('ah\u535a\u63a8zz') == (
    ['ah', '\u535a', '[UNK]', 'z', '##z']
  )


def test_known_tokenizations(small):
  assert small.tokenize('UNwant\u00e9d,running') == (
    'un ##want ##ed , runn ##ing'.split()
  )
  assert small.tokenize(' \tHeLLo!how  \n b') == 'hello ! [UNK] b'.split()
  assert small.tokenize('na\u00efve naives') == ['naive', 'naive', '##s']
  assert small.tokenize('a' * 101) == ['[UNK]']
  assert MobileBertTokenizerFast(_SMALL, do_lower_case=False).tokenize(
    'Hello hello'
  ) == ['[UNK]', 'hello']


def test_single_texts_and_pairs(small):
  single = small('hello world')
  assert single == {
    'input_ids': [2, 11, 12, 3],
    'token_type_ids': [0, 0, 0, 0],
    'attention_mask': [1, 1, 1, 1],
  }
  pair = small('hello', 'a b')
  assert pair.input_ids == [2, 11, 3, 14, 15, 3]
  assert pair.token_type_ids == [0, 0, 0, 1, 1, 1]
  assert small([('hello', 'a b')])['input_ids'] == [pair.input_ids]
  assert small.encode('hello', 'a b') == pair.input_ids
  assert small.build_inputs_with_special_tokens([11], [14, 15]) == (
    pair.input_ids
  )
  assert small.create_token_type_ids_from_sequences([11], [14, 15]) == (
    pair.token_type_ids
  )
  assert small.get_special_tokens_mask([11], [14, 15]) == [1, 0, 1, 0, 0, 1]
  assert small.num_special_tokens_to_add(pair=True) == 3
  assert small([]) == {
    'input_ids': [], 'token_type_ids': [], 'attention_mask': [],
  }  # fmt: skip


def test_padding_and_truncation(small):
  texts = ['a b c d e', 'a']
  longest = small(texts, padding=True)
  assert longest['input_ids'][1] == [2, 14, 3, 0, 0, 0, 0]
  assert longest['attention_mask'][1] == [1, 1, 1, 0, 0, 0, 0]
  left = small(texts, padding=True, padding_side='left', pad_to_multiple_of=4)
  assert left['input_ids'][1] == [0] * 5 + [2, 14, 3]
  cut = small(texts, truncation=True, max_length=4, padding='max_length')
  assert cut['input_ids'] == [[2, 14, 15, 3], [2, 14, 3, 0]]
  # max_length alone cuts, and the state of one call does not reach the next.
  assert small('a b c d e', max_length=3)['input_ids'] == [2, 14, 3]
  assert len(small('a b c d e')['input_ids']) == 7
  pair = small('a b c', 'd e f', truncation='only_second', max_length=7)
  assert pair['input_ids'] == [2, 14, 15, 16, 3, 17, 3]
  limited = MobileBertTokenizerFast(_SMALL, model_max_length=5)
  assert len(limited('a b c d e f', truncation=True)['input_ids']) == 5
  assert len(limited('a', padding='max_length')['input_ids']) == 5


def test_overflow_with_stride(small):
  out = small(
    ['a b c d e f', 'hello'],
    truncation=True,
    max_length=5,
    stride=1,
    return_overflowing_tokens=True,
    return_length=True,
  )
  assert out['input_ids'] == [
    [2, 14, 15, 16, 3], [2, 16, 17, 18, 3], [2, 18, 19, 3], [2, 11, 3],
  ]  # fmt: skip
  assert out['overflow_to_sample_mapping'] == [0, 0, 0, 1]
  assert out['length'] == [5, 5, 4, 3]


def test_words_and_positions(small):
  words = small(['hello', 'unwanted'], is_split_into_words=True)
  assert words.word_ids() == [None, 0, 1, 1, 1, None]
  batch = small(['unwanted world', 'a'], ['b', 'c'])
  assert batch.sequence_ids(0) == [None, 0, 0, 0, 0, None, 1, None]
  assert batch.char_to_token(0, 9) == 4
  assert batch.token_to_chars(0, 4) == (9, 14)
  assert batch.token_to_chars(0, -2) == (0, 1)
  assert batch.word_to_tokens(0, 0) == (1, 4)
  assert batch.word_to_chars(0, 1) == (9, 14)
  assert batch.char_to_word(0, 10) == 1
  assert batch.token_to_word(0, 3) == 0
  assert batch.token_to_sequence(0, 6) == 1
  assert batch.n_sequences == 2
  assert batch[0].tokens == batch.tokens(0)
  assert batch[0:1]['input_ids'] == batch['input_ids'][:1]


def test_arrays(small):
  batch = small(['a b', 'c'], padding=True, return_tensors='np')
  assert {v.dtype for v in batch.values()} == {np.dtype(np.int32)}
  assert batch['input_ids'].shape == (2, 4)
  assert list(dict(**batch)) == [
    'input_ids',
    'token_type_ids',
    'attention_mask',
  ]
  on_device = small('a b', return_tensors='jax')
  assert isinstance(on_device.input_ids, jax.Array)
  assert on_device.input_ids.shape == (1, 4)
  again = pickle.loads(pickle.dumps(batch))
  np.testing.assert_array_equal(again.input_ids, batch.input_ids)


def test_decode(small):
  ids = small('Hello, unwanted world!')['input_ids']
  assert small.decode(ids) == '[CLS] hello, unwanted world! [SEP]'
  assert small.decode(ids, skip_special_tokens=True) == (
    'hello, unwanted world!'
  )
  assert small.decode(np.array([ids, ids])) == [small.decode(ids)] * 2
  assert small.batch_decode([[11], [12]]) == ['hello', 'world']
  assert small.decode(11) == 'hello'
  assert small.decode(np.int32(11)) == 'hello'
  assert small.decode([11, 10_000]) == 'hello'
  assert small.convert_ids_to_tokens([2, 11], skip_special_tokens=True) == (
    ['hello']
  )
  assert small.convert_tokens_to_ids(['hello', 'nosuch']) == [11, 1]
  assert small.clean_up_tokenization("do n't , x") == "don't, x"


def test_pad(small):
  rows = [{'input_ids': [5, 6], 'labels': 1}, {'input_ids': [7], 'labels': 0}]
  assert small.pad(rows) == {
    'input_ids': [[5, 6], [7, 0]],
    'labels': [1, 0],
    'attention_mask': [[1, 1], [1, 0]],
  }
  padded = small.pad(
    {'input_ids': [np.array([5, 6])]}, pad_to_multiple_of=4, return_tensors='np'
  )
  assert padded['input_ids'].tolist() == [[5, 6, 0, 0]]


def test_special_and_added_tokens(small):
  assert small.add_tokens(['new1', 'hello']) == 2
  assert small.add_tokens(['new1', 'hello']) == 0
  assert small.tokenize('a new1 NEW1') == ['a', 'new1', 'new1']
  count = small.add_special_tokens({'additional_special_tokens': ['<ent>']})
  assert count == 1 and small.extra_special_tokens == ['<ent>']
  assert small.vocab_size == len(_SMALL)
  assert len(small) == len(_SMALL) + 2
  ids = small('a <ent>b')['input_ids']
  assert small.decode(ids, skip_special_tokens=True) == 'a b'
  small.add_special_tokens({'cls_token': '<s>'})
  assert small('a')['input_ids'] == [small.cls_token_id, 14, 3]
  assert small.cls_token_id == len(_SMALL) + 2
  small.sep_token = 'b'
  assert small('a')['input_ids'][-1] == 15
  small.pad_token_id = 16
  assert small.pad_token == 'c'
  with pytest.raises(InputError, match="'<no>' is not in the vocabulary"):
    small.mask_token = '<no>'


def test_special_tokens_in_text_can_be_split(small):
  assert small.tokenize('a [MASK]') == ['a', '[MASK]']
  assert '[MASK]' not in small.tokenize('a [MASK]', split_special_tokens=True)


def test_options_of_the_slow_tokenizer():
  raw = MobileBertTokenizer(_SMALL, do_basic_tokenize=False)
  assert raw.tokenize('hello, Hello world!') == ['[UNK]'] * 3
  assert raw.tokenize('unwanted world') == 'un ##want ##ed world'.split()
  cased = [*_SMALL, 'Running']
  kept = MobileBertTokenizer(cased, never_split=['Running'])
  assert kept.tokenize('Running running') == ['Running', 'runn', '##ing']


@pytest.mark.parametrize('options', [{}, {'do_basic_tokenize': False}])
def test_files(tmp_path, options):
  tokenizer = MobileBertTokenizerFast(
    _SMALL,
    do_lower_case=False,
    model_max_length=64,
    padding_side='left',
    strip_accents=True,
    **options,
  )
  tokenizer.add_tokens(['new1', AddedToken('lone', single_word=True)])
  tokenizer.add_special_tokens({'additional_special_tokens': ['<e>']})
  # Neither the state of a call nor an older file may end up in the new ones.
  tokenizer(['a', 'a b'], padding=True, truncation=True, max_length=3)
  files = tokenizer.save_pretrained(tmp_path / 'new')
  assert sorted(path.name for path in files) == sorted(
    path.name for path in (tmp_path / 'new').iterdir()
  )
  text = 'hello na\u00efve new1 lone alone <e> Hello'
  for source in (tmp_path / 'new', tmp_path / 'new' / 'tokenizer.json'):
    loaded = MobileBertTokenizerFast.from_pretrained(source)
    assert loaded(text) == tokenizer(text)
    assert len(loaded) == len(tokenizer)
  loaded = MobileBertTokenizerFast.from_pretrained(tmp_path / 'new')
  assert loaded.model_max_length == 64 and loaded.padding_side == 'left'
  assert loaded.all_special_tokens == tokenizer.all_special_tokens
  other = MobileBertTokenizerFast.from_pretrained(
    tmp_path / 'new', model_max_length=8
  )
  assert other.model_max_length == 8
  # The vocabulary alone, as Google publishes it.
  alone = MobileBertTokenizerFast.from_pretrained(tmp_path / 'new/vocab.txt')
  assert alone.get_vocab() == MobileBertTokenizerFast(_SMALL).get_vocab()
  saved = json.loads((tmp_path / 'new' / 'tokenizer.json').read_text())
  assert saved['padding'] is None and saved['truncation'] is None


def test_legacy_files(tmp_path):
  (tmp_path / 'vocab.txt').write_text('\n'.join(_SMALL) + '\n')
  (tmp_path / 'added_tokens.json').write_text(
    json.dumps({'new1': len(_SMALL), '<e>': len(_SMALL) + 1})
  )
  (tmp_path / 'special_tokens_map.json').write_text(
    json.dumps({
      'additional_special_tokens': ['<e>'],
      'mask_token': {'content': '[MASK]', 'lstrip': True},
    })
  )  # fmt: skip
  loaded = MobileBertTokenizerFast.from_pretrained(tmp_path)
  assert len(loaded) == len(_SMALL) + 2
  assert loaded.tokenize('a new1<e>') == ['a', 'new1', '<e>']
  assert loaded.all_special_tokens[-1] == '<e>'


def test_windows_line_ends_and_odd_tokens(tmp_path):
  path = tmp_path / 'vocab.txt'
  path.write_bytes('\r\n'.join([*_SMALL, 'x\u2028y', '']).encode())
  assert len(MobileBertTokenizerFast(path)) == len(_SMALL) + 1


def test_copies_and_threads(small):
  texts = ['a b c d e f'] * 50
  results = {}
  shared = pickle.loads(pickle.dumps(copy.deepcopy(small)))

  def work(length):
    for _ in range(20):
      rows = shared(texts, truncation=True, max_length=length)['input_ids']
      results.setdefault(length, set()).update(len(row) for row in rows)

  threads = [threading.Thread(target=work, args=(n,)) for n in (3, 5, 8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert results == {3: {3}, 5: {5}, 8: {8}}
