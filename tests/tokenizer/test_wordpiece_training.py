"""Training of a vocabulary."""

import json
import os
import pathlib
import subprocess
import sys

from mobilebert_jax.tokenizer import MobileBertTokenizerFast, train_wordpiece

_TEXTS = [
  'The lower the lowest, the newer the newest.',
  'Lower newer wider, \u00e9t\u00e9 \u5929\u6c14 and 2024!',
  'unaffable affable unaffordable affordable',
] * 3


def test_learns_and_spells(tmp_path, capsys):
  tokenizer = train_wordpiece(_TEXTS, 120, model_max_length=32)
  assert 'learned' in capsys.readouterr().err
  vocab = tokenizer.get_vocab()
  tokens = sorted(vocab, key=vocab.get)
  assert tokens[:5] == ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
  assert 60 < len(tokens) <= 120
  assert tokenizer.pad_token_id == 0 and tokenizer.model_max_length == 32
  assert len(tokenizer.tokenize('lower')) == 1
  for text in _TEXTS:
    assert '[UNK]' not in tokenizer.tokenize(text)
  # Known characters in new words can always be spelled.
  assert (
    tokenizer.decode(tokenizer.encode('dewtools'), skip_special_tokens=True)
    == 'dewtools'
    or 's' not in vocab
  )
  tokenizer.save_pretrained(tmp_path)
  loaded = MobileBertTokenizerFast.from_pretrained(tmp_path)
  assert loaded(_TEXTS) == tokenizer(_TEXTS)


def test_files_equal_texts(tmp_path, capsys):
  path = tmp_path / 'corpus.txt'
  path.write_text('\n'.join(_TEXTS), encoding='utf-8')
  from_file = train_wordpiece([path], 100, progress=False)
  from_texts = train_wordpiece(_TEXTS, 100, progress=False)
  assert from_file.get_vocab() == from_texts.get_vocab()
  assert capsys.readouterr().err == ''


def test_cased_and_limited_alphabet():
  cased = train_wordpiece(
    _TEXTS, 120, do_lower_case=False, limit_alphabet=12, progress=False
  )
  assert 'T' not in cased.get_vocab() and 'e' in cased.get_vocab()
  assert cased.tokenize('\u5929') == ['[UNK]']


def test_same_in_every_process(repo):
  program = (
    'import sys, json; from mobilebert_jax.tokenizer import train_wordpiece;'
    'texts = json.load(sys.stdin);'
    'v = train_wordpiece(texts, 110, limit_alphabet=15, progress=False);'
    'print(json.dumps(sorted(v.get_vocab().items())))'
  )
  outputs = set()
  for seed in ('1', '2'):
    env = {**os.environ, 'PYTHONHASHSEED': seed, 'PYTHONPATH': str(repo)}
    done = subprocess.run(
      [sys.executable, '-c', program],
      input=json.dumps(_TEXTS),
      env=env,
      capture_output=True,
      text=True,
      check=True,
      cwd=pathlib.Path(repo),
    )
    outputs.add(done.stdout)
  here = train_wordpiece(_TEXTS, 110, limit_alphabet=15, progress=False)
  outputs.add(json.dumps(sorted(here.get_vocab().items())) + '\n')
  assert len(outputs) == 1


# Two thousand Chinese signs, each by itself; some often, most of them twice.
_SIGNS = [chr(0x4E00 + i) for i in range(2000)]
_CHINESE = [' '.join(_SIGNS[i : i + 50]) for i in range(0, 2000, 50)] * 2


def unknown(tokenizer, texts):
  rows = tokenizer(texts, add_special_tokens=False)['input_ids']
  return sum(row.count(tokenizer.unk_token_id) for row in rows)


def test_all_characters_that_fit_are_kept(capsys):
  tokenizer = train_wordpiece(_CHINESE, 2500)
  assert len(tokenizer) == 2005 and unknown(tokenizer, _CHINESE) == 0
  assert '2,000 of 2,000 kinds of characters; 0.00%' in capsys.readouterr().err


def test_characters_that_do_not_fit_are_said(capsys):
  tokenizer = train_wordpiece(_CHINESE, 1505)
  assert len(tokenizer) == 1505
  assert '1,500 of 2,000 kinds of characters; 25.00%' in capsys.readouterr().err
  limited = train_wordpiece(_CHINESE, 2500, limit_alphabet=1000)
  assert len(limited) == 1005 and unknown(limited, _CHINESE) == 2000
  assert '1,000 of 2,000 kinds of characters; 50.00%' in capsys.readouterr().err
