"""GLUE's official files with a few rows each, true to the format."""

import dataclasses
import pathlib
from collections.abc import Mapping

_PARSES = '\t'.join(
  [
    'sentence1_binary_parse',
    'sentence2_binary_parse',
    'sentence1_parse',
    'sentence2_parse',
  ]
)
_MNLI = f'index\tpromptID\tpairID\tgenre\t{_PARSES}\tsentence1\tsentence2'
_STSB = (
  'index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\t'
  'sentence2'
)
_X = 'x\t' * 7
_MRPC = '#1 ID\t#2 ID\t#1 String\t#2 String'


@dataclasses.dataclass(frozen=True)
class Sample:
  """One task's folder.

  Attributes:
    folder: Its name.
    files: The text of each file.
    train: (id, first text, second text, label) of the training examples.
    test: The same of the test examples, without label.
  """

  folder: str
  files: Mapping[str, str]
  train: tuple[tuple, ...]
  test: tuple[tuple, ...]


def _table(*lines: str) -> str:
  return ''.join(f'{line}\n' for line in lines)


def _pairs(folder, header, labels, test_id='index', extra=''):
  """A task with columns id, (extra,) two texts and a label."""
  first, second, label = header
  names = f'{first}\t{second}'
  ids = 'qid1\tqid2\t' if extra else ''
  rows = [
    f'{10 * bool(extra) + i}\t{extra}first "{i}\tsecond {i}?\t{labels[i % 2]}'
    for i in range(3)
  ]
  head = f'{test_id}\t{ids}{names}\t{label}'
  return Sample(
    folder,
    {
      'train.tsv': _table(head, *rows),
      'dev.tsv': _table(head, *rows[:2]),
      'test.tsv': _table(f'{test_id}\t{names}', '0\ta\tb', '1\tc d\te'),
    },
    tuple((str(i), f'first "{i}', f'second {i}?', i % 2) for i in range(3)),
    (('0', 'a', 'b'), ('1', 'c d', 'e')),
  )


def _mnli():
  files = {
    'train.tsv': _table(
      f'{_MNLI}\tlabel1\tgold_label',
      f'0\t{_X}A man.\tA person.\tneutral\tentailment',
      f'1\t{_X}A man.\tA dog.\tneutral\t-',
      f'2\t{_X}A man.\t\tneutral\tcontradiction',
    )
  }
  for kind in ('matched', 'mismatched'):
    files[f'dev_{kind}.tsv'] = _table(
      f'{_MNLI}\tlabel1\tlabel2\tgold_label',
      f'0\t{_X}p {kind}\th\tneutral\tneutral\tneutral',
      f'1\t{_X}q {kind}\th\tneutral\tneutral\tentailment',
    )
    files[f'test_{kind}.tsv'] = _table(_MNLI, f'7\t{_X}p {kind}\th')
  return Sample(
    'MNLI',
    files,
    (('0', 'A man.', 'A person.', 0), ('2', 'A man.', '', 2)),
    (('7', 'p matched', 'h'),),
  )


SAMPLES: Mapping[str, Sample] = {
  'cola': Sample(
    'CoLA',
    {
      'train.tsv': _table('gj04\t1\t\tThey ate.', 'cj99\t0\t*\t"Ate they the.'),
      'dev.tsv': _table('gj04\t0\t*\tIt it.', 'gj04\t1\t\tIt rains.'),
      'test.tsv': _table('index\tsentence', '0\tBill left.', '1\tBill left he'),
    },
    (('0', 'They ate.', None, 1), ('1', '"Ate they the.', None, 0)),
    (('0', 'Bill left.', None), ('1', 'Bill left he', None)),
  ),
  'sst2': Sample(
    'SST-2',
    {
      'train.tsv': _table('sentence\tlabel', 'good \t1', 'bad\t0', 'meh\t0'),
      'dev.tsv': _table('sentence\tlabel', 'a fine film\t1', 'no\t0'),
      'test.tsv': _table('index\tsentence', '0\tone', '1\ttwo'),
    },
    (('0', 'good ', None, 1), ('1', 'bad', None, 0), ('2', 'meh', None, 0)),
    (('0', 'one', None), ('1', 'two', None)),
  ),
  'mrpc': Sample(
    'MRPC',
    {
      'train.tsv': '\ufeff'
      + _table(
        f'Quality\t{_MRPC}',
        '1\t70\t71\tAmrozi said "no .\t" No , " he said .',
        '0\t80\t81\tIt fell 2 % .\tIt rose .',
      ),
      'dev.tsv': _table(
        f'Quality\t{_MRPC}', '0\t1\t2\ta b\tc', '1\t3\t4\td\te'
      ),
      'test.tsv': _table(f'index\t{_MRPC}', '0\t5\t6\tf\tg', '1\t7\t8\th\ti'),
    },
    (
      ('0', 'Amrozi said "no .', '" No , " he said .', 1),
      ('1', 'It fell 2 % .', 'It rose .', 0),
    ),
    (('0', 'f', 'g'), ('1', 'h', 'i')),
  ),
  'stsb': Sample(
    'STS-B',
    {
      'train.tsv': _table(
        f'{_STSB}\tscore',
        '0\tnews\tMSR\t2012\t1\tnone\tnone\tA plane.\tAn air plane.\t5.000',
        '1\tnews\tMSR\t2012\t4\tnone\tnone\tA man.\t"A dog.\t3.800',
        '2\tnews\tMSR\t2012\t4\tnone\tnone\tA cat.\tRain.\t0.000',
      ),
      'dev.tsv': _table(
        f'{_STSB}\tscore',
        '0\tnews\tMSR\t2012\t1\tnone\tnone\ta\tb\t2.750',
        '1\tnews\tMSR\t2012\t1\tnone\tnone\tc\td\t0.250',
      ),
      'test.tsv': _table(
        _STSB,
        '0\tnews\tMSR\t2012\t1\tnone\tnone\ta\tb',
        '1\tnews\tMSR\t2012\t1\tnone\tnone\tc\td',
      ),
    },
    (
      ('0', 'A plane.', 'An air plane.', 5.0),
      ('1', 'A man.', '"A dog.', 3.8),
      ('2', 'A cat.', 'Rain.', 0.0),
    ),
    (('0', 'a', 'b'), ('1', 'c', 'd')),
  ),
  'qqp': _pairs(
    'QQP',
    ('question1', 'question2', 'is_duplicate'),
    ('0', '1'),
    'id',
    '5\t6\t',
  ),
  'mnli': _mnli(),
  'qnli': _pairs(
    'QNLI', ('question', 'sentence', 'label'), ('entailment', 'not_entailment')
  ),
  'rte': _pairs(
    'RTE', ('sentence1', 'sentence2', 'label'), ('entailment', 'not_entailment')
  ),
  'wnli': _pairs('WNLI', ('sentence1', 'sentence2', 'label'), ('0', '1')),
}
DIAGNOSTICS = _table(
  'index\tsentence1\tsentence2', '0\tThe cat sat.\tIt sat.', '1\tNo.\tYes.'
)


def write(directory: pathlib.Path, *names: str) -> pathlib.Path:
  """Writes the folders of the named tasks, or of all, below `directory`."""
  for name in names or SAMPLES:
    sample = SAMPLES[name]
    folder = directory / sample.folder
    folder.mkdir(parents=True)
    for file, text in sample.files.items():
      (folder / file).write_text(text, encoding='utf-8')
  return directory
