"""The one exception that means: the input is wrong, not the program."""


class InputError(ValueError):
  """A wrong value, file or flag, told in one sentence.

  The message names what is wrong, where (field, or file and line) and what
  would be right. The commands print it without a traceback and exit with
  status 2; every other exception is a defect of this package.
  """
