"""Column files as they are found: comments, headers, marks, documents."""

import hypothesis
import pytest
from hypothesis import strategies

from mobilebert_jax.data.readers import conll, remarks
from mobilebert_jax.data.readers.bad_rows import BadRows
from mobilebert_jax.runtime.errors import InputError
from tests.support import properties

PLAIN = 'Rome\tB-LOC\nfell\tO\n\n#\tO\nAnna\tB-PER\n'
WORDS = [('Rome', 'fell'), ('#', 'Anna')]
SAME = {
  'comments of CoNLL-U': (
    '# sent_id = 1\n# text = Rome fell\nRome\tB-LOC\nfell\tO\n\n'
    '# sent_id = 2\n#\tO\nAnna\tB-PER\n'
  ),
  'comments with a tab': (
    '# id 5f2\tdomain=en\nRome\tB-LOC\nfell\tO\n\n# id 5f3\tdomain=en\n'
    '#\tO\nAnna\tB-PER\n'
  ),
  'a comment that looks like a word and its tag': (
    '# id\tO\nRome\tB-LOC\nfell\tO\n\n#\tO\nAnna\tB-PER\n'
  ),
  'comments of MultiCoNER': (
    '# id 5f2\tdomain=en\nRome _ _ B-LOC\nfell _ _ O\n\n# id 5f3\tdomain=en\n'
    '# _ _ O\nAnna _ _ B-PER\n\n'
  ),
  'a comment before four columns': (
    '# sent_id = 1\nRome NNP x B-LOC\nfell VB x O\n\n# newdoc\n# . x O\n'
    'Anna NNP x B-PER\n'
  ),
  'a header': f'word\ttag\n{PLAIN}',
  'a header of capitals': f'\nTokens\tNER_tags\n{PLAIN}',
  'marks of byte order': (
    '\ufeffRome\tB-LOC\nfell\tO\n\n\ufeff#\tO\nAnna\tB-PER\n\n\ufeff'
  ),
  'a mark as the last line': PLAIN + '\n\ufeff',
  'documents in two columns': (
    '-DOCSTART-\tO\n\nRome\tB-LOC\nfell\tO\n\n-DOCSTART-\t-X-\tO\tO\n\n#\tO\n'
    'Anna\tB-PER\n'
  ),
  'documents before other columns': (
    '-DOCSTART- O\n\nRome NNP x B-LOC\nfell VB x O\n\n-DOCSTART-\n# . x O\n'
    'Anna NNP x B-PER\n'
  ),
  'windows': PLAIN.replace('\n', '\r\n'),
}  # fmt: skip


def read(path, **settings):
  return list(conll.read_sentences(path, **settings))


@pytest.mark.parametrize('case', SAME)
def test_lines_that_are_no_words(tmp_path, case):
  path = tmp_path / 'a.conll'
  path.write_text(SAME[case], newline='')
  found = read(path)
  assert [sentence.words for sentence in found] == WORDS
  assert [s.tags for s in found] == [('B-LOC', 'O'), ('O', 'B-PER')]
  lines = SAME[case].replace('\ufeff', '').replace('\r', '').split('\n')
  for sentence in found:
    for index, line in enumerate(sentence.lines):
      number = int(sentence.place(index).rpartition(':')[2])
      assert lines[number - 1] == line


def test_what_is_left_out_is_said(tmp_path, capsys):
  remarks.forget()
  path = tmp_path / 'a.conll'
  path.write_text(f'# a = 1\nword\ttag\n# b = 2\n{PLAIN}')
  assert len(read(path)) == 2
  err = capsys.readouterr().err
  assert f"{path}:2: 'word\\ttag' names the columns" in err
  assert f'{path}: 2 lines of comments are left out.' in err
  # They are in no written file either.
  found = read(path)
  written = [
    line for s in found for line in conll.tagged_lines(s, ['O'] * len(s.words))
  ]
  assert written == [
    'Rome\tB-LOC\tO', 'fell\tO\tO', '', '#\tO\tO', 'Anna\tB-PER\tO'
  ]  # fmt: skip


def test_a_file_of_hashes_alone(tmp_path):
  path = tmp_path / 'a.conll'
  path.write_text('#\tO\n#\tO\n')
  (sentence,) = read(path)
  assert sentence.words == ('#', '#')


def test_a_word_may_be_called_as_a_column(tmp_path):
  path = tmp_path / 'a.conll'
  path.write_text('word\tO\ntag\tO\n\nword\ttag\n')
  assert [s.words for s in read(path)] == [('word', 'tag'), ('word',)]


def test_wrong_sentences_are_counted(tmp_path):
  path = tmp_path / 'a.conll'
  path.write_text('a\tO\n\nb\nc\tO\nd\n\ne\tO\n\n\tO')
  bad = BadRows()
  assert [s.words for s in read(path, bad=bad)] == [('a',), ('e',)]
  first, second = bad.messages
  assert (
    first.startswith(f'{path}:3: 1 tab-separated') and ':9: the w' in second
  )
  with pytest.raises(InputError, match=':3: 1 tab-separated'):
    read(path)


SENTENCES = strategies.lists(
  strategies.lists(
    strategies.tuples(
      strategies.sampled_from(['a', '#', '#tag', 'Ōe', '=', 'word']),
      strategies.sampled_from(['O', 'B-X', 'I-X']),
    ),
    min_size=1, max_size=4,
  ),
  min_size=1, max_size=4,
)  # fmt: skip


@properties.few
@hypothesis.given(
  sentences=SENTENCES,
  separator=strategies.sampled_from(['\t', ' ']),
  border=strategies.sampled_from(['\n', '\t\n', '\n\n', '-DOCSTART- O\n\n']),
  comment=strategies.sampled_from(['', '# sent_id = 7\n', '# newdoc id = 1\n']),
  mark=strategies.sampled_from(['', '\ufeff']),
  end=strategies.sampled_from(['\n', '\r\n']),
  middle=strategies.sampled_from(['', 'x']),
)
def test_the_same_sentences_in_random_forms(
  tmp_path, sentences, separator, border, comment, mark, end, middle
):
  def line(word, tag):
    return separator.join([word, *([middle] if middle else []), tag]) + '\n'

  text = border.join(
    mark + comment + ''.join(line(*pair) for pair in sentence)
    for sentence in sentences
  )
  path = tmp_path / 'a.conll'
  path.write_text(text.replace('\n', end), newline='')
  found = [list(zip(s.words, s.tags)) for s in read(path)]
  assert found == sentences
