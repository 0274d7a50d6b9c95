"""Writes `tokenizer_golden.json` with transformers' answers.

Run with transformers 5.23 installed, from the checkout:
`PYTHONPATH=. python tests/golden/make_tokenizer_golden.py`. The small
vocabulary is in the file, so that the default suite needs nothing else.
"""

import json
import pathlib

import transformers

from tests.support import varied_text

_OUTPUT = pathlib.Path(__file__).with_name('tokenizer_golden.json')
_VARIANTS = {
  'uncased': {},
  'cased': {'do_lower_case': False},
  'accents kept': {'strip_accents': False},
  'no CJK words': {'tokenize_chinese_chars': False},
}
_CALLS = {
  'plain': {},
  'overflow': {
    'truncation': True,
    'max_length': 10,
    'stride': 2,
    'return_overflowing_tokens': True,
    'padding': 'max_length',
  },
}
_WORDS = (
  '[PAD] [UNK] [CLS] [SEP] [MASK] un ##want ##ed runn ##ing want ##aff ##able '
  'the paris Paris na ##ive ##\u00efve hallo h\u00e4llo allen ##nl ##p do ##t '
  'c 1 ##0 3 14 the ##s a i m we ve x y z \u535a \u63a8 \u5929 \u6c14 '
  '##\u6c14 \u4e00'
).split()


def main():
  letters = [chr(c) for c in range(0x21, 0x7F)]
  tokens = [*_WORDS, *letters, *(f'##{c}' for c in letters if c.isalnum())]
  vocab = {t: i for i, t in enumerate(dict.fromkeys(tokens))}
  # Short strings from the front hold all kinds once; a few random ones.
  strings = [
    *varied_text.varied_strings(175),
    'UNwant\u00e9d,running',
    'A, na\u00efve [MASK] AllenNLP sentence.',
    ' \tHeLLo!how  \n Are yoU?  ',
  ]
  strings = [s for s in strings if len(s) <= 130]
  cases = []
  for variant, options in _VARIANTS.items():
    tokenizer = transformers.BertTokenizer(vocab=dict(vocab), **options)
    for call, kwargs in _CALLS.items():
      texts = strings if variant == 'uncased' else strings[::4]
      encoded = tokenizer(texts, return_offsets_mapping=True, **kwargs)
      columns = dict(encoded)
      if call == 'plain':
        # These follow from the ids where there is no padding.
        columns.pop('attention_mask')
        columns.pop('token_type_ids')
        columns['decoded'] = tokenizer.batch_decode(
          encoded['input_ids'], skip_special_tokens=True
        )
      elif variant != 'uncased':
        continue
      cases.append(
        {
          'options': options,
          'call': kwargs,
          'texts': texts if variant == 'uncased' else None,
          'expected': columns,
        }
      )
  golden = {
    'transformers': transformers.__version__,
    'vocab': list(vocab),
    'texts': strings,
    'cases': [{**c, 'texts': 4 if c['texts'] is None else 1} for c in cases],
  }
  text = json.dumps(golden, separators=(',', ':'))
  _OUTPUT.write_text(text + '\n', encoding='utf-8')
  print(f'{_OUTPUT.name}: {len(text):,} bytes, {len(strings)} strings')


if __name__ == '__main__':
  main()
