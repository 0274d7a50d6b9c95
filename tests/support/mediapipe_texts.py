"""Texts for MediaPipe, and a vocabulary for them."""

import random

WORDS = (
  'the a is was not and of to in it film movie plot acting was good bad great '
  'awful slow fast first second time ever never really very quite almost where '
  'who what wrote lives won paris berlin london story end begin mask cafe'
).split()
VOCABULARY = [
  '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *'abcdefghijklmnopqrstuvw',
  *'0123456789.,!?\'"()-:;$%&', '。', '“', '”', '中', '国', '€',
  'é', 'café', 'É',
  *(f'##{letter}' for letter in 'abcdefghijklmnopqrstuvw0123456789é'),
  *dict.fromkeys(WORDS), '##ing', '##ed', '##ly', '##s', 'un', '##able',
]  # fmt: skip
VOCABULARY = list(dict.fromkeys(VOCABULARY))


def make_texts(count):
  """Sentences of 0 to 100 words, in ASCII."""
  draw = random.Random(0)
  texts = ['', '?', 'The']
  while len(texts) < count:
    words = []
    for _ in range(draw.choice([1, 3, 8, 15, 30, 100])):
      word = draw.choice(WORDS)
      word = draw.choice([word, word, word.capitalize(), word.upper()])
      kind = draw.random()
      if kind < 0.1:
        # X, Y and Z are not in the vocabulary: an unknown word.
        word += draw.choice(['ing', 'xyz', 'S', 'qqq', "'s", '-able'])
      elif kind < 0.2:
        word = str(draw.randrange(10 ** draw.randrange(1, 6)))
      elif kind < 0.35:
        word = draw.choice(['({})', '"{}"', '{},', '{}...', '{}!?', '${}'])
        word = word.format(draw.choice(WORDS))
      words.append(word)
    texts.append(draw.choice([' ', '  ', ' \t']).join(words))
  return texts


# Each is read otherwise by MediaPipe.
DIFFERENT = [
  'the cafe\u0301 was good',
  'the Café was good',
  'caf\u00e9 is good',
  'ÉCOLE is good',
  'a [MASK] film',
  'a film [SEP] a plot',
  'good\u00a0film',
  'good\u3000film',
  'good\u2028film',
  'good\u200bfilm',
  'go\x01od film',
  'go\u00adod film',
  'the \ufffd film',
  'é' * 51 + ' good',
  'good \x0b film',
]
# And these are not.
SAME = [
  '中国 is good。',
  'good中film国',
  '“good” film',
  'a good\nfilm\r\n\tis good',
  '100 € is 50% of $200',
  'a' * 100 + ' good',
  'a' * 101 + ' good',
  'unable goods x y z',
]
