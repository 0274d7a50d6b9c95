"""Files of tokenizers as they are found: read, or refused by their names."""

import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast, comparison
from mobilebert_jax.tokenizer.pretrained import known_vocabulary
from tests.support import mutants

_SPECIAL = '[PAD] [UNK] [CLS] [SEP] [MASK]'.split()
_WORDS = [*_SPECIAL, *'the cafe is open ##s a b c d e f'.split()]
_LOAD = MobileBertTokenizerFast.from_pretrained


@pytest.fixture
def saved(tmp_path):
  MobileBertTokenizerFast(_WORDS).save_pretrained(tmp_path)
  return tmp_path


def _vocab(path, words):
  path.write_text(''.join(f'{word}\n' for word in words), encoding='utf-8')
  return path


def _change(path, **values):
  content = json.loads(path.read_text())
  for name, value in values.items():
    *parents, last = name.split('__')
    inner = content
    for parent in parents:
      inner = inner[parent]
    inner[last] = value
  path.write_text(json.dumps(content))


def test_blank_and_repeated_lines_keep_all_other_ids(tmp_path, caplog):
  """As in transformers, whose ids are [3, 9, 7, 10, 4] here."""
  words = '[PAD] [UNK] - [CLS] [SEP] a [MASK] b - a c - -'.split()
  path = _vocab(tmp_path / 'vocab.txt', [w.strip('-') for w in words])
  with caplog.at_level(logging.WARNING):
    tokenizer = _LOAD(path)
  assert tokenizer('a b c')['input_ids'] == [3, 9, 7, 10, 4]
  assert '3 lines are blank or come again further down (3, 6, 9)' in caplog.text
  assert len(tokenizer) == 11
  tokenizer.save_pretrained(tmp_path / 'again')
  again = _LOAD(tmp_path / 'again')
  assert again('a b c')['input_ids'] == [3, 9, 7, 10, 4]
  assert again.tokens() == tokenizer.tokens()


def test_gaps_in_the_ids_of_a_tokenizer_json(saved, caplog):
  """transformers writes such files for a vocab.txt with repeated lines."""
  (saved / 'vocab.txt').unlink()
  (saved / 'tokenizer_config.json').unlink()
  vocab = {word: i + (i > 6) for i, word in enumerate(_WORDS)}
  _change(saved / 'tokenizer.json', model__vocab=vocab)
  tokenizer = _LOAD(saved)
  assert tokenizer('cafe is open')['input_ids'] == [2, 6, 8, 9, 3]
  assert len(tokenizer) == len(_WORDS) + 1
  assert 'nothing has 1 of its ids, as 7' in caplog.text


def test_a_byte_order_mark_is_no_token(tmp_path):
  path = tmp_path / 'vocab.txt'
  path.write_text('\n'.join(_WORDS), encoding='utf-8-sig')
  assert _LOAD(path).tokens() == _WORDS


@pytest.mark.parametrize(
  ('words', 'text', 'tokens', 'said'),
  [
    (['the', 'cafe', 'ℝ'], 'The Café ℝ', ['the', 'cafe', 'ℝ'], None),
    (['the', 'The', 'Cafe'], 'The Cafe', ['The', 'Cafe'], 'have capitals'),
    (['über', 'uber'], 'Über', ['über'], 'accents stay'),
    (['Über', 'über'], 'Über', ['Über'], 'have capitals'),
    (
      ['NASA', *map('w{}'.format, range(40))],
      'NASA', ['[UNK]'], "capitals ('NASA') are never used",
    ),
  ],
)  # fmt: skip
def test_capitals_and_accents_are_deduced(
  words, text, tokens, said, tmp_path, caplog
):
  path = _vocab(tmp_path / 'vocab.txt', [*_SPECIAL, *words])
  with caplog.at_level(logging.WARNING):
    tokenizer = _LOAD(path)
  assert tokenizer.tokenize(text) == tokens
  assert (said in caplog.text) if said else not caplog.records
  # What is said counts, and is kept.
  caplog.clear()
  forced = _LOAD(path, do_lower_case=True, strip_accents=True)
  assert forced.do_lower_case and forced.strip_accents
  never = 'have capitals' in str(said)
  assert ('capitals and are never used' in caplog.text) == never
  tokenizer.save_pretrained(tmp_path / 'again')
  assert _LOAD(tmp_path / 'again').tokenize(text) == tokens


REFUSED = {
  'sequence beside a white-space splitter': (
    {
      'normalizer': {
        'type': 'Sequence',
        'normalizers': [{'type': 'NFD'}, {'type': 'Lowercase'}],
      },
      'pre_tokenizer': {'type': 'WhitespaceSplit'},
    },
    'normalizer NFD, Lowercase with pre-tokenizer WhitespaceSplit',
  ),
  'clean_text': ({'normalizer__clean_text': False}, r'clean_text is False'),
  'splitter': (
    {'pre_tokenizer': {'type': 'Metaspace'}}, 'pre-tokenizer Metaspace',
  ),
  'frame': (
    {'post_processor': {'type': 'RobertaProcessing'}},
    "post_processor 'RobertaProcessing' does not frame",
  ),
  'ids of the frame': (
    {'post_processor': {'type': 'BertProcessing', 'cls': ['[CLS]', 3],
                        'sep': ['[SEP]', 2]}},
    'with the ids of these tokens',
  ),
  'model setting': ({'model__byte_fallback': True}, 'model.byte_fallback is T'),
  'longest word': (
    {'model__max_input_chars_per_word': '9'}, 'must be a positive integer',
  ),
  'unknown token': ({'model__unk_token': '[MASK]'}, "says '.UNK.' for unk_tok"),
  'flag of a token': (
    {'added_tokens': [{'id': 0, 'content': '[PAD]', 'lstrip': 'x'}]},
    "lstrip of a token is 'x'",
  ),
  'lower case': ({'normalizer__lowercase': False}, 'says True for do_lower_c'),
  'accents': ({'normalizer__strip_accents': False}, 'says True for strip_acc'),
  'vocabulary': (
    {'model__vocab__cafe': 7, 'model__vocab__is': 6},
    'vocab.txt is another vocabulary than tokenizer.json',
  ),
}  # fmt: skip


@pytest.mark.parametrize('case', REFUSED)
def test_what_would_change_ids_is_refused(case, saved):
  changes, message = REFUSED[case]
  _change(saved / 'tokenizer_config.json', strip_accents=True)
  _change(saved / 'tokenizer.json', **changes)
  with pytest.raises(InputError, match=message) as raised:
    _LOAD(saved)
  assert '\n' not in str(raised.value)


def test_sequences_of_one_and_older_frames_are_read(saved):
  normalizer = json.loads((saved / 'tokenizer.json').read_text())['normalizer']
  _change(
    saved / 'tokenizer.json',
    normalizer={'type': 'Sequence', 'normalizers': [normalizer]},
    post_processor={
      'type': 'BertProcessing', 'cls': ['[CLS]', 2], 'sep': ['[SEP]', 3],
    },
  )  # fmt: skip
  assert _LOAD(saved)('The Café')['input_ids'] == [2, 5, 6, 3]


def test_arguments_settle_a_contradiction(saved):
  _change(saved / 'tokenizer_config.json', do_lower_case=False)
  with pytest.raises(InputError, match='make them agree, or pass'):
    _LOAD(saved)
  assert _LOAD(saved, do_lower_case=False).tokenize('Cafe') == ['[UNK]']
  assert _LOAD(saved, do_lower_case=True).tokenize('Cafe') == ['cafe']


def test_added_tokens_beside_tokenizer_json_are_compared(saved, caplog):
  size = len(_LOAD(saved))
  _change(
    saved / 'tokenizer.json',
    added_tokens=[
      *json.loads((saved / 'tokenizer.json').read_text())['added_tokens'],
      {'id': size, 'content': 'new', 'special': False},
    ],
  )
  path = saved / 'added_tokens.json'
  path.write_text(json.dumps({'new': size}))
  assert _LOAD(saved)('new', add_special_tokens=False)['input_ids'] == [size]
  assert not caplog.records
  for added, message in (
    (
      {'new': size + 1},
      f"says {size + 1} for the id of 'new', but .*'new' has the id {size};",
    ),
    (
      {'other': size},
      f"{size} for the id of 'other', but in .* that id is 'new'; delete",
    ),
    ({'new': [size]}, 'expected an integer'),
  ):
    path.write_text(json.dumps(added))
    with pytest.raises(InputError, match=message):
      _LOAD(saved)
  path.write_text(json.dumps({'new': size, 'more': size + 1}))
  assert len(_LOAD(saved)) == size + 1
  assert "1 tokens (the first: 'more') that tokenizer.json" in caplog.text


def test_special_tokens_of_two_files(saved, tmp_path):
  _change(saved / 'special_tokens_map.json', mask_token='[UNK]')
  with pytest.raises(InputError, match=r"'\[MASK\]' for mask_token, but spec"):
    _LOAD(saved)
  # One that is no token at all cannot be meant.
  _change(saved / 'special_tokens_map.json', mask_token='<mask>')
  assert _LOAD(saved).mask_token == '[MASK]'


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({'tokenizer_class': 'BertJapaneseTokenizer'}, 'tokenizer_class is'),
    ({'clean_text': False}, 'clean_text is False'),
    ({'wordpieces_prefix': '@@'}, "wordpieces_prefix is '@@'"),
  ],
)
def test_other_tokenizers_beside_a_vocab_txt(config, message, tmp_path):
  _vocab(tmp_path / 'vocab.txt', _WORDS)
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
  with pytest.raises(InputError, match=message):
    _LOAD(tmp_path)


def test_the_digest_travels_and_tells_another_vocabulary(saved):
  config = json.loads((saved / 'tokenizer_config.json').read_text())
  assert config['vocabulary_digest'] == comparison.digest(_WORDS)
  (saved / 'tokenizer.json').unlink()
  _vocab(saved / 'vocab.txt', [*_SPECIAL, *sorted(_WORDS[5:])])
  with pytest.raises(InputError, match='bring those back, or delete'):
    _LOAD(saved)
  # Where the tokens are lost, the digest still knows them.
  (saved / 'vocab.txt').unlink()
  known = known_vocabulary(saved)
  check = (known, 'the model', 'use its own')
  assert comparison.check([*_WORDS, 'new'], 'x', *check) == ()
  with pytest.raises(InputError, match=r'x has another .*; use its own\.'):
    comparison.check(_WORDS[:-1], 'x', *check)


@pytest.mark.parametrize(
  ('other', 'problem', 'replaced'),
  [
    (['a', 'b', '[unused0]'], None, 0),
    (['a', 'b'], None, 0),
    (['a', 'b', '[unused0]', 'new'], None, 0),
    (['a', 'b', 'new'], None, 1),
    (['b', 'a'], "'b' has the id 0 in it, and not 1", 0),
    (['a', 'x'], "the id 1 is 'x' in it, and not 'b'", 0),
    (['a', 'b', 'new', '[unused0]'], "'[unused0]' has the id 3", 0),
  ],
)
def test_vocabularies_token_by_token(other, problem, replaced):
  result = comparison.compare(['a', 'b', '[unused0]'], other)
  assert result.replaced == replaced or problem
  assert (problem in result.problem) if problem else result.problem is None


@settings(derandomize=True, max_examples=60, database=None, deadline=None)
@given(st.permutations(_WORDS), st.integers(1, len(_WORDS)))
def test_a_vocabulary_that_fits_gives_the_models_ids(order, size):
  other = order[:size]
  fits = comparison.compare(_WORDS, other).problem is None
  assert fits == (other == _WORDS[:size])


def _counts(saved, name, count):
  """Reads damaged copies of a tokenizer's file, with the others beside it."""
  original = (saved / name).read_bytes()

  def read(path):
    return _LOAD(path.parent)('The café is open')

  return mutants.fuzz(read, original, saved / name, count)


_FILES = ('vocab.txt', 'tokenizer.json', 'tokenizer_config.json')


@pytest.mark.parametrize('name', _FILES)
def test_damaged_files(name, saved):
  if name == 'vocab.txt':
    (saved / 'tokenizer.json').unlink()
    _change(saved / 'tokenizer_config.json', vocabulary_digest=None)
  counts = _counts(saved, name, mutants.FEW)
  assert counts['refused'] and sum(counts.values()) == mutants.FEW


@pytest.mark.long
@pytest.mark.parametrize('name', _FILES)
def test_many_damaged_files(name, saved):
  if name == 'vocab.txt':
    (saved / 'tokenizer.json').unlink()
    _change(saved / 'tokenizer_config.json', vocabulary_digest=None)
  print(name, dict(_counts(saved, name, mutants.ALL)))
