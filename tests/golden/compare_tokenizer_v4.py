"""Compares the tokenizer with transformers 4.49's slow and fast ones.

transformers 4 needs tokenizers 0.21 and so an environment of its own:
`pip install transformers==4.49.0` there, then
`PYTHONPATH=. python tests/golden/compare_tokenizer_v4.py VOCAB_TXT`. It prints
the differences of each kind with examples; the findings are in the docstring
of `tests/tokenizer/test_tokenizer.py`.
"""

import pathlib
import sys
import tempfile
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import transformers

from mobilebert_jax.tokenizer import MobileBertTokenizerFast
from tests.support import varied_text

_VARIANTS = (
  {},
  {'do_lower_case': False},
  {'strip_accents': False},
  {'tokenize_chinese_chars': False},
  {'do_basic_tokenize': False},
  {'never_split': ['paris', 'running', '1', 'the']},
)


def _report(name, strings, ours, theirs):
  different = [i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b]
  print(f'{name}: {len(different)} of {len(strings)} differ')
  for i in different[:4]:
    print(f'  {strings[i][:60]!a}\n    ours   {ours[i]!a:.150}')
    print(f'    theirs {theirs[i]!a:.150}')


def _files(strings, vocab_file):
  """What either side writes, the other one loads."""
  ours = MobileBertTokenizerFast(vocab_file, model_max_length=77)
  fast = transformers.MobileBertTokenizerFast(vocab_file, model_max_length=77)
  slow = transformers.MobileBertTokenizer(vocab_file, model_max_length=77)
  for tokenizer in (ours, fast, slow):
    tokenizer.add_tokens(['newword'])
    tokenizer.add_special_tokens({'additional_special_tokens': ['<ent>']})
  expected = ours(strings)['input_ids']
  with tempfile.TemporaryDirectory() as directory:
    for name, tokenizer in (('ours', ours), ('fast', fast), ('slow', slow)):
      folder = f'{directory}/{name}'
      tokenizer.save_pretrained(folder)
      loaded = {
        'ours': MobileBertTokenizerFast.from_pretrained(folder),
        'fast': transformers.MobileBertTokenizerFast.from_pretrained(folder),
        'slow': transformers.MobileBertTokenizer.from_pretrained(folder),
      }
      for reader, result in loaded.items():
        assert result.model_max_length == 77
        assert len(result) == len(ours)
        rows = result(strings)['input_ids']
        _report(f'{name} read by {reader}', strings, expected, rows)


def main():
  vocab_file = sys.argv[1]
  warnings.simplefilter('ignore')
  print(f'transformers {transformers.__version__}')
  strings = varied_text.varied_strings(10_000)
  for options in _VARIANTS:
    ours = MobileBertTokenizerFast(vocab_file, **options)
    a = ours(strings, return_offsets_mapping=True)
    fast = transformers.MobileBertTokenizerFast(vocab_file, **options)
    slow = transformers.MobileBertTokenizer(vocab_file, **options)
    b = fast(strings, return_offsets_mapping=True)
    for name in a:
      _report(f'{options} fast {name}', strings, a[name], b[name])
    c = slow(strings)
    for name in c:
      _report(f'{options} slow {name}', strings, a[name], c[name])
    for skip in (False, True):
      decoded = [
        t.batch_decode(a['input_ids'], skip_special_tokens=skip)
        for t in (ours, fast, slow)
      ]
      _report(f'{options} fast decode', strings, decoded[0], decoded[1])
      _report(f'{options} slow decode', strings, decoded[0], decoded[2])
  _files([*strings[:2000], 'a newword <ent> NewWord'], vocab_file)


if __name__ == '__main__':
  main()
