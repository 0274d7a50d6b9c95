"""Vocabularies of two parties: whether the ids of one are those of the other.

A model knows its tokens by their ids alone, so a tokenizer fits it only if each
of its tokens has the id that the model's own tokenizer gives. More tokens
behind the model's are fine (its tables grow), and so are new tokens in places
that are called [unused0], [unused1], ..., which nothing was learnt for.
"""

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from mobilebert_jax.runtime.errors import InputError

_UNUSED = re.compile(r'\[unused\d*\]')


class Comparison(NamedTuple):
  """What a model makes of another vocabulary than its own.

  Attributes:
    problem: the first token that it would take for another one, as a phrase;
      None: there is none.
    replaced: how many places are filled that are unused in the model.
  """

  problem: str | None
  replaced: int = 0


@dataclasses.dataclass(frozen=True)
class KnownVocabulary:
  """What is known of the vocabulary that a model was trained with.

  Attributes:
    name: the model.
    tokens: its tokens in the order of ids; () if only their digest is known.
    digest: see `digest`; None if the tokens are known.
  """

  name: str
  tokens: tuple[str, ...] = ()
  digest: str | None = None


def digest(tokens: Sequence[str]) -> str:
  """Returns a digest of tokens in the order of ids, with their number."""
  return f'sha256/{len(tokens)}/{sha256(tokens)}'


def sha256(tokens: Sequence[str]) -> str:
  """Returns 64 hexadecimal digits for tokens in the order of ids."""
  return hashlib.sha256('\n'.join(tokens).encode()).hexdigest()


def matches(written: str, tokens: Sequence[str]) -> bool:
  """Returns whether the first tokens are those that a digest was made of.

  Args:
    written: from `digest`.
    tokens: in the order of ids; more than those are fine.
  """
  size = written.split('/')[1:2]
  return bool(
    size and size[0].isdecimal() and digest(tokens[: int(size[0])]) == written
  )


def compare(own: Sequence[str], other: Sequence[str]) -> Comparison:
  """Compares token by token.

  Args:
    own: the model's tokens, in the order of ids.
    other: those of a tokenizer.
  """
  ids = {token: index for index, token in enumerate(own)}
  replaced = 0
  for index, token in enumerate(other):
    here = ids.get(token)
    if here == index:
      continue
    if here is not None:
      return Comparison(f'{token!r} has the id {index} in it, and not {here}')
    if index < len(own):
      if not _UNUSED.fullmatch(own[index]):
        return Comparison(
          f'the id {index} is {token!r} in it, and not {own[index]!r}'
        )
      replaced += 1
  return Comparison(None, replaced)


def check(
  tokens: Sequence[str],
  name: str,
  known: KnownVocabulary | None,
  model: str,
  advice: str,
) -> tuple[str, ...]:
  """Checks that a model reads a tokenizer's ids as they are meant.

  Args:
    tokens: the tokenizer's, in the order of ids.
    name: what the tokenizer is called.
    known: the model's vocabulary, as far as it is known.
    model: what the model is called.
    advice: what to do if it has another one, such as 'leave config.tokenizer
      unset'.

  Returns:
    Sentences for the user.

  Raises:
    InputError: another vocabulary.
  """
  if known is None:
    return (
      f'the vocabulary that {model} was trained with is not beside its '
      f'weights, so nobody can tell whether that of {name} is the same.',
    )
  if known.digest is not None:
    problem, replaced = None, 0
    if not matches(known.digest, tokens):
      problem = 'it is not the one whose digest lies beside the weights'
  else:
    problem, replaced = compare(known.tokens, tokens)
  if problem is not None:
    raise InputError(
      f'{name} has another vocabulary than {model}: {problem}; {advice}.'
    )
  if replaced:
    return (
      f'{name} has {replaced} tokens in places that are unused in {model}; '
      'their word vectors have learnt nothing yet.',
    )
  return ()
