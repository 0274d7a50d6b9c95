"""Where sentences end in running text.

Rules that fit books and encyclopedias in European languages, and the marks of
Chinese and Japanese. A wrong guess costs little in pre-training: a segment of
one sentence more or less. Nothing is learnt and no other library is needed, so
the same text is cut alike everywhere.
"""

import re

_PARAGRAPHS = re.compile(r'\n\s*\n')
# Marks, closing quotes and brackets (and Markdown's emphasis), a space; the
# full-width marks need none. All of a row of marks or none: in a line of dots
# each dot would be tried as the first.
_END = re.compile(
  r'(?<![.!?\u2026])(?P<mark>[.!?\u2026]++)["\'\u2019\u201d\u00bb)\]*_]*+\s+'
  r'|[\u3002\uff01\uff1f]+["\u300d\u300f\u2019\u201d\uff09)]*\s*'
)
_OPENING = '"\'\u2018\u201c\u00ab([*_'
_DOTTED = re.compile(r'(?:[^\W\d_]\.)+[^\W\d_]')
# A name or a remark follows these, never a new sentence.
_ABBREVIATIONS = frozenset(
  'mr mrs ms messrs mm mme mlle dr prof rev fr hon st ste sr gen col capt cmdr '
  'lt lieut sgt serg maj adm gov pres sen rep vs viz cf ca al approx'.split()
)
# These stand before a number, and otherwise end a sentence as any word does.
_BEFORE_NUMBERS = frozenset(
  'no nos p pp vol vols ch chap fig figs art sec sect par eq ver bk'.split()
)


def split(text: str) -> list[str]:
  """Cuts a text into sentences.

  A blank line always ends a sentence. Otherwise one ends behind '.', '!', '?'
  or an ellipsis, with the quotes and brackets that close there, if a space
  follows and then no lower-case letter (unless the whole text has no capital
  letters). No end is a full stop behind an initial (J. Smith), a dotted
  abbreviation (e.g.), a title (Dr.), or before the number that it introduces
  (No. 5). No character is lost but white space.

  Args:
    text: Any text.

  Returns:
    The sentences, without line breaks and spaces around them.
  """
  has_case = text != text.lower()
  sentences = []
  for paragraph in _PARAGRAPHS.split(text):
    line = ' '.join(paragraph.split())
    start = 0
    for result in _END.finditer(line):
      if result.end() == len(line) or _is_end(line, result, has_case):
        sentences.append(line[start : result.end()].rstrip())
        start = result.end()
    if start < len(line):
      sentences.append(line[start:])
  return sentences


def _is_end(line: str, result: re.Match[str], has_case: bool) -> bool:
  mark = result['mark']
  if mark is None:
    return True
  follows = line[result.end() : result.end() + 8].lstrip(_OPENING)[:1]
  if has_case and follows.islower():
    return False
  if mark != '.':
    return True
  begin = line.rfind(' ', 0, result.start()) + 1
  word = line[begin : result.start()].lstrip(_OPENING)
  # 'I' is a word more often than an initial.
  if len(word) == 1 and word.isupper() and word != 'I':
    return False
  if word.lower() in _BEFORE_NUMBERS and follows.isdigit():
    return False
  return not (word.lower() in _ABBREVIATIONS or _DOTTED.fullmatch(word))
