"""Strings that exercise every step of BERT's tokenization, from a seed."""

import random

_PIECES = (
  # Words, numbers, punctuation and contractions.
  'the', 'Paris', 'UNwant\u00e9d', 'running', 'unaffable', 'AllenNLP', "don't",
  "I'm", "we've", 'e.g.', 'U.S.', '3.14', '1,000,000', '50%', '$9.99', 'C++',
  'a@b.co', 'http://x.y/z?q=1', '#tag', '--', '...', '\u2026', '\u2014', '``',
  "''", '(', ')', '[', ']', '{x}', '<br/>', '~', '^', '_', '|', '\\', '/',
  # Accents, composed and with combining marks; lower case that grows.
  'na\u00efve', 'nai\u0308ve', 'H\u00c4LLO', '\u00e9\u00e8\u00ea',
  'e\u0301\u0323', '\u0130stanbul', '\u00df', '\u1e9e', '\ufb01n', '\u01c5',
  '\u0345', 'Vi\u1ec7t', 'o\u0338', '\u0410\u0301\u0431\u0432',
  '\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2',
  # CJK, kana, hangul, extension planes, compatibility forms.
  '\u535a\u63a8', '\u4eca\u5929\u5929\u6c14', '\u3053\u3093\u306b\u3061\u306f',
  '\u30ab\u3099', '\uc548\ub155', '\u1112\u1161\u11ab', '\U00020000', '\uf900',
  '\uff21\uff22\uff23', '\u3002', '\uff0c', '\u300c\u5f15\u300d',
  # Right to left, Indic, Thai.
  '\u05e9\u05dc\u05d5\u05dd', '\u05e9\u05b8\u05c1',
  '\u0645\u0631\u062d\u0628\u0627', '\u0645\u064f', '\u0e2a\u0e27\u0e31\u0e2a',
  '\u0928\u092e\u0938\u094d\u0924\u0947',
  # Emoji: alone, with modifiers, joined, flags, keycaps.
  '\U0001f600', '\U0001f44d\U0001f3fd', '\u2764\ufe0f', '1\ufe0f\u20e3',
  '\U0001f468\u200d\U0001f469\u200d\U0001f467', '\u2603',
  '\U0001f1eb\U0001f1f7',
  # Control, format, private and unassigned characters.
  '\x00', '\x01a', '\x07', '\x1b[0m', '\x7f', '\x85', '\xad', '\u200b',
  '\u200e', '\u202e', '\u2060', '\ufeff', '\ufffd', '\ufffe', '\ue000',
  '\U000f0000', '\U000e0041', '\u0378', '\U0010ffff',
  # Special tokens and their look-alikes.
  '[CLS]', '[SEP]', '[PAD]', '[MASK]', '[UNK]', '[mask]', '[MASK', '[[MASK]]',
  '[MASK].', 'x[SEP]y', '[unused1]', '##ing', '##', '[ MASK ]',
  # Words around the limit of 100 characters.
  'a' * 99, 'b' * 100, 'c' * 101, '\u00e9' * 100, 'e\u0301' * 60, 'xy' * 200,
  '\u4e00' * 120, '.' * 110, '\U0001f600' * 60,
)  # fmt: skip
_SPACES = (
  ' ', ' ', ' ', ' ', '', '', '  ', '\t', '\n', '\r\n', '\r', '\x0b', '\x0c',
  '\x1c', '\x1f', '\x85', '\xa0', '\u1680', '\u2003', '\u2028', '\u2029',
  '\u202f', '\u205f', '\u3000', '\u200b',
)  # fmt: skip
_FIXED = ('', ' ', '\n', '\t \r\n', '\u200b', '\x00', '\u0301', '[MASK]', '.')
_BLOCKS = (
  (0x20, 0x7E), (0xA0, 0x17F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF),
  (0x900, 0x97F), (0x1E00, 0x1FFF), (0x2000, 0x206F), (0x2190, 0x22FF),
  (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xA960, 0xABFF), (0xFE00, 0xFFFF),
  (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x2FA1F), (0x0, 0x10FFFF),
)  # fmt: skip


def varied_strings(count: int, seed: int = 0) -> list[str]:
  """`count` different kinds of strings; the same for the same seed."""
  rng = random.Random(seed)
  strings = list(_FIXED) + list(_PIECES)
  while len(strings) < count:
    strings.append(_mixed(rng) if rng.random() < 0.7 else _random(rng))
  return strings[:count]


def _mixed(rng: random.Random) -> str:
  parts = []
  for _ in range(rng.randint(1, 12)):
    parts += [rng.choice(_PIECES), rng.choice(_SPACES)]
  return ''.join(parts if rng.random() < 0.5 else parts[:-1])


def _random(rng: random.Random) -> str:
  low, high = rng.choice(_BLOCKS)
  points = (rng.randint(low, high) for _ in range(rng.randint(1, 40)))
  # Halves of surrogate pairs are no text; a test of errors has them.
  return ''.join(chr(p) for p in points if not 0xD800 <= p <= 0xDFFF)
