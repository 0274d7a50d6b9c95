"""The command that learns a vocabulary out of text."""

import gzip
import json
import sys

import pytest

from mobilebert_jax.pretraining_data import vocabulary
from mobilebert_jax.runtime import exit_status
from mobilebert_jax.tokenizer import MobileBertTokenizerFast

_TEXT = 'Die T\u00fcr ist zu. Die T\u00fcren sind offen, die Fenster auch.\n\n'


@pytest.fixture
def text(tmp_path):
  """A directory with both kinds of files."""
  folder = tmp_path / 'text'
  folder.mkdir()
  (folder / 'a.txt').write_text(_TEXT * 30, encoding='utf-8')
  with gzip.open(folder / 'b.jsonl.gz', 'wt') as file:
    file.write((json.dumps({'body': 'zwei quer quer quer.'}) + '\n') * 30)
  return folder


def run(monkeypatch, capsys, *arguments):
  monkeypatch.setattr(sys, 'argv', ['x', *map(str, arguments)])
  status = exit_status.run(vocabulary.main)
  return status, capsys.readouterr()


def test_a_vocabulary_is_learnt(text, tmp_path, monkeypatch, capsys):
  output = tmp_path / 'new' / 'vocabulary'
  flags = [f'--input={text}', f'--output={output}', '--text_column=body']
  status, printed = run(monkeypatch, capsys, *flags, '--size=150')
  assert status == 0 and f'{output}: a vocabulary of ' in printed.out
  tokenizer = MobileBertTokenizerFast.from_pretrained(output)
  assert len(tokenizer) <= 150
  # Words of both files, without capitals and accents.
  assert {'turen', 'quer'} <= set(tokenizer.get_vocab())
  status, printed = run(monkeypatch, capsys, *flags)
  assert status == 2 and 'is there already' in printed.err


def test_capitals_and_accents_may_stay(text, tmp_path, monkeypatch, capsys):
  status, _ = run(
    monkeypatch, capsys, f'--input={text}', f'--output={tmp_path / "new"}',
    '--text_column=body', '--no-do_lower_case', '--size=200',
  )  # fmt: skip
  tokenizer = MobileBertTokenizerFast.from_pretrained(tmp_path / 'new')
  assert status == 0 and 'T\u00fcren' in tokenizer.get_vocab()


def test_only_so_much_is_read(text):
  few = vocabulary.VocabularyOptions(characters=500, size=150)
  known = vocabulary.learn(few, [text], 'body').get_vocab()
  assert 'fenster' in known and 'quer' not in known


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--size=9'], '--size is 9, but must be at least 100'),
    (
      ['--min_frequenz=3'],
      'no flag --min_frequenz; did you mean --min_frequency?',
    ),
    (
      ['--text_column=content'],
      "b.jsonl.gz:1: there is no 'content' (--text_column)",
    ),
    (['--input=absent'], 'absent: there is no such file or directory'),
  ],
)
def test_what_is_wrong(text, tmp_path, monkeypatch, capsys, flags, message):
  usual = [f'--input={text}', f'--output={tmp_path / "new"}']
  status, printed = run(monkeypatch, capsys, *usual, *flags)
  assert status == 2 and message in printed.err
  assert not (tmp_path / 'new').exists()
