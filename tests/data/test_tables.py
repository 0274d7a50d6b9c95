"""Named columns in CSV, TSV and JSON Lines, right and wrong."""

import gzip
import json
import re

import pytest

from mobilebert_jax.data.readers import tables
from mobilebert_jax.runtime.errors import InputError

LONG = 'word ' * 210_000


@pytest.fixture
def write(tmp_path):
  def write(name, content):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if name[-3:] == '.gz' else content)
    return path

  return write


def cells(path, columns=('text', 'label')):
  """Line number and cells of each row."""
  rows = tables.read_table(path, columns)
  return [
    (int(row.place.removeprefix(f'{path}:')), *row.cells.values())
    for row in rows
  ]


RIGHT = {
  'csv': (
    'a.csv', 'label,text\n1,a fine film\n0,"bad, dull"\n',
    [(2, 'a fine film', '1'), (3, 'bad, dull', '0')],
  ),
  'csv: quotes, line ends inside, blank lines': (
    'a.csv', 'text,label\n"he said ""no""",1\n\n"one\ntwo",0\nx,1',
    [(2, 'he said "no"', '1'), (4, 'one\ntwo', '0'), (6, 'x', '1')],
  ),
  'csv: byte-order mark and CRLF': (
    'a.csv', '\ufefftext,label\r\nx,1\r\n"a\r\nb",2\r\n',
    [(2, 'x', '1'), (3, 'a\r\nb', '2')],
  ),
  'csv: odd separators of lines are text': (
    'a.csv', 'text,label\none\u2028two\x85three\x0b,1\n',
    [(2, 'one\u2028two\x85three\x0b', '1')],
  ),
  'csv: a megabyte': ('a.csv', f'text,label\n{LONG},1\n', [(2, LONG, '1')]),
  'csv: empty cells and other columns': (
    'a.csv', 'x,text,label,x\n,,1,\n', [(2, '', '1')]
  ),
  'tsv': (
    'a.tsv', 'text\tlabel\n"quoted, not\t1\nb\t0\n',
    [(2, '"quoted, not', '1'), (3, 'b', '0')],
  ),
  'tsv: byte-order mark and CRLF': (
    'a.tsv', '\ufefftext\tlabel\r\nx\t1\r\n', [(2, 'x', '1')]
  ),
  'tsv: a megabyte': ('a.tsv', f'text\tlabel\n{LONG}\t1', [(2, LONG, '1')]),
  'jsonl': (
    'a.jsonl', '{"label": 1, "text": "a\\nb"}\n\n{"text": "c", "label": [2]}',
    [(1, 'a\nb', 1), (3, 'c', [2])],
  ),
  'jsonl: byte-order mark and CRLF': (
    'a.jsonl', '\ufeff{"text": "x", "label": null}\r\n', [(1, 'x', None)]
  ),
  'jsonl: a megabyte': (
    'a.jsonl', json.dumps({'text': LONG, 'label': 1}), [(1, LONG, 1)]
  ),
}  # fmt: skip


@pytest.mark.parametrize('case', RIGHT)
@pytest.mark.parametrize('packed', ['', '.gz'])
def test_right_files(write, case, packed):
  name, content, expected = RIGHT[case]
  assert cells(write(name + packed, content)) == expected


WRONG = {
  'csv': {
    'empty': ('', ': the file is empty; expected a header'),
    'header alone': ('text,label\n\n', ': the file has no row'),
    'missing column': (
      'body,label\nx,1\n', ":1: the header has no column 'text'; .* 'body'"
    ),
    'column twice': (
      'text,label,text\na,1,b\n', ":1: the header has the column 'text' twice"
    ),
    'ragged': (
      'text,label\n"a\nb",1\nc\n', ':4: 1 comma-separated cells .* has 2'
    ),
    'comma without quotes': (
      'text,label\na, b,1\n', ':2: 3 comma-separated cells .* in quotes'
    ),
    'open quote': ('text,label\na,1\n"b,1\nc,0\n', ':3: not CSV'),
    'quote inside': ('text,label\n"a" b,1\n', ':2: not CSV'),
    'old Mac line ends': ('text,label\ra,1\rb,0\r', ':1: not CSV'),
    'latin-1': ('text,label\na,1\ncafé,0\n'.encode('latin-1'), ':3: byte 4'),
    'utf-16': ('text,label\na,1\n'.encode('utf-16'), ':1: byte 1 .* UTF-8'),
  },
  'tsv': {
    'empty': ('', ': the file is empty; expected a header'),
    'header alone': ('text\tlabel\n', ': the file has no row'),
    'missing column': (
      'body\tlabel\nx\t1\n', ":1: the header has no column 'text'; .* 'body'"
    ),
    'column twice': (
      'text\tlabel\ttext\na\t1\tb\n', ":1: .* has the column 'text' twice"
    ),
    'too few': ('text\tlabel\na\t1\nb\n', ':3: 1 tab-separated cells .* has 2'),
    'too many': ('text\tlabel\na\tb\t1\n', ':2: 3 tab-separated cells'),
    'tabs alone': ('text\tlabel\n\t\t\na\t1\n', ':2: 3 tab-separated cells'),
    'old Mac line ends': ('text\tlabel\ra\t1\r', ":1: .* no column 'label'"),
    'latin-1': (b'text\tlabel\ncaf\xe9\t0\n', ':2: byte 4'),
    'utf-16': ('text\tlabel\na\t1\n'.encode('utf-16'), ':1: byte 1 .* UTF-8'),
  },
  'jsonl': {
    'empty': ('', ': the file has no row'),
    'blank': ('\n \r\n', ': the file has no row'),
    'missing column': (
      '{"text": "a", "label": 1}\n{"text": "b"}\n',
      ":2: the object has no 'label'; it has 'text'",
    ),
    'nothing': ('{}\n', ":1: the object has no 'text'; it has nothing"),
    'not JSON': ('{"text": "a", "label": 1}\ntext\n', ":2: 'text' is not JSON"),
    'single quotes': ("{'text': 'a'}\n", ':1: .* is not JSON'),
    'two objects': ('{"text": "a"} {"text": "b"}\n', ':1: .* not JSON .*Extra'),
    'an array of texts': ('["a"]\n', ':1: .* is no JSON object'),
    'an array without a column': (
      '[{"text": "a", "label": 1},\n {"text": "a"}]\n',
      ":2: the object has no 'label'",
    ),
    'an array cut off': (
      '[{"text": "a", "label": 1},\n{"te', ':2: .* is not JSON'
    ),
    'a text': ('"a"\n', ':1: .* is no JSON object'),
    'name twice': (
      '{"text": "a", "text": "b", "label": 1}', ":1: .* 'text' occurs twice"
    ),
    'cut': ('{"text": "a", "label": 1}\n{"text": "a", "la', ':2: .* not JSON'),
    'latin-1': (b'{"text": "\xe9", "label": 1}', ':1: byte 11'),
    'too deep': ('{"text": ' + '[' * 100_000, ':1: .* is not JSON'),
  },
}  # fmt: skip


@pytest.mark.parametrize(
  ('kind', 'case'), [(kind, case) for kind in WRONG for case in WRONG[kind]]
)
def test_wrong_files_name_the_place(write, kind, case):
  content, message = WRONG[kind][case]
  path = write(f'a.{kind}', content)
  with pytest.raises(InputError, match=re.escape(str(path)) + message) as error:
    cells(path)
  assert '\n' not in str(error.value) and len(str(error.value)) < 400


def test_there_are_ten_cases_of_each():
  assert all(len(cases) >= 10 for cases in WRONG.values())


def test_other_files(tmp_path, write):
  with pytest.raises(InputError, match=r'a\.txt:1: the header has no column'):
    cells(write('a.txt', 'x'))
  for name in ('absent.csv', 'absent.tsv', 'absent.jsonl'):
    with pytest.raises(InputError, match=r'cannot be read \(No such file'):
      cells(tmp_path / name)
  path = tmp_path / 'cut.csv.gz'
  path.write_bytes(gzip.compress(b'text,label\n' + b'word,1\n' * 99)[:-20])
  with pytest.raises(InputError, match='the archive is broken'):
    cells(path)


@pytest.mark.parametrize(
  ('value', 'method', 'expected'),
  [
    ('a', 'text', 'a'),
    ('', 'text', ''),
    ('a', 'name', 'a'),
    (3, 'name', '3'),
    (0, 'name', '0'),
    (True, 'name', 'true'),
    (False, 'name', 'false'),
    ('2.5', 'number', 2.5),
    (' -1e3 ', 'number', -1000.0),
    (7, 'number', 7.0),
  ],
)
def test_cells(value, method, expected):
  row = tables.TableRow('a.jsonl:3', {'x': value})
  found = getattr(row, method)('x')
  assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
  ('value', 'method', 'message'),
  [
    (3, 'text', 'is 3; expected a text'),
    (None, 'text', 'is None; expected a text'),
    ({'a': 1}, 'text', r"is \{'a': 1\}; expected a text"),
    ('\ud800', 'text', 'half of a surrogate pair'),
    (1.5, 'name', 'is 1.5; expected a text'),
    ([1], 'name', 'expected a text'),
    ('', 'number', "is ''; expected a number"),
    ('1,5', 'number', "is '1,5'; expected a number"),
    ('nan', 'number', 'expected a finite number'),
    ('1e999', 'number', 'expected a finite number'),
    (True, 'number', 'is True; expected a number'),
    (None, 'number', 'is None; expected a number'),
    ([1.0], 'number', 'expected a number'),
    (10**400, 'number', r'is 10+\.\.\.; expected a number'),
  ],
)
def test_wrong_cells(value, method, message):
  row = tables.TableRow('a.jsonl:3', {'x': value})
  with pytest.raises(InputError, match=rf"a\.jsonl:3: column 'x' .*{message}"):
    getattr(row, method)('x')
