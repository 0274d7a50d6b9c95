"""Words and wordings of the generated entailment task (`entailment.py`).

Each split has sentence frames of its own, so that no sentence of the test has
a pattern that training showed. The words themselves are all known from
training: a small model that starts from nothing cannot guess the meaning of a
new one.
"""

import dataclasses

SPLITS = ('train', 'validation', 'test')

# Few words, so that a small model sees every pair of them often: it has to
# learn from nothing which words are the same, and which exclude each other.
NAMES = ('Anna', 'Peter', 'Maria', 'Oscar', 'Julia')


@dataclasses.dataclass(frozen=True)
class Relation:
  """One thing that can be said of a person, with exactly one true value.

  Attributes:
    values: The possible values.
    verbs: Ways to say it, each in the simple and in the progressive form.
    rest: What follows the verb, with a place '{v}' for the value.
  """

  values: tuple[str, ...]
  verbs: tuple[tuple[str, str], ...]
  rest: str


RELATIONS = {
  'city': Relation(
    ('Paris', 'London', 'Rome', 'Berlin'),
    (('lives', 'living'), ('stays', 'staying'), ('resides', 'residing')),
    'in {v}',
  ),
  'job': Relation(
    ('teacher', 'doctor', 'baker', 'farmer'),
    (('works', 'working'), ('serves', 'serving'), ('acts', 'acting')),
    'as a {v}',
  ),
  'car': Relation(
    ('red', 'blue', 'green', 'black'),
    (('drives', 'driving'), ('uses', 'using'), ('steers', 'steering')),
    'a {v} car',
  ),
}

# A frame is an opening, a core and an end; '{s}' is the name, '{p}' the
# predicate, in the progressive form behind 'is'.
_OPENINGS = ('', 'Today ', 'Now ', 'Surely ')
_CORES = (
  '{s} {p}',
  '{s} is {p}',
  '{s} now {p}',
  '{s} is now {p}',
  '{s} still {p}',
  '{s} is still {p}',
)
_ENDS = ('.', ' now.', ' today.', ' again.')
# No English sentence has both of these, or one of them twice.
_CLASHES = (('today', 'now'), ('still', 'again'))


def _frames() -> dict[str, tuple[str, ...]]:
  """Shares the frames out so that each part occurs in every split."""
  frames: dict[str, list[str]] = {split: [] for split in SPLITS}
  for i, opening in enumerate(_OPENINGS):
    for j, core in enumerate(_CORES):
      for k, end in enumerate(_ENDS):
        frame = opening + core + end
        words = frame.lower().strip('.').split()
        if all(words.count(a) + words.count(b) < 2 for a, b in _CLASHES):
          number = (i + j + k) % 6
          split = {0: 'test', 3: 'validation'}.get(number, 'train')
          frames[split].append(frame)
  return {split: tuple(frames[split]) for split in SPLITS}


FRAMES = _frames()
