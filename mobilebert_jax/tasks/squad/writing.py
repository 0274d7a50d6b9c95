"""SQuAD's prediction files, as google-research's run_squad writes them."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mobilebert_jax.data.readers.squad import Question
from mobilebert_jax.runtime import files
from mobilebert_jax.tasks.squad.answers import Found


def write(
  directory: pathlib.Path,
  split: str,
  examples: Sequence[Question],
  found: Sequence[Found],
  answers: Sequence[str],
  *,
  n_best: int,
  with_null: bool,
) -> pathlib.Path:
  """Writes what the official scripts read, and what stands beside it.

  predictions.json: the answer to each question, by its id.
  nbest_predictions.json: the best answers to each, with their logits and
    probabilities (a softmax over the answers listed), best first.
  null_odds.json (SQuAD 2.0): how much more no answer scores than the best
    answer; for --na-prob-file of evaluate-v2.0.py.

  The names of another split than 'validation' begin with it.

  Args:
    directory: where.
    split: name of the split.
    examples: the questions.
    found: what the model says to them.
    answers: the answer that is given to each, '' for none.
    n_best: answers to list.
    with_null: whether a text may not answer a question.

  Returns:
    The file of predictions.
  """
  ids = [example.id for example in examples]
  nbest = [_nbest(one, n_best, with_null) for one in found]
  contents: dict[str, dict[str, Any]] = {
    'nbest_predictions.json': dict(zip(ids, nbest))
  }
  if with_null:
    contents['null_odds.json'] = {
      id_: one.null_odds for id_, one in zip(ids, found)
    }
  contents['predictions.json'] = dict(zip(ids, answers))
  prefix = '' if split == 'validation' else f'{split}_'
  for name, content in contents.items():
    path = directory / f'{prefix}{name}'
    files.write_text(path, json.dumps(content, indent=4) + '\n')
  return path


def _nbest(found: Found, n_best: int, with_null: bool) -> list[dict[str, Any]]:
  spans = list(found.spans[:n_best])
  if with_null or not spans:
    ranked = sorted([*spans, found.null], key=lambda span: -span.score)
    spans = ranked[:n_best]
    # No answer is always listed.
    if found.null not in spans:
      spans.append(found.null)
  scores = np.array([span.score for span in spans])
  odds = np.exp(scores - scores.max())
  return [
    {
      'text': span.text,
      'probability': probability,
      'start_logit': span.start_logit,
      'end_logit': span.end_logit,
    }
    for span, probability in zip(spans, (odds / odds.sum()).tolist())
  ]
