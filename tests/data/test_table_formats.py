"""One table in many forms: each is read as the plain one, and what is found is
said.
"""

import bz2
import csv
import gzip
import io
import json
import lzma

import hypothesis
import pytest
from hypothesis import strategies

from mobilebert_jax.data.readers import remarks, table_formats, tables
from mobilebert_jax.data.readers.table_formats import TableFormat
from mobilebert_jax.runtime.errors import InputError
from tests.support import properties

ROWS = [
  ('a fine film', 'yes'),
  ('bad, dull; "slow"', 'no'),
  ('#tag | one\ttwo', 'yes'),
]
SIGNS = {'comma': ',', 'tab': '\t', 'semicolon': ';', 'bar': '|'}


@pytest.fixture(autouse=True)
def _nothing_said():
  remarks.forget()


def written(delimiter, header=('text', 'label'), rows=ROWS, **settings):
  file = io.StringIO()
  csv.writer(file, delimiter=delimiter, **settings).writerows([header, *rows])
  return file.getvalue()


def read(path, columns=('text', 'label'), **settings):
  rows = tables.read_table(path, columns, TableFormat(**settings))
  return [tuple(row.cells[name] for name in columns) for row in rows]


@pytest.mark.parametrize('suffix', ['csv', 'tsv', 'txt'])
@pytest.mark.parametrize('name', SIGNS)
def test_the_separator_is_found_by_the_names_of_the_columns(
  tmp_path, capsys, suffix, name
):
  path = tmp_path / f'a.{suffix}'
  path.write_text(written(SIGNS[name]))
  assert read(path) == read(path) == ROWS
  err = capsys.readouterr().err
  usual = {'csv': ',', 'tsv': '\t'}.get(suffix)
  parts = []
  if usual and usual != SIGNS[name]:
    parts.append(f'{name}-separated cells')
  if name == 'tab':
    parts.append('cells in quotes (config.options.quotes=False keeps them)')
  # Once, however often the file is read.
  said = f'{path}: read with {", ".join(parts)}.\n' if parts else ''
  assert err == said and list(remarks.said()) == said.splitlines()


@pytest.mark.parametrize('pack', [gzip, bz2, lzma])
@pytest.mark.parametrize('is_named', [True, False])
def test_compression_is_seen_by_the_first_bytes(tmp_path, pack, is_named):
  suffix = {gzip: '.gz', bz2: '.bz2', lzma: '.xz'}[pack] if is_named else ''
  path = tmp_path / f'a.csv{suffix}'
  path.write_bytes(pack.compress(written(',').encode()))
  assert read(path) == ROWS
  path.write_bytes(pack.compress(written(',').encode() * 200)[:-30])
  with pytest.raises(InputError, match='the archive is broken'):
    read(path)


def test_marks_of_byte_order_are_left_out_where_a_line_begins(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('\ufeff\ufefftext,label\na,x\n\ufeffb,y\n\ufeff')
  assert read(path) == [('a', 'x'), ('b', 'y')]


def test_lines_above_the_header(tmp_path, capsys):
  path = tmp_path / 'a.csv'
  path.write_text('# by hand, 2024\n# v2\n\ntext,label\n# a,x\n')
  assert read(path) == [('# a', 'x')]
  assert '2 lines of comments above the header' in capsys.readouterr().err
  path.write_text('sep=;\ntext;label\na,b;x\n')
  assert read(path) == [('a,b', 'x')]
  # A column may be called so.
  path.write_text('#,text,label\n1,a,x\n')
  assert read(path) == [('a', 'x')]
  path.write_text('text,label\na,x\n// later\nb,y\n')
  assert read(path, comment='//') == [('a', 'x'), ('b', 'y')]


def test_names_of_columns_with_spaces_around_them(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('id, text , label\n1,a, x\n')
  assert read(path) == [('a', ' x')]


def test_a_file_without_header(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('3,"Wall St., again"\n1,Rain\n')
  with pytest.raises(
    InputError, match=r'if this line is a row .*header="'
  ) as e:
    read(path)
  assert "('text', 'label')" in str(e.value)
  names = {'header': ('label', 'text')}
  expected = [('Wall St., again', '3'), ('Rain', '1')]
  assert read(path, **names) == expected
  path.write_text('3;Wall St., again\n1;Rain\n')
  assert read(path, **names) == expected
  path.write_text('3;Wall St., again\n1;Rain;x\n2;b\n')
  with pytest.raises(InputError, match=r':2: 3 .* where config\.options\.hea'):
    read(path, **names)


# What programs write, and what only looks like it.
QUOTED = {
  'doubled quotes': ('text\tlabel\n"he said ""no"""\tx\nb\ty\n', True),
  'all cells': ('"text"\t"label"\n"a"\t"x"\n', True),
  'a tab inside': ('text\tlabel\n"a\tb"\tx\n', True),
  'a line end inside': ('text\tlabel\n"a\nb"\tx\n', True),
  'commas as Excel has them': (
    'text\tlabel\n"a, b"\tx\n"c,d"\ty\ne\tz\n', True
  ),
  'quotes of two rows': ('text\tlabel\n"Who?\tx\nNobody."\ty\n', False),
  'no quotes': ('text\tlabel\na\tx\n', False),
  'a sentence in quotes': ('text\tlabel\n"A fine film."\tx\nb\ty\n', False),
  'a sentence with a comma': ('text\tlabel\n"Well, no."\tx\nb\ty\n', False),
  'commas without quotes too': (
    'text\tlabel\n"Well, no."\tx\n"A, b"\tx\nc, d\ty\n', False
  ),
  'a quote that begins': ('text\tlabel\n"he ""said""\tx\nb\ty\n', False),
  'a quote inside': ('text\tlabel\n5" disk\tx\n"a ""b"""\ty\n', False),
  'other cells': ('text\tlabel\n"a ""b"""\tx\ty\n', False),
}  # fmt: skip


@pytest.mark.parametrize('case', QUOTED)
def test_quotes_with_tabs_count_if_a_program_put_them_there(tmp_path, case):
  content, is_quoted = QUOTED[case]
  path = tmp_path / 'a.tsv'
  path.write_text(content)
  assert table_formats.find(path, ('text', 'label')).quotes is is_quoted
  assert table_formats.find(
    path, ('text',), TableFormat(quotes=not is_quoted)
  ).quotes is not is_quoted  # fmt: skip


def test_what_the_user_says_holds(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('text^label\n"a^x\n')
  with pytest.raises(InputError, match=r':1: .* no column'):
    read(path)
  assert read(path, delimiter='^', quotes=False) == [('"a', 'x')]
  for delimiter in ('', 'ab', '"'):
    with pytest.raises(InputError, match=r'config\.options\.delimiter'):
      table_formats.check(TableFormat(delimiter=delimiter))
  with pytest.raises(InputError, match=r"header has 'a' twice"):
    table_formats.check(TableFormat(header=('a', 'b', 'a')))


@pytest.mark.parametrize(
  'content',
  [
    json.dumps([{'text': t, 'label': n} for t, n in ROWS]),
    json.dumps([{'text': t, 'label': n} for t, n in ROWS], indent=2) + '\n',
    '\ufeff\n [ '
    + ','.join('\n' + json.dumps({'label': n, 'text': t}) for t, n in ROWS)
    + '\n]\n',
    ''.join(json.dumps({'text': t, 'label': n}) + '\n' for t, n in ROWS),
  ],
)
@pytest.mark.parametrize('suffix', ['json', 'jsonl', 'data'])
def test_arrays_and_lines_of_objects(tmp_path, content, suffix):
  path = tmp_path / f'a.{suffix}'
  path.write_text(content)
  assert read(path) == ROWS


def test_the_places_of_an_array_are_lines(tmp_path):
  path = tmp_path / 'a.json'
  path.write_text('[{"text": "a",\n "label": 1},\n\n{"text": "b", "label": 2}]')
  rows = list(tables.read_table(path, ('text',)))
  assert [row.place for row in rows] == [f'{path}:1', f'{path}:4']
  for end, message in (
    (',', ':4: .* is not JSON'),
    ('', ':4: .* comma or the end'),
    ('] []', ': there is something behind the end'),
  ):
    path.write_text('[{"text": "a",\n "label": 1},\n\n{"text": "b"}' + end)
    with pytest.raises(InputError, match=message):
      list(tables.read_table(path, ('text',)))


def test_parquet(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  rows = [
    {'text': 'a', 'label': 1, 'tags': ['x']},
    {'text': 'b', 'label': None},
  ]
  path = tmp_path / 'a.parquet'
  parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  assert read(path, ('text', 'label', 'tags')) == [
    ('a', 1, ['x']), ('b', None, None)
  ]  # fmt: skip
  with pytest.raises(InputError, match=r"no column 'body'; .* 'text', 'label'"):
    read(path, ('body',))
  path.write_bytes(path.read_bytes()[:-9])
  with pytest.raises(
    InputError, match=r'a\.parquet: .*(damaged|cannot be read)'
  ):
    read(path)


FOREIGN = {
  'a workbook': (b'PK\x03\x04...', 'a workbook or a zip archive; save'),
  'git lfs': (b'version https://git-lfs.github.com/spec/v1\n', 'git lfs pull'),
  'a page': (b'\n<!DOCTYPE html>\n<html>', 'a page of the web'),
  'zstd': (b'\x28\xb5\x2f\xfd\x00', 'compressed by zstd'),
}


@pytest.mark.parametrize('case', FOREIGN)
def test_what_is_no_table_is_named(tmp_path, case):
  content, message = FOREIGN[case]
  path = tmp_path / 'a.csv'
  path.write_bytes(content)
  with pytest.raises(InputError, match=message):
    read(path)


TEXTS = strategies.text(
  strategies.sampled_from('ab é"\',;|\t#\u2028'), min_size=1, max_size=8
).filter(lambda text: text.strip())
NAMES = strategies.sampled_from(['x', 'y', 'z z'])


@properties.few
@hypothesis.given(
  rows=strategies.lists(
    strategies.tuples(TEXTS, NAMES), min_size=1, max_size=5
  ),
  delimiter=strategies.sampled_from([',', ';', '|']),
  suffix=strategies.sampled_from(['csv', 'txt']),
  quoting=strategies.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
  end=strategies.sampled_from(['\n', '\r\n']),
  pack=strategies.sampled_from([bytes, gzip.compress, bz2.compress]),
  mark=strategies.sampled_from(['', '\ufeff']),
  is_swapped=strategies.booleans(),
)
def test_one_table_in_random_forms(
  tmp_path, rows, delimiter, suffix, quoting, end, pack, mark, is_swapped
):
  step = -1 if is_swapped else 1
  content = written(
    delimiter, ('text', 'label')[::step], [row[::step] for row in rows],
    quoting=quoting, lineterminator=end,
  )  # fmt: skip
  path = tmp_path / f'a.{suffix}'
  path.write_bytes(pack((mark + content).encode()))
  assert read(path) == rows


@properties.few
@hypothesis.given(
  rows=strategies.lists(
    strategies.tuples(TEXTS, NAMES), min_size=1, max_size=5
  ),
  is_all=strategies.booleans(),
)
def test_tabs_as_pandas_writes_them_or_plain(tmp_path, rows, is_all):
  """A table whose program quoted cells, and the same one written plainly."""
  path = tmp_path / 'a.tsv'
  quoting = csv.QUOTE_ALL if is_all else csv.QUOTE_MINIMAL
  path.write_text(written('\t', rows=rows, quoting=quoting), newline='')
  assert read(path) == rows
  plain = [(text.replace('\t', ' '), name) for text, name in rows]
  path.write_text(
    'text\tlabel\n' + ''.join(f'{t}\t{n}\n' for t, n in plain), newline=''
  )
  doubled = any(t[0] == t[-1] == '"' and len(t) > 1 for t, _ in plain)
  hypothesis.assume(not doubled)
  assert read(path) == plain
