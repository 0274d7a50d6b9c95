"""How property tests run: the same few examples every time."""

import hypothesis

few = hypothesis.settings(
  derandomize=True,
  database=None,
  deadline=None,
  max_examples=50,
  # Each example overwrites the files of the one before.
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
