import bz2
import gzip
import json
import lzma

import pytest

from mobilebert_jax.data.readers import documents, lines, remarks
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.data.readers.documents import (
  Document,
  hold_out,
  read_documents,
)
from mobilebert_jax.runtime.errors import InputError

TEXT = 'One.\nTwo.\n\n\nThree.\nFour.\n'


@pytest.fixture
def write(tmp_path):
  def write(name, content):
    path = tmp_path / name
    content = content.encode() if isinstance(content, str) else content
    packed = gzip.compress(content) if name.endswith('.gz') else content
    path.write_bytes(packed)
    return path

  return write


def pairs(path, unit='file', column='text'):
  found = read_documents(path, unit, column)
  return [(document.id, document.text) for document in found]


@pytest.mark.parametrize('name', ['a.txt', 'a.txt.gz'])
def test_what_a_document_is(write, name):
  path = write(name, TEXT)
  assert pairs(path) == [(f'{name}:1', 'One.\nTwo.\n\n\nThree.\nFour.')]
  assert pairs(path, 'paragraph') == [
    (f'{name}:1', 'One.\nTwo.'),
    (f'{name}:5', 'Three.\nFour.'),
  ]
  numbers = ((1, 'One.'), (2, 'Two.'), (5, 'Three.'), (6, 'Four.'))
  assert pairs(path, 'line') == [(f'{name}:{n}', text) for n, text in numbers]


@pytest.mark.parametrize('name', ['a.jsonl', 'a.jsonl.gz'])
def test_documents_of_json_lines(write, name):
  rows = [{'text': 'One.'}, {'text': ['Two.', 'Three.']}, {'text': ' '}]
  path = write(name, '\n'.join(map(json.dumps, rows)) + '\n\n')
  assert pairs(path) == [(f'{name}:1', 'One.'), (f'{name}:2', 'Two.\nThree.')]


def test_odd_but_right_files(write):
  """A byte-order mark, CRLF, odd separators, no last line end, a long line."""
  path = write('a.txt', '\ufeffOne\u2028two\x0bthree.\r\n\r\nFour.')
  assert pairs(path, 'paragraph') == [
    ('a.txt:1', 'One\u2028two\x0bthree.'),
    ('a.txt:3', 'Four.'),
  ]
  long = 'word ' * 250_000
  assert pairs(write('b.txt', long + '\nend')) == [('b.txt:1', long + '\nend')]
  row = json.dumps({'text': long}).encode()
  assert pairs(write('b.jsonl', b'\xef\xbb\xbf' + row)) == [
    ('b.jsonl:1', long.rstrip())
  ]


WRONG = {
  'empty': ('a.txt', '', 'a.txt: the file has no text'),
  'blank': ('a.txt', ' \n\r\n\n', 'a.txt: the file has no text'),
  'latin-1': ('a.txt', b'ok\ncaf\xe9', 'a.txt:2: byte 4 .* not valid UTF-8'),
  'utf-16': ('a.txt', 'abc'.encode('utf-16'), 'a.txt:1: byte 1 .* UTF-8'),
  'cut archive': (
    'a.txt.gz', None, r'a.txt.gz:\d+: the archive is broken',
  ),
  'no archive': ('b.gz', None, 'b.gz:1: the archive is broken'),
  'empty jsonl': ('a.jsonl', '', 'a.jsonl: the file has no text'),
  'no JSON': (
    'a.jsonl', '{"text": "a"}\n{"text": \n', "a.jsonl:2: '{\"text\":' is not"
  ),
  'no object': ('a.jsonl', '["text"]\n', r'a.jsonl:1: .* is no JSON object'),
  'a number': ('a.jsonl', '3\n', "a.jsonl:1: '3' is no JSON object"),
  'other column': (
    'a.jsonl', '{"body": "x"}', "a.jsonl:1: there is no 'text' .* 'body'"
  ),
  'no column': ('a.jsonl', '{}', "a.jsonl:1: there is no 'text' .* nothing"),
  'nested': (
    'a.jsonl', '\n{"text": {"a": 1}}', "a.jsonl:2: 'text' is of type dict"
  ),
  'null': ('a.jsonl', '{"text": null}', "a.jsonl:1: .* type NoneType"),
  'list of numbers': ('a.jsonl', '{"text": [1]}', 'a.jsonl:1: .* type list'),
  'name twice': (
    'a.jsonl', '{"text": "a", "text": "b"}', "a.jsonl:1: .* 'text' occurs twice"
  ),
  'latin-1 jsonl': ('a.jsonl', b'{"text": "\xe9"}', 'a.jsonl:1: byte 11'),
  'too deep': ('a.jsonl', '[' * 200_000, 'a.jsonl:1: .* is not JSON'),
}  # fmt: skip


@pytest.mark.parametrize('case', WRONG)
def test_wrong_files_name_the_place(write, tmp_path, case):
  name, content, message = WRONG[case]
  if case == 'cut archive':
    path = tmp_path / name
    path.write_bytes(gzip.compress(b'words and more words\n' * 99)[:-30])
  elif case == 'no archive':
    path = tmp_path / name
    path.write_bytes(b'plain text')
    with pytest.raises(InputError, match=message):
      list(lines.read_lines(path))
    return
  else:
    path = write(name, content)
  with pytest.raises(InputError, match=message):
    pairs(path)


def test_files_are_found_by_their_suffix(write, tmp_path):
  names = ('b.txt', 'a.jsonl.gz', 'c.md', 'd.txt.gz', 'e.jsonl')
  paths = {name: write(name, 'x') for name in names}
  (tmp_path / 'f.txt').mkdir()
  found = ('a.jsonl.gz', 'b.txt', 'd.txt.gz', 'e.jsonl')
  assert documents.find_files(tmp_path) == tuple(paths[n] for n in found)
  assert documents.find_files(paths['b.txt']) == (paths['b.txt'],)
  with pytest.raises(InputError, match=r'c\.md: text files must end in'):
    documents.find_files(paths['c.md'])
  with pytest.raises(InputError, match='no such file or directory'):
    documents.find_files(tmp_path / 'absent')
  with pytest.raises(InputError, match='the directory has no text file'):
    documents.find_files(tmp_path / 'f.txt')


def test_many_documents_are_held_out_whole():
  given = [Document(f'a:{i}', f'text {i:04d}') for i in range(1000)]
  train, held = hold_out(given, 0.1)
  assert len(held) == 100 and len(train) == 900
  assert sorted(train + held, key=lambda d: d.text) == given
  assert list(train) == sorted(train, key=lambda d: d.text)
  # Neither the front nor the back, and the same whatever the order.
  places = [int(document.id[2:]) for document in held]
  assert 350 < sum(places) / len(places) < 650
  again = hold_out(given[::-1], 0.1)[1]
  assert sorted(again, key=lambda d: d.text) == list(held)


def test_one_document_loses_its_end():
  lines = [f'line number {i}' for i in range(100)]
  given = Document('a:1', '\n'.join(lines))
  (train,), (held,) = hold_out([given], 0.1)
  assert train.text + '\n' + held.text == given.text
  assert train.id == 'a:1' and held.id.startswith('a:1+')
  assert 0.07 < len(held.text) / len(given.text) <= 0.1


def test_a_part_without_text():
  with pytest.raises(InputError, match='leaves no text for validation'):
    hold_out([Document('a:1', 'word')], 0.1)
  with pytest.raises(InputError, match='leaves no text for training'):
    hold_out([Document('a:1', 'w')], 0.9)


@pytest.mark.parametrize(
  'name', ['a.TXT', 'a.text', 'wiki.train.tokens', 'a.txt.bz2', 'a.txt.xz']
)
def test_other_names_of_text_files(tmp_path, name):
  pack = {'.bz2': bz2.compress, '.xz': lzma.compress}.get(name[-4:], bytes)
  pack = lzma.compress if name.endswith('.xz') else pack
  (tmp_path / name).write_bytes(pack(TEXT.encode()))
  (path,) = documents.find_files(tmp_path)
  assert pairs(path, 'paragraph') == [
    (f'{name}:1', 'One.\nTwo.'),
    (f'{name}:5', 'Three.\nFour.'),
  ]


PAGES = (
  '<doc id="1" url="u" title="One">\nOne\n\nText one.\n</doc>\n'
  '<doc id="2" url="u" title="Two">\nTwo\n\nText two.\n</doc>\n'
)


def test_the_files_of_wikiextractor(tmp_path):
  for folder in ('AA', 'AB'):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / 'wiki_00').write_text(PAGES)
  (tmp_path / 'AB' / 'wiki_01').write_text(
    '{"id": "3", "text": "Three\\n\\nText."}\n'
  )
  found = documents.find_files(tmp_path)
  assert [str(p.relative_to(tmp_path)) for p in found] == [
    'AA/wiki_00', 'AB/wiki_00', 'AB/wiki_01'
  ]  # fmt: skip
  assert [pairs(path) for path in found] == [
    [
      ('AA/wiki_00:2', 'One\n\nText one.'),
      ('AA/wiki_00:7', 'Two\n\nText two.'),
    ],
    [
      ('AB/wiki_00:2', 'One\n\nText one.'),
      ('AB/wiki_00:7', 'Two\n\nText two.'),
    ],
    [('AB/wiki_01:1', 'Three\n\nText.')],
  ]
  # A part of it, as it is read again.
  within = read_documents(found[0], within=range(7, 100))
  assert [document.text for document in within] == ['Two\n\nText two.']


def test_hidden_files_are_left_out(write, tmp_path):
  shown = write('book.txt', 'x')
  for name in ('._book.txt', '.~lock.book.txt', '~$book.txt', '.hidden.txt'):
    write(name, b'\x00\x05\x16\x07\xff')
  (tmp_path / '.ipynb_checkpoints').mkdir()
  (tmp_path / '.ipynb_checkpoints' / 'book.txt').write_text('y')
  assert documents.find_files(tmp_path) == (shown,)
  shown.unlink()
  write('README.md', 'x')
  with pytest.raises(InputError, match=r'no text file .*; there is README\.md'):
    documents.find_files(tmp_path)


def test_wrong_lines_of_json_can_be_counted(write):
  path = write('a.jsonl', '{"text": "a"}\n{}\n3\n{"text": "b"}\n')
  bad = BadRows()
  found = read_documents(path, bad=bad)
  assert [document.text for document in found] == ['a', 'b']
  assert [':2: ' in bad.messages[0], ':3: ' in bad.messages[1]] == [True, True]


def test_documents_with_the_same_text_are_said(capsys):
  remarks.forget()
  repeats = documents.Repeats()
  for text in 'abcaba':
    repeats.add(Document('a:1', text))
  repeats.say('here')
  assert capsys.readouterr().err == (
    'here: 3 of 6 documents have the text of an earlier one.\n'
  )
