"""Splits a file of SQuAD by article into a training and a dev file.

  python benchmarks/split_squad.py FILE DIR [--share 0.8]

Writes DIR/train-vX.json and DIR/dev-vX.json, X the file's version. Every
article is in one of them only, so that no text of the dev file is trained on.
The first articles are the training file: as many as come nearest to the share
of the questions.
"""

import argparse
import gzip
import itertools
import json
import pathlib
import sys


def questions_in(article: dict) -> int:
  """How many questions an article has."""
  return sum(len(paragraph['qas']) for paragraph in article['paragraphs'])


def split(articles: list[dict], share: float) -> tuple[list, list]:
  """The first articles, whose questions come nearest to the share; the rest."""
  sums = list(itertools.accumulate(map(questions_in, articles)))
  errors = [abs(count - share * sums[-1]) for count in sums]
  first = errors.index(min(errors)) + 1
  return articles[:first], articles[first:]


def main():
  """Splits the file named on the command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('file', type=pathlib.Path)
  parser.add_argument('directory', type=pathlib.Path)
  parser.add_argument('--share', type=float, default=0.8)
  args = parser.parse_args()
  data = args.file.read_bytes()
  if args.file.suffix == '.gz':
    data = gzip.decompress(data)
  whole = json.loads(data)
  version = whole['version'].removeprefix('v')
  args.directory.mkdir(parents=True, exist_ok=True)
  parts = split(whole['data'], args.share)
  for name, articles in zip(('train', 'dev'), parts):
    path = args.directory / f'{name}-v{version}.json'
    path.write_text(json.dumps({'version': version, 'data': articles}))
    count = sum(map(questions_in, articles))
    print(f'{path}: {len(articles)} articles, {count} questions')


if __name__ == '__main__':
  sys.exit(main())
