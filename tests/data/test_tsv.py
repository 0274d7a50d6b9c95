import pytest

from mobilebert_jax.data.readers import tables
from mobilebert_jax.runtime.errors import InputError


@pytest.fixture
def write(tmp_path):
  def write(content: bytes):
    path = tmp_path / 'rows.tsv'
    path.write_bytes(content)
    return path

  return write


def read(path, columns=('text', 'label')):
  return [(line, dict(row)) for line, row in tables.read_tsv(path, columns)]


def test_quotes_and_odd_line_ends_are_part_of_the_text(write):
  path = write(
    '\ufefflabel\tother\ttext\r\n'
    '1\tx\t"quoted\r\n'
    '0\ty\tone\u2028two\x0bthree\x85four\n'
    '1\tz\tlast'.encode()
  )
  assert read(path) == [
    (2, {'text': '"quoted', 'label': '1'}),
    (3, {'text': 'one\u2028two\x0bthree\x85four', 'label': '0'}),
    (4, {'text': 'last', 'label': '1'}),
  ]


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', r'rows\.tsv: the file is empty; expected a header'),
    (b'text\tlabel\n', r'rows\.tsv: there is no row below the header'),
    (
      b'sentence\tlabel\na\t1\n',
      r"rows\.tsv:1: the header has no column 'text'; its columns are "
      r"'sentence', 'label'",
    ),
    (b'text\tlabel\na\t1\nb\n', r'rows\.tsv:3: 1 tab-separated columns .* 2'),
    (b'text\tlabel\na\t1\t2\n', r'rows\.tsv:2: 3 tab-separated columns .* 2'),
    (b'text\tlabel\n\na\t1\n', r'rows\.tsv:2: 1 tab-separated columns .* 2'),
    (b'text\tlabel\n\n', r'rows\.tsv: there is no row below the header'),
    (b'text\tlabel\na\xff\t1\n', r'rows\.tsv:2: byte 2 .* not valid UTF-8'),
    (b'te\xffxt\tlabel\na\t1\n', r'rows\.tsv:1: byte 3 .* not valid UTF-8'),
  ],
)
def test_wrong_files_name_the_place(write, content, message):
  with pytest.raises(InputError, match=message):
    read(write(content))


def test_blank_lines_at_the_end_do_not_count(write):
  path = write(b'text\tlabel\na\t1\n\n\r\n\xef\xbb\xbf')
  assert read(path) == [(2, {'text': 'a', 'label': '1'})]


def test_a_file_without_header(write):
  path = write('\ufeff1\ta\r\n0\tb'.encode())
  rows = tables.read_tsv(path, ('text',), header=('label', 'text'))
  assert [(line, dict(row)) for line, row in rows] == [
    (1, {'text': 'a'}),
    (2, {'text': 'b'}),
  ]
  for content, message in (
    (b'', r'rows\.tsv: the file is empty; expected rows of label, text'),
    (b'1\n', r'rows\.tsv:1: 1 tab-separated columns; expected 2: label, text'),
  ):
    with pytest.raises(InputError, match=message):
      list(tables.read_tsv(write(content), ('text',), ('label', 'text')))


def test_rows_that_are_cut_off_are_counted_on_request(write):
  path = write(b'text\tlabel\na\nb\t1\nc\n')
  broken = []
  rows = list(tables.read_tsv(path, ('text',), broken=broken))
  assert [line for line, _ in rows] == [3]
  assert broken == [2, 4]


def test_a_column_twice(write):
  with pytest.raises(InputError, match=r"rows\.tsv:1: .* column 'text' twice"):
    read(write(b'text\tlabel\ttext\na\t1\tb\n'))


def test_a_missing_file(tmp_path):
  with pytest.raises(InputError, match=r'cannot be read .*No such file'):
    read(tmp_path / 'absent.tsv')
  with pytest.raises(InputError, match=r'cannot be read .*Is a directory'):
    read(tmp_path)


def test_the_folder_may_be_named_or_hold_the_files(tmp_path):
  inner = tmp_path / 'SST-2'
  inner.mkdir()
  (inner / 'train.tsv').touch()
  for path in (tmp_path, str(inner)):
    assert tables.find_folder(path, 'SST-2', ('train.tsv',)) == inner
  with pytest.raises(InputError, match=r'expected the files dev\.tsv there'):
    tables.find_folder(tmp_path, 'SST-2', ('dev.tsv',))
