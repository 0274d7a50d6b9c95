"""Damaged files of every format: read, or refused in a sentence."""

import gzip
import json

import pytest

from mobilebert_jax.data.readers import (
  choice_files,
  conll,
  documents,
  squad,
  tables,
)
from mobilebert_jax.data.readers.table_formats import TableFormat
from mobilebert_jax.data.records import record_files, tf_example
from mobilebert_jax.runtime.errors import InputError
from tests.support import mutants, squad_files, tfrecords

NAMES = ('text', 'label')
TEXTS = ['A "fine" film, caf\u00e9.', 'Dull; slow', '#tag', 'x' * 90] * 6
ROWS = [(text, 'yes' if i % 2 else 'no') for i, text in enumerate(TEXTS)]


def joined(sign, rows=ROWS, is_quoted=False):
  def cell(text):
    doubled = text.replace('"', '""')
    return f'"{doubled}"' if is_quoted else text

  return ''.join(
    sign.join(map(cell, row)) + '\n' for row in [NAMES, *rows]
  ).encode()


def table(path, **settings):
  return tables.read_table(path, NAMES, TableFormat(**settings))


def records(path):
  file = record_files.TfRecordFile(path)
  examples(file.read(range(len(file))))


def array_records(path):
  file = record_files.ArrayRecordFile(path)
  for number in range(min(len(file), 1000)):
    file.read([number])


def examples(payloads):
  try:
    parsed = tf_example.Examples(payloads)
    for name in parsed.names() if payloads else ():
      parsed.integers(name)
  except tf_example.ExampleError as error:
    # Those who read records name the file.
    raise InputError(str(error)) from None


def tf_records(tmp_path):
  rows = tfrecords.bert_rows(4)
  return b''.join(
    tfrecords.record(
      tf_example.encode({name: rows[name][i] for name in ('input_ids',)})
    )
    for i in range(4)
  )


def array_record(tmp_path):
  path = tmp_path / 'whole.array_record'
  record_files.write_array_record(path, [bytes([i]) * 50 for i in range(20)])
  return path.read_bytes()


OBJECTS = [{'text': text, 'label': [name, 3]} for text, name in ROWS]
SQUAD = json.dumps(
  squad_files.document(squad_files.v2()), ensure_ascii=False, indent=1
)
COLUMNS = (
  '# id = 1\n-DOCSTART-\tO\n\n' + 'Rome\tB-LOC\n#\tO\nn\u00e9\tI-X\n\n' * 12
)
PAGES = '<doc id="1" title="a">\nTitle\n\nText of it.\n</doc>\n' * 8
CHOICES = json.dumps({
  'id': 'k', 'question': {'stem': 'q', 'choices': [
    {'label': 'A', 'text': 'a'}, {'label': 'B', 'text': 'b'}]},
  'answerKey': 'A',
})  # fmt: skip
# Name of the file -> its content (or what makes it), and its reader.
READERS = {
  'a.csv': (joined(',', is_quoted=True), table),
  'semicolons.csv': (joined(';', is_quoted=True), table),
  'packed.csv.gz': (gzip.compress(joined(',', is_quoted=True), mtime=0), table),
  'quoted.tsv': (joined('\t', is_quoted=True), table),
  'plain.tsv': (joined('\t'), table),
  'bars.txt': (joined('|'), lambda path: table(path, comment='//')),
  'official.tsv': (joined('\t'), lambda path: tables.read_tsv(path, NAMES)),
  'a.jsonl': (
    '\n'.join(json.dumps(row) for row in OBJECTS).encode(), table
  ),
  'a.json': (json.dumps(OBJECTS, indent=1).encode(), table),
  'squad.json': (
    SQUAD.encode(), lambda path: squad.read_file(path, with_null=True)
  ),
  'a.conll': (COLUMNS.encode(), conll.read_sentences),
  'a.txt': (
    b'One.\nTwo.\n\nThree.\n' * 9,
    lambda path: documents.read_documents(path, 'paragraph'),
  ),
  'wiki_00': (PAGES.encode(), documents.read_documents),
  'pages.jsonl': (
    '\n'.join(json.dumps({'text': text}) for text in TEXTS).encode(),
    documents.read_documents,
  ),
  'questions.jsonl': (
    CHOICES.encode(), lambda path: choice_files.read_commonsenseqa(path, True)
  ),
  'a.tfrecord': (tf_records, records),
  'a.array_record': (array_record, array_records),
}  # fmt: skip


def fuzz(tmp_path, name, count, seed):
  content, read = READERS[name]
  original = content(tmp_path) if callable(content) else content
  return mutants.fuzz(read, original, tmp_path / name, count, seed)


@pytest.mark.parametrize('name', READERS)
def test_damaged_files_are_read_or_refused(tmp_path, name):
  counts = fuzz(tmp_path, name, mutants.FEW // 2, seed=1)
  assert counts.total() == mutants.FEW // 2


@pytest.mark.long
@pytest.mark.parametrize('name', READERS)
def test_many_damaged_files_are_read_or_refused(tmp_path, name):
  counts = fuzz(tmp_path, name, mutants.ALL, seed=0)
  print(f'{name}: {counts["read"]} read, {counts["refused"]} refused')
  assert counts.total() == mutants.ALL and counts['refused']
