import time

import pytest

from mobilebert_jax.data.readers.sentences import split

# Each is one text whose sentences stand between bars.
TEXTS = (
  'One two.| Three!| Four?| Five',
  'He met Mr. Smith and Dr. No.| They left.',
  '"Who is it?" asked she.| "I," he said.| "You!"| Silence.',
  'It cost 3.50, i.e. nothing.| See No. 5 and pp. 7-9.| No.| They.',
  'J. R. R. Tolkien wrote.| Charles I. was king.| It was I.| He knew.',
  'Wait... he said.| Wait...| He ran.| So\u2026 what?| So\u2026| What?',
  'The U.S. Senate met at 9 a.m. on Monday.| It rose.',
  '(An aside.)| \u201cQuoted.\u201d| _Emphasis!_| [Note.]| End.',
  '\u4eca\u5929\u5f88\u597d\u3002|\u4f60\u597d\u5417\uff1f|'
  '\u300c\u597d\uff01\u300d|\u8d70\u5427',
  'no capitals here. so every mark ends. even this one',
  'What?! Yes.',
  'A title\n\n| And text. | More',
  'Broken\nlines  are\tjoined.| Yes.',
  'www.example.com is 2.5 kB.| Done.',
)
EXPECTED = {
  'no capitals here. so every mark ends. even this one': [
    'no capitals here.', 'so every mark ends.', 'even this one',
  ],
  'What?! Yes.': ['What?!', 'Yes.'],
}  # fmt: skip


@pytest.mark.parametrize('number', range(len(TEXTS)))
def test_sentences_end_where_they_should(number):
  text = TEXTS[number]
  expected = EXPECTED.get(text)
  if expected is None:
    expected = [' '.join(part.split()) for part in text.split('|')]
  assert split(text.replace('|', '')) == expected


@pytest.mark.parametrize('text', ['', ' \n\n \t', '\n'])
def test_nothing_has_no_sentences(text):
  assert split(text) == []


def test_nothing_but_white_space_is_lost():
  text = ' ... !? "A." b.c (D?) e\u2026 \n\nF." G. ? \u3002\u3002x \n H '
  assert ''.join(''.join(split(text)).split()) == ''.join(text.split())
  assert all(part == part.strip() and part for part in split(text))


@pytest.mark.parametrize(
  'line', ['.' * 200_000, '?!\u2026' * 60_000, '."' * 90_000]
)
def test_a_row_of_marks_takes_no_longer_than_its_length(line):
  """Not its square: that would be minutes."""
  start = time.monotonic()
  assert split(f'One{line}x. Two.') == [f'One{line}x.', 'Two.']
  assert time.monotonic() - start < 2


@pytest.mark.data
def test_a_real_book_is_cut_into_sentences_of_usual_length(shared_data):
  """Half of a novel's sentences have 5 to 40 words; none is lost."""
  from mobilebert_jax.data.readers.documents import read_documents

  path = shared_data / 'books' / 'books-00002-of-00012.jsonl.gz'
  text = next(read_documents(path)).text[:300_000]
  found = split(text)
  assert ' '.join(found).split() == text.split()
  counts = sorted(len(sentence.split()) for sentence in found)
  assert 8 <= counts[len(counts) // 2] <= 30
  assert not any(s.endswith((' Mr.', ' Mrs.', ' Dr.')) for s in found)
