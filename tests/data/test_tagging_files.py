"""CoNLL columns: right and wrong files, TFDS, and the official data."""

import hypothesis
import pytest
from hypothesis import strategies

from mobilebert_jax.config.run import DataConfig
from mobilebert_jax.data.readers import conll, remarks
from mobilebert_jax.data.readers import tfds as readers_tfds
from mobilebert_jax.metrics import tagging
from mobilebert_jax.runtime.errors import InputError
from mobilebert_jax.tasks import TASKS
from mobilebert_jax.tasks.tagging import iob
from tests.support import properties, tfds_downloads
from tests.support.tagging_files import WNUT, write

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC
call NN I-NP O
. . O O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER

-DOCSTART- -X- O O

Baltimore NNP I-NP I-ORG
Boston NNP I-NP B-ORG
"""
SPLITS = ('train', 'validation', 'test')


def make(name, data, **options):
  return TASKS[name].make_task(options, data)


def test_the_original_conll_files_in_iob1(tmp_path):
  data = write(tmp_path, 'conll2003', CONLL)
  task = make('conll2003', data, scheme='IOB1')
  assert task.labels == (
    'O', 'B-MISC', 'I-MISC', 'B-ORG', 'I-ORG', 'B-PER', 'I-PER',
  )  # fmt: skip
  assert task.primary_metric == 'validation/f1'
  first, second, third = task.load(data, 'train')
  assert first.words == ('EU', 'rejects', 'German', 'call', '.')
  assert first.tags == ('I-ORG', 'O', 'I-MISC', 'O', 'O')
  assert first.before == ('-DOCSTART- -X- O O', '')
  assert first.lines[0] == 'EU NNP I-NP I-ORG'
  assert first.place(2).endswith('eng.train:5')
  assert second.place(0).endswith('eng.train:9') and second.before == ('',)
  assert third.before == ('', '-DOCSTART- -X- O O', '')
  assert third.tags == ('I-ORG', 'B-ORG')


def test_the_later_names_of_the_files_and_the_folder_above(tmp_path):
  names = ('train.txt', 'valid.txt', 'test.txt')
  text = 'EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n'
  write(tmp_path / 'conll2003', 'conll2003', text, names)
  data = DataConfig(source='files', path=str(tmp_path))
  task = make('conll2003', data)
  assert [len(task.load(data, split)) for split in SPLITS] == [1, 1, 1]


def test_wnut_columns_with_tabs_and_their_blank_lines(tmp_path):
  data = write(tmp_path, 'wnut17', WNUT)
  task = make('wnut17', data)
  assert task.labels == ('O', 'B-location', 'I-location')
  first, second = task.load(data, 'test')
  assert first.separator == '\t' and first.words == ('Empire', 'State', '=')
  assert second.words == ('ESB',) and second.before == ('\t',)


def test_limits(tmp_path):
  data = write(tmp_path, 'wnut17', WNUT * 3)
  few = DataConfig(
    source='files', path=data.path, train_examples=4, eval_examples=3
  )
  task = make('wnut17', few)
  assert [len(task.load(few, split)) for split in SPLITS] == [4, 3, 3]


WRONG = {
  'one column': ('Empire B-x\nState\n', r'train\.conll:2: 1 space-sep.*as in'),
  'no tag at all': ('Empire\n', r'train\.conll:1: 1 space-.*word and its tag'),
  'ragged': ('a\tO\nb\tx\tO\n', r':2: 3 tab-separated .* expected 2'),
  'tabs and spaces mixed': ('a\tO\nb O\n', r':2: 1 tab-separated'),
  'empty word': ('a\tO\n\tO\n', r':2: the word is empty'),
  'empty tag': ('a\tO\nb\t\n', r':2: the tag is empty'),
  'no tag of entities': ('a\tO\nb\tNNP\n', r":2: the tag is 'NNP'; expected O"),
  'lower case': ('a\to\n', r":1: the tag is 'o'"),
  'hyphen': ('a\tB-x-\n', r":1: the tag is 'B-x-'"),
  'encoding': (
    b'a\tO\n\xff\tO\n',
    r':2: byte 1 of the line is not valid UTF-8',
  ),
  'empty': ('', r'train\.conll: there is no sentence'),
  'blank': ('\n \n\t\n', r'train\.conll: there is no sentence'),
  'documents alone': ('-DOCSTART- O\n\n', r'there is no sentence'),
}


@pytest.mark.parametrize('case', WRONG)
def test_a_wrong_file_is_named_with_its_line(tmp_path, case):
  text, message = WRONG[case]
  data = write(tmp_path, 'wnut17', text)
  with pytest.raises(InputError, match=message):
    make('wnut17', data)


SCHEME = {
  'scheme': ('a\tO\nb\tI-x\n', r':2: I-x after O is not IOB2; .*scheme=IOB1'),
  'scheme, type': ('a\tB-y\nb\tI-x\n', r':2: I-x after B-y is not IOB2'),
  'scheme, first': ('\na\tI-x\n', r':2: I-x after the beginning of the sent'),
}


@pytest.mark.parametrize('case', SCHEME)
def test_tags_that_iob2_does_not_know_are_refused_on_request(tmp_path, case):
  text, message = SCHEME[case]
  data = write(tmp_path, 'wnut17', text)
  with pytest.raises(InputError, match=message):
    make('wnut17', data, scheme='IOB2', repair_tags=False)


def test_tags_that_iob1_does_not_know(tmp_path):
  data = write(tmp_path, 'wnut17', 'a\tO\nb\tB-x\n')
  with pytest.raises(InputError, match=r':2: B-x after O is not IOB1.*=IOB2'):
    make('wnut17', data, scheme='IOB1', repair_tags=False)


def test_a_tag_that_training_has_not_seen(tmp_path):
  data = write(tmp_path, 'wnut17', WNUT)
  task = make('wnut17', data)
  (tmp_path / 'emerging.dev.conll').write_text('a\tO\nb\tB-person\n')
  with pytest.raises(
    InputError, match=r'dev\.conll:2: the tag B-person is unknown; .*B-location'
  ):
    task.load(data, 'validation')


@pytest.mark.parametrize(
  ('labels', 'message'),
  [
    (('B-location', 'I-location'), 'lacks O'),
    (('O', 'I-location'), 'lacks B-location'),
    (('O', 'B-location', 'O'), "'O' twice"),
    (('O', 'location'), "has 'location'; expected O, B-TYPE or I-TYPE"),
  ],
)
def test_wrong_labels_in_the_options(tmp_path, labels, message):
  data = write(tmp_path, 'wnut17', WNUT)
  with pytest.raises(InputError, match=message):
    make('wnut17', data, labels=labels)


def test_labels_of_the_options_keep_their_order_and_need_no_file():
  labels = ('B-x', 'I-x', 'O')
  data = DataConfig(source='files', path='nowhere')
  assert make('wnut17', data, labels=labels).labels == labels


@pytest.mark.parametrize(
  'text',
  [
    '\ufeff' + WNUT,
    WNUT.replace('\n', '\r\n'),
    WNUT.rstrip(),
    '\n\n' + WNUT + '\n\n',
  ],
  ids=['byte-order mark', 'CRLF', 'no line end', 'blank lines'],
)
def test_unusual_files_that_are_right(tmp_path, text):
  data = write(tmp_path, 'wnut17', text)
  sentences = make('wnut17', data).load(data, 'train')
  assert [s.words for s in sentences] == [('Empire', 'State', '='), ('ESB',)]
  assert sentences[0].lines[0] == 'Empire\tB-location'


def test_a_line_of_a_megabyte(tmp_path):
  data = write(tmp_path, 'wnut17', f'{"x" * 2**20}\tB-a\nb\tO\n')
  (sentence,) = make('wnut17', data).load(data, 'train')
  assert len(sentence.words[0]) == 2**20


def test_spaces_of_unicode_are_parts_of_words(tmp_path):
  data = write(tmp_path, 'wnut17', 'a\u00a0b O\n\u2028 O\n')
  (sentence,) = make('wnut17', data).load(data, 'train')
  assert sentence.words == ('a\u00a0b', '\u2028')


def test_missing_files_and_wrong_sources(tmp_path):
  with pytest.raises(InputError, match=r'eng\.train or train\.txt there or in'):
    make('conll2003', DataConfig(source='files', path=str(tmp_path)))
  with pytest.raises(InputError, match='does not fit wnut17; use "files"'):
    make('wnut17', DataConfig(source='tfds', path=str(tmp_path)))
  with pytest.raises(InputError, match='use "tfds" or "files"'):
    make('conll2003', DataConfig(source='generated'))
  with pytest.raises(InputError, match='conll2003 is not prepared'):
    make('conll2003', DataConfig(source='tfds', path=str(tmp_path)))


def test_tfds_gives_what_the_files_give(tmp_path):
  text = (
    CONLL.replace(' I-NP', ' B-NP').replace(' I-VP', ' B-VP')
    .replace('I-ORG', 'B-ORG').replace('I-MISC', 'B-MISC')
    .replace('Peter NNP B-NP I-PER', 'Peter NNP B-NP B-PER')
  ) + '\n'  # fmt: skip
  raw = tmp_path / 'raw'
  names = ('train.txt', 'valid.txt', 'test.txt')
  files = write(raw, 'conll2003', text, names)
  with tfds_downloads.replaced(raw):
    readers_tfds.prepare('conll2003', str(tmp_path / 'tfds'))
  stored = DataConfig(source='tfds', path=str(tmp_path / 'tfds'))
  labels = make('conll2003', files).labels
  task = make('conll2003', stored)
  assert task.labels == labels
  for split in SPLITS:
    found = {s.lines: s for s in task.load(stored, split)}
    expected = {s.lines: s for s in task.load(files, split)}
    assert found.keys() == expected.keys() and len(found) == 3
    for lines, sentence in found.items():
      assert sentence.words == expected[lines].words
      assert sentence.tags == expected[lines].tags
  with pytest.raises(InputError, match='has no classes in'):
    readers_tfds.class_names('conll2003', 'tokens', stored.path)


def test_lines_with_predictions_are_what_the_scorers_read(tmp_path):
  data = write(tmp_path, 'conll2003', CONLL)
  task = make('conll2003', data, scheme='IOB1')
  sentences = task.load(data, 'train')
  lines = [
    line
    for sentence in sentences
    for line in conll.tagged_lines(sentence, ['O'] * len(sentence.words))
  ]
  assert lines == [
    f'{line} O' if line else '' for line in CONLL.rstrip('\n').split('\n')
  ]


@pytest.mark.data
def test_the_official_wnut17(shared_data):
  data = DataConfig(source='files', path=str(shared_data / 'ner'))
  task = make('wnut17', data)
  assert [len(task.load(data, split)) for split in SPLITS] == [3394, 1009, 1287]
  assert len(task.labels) == 13
  words = sum(len(s.words) for s in task.load(data, 'test'))
  assert words == 23394


# Tags of one file, in each scheme.
IOB2 = 'B-x I-x B-x O B-y I-y B-x B-y'.split()
IOB1 = 'I-x I-x B-x O I-y I-y I-x I-y'.split()
BIOES = 'B-x E-x S-x O B-y E-y S-x S-y'.split()
BILOU = 'B-x L-x U-x O B-y L-y U-x U-y'.split()


def columns(tags):
  return ''.join(f'w{i}\t{tag}\n' for i, tag in enumerate(tags))


@pytest.mark.parametrize(
  ('tags', 'expected', 'said'),
  [
    (IOB2, IOB2, ''),
    (IOB1, IOB1, 'the tags are in IOB1'),
    (BIOES, IOB2, 'in BIOES; they are learnt, scored and written in IOB2'),
    (BILOU, IOB2, 'in BIOES'),
  ],
)
def test_the_scheme_is_found(tmp_path, capsys, tags, expected, said):
  remarks.forget()
  data = write(tmp_path, 'wnut17', columns(tags))
  task = make('wnut17', data)
  assert task.labels == ('O', 'B-x', 'I-x', 'B-y', 'I-y')
  (sentence,) = task.load(data, 'train')
  assert list(sentence.tags) == expected
  assert sentence.lines[-1] == f'w7\t{expected[-1]}'
  err = capsys.readouterr().err
  assert said in err if said else err == ''


def test_a_few_tags_against_the_scheme_are_repaired_and_counted(
  tmp_path, capsys
):
  """As WNUT-17's official development file has them."""
  remarks.forget()
  text = WNUT * 3 + 'Lil\tB-person\nTurn\tI-work\nUp\tI-work\n\nx\tI-person\n'
  data = write(tmp_path, 'wnut17', text)
  task = make('wnut17', data)
  *_, first, second = task.load(data, 'validation')
  assert first.tags == ('B-person', 'B-work', 'I-work')
  assert first.lines[1] == 'Turn\tB-work' and second.tags == ('B-person',)
  err = capsys.readouterr().err
  assert '2 tags that IOB2 forbids begin entities, as conlleval' in err
  assert 'emerging.dev.conll:20;' in err
  with pytest.raises(
    InputError, match=r'2 rows are wrong.*:20: I-work after B-'
  ):
    make('wnut17', data, repair_tags=False)
  # What is asked for is not looked for.
  assert make('wnut17', data, scheme='IOB1').load(data, 'train')[0].tags == (
    'I-location', 'I-location', 'O'
  )  # fmt: skip


@properties.few
@hypothesis.given(
  kinds=strategies.lists(
    strategies.sampled_from('xyO'), min_size=1, max_size=9
  ),
  breaks=strategies.lists(strategies.booleans(), min_size=9, max_size=9),
)
def test_all_schemes_say_the_same(kinds, breaks):
  """Entities as words of one kind, cut where `breaks` says."""
  begins = [
    kind != 'O' and (i == 0 or kind != kinds[i - 1] or breaks[i])
    for i, kind in enumerate(kinds)
  ]
  last = [
    i + 1 == len(kinds) or begins[i + 1] or kinds[i + 1] == 'O'
    for i in range(len(kinds))
  ]
  iob2 = [
    'O' if kind == 'O' else f'{"B" if begin else "I"}-{kind}'
    for kind, begin in zip(kinds, begins)
  ]
  marks = {
    (True, True): 'S', (True, False): 'B', (False, True): 'E',
    (False, False): 'I',
  }  # fmt: skip
  bioes = [
    'O' if kind == 'O' else f'{marks[begin, end]}-{kind}'
    for kind, begin, end in zip(kinds, begins, last)
  ]
  assert iob.from_bioes(bioes) == iob2 == iob.to_iob2(iob2)
  assert iob.from_bioes([t.replace('E-', 'L-').replace('S-', 'U-')
                         for t in bioes]) == iob2  # fmt: skip
  assert iob.to_iob2(iob.to_iob1(iob2)) == iob2
  assert tagging.lenient([iob2], [iob.to_iob1(iob2)]).f1 in (0.0, 1.0)
