"""Examples for pre-training from plain text, written once and read often.

`write` is the whole of it; `python -m mobilebert_jax.pretraining_data` and the
Beam pipeline (`beam`) are two ways to call its parts. The unit of work is a
block, a run of whole documents, whose records depend on its text, its number
and the options alone: so any number of processes and machines write the same
bytes, and what was stopped goes on with the blocks that are missing.
"""

from mobilebert_jax.pretraining_data.options import PretrainingDataOptions
from mobilebert_jax.pretraining_data.writing import write

__all__ = ['PretrainingDataOptions', 'write']
