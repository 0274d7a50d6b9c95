"""Examples for pre-training from plain text, written once and read often.

`write` is the whole of it; `python -m mobilebert_jax.pretraining_data` and the
Beam pipeline (`beam`) are two ways to call its parts. The unit of work is a
block, a run of whole documents, whose records depend on its text, its number
and the options alone: so any number of processes and machines write the same
bytes, and what was stopped goes on with the blocks that are missing.

- `options`: what decides the records
- `blocks`: how text is cut into blocks
- `examples`: the records of one block
- `writing`: all blocks, in processes, and the summary
- `vocabulary`: the command that learns a vocabulary
"""

from typing import TYPE_CHECKING, Any

from mobilebert_jax.pretraining_data.options import PretrainingDataOptions

if TYPE_CHECKING:
  from mobilebert_jax.pretraining_data.writing import write

__all__ = ['PretrainingDataOptions', 'write']


def __getattr__(name: str) -> Any:
  """Loads `write` when it is first used: it needs jax, and --help does not."""
  if name == 'write':
    from mobilebert_jax.pretraining_data.writing import write

    return write
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
