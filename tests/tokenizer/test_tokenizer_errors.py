"""Every wrong input of the tokenizer is told in one sentence."""

import json

import numpy as np
import pytest

from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tokenizer import MobileBertTokenizerFast, train_wordpiece

_VOCAB = '[PAD] [UNK] [CLS] [SEP] [MASK] a b c ##d'.split()
_T = MobileBertTokenizerFast(_VOCAB)

_CALLS = {
  'none': (lambda: _T(None), 'text is None; give a string'),
  'number': (lambda: _T(3), 'text is the number 3'),
  'number in batch': (lambda: _T(['a', 3]), r'text\[1\] is the number 3'),
  'none in batch': (lambda: _T(['a', None]), r'text\[1\] is None'),
  'nan in batch': (
    lambda: _T(['a', 'b', float('nan')]),
    r'text\[2\] is the number nan',
  ),
  'array': (lambda: _T(np.array(['a'])), 'text is of type ndarray'),
  'bytes': (lambda: _T([b'a']), r'text\[0\] is of type bytes'),
  'three texts': (lambda: _T([['a', 'b', 'c']]), r'text\[0\] is of type list'),
  'pair in pair': (lambda: _T('a', 5), 'text_pair is the number 5'),
  'wrong pair': (
    lambda: _T(['a', 'b'], ['c', None]),
    r'text_pair\[1\] is None',
  ),
  'pair count': (lambda: _T(['a', 'b'], ['c']), '2 items, but text_pair 1'),
  'pair string': (lambda: _T(['a'], 'c'), 'text_pair must be one too'),
  'surrogate': (
    lambda: _T(['a', 'b\ud800']),
    r'text\[1\] has half of a surrogate pair at character 1',
  ),
  'not split': (
    lambda: _T('a b', is_split_into_words=True),
    'a text must be a list of words',
  ),
  'number as word': (
    lambda: _T([['a', 1]], is_split_into_words=True),
    r'text\[0\]\[1\] is the number 1; a word',
  ),
  'padding name': (
    lambda: _T('a', padding='longer'),
    "padding must be True, False or one of 'longest'",
  ),
  'truncation name': (
    lambda: _T('a', truncation='first'),
    'truncation must be True, False or one of',
  ),
  'padding side': (
    lambda: _T('a', padding_side='top'),
    "padding_side must be 'right' or 'left'",
  ),
  'tensors': (
    lambda: _T('a', return_tensors='pt'),
    "return_tensors must be None, 'np' or 'jax', got 'pt'",
  ),
  'ragged': (
    lambda: _T(['a', 'a b'], return_tensors='np'),
    'rows of different lengths.*padding=True',
  ),
  'length zero': (
    lambda: _T('a', truncation=True, max_length=0),
    'max_length must be an integer >= 1, got 0',
  ),
  'length text': (
    lambda: _T('a', max_length='8'),
    "max_length must be an integer >= 1, got '8'",
  ),
  'no room': (
    lambda: _T('a', 'b', truncation=True, max_length=2),
    'max_length=2 has no room for the 3 special tokens',
  ),
  'stride': (
    lambda: _T('a b c', truncation=True, max_length=4, stride=2),
    'stride=2 must be smaller than the 2 tokens',
  ),
  'stride of pair': (
    lambda: _T(
      'a a', 'b b b b b', truncation='only_second', max_length=8, stride=3
    ),
    'stride=3 must be smaller than the 3 tokens',
  ),
  'stride negative': (
    lambda: _T('a', stride=-1),
    'stride must be an integer >= 0, got -1',
  ),
  'multiple': (
    lambda: _T(
      'a', truncation=True, padding=True, max_length=9, pad_to_multiple_of=8
    ),
    'max_length=9 must be a multiple of pad_to_multiple_of=8',
  ),
  'second missing': (
    lambda: _T('a b c', truncation='only_second', max_length=3),
    "truncation='only_second' needs a second text",
  ),
  'first too short': (
    lambda: _T('a', 'b b b b', truncation='only_first', max_length=5),
    "'only_first' cannot bring a row to max_length=5",
  ),
  'negative id': (lambda: _T.decode([5, -100]), 'id 1 is -100'),
  'float id': (lambda: _T.decode([5.0]), 'id 0 is 5.0; it must be an integer'),
  'token number': (
    lambda: _T.convert_tokens_to_ids([5]),
    'a token must be a string, got 5',
  ),
  'pad no ids': (lambda: _T.pad({'labels': [1]}), "pad.. needs 'input_ids'"),
  'pad names': (
    lambda: _T.pad([{'input_ids': [1]}, {'input_ids': [1], 'x': 1}]),
    r"example 1 has the names \['input_ids', 'x'\]",
  ),
  'pad too long': (
    lambda: _T.pad({'input_ids': [[1, 2]]}, 'max_length', max_length=1),
    'row 0 has 2 tokens, more than the 1',
  ),
  'pad mask': (
    lambda: _T.pad({'input_ids': [[1, 2]], 'attention_mask': [[1]]}),
    "row 0 of 'attention_mask' has 1 values, but its input_ids 2",
  ),
  'words of padded': (
    lambda: _T.pad({'input_ids': [[1]]}).word_ids(),
    'does not come from text',
  ),
  'special name': (
    lambda: _T.add_special_tokens({'bos': 'x'}),
    "'bos' is no special token; choose from",
  ),
  'special value': (
    lambda: _T.add_special_tokens({'cls_token': 3}),
    'cls_token: a token must be a string',
  ),
  'added number': (
    lambda: _T.add_tokens(['x', 3]),
    r'new_tokens\[1\]: a token must be a string, got 3',
  ),
}
_NEW = MobileBertTokenizerFast
_MAKING = {
  'nothing': (lambda: _NEW(), 'give a vocabulary'),
  'no file': (lambda: _NEW('no/vocab.txt'), 'no/vocab.txt is no file'),
  'no tokenizer file': (
    lambda: _NEW(tokenizer_file='no.json'),
    'tokenizer_file: no.json is no file',
  ),
  'number': (lambda: _NEW(5), 'must be a file name, a dict or a list, got int'),
  'twice': (lambda: _NEW([*_VOCAB, 'a']), "has the token 'a' twice"),
  'empty token': (lambda: _NEW([*_VOCAB, '']), 'strings that are not empty'),
  'gap': (
    lambda: _NEW({**{t: i for i, t in enumerate(_VOCAB)}, 'x': 99}),
    'must be 0 to 9 without gaps, 9 is missing',
  ),
  'no unk': (
    lambda: _NEW([t for t in _VOCAB if t not in ('[UNK]', '[CLS]')]),
    r"lacks '\[UNK\]' \(unk_token\), '\[CLS\]' \(cls_token\)",
  ),
  'lower case': (
    lambda: _NEW(_VOCAB, do_lower_case='yes'),
    "do_lower_case must be True or False, got 'yes'",
  ),
  'side': (
    lambda: _NEW(_VOCAB, truncation_side='up'),
    "truncation_side must be 'right' or 'left'",
  ),
  'model length': (
    lambda: _NEW(_VOCAB, model_max_length=-1),
    'model_max_length must be a positive integer, got -1',
  ),
  'never split': (
    lambda: _NEW(_VOCAB, never_split=['zebra']),
    "never_split: 'zebra' is not in the vocabulary",
  ),
  'two sources': (lambda: _NEW(_VOCAB, vocab=_VOCAB), 'not both'),
  'train nothing': (
    lambda: train_wordpiece([], progress=False),
    'has no text to learn from',
  ),
  'train string': (
    lambda: train_wordpiece('a text', progress=False),
    'must be a list of texts',
  ),
  'train number': (
    lambda: train_wordpiece(['a', 3], progress=False),
    r'texts_or_files\[1\] is 3',
  ),
  'train small': (
    lambda: train_wordpiece(['abc abd'], 8, progress=False),
    'vocab_size=8 is too small',
  ),
  'train size': (
    lambda: train_wordpiece(['a'], 0, progress=False),
    'vocab_size must be a positive integer',
  ),
}


@pytest.mark.parametrize('case', [*_CALLS, *(f'make {n}' for n in _MAKING)])
def test_one_sentence(case):
  run, message = (
    _CALLS[case] if case in _CALLS else _MAKING[case.removeprefix('make ')]
  )
  with pytest.raises(InputError, match=message) as caught:
    run()
  assert '\n' not in str(caught.value)


_JSON = json.loads(_T.backend_tokenizer.to_str())
_FILES = {
  'vocab.txt': (
    ('', 'the vocabulary is empty'),
    (b'[PAD]\n\xff\xfe\n', r'not a vocabulary in UTF-8 \(byte 6\)'),
    ('[PAD]\n[UNK]\n', r"lacks '\[SEP\]' \(sep_token\)"),
  ),
  'tokenizer.json': (
    ('{"model": ', r'tokenizer.json:1: cannot be read as JSON'),
    ('[]', 'holds no JSON object'),
    ('{}', 'has no model'),
    (
      json.dumps({**_JSON, 'model': {'type': 'BPE', 'vocab': {}}}),
      'the model is BPE',
    ),
    (
      json.dumps({**_JSON, 'normalizer': {'type': 'NFC'}}),
      'normalizer NFC with pre-tokenizer BertPreTokenizer is not how BERT',
    ),
    (
      json.dumps({**_JSON, 'model': {**_JSON['model'], 'vocab': {'a': 1}}}),
      'ids of 1 tokens must be 0 to 0',
    ),
    (
      json.dumps({
        **_JSON,
        'added_tokens': [{'id': 50, 'content': 'far', 'special': False}],
      }),
      "added token 'far' has the id 50, but it gets 9",
    ),
  ),
}  # fmt: skip


@pytest.mark.parametrize('name', _FILES)
def test_corrupt_files(tmp_path, name):
  for content, message in _FILES[name]:
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    for source in (tmp_path, tmp_path / name):
      with pytest.raises(InputError, match=message) as caught:
        MobileBertTokenizerFast.from_pretrained(source)
      assert '\n' not in str(caught.value)


def test_wrong_settings(tmp_path):
  _T.save_pretrained(tmp_path)
  path = tmp_path / 'tokenizer_config.json'
  config = json.loads(path.read_text())
  for change, message in (
    ({'do_lower_case': 'yes'}, "do_lower_case has the wrong type: 'yes'"),
    ({'model_max_length': -3}, 'must be a positive integer, got -3'),
    ({'mask_token': 3}, 'mask_token: a token must be a string'),
    ({'mask_token': '<m>'}, "lacks '<m>' .mask_token"),
    ({'added_tokens_decoder': {'x': 'y'}}, "'x' is no id"),
  ):
    path.write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=message):
      MobileBertTokenizerFast.from_pretrained(tmp_path)


def test_nowhere(tmp_path):
  with pytest.raises(InputError, match=r'neither tokenizer\.json nor'):
    MobileBertTokenizerFast.from_pretrained(tmp_path)
  with pytest.raises(InputError, match=r'no\.txt is no file'):
    MobileBertTokenizerFast.from_pretrained(tmp_path / 'no.txt')
  (tmp_path / 'file').write_text('')
  with pytest.raises(InputError, match='is a file; give a directory'):
    _T.save_pretrained(tmp_path / 'file')
  (tmp_path / 'text').write_bytes(b'good\n\xff\n')
  with pytest.raises(InputError, match='text:2: not UTF-8'):
    train_wordpiece([tmp_path / 'text'], progress=False)
  with pytest.raises(InputError, match=r'is the name of a file; pass pathlib'):
    train_wordpiece([str(tmp_path / 'text')], progress=False)
