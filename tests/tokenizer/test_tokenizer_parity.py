"""Equality with transformers' MobileBERT (BERT) tokenizers, live.

transformers 5 has one implementation, `BertTokenizer`, under all four names.
`tests/golden/compare_tokenizer_v4.py` repeats the comparison against 4.49.
"""

import json

import numpy as np
import pytest

from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from tests.support import varied_text

pytestmark = pytest.mark.parity

_VARIANTS = {
  'uncased': {},
  'cased': {'do_lower_case': False},
  'accents kept': {'strip_accents': False},
  'cased without accents': {'do_lower_case': False, 'strip_accents': True},
  'no CJK words': {'tokenize_chinese_chars': False},
}
_EVERYTHING = {
  'return_offsets_mapping': True,
  'return_special_tokens_mask': True,
  'return_length': True,
}


@pytest.fixture(scope='module')
def vocab_file(shared_data):
  return shared_data / 'vocab' / 'vocab.txt'


@pytest.fixture(scope='module')
def strings():
  return varied_text.varied_strings(10_000)


def _reference(vocab_file, **options):
  transformers = pytest.importorskip('transformers')
  name = 'MobileBertTokenizerFast'
  cls = getattr(transformers, name, transformers.BertTokenizerFast)
  return cls(str(vocab_file), **options)


def _as_dict(encoding):
  return json.loads(json.dumps(dict(encoding)))


@pytest.mark.data
@pytest.mark.parametrize('variant', _VARIANTS)
def test_ten_thousand_strings(vocab_file, strings, variant):
  options = _VARIANTS[variant]
  ours = MobileBertTokenizerFast(vocab_file, **options)
  theirs = _reference(vocab_file, **options)
  a = ours(strings, **_EVERYTHING)
  b = theirs(strings, **_EVERYTHING)
  assert dict(a) == dict(b)
  for row in range(0, len(strings), 7):
    assert a.word_ids(row) == b.word_ids(row)
    assert a.tokens(row) == b.tokens(row)
    assert a.sequence_ids(row) == b.sequence_ids(row)
  for skip in (False, True):
    for clean in (None, False, True):
      kwargs = {
        'skip_special_tokens': skip,
        'clean_up_tokenization_spaces': clean,
      }
      assert ours.batch_decode(a['input_ids'], **kwargs) == (
        theirs.batch_decode(b['input_ids'], **kwargs)
      )


_CALLS = (
  {'truncation': True, 'max_length': 12},
  {'max_length': 9},
  {'truncation': True, 'max_length': 17, 'padding': True},
  {'truncation': True, 'max_length': 16, 'padding': 'max_length'},
  {
    'truncation': True,
    'max_length': 24,
    'padding': 'longest',
    'pad_to_multiple_of': 8,
    'padding_side': 'left',
  },
  {'padding': True},
  {'padding': True, 'pad_to_multiple_of': 16},
  {'add_special_tokens': False},
  {'split_special_tokens': True},
  {'return_token_type_ids': False, 'return_attention_mask': False},
  {
    'truncation': True,
    'max_length': 20,
    'stride': 5,
    'return_overflowing_tokens': True,
  },
  {
    'truncation': 'only_first',
    'max_length': 30,
    'return_overflowing_tokens': True,
    'padding': 'max_length',
  },
)


@pytest.mark.data
@pytest.mark.parametrize('call', range(len(_CALLS)))
@pytest.mark.parametrize('paired', [False, True])
def test_calls(vocab_file, strings, call, paired):
  kwargs = _CALLS[call]
  ours = MobileBertTokenizerFast(vocab_file)
  theirs = _reference(vocab_file)
  texts, pairs = strings[:1500], None
  if paired:
    pairs = strings[1500:3000]
    # Second texts that the strategy cannot get rid of are errors in both.
    short = [len(ours.tokenize(p)) < 6 for p in pairs]
    texts = [t for t, ok in zip(texts, short) if ok]
    pairs = [p for p, ok in zip(pairs, short) if ok]
    if kwargs.get('stride'):
      kwargs = {**kwargs, 'truncation': 'only_first'}
  a = ours(texts, pairs, **kwargs, **_EVERYTHING)
  b = theirs(texts, pairs, **kwargs, **_EVERYTHING)
  assert dict(a) == dict(b)


@pytest.mark.data
@pytest.mark.parametrize('stride', [0, 1, 3])
@pytest.mark.parametrize(
  'truncation', ['longest_first', 'only_first', 'only_second']
)
@pytest.mark.parametrize('side', ['right', 'left'])
def test_overflow_of_pairs(vocab_file, truncation, stride, side):
  ours = MobileBertTokenizerFast(vocab_file, truncation_side=side)
  theirs = _reference(vocab_file, truncation_side=side)
  sizes = [(a, b) for a in (0, 1, 4, 5, 9, 23) for b in (0, 1, 4, 6, 10, 31)]
  for first, second in sizes:
    for max_length in (8, 11, 16):
      args = (['a'] * first, ['b'] * second)
      text = tuple(' '.join(words) for words in args)
      kwargs = {
        'truncation': truncation,
        'max_length': max_length,
        'stride': stride,
        'return_overflowing_tokens': True,
        'return_offsets_mapping': True,
      }
      try:
        a = dict(ours([text[0]], [text[1]], **kwargs))
      except ValueError as error:
        # The reference panics or raises in exactly these cases.
        assert 'stride' in str(error) or 'other text' in str(error)
        with pytest.raises(BaseException, match=r'stride|too short'):
          theirs([text[0]], [text[1]], **kwargs)
        continue
      assert a == dict(theirs([text[0]], [text[1]], **kwargs))


@pytest.mark.data
def test_single_texts_and_words(vocab_file, strings):
  ours = MobileBertTokenizerFast(vocab_file)
  theirs = _reference(vocab_file)
  for text, pair in zip(strings[:300], strings[300:600]):
    assert dict(ours(text)) == dict(theirs(text))
    assert dict(ours(text, pair, **_EVERYTHING)) == dict(
      theirs(text, pair, **_EVERYTHING)
    )
    assert ours.tokenize(text, pair) == theirs.tokenize(text, pair)
    assert ours.encode(text, max_length=7) == theirs.encode(text, max_length=7)
    words = text.split()
    a = ours(words, is_split_into_words=True, **_EVERYTHING)
    b = theirs(words, is_split_into_words=True, **_EVERYTHING)
    assert dict(a) == dict(b)
    assert a.word_ids() == b.word_ids()
    a = ours([words], [pair.split()], is_split_into_words=True)
    b = theirs([words], [pair.split()], is_split_into_words=True)
    assert dict(a) == dict(b)
    assert a.sequence_ids(0) == b.sequence_ids(0)


@pytest.mark.data
def test_positions(vocab_file):
  text = 'A, na\u00efve [MASK] AllenNLP sentence. \U0001f600 unaffable'
  a = MobileBertTokenizerFast(vocab_file)([text], ['na\u00efve pair'])
  b = _reference(vocab_file)([text], ['na\u00efve pair'])
  for token in range(len(a['input_ids'][0])):
    assert a.token_to_chars(0, token) == b.token_to_chars(0, token)
    assert a.token_to_word(0, token) == b.token_to_word(0, token)
    assert a.token_to_sequence(0, token) == b.token_to_sequence(0, token)
  for char in range(len(text)):
    assert a.char_to_token(0, char) == b.char_to_token(0, char)
    assert a.char_to_word(0, char) == b.char_to_word(0, char)
  for word in range(9):
    assert a.word_to_tokens(0, word) == b.word_to_tokens(0, word)
    assert a.word_to_chars(0, word) == b.word_to_chars(0, word)


@pytest.mark.data
def test_pad_arrays_and_tokens(vocab_file):
  ours = MobileBertTokenizerFast(vocab_file)
  theirs = _reference(vocab_file)
  rows = [{'input_ids': [5, 6, 7], 'token_type_ids': [0, 0, 1], 'labels': 1}]
  rows.append({'input_ids': [8], 'token_type_ids': [0], 'labels': 0})
  for kwargs in (
    {},
    {'padding': 'max_length', 'max_length': 6},
    {'pad_to_multiple_of': 4, 'padding_side': 'left'},
    {'padding': False, 'return_attention_mask': False},
  ):
    assert dict(ours.pad(rows, **kwargs)) == dict(theirs.pad(rows, **kwargs))
  a = ours(['a b', 'c'], padding=True, return_tensors='np')
  b = theirs(['a b', 'c'], padding=True, return_tensors='np')
  for name in b:
    np.testing.assert_array_equal(a[name], b[name])
    assert a[name].dtype == np.int32
  ids = ours('a [MASK] b')['input_ids']
  for skip in (False, True):
    assert ours.convert_ids_to_tokens(ids, skip) == (
      theirs.convert_ids_to_tokens(ids, skip)
    )
  tokens = ['a', '##b', 'nosuchtoken', '[MASK]']
  assert ours.convert_tokens_to_ids(tokens) == (
    theirs.convert_tokens_to_ids(tokens)
  )
  assert ours.convert_tokens_to_string(tokens) == (
    theirs.convert_tokens_to_string(tokens)
  )
  assert ours.get_special_tokens_mask(
    ids, already_has_special_tokens=True
  ) == theirs.get_special_tokens_mask(ids, already_has_special_tokens=True)


@pytest.mark.data
@pytest.mark.parametrize('variant', _VARIANTS)
def test_files_both_ways(vocab_file, strings, tmp_path, variant):
  transformers = pytest.importorskip('transformers')
  options = _VARIANTS[variant]
  texts = strings[:2000]
  ours = MobileBertTokenizerFast(
    vocab_file, model_max_length=77, padding_side='left', **options
  )
  theirs = _reference(vocab_file, model_max_length=77, **options)
  for tokenizer in (ours, theirs):
    tokenizer.add_tokens(['newword', 'Caf\u00e9Bar'])
    tokenizer.add_special_tokens({'additional_special_tokens': ['<ent>']})
  texts += ['a newword NewWord x', 'Caf\u00e9Bar caf\u00e9bar', '<ent>a <ENT>']
  ours.save_pretrained(tmp_path / 'ours')
  theirs.save_pretrained(tmp_path / 'theirs')
  expected = dict(theirs(texts, return_offsets_mapping=True))
  assert dict(ours(texts, return_offsets_mapping=True)) == expected
  for loaded in (
    transformers.AutoTokenizer.from_pretrained(tmp_path / 'ours'),
    transformers.BertTokenizerFast.from_pretrained(tmp_path / 'ours'),
    MobileBertTokenizerFast.from_pretrained(tmp_path / 'ours'),
    MobileBertTokenizerFast.from_pretrained(tmp_path / 'theirs'),
  ):
    assert dict(loaded(texts, return_offsets_mapping=True)) == expected
    assert loaded.model_max_length == 77
    assert len(loaded) == len(ours) == vocab_size(vocab_file) + 3
    assert loaded.all_special_tokens == theirs.all_special_tokens
    rows = loaded(texts)['input_ids']
    assert loaded.batch_decode(rows, skip_special_tokens=True) == (
      theirs.batch_decode(rows, skip_special_tokens=True)
    )


def vocab_size(path):
  return len(path.read_text(encoding='utf-8').rstrip('\n').split('\n'))


def test_a_vocabulary_with_blank_and_repeated_lines(tmp_path):
  words = '[PAD] [UNK] - [CLS] [SEP] a [MASK] b - a c - -'.split()
  path = tmp_path / 'vocab.txt'
  path.write_text(''.join(f'{word.strip("-")}\n' for word in words))
  ours = MobileBertTokenizerFast.from_pretrained(path)
  theirs = _reference(path)
  for text in ('a b c', 'c x', '[MASK] a'):
    assert ours(text)['input_ids'] == theirs(text)['input_ids']


def test_the_digest_of_the_vocabulary_is_left_alone(vocab_file, tmp_path):
  transformers = pytest.importorskip('transformers')
  ours = MobileBertTokenizerFast(str(vocab_file))
  ours.save_pretrained(tmp_path / 'ours')
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / 'ours')
  theirs.save_pretrained(tmp_path / 'theirs')
  name = 'tokenizer_config.json'
  one, other = (
    json.loads((tmp_path / directory / name).read_text())
    for directory in ('ours', 'theirs')
  )
  assert one['vocabulary_digest'] == other['vocabulary_digest']
  again = MobileBertTokenizerFast.from_pretrained(tmp_path / 'theirs')
  assert again.tokens() == ours.tokens()
