"""Options of XLA that make this model's programs faster, for each platform."""

import functools

# Matrix products by Eigen: with this model's shapes XLA's own choice, YNNPACK,
# takes a fifth longer in float32 (and Eigen twice as long in bfloat16).
_CPU_FLOAT32 = {
  'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_REDUCE'
}


def compiler_options(platform: str, dtype: str) -> dict[str, str] | None:
  """Returns `compiler_options` for the `jax.jit` of a model's function.

  Args:
    platform: of the devices: 'cpu', 'tpu' or 'gpu'.
    dtype: of activations and matrix products, as in `Compute.dtype`.

  Returns:
    Those options that the installed XLA has; None, if there is none to set.
  """
  if platform != 'cpu' or dtype != 'float32':
    return None
  options = _CPU_FLOAT32.items()
  known = {name: value for name, value in options if _is_known(name, value)}
  return known or None


@functools.cache
def _is_known(name: str, value: str) -> bool:
  """Returns whether the installed XLA compiles with this option."""
  import jax

  options = {name: value}
  try:
    with jax.default_device(jax.local_devices(backend='cpu')[0]):
      jax.jit(lambda: 0.0, compiler_options=options).lower().compile()
  except Exception as error:
    # XLA says 'No such compile option'; anything else is not ours to hide.
    if 'option' not in str(error):
      raise
    return False
  return True
