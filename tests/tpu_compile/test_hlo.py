"""The reader of compiled programs, on texts as XLA writes them."""

import functools

import jax
import jax.numpy as jnp
import pytest

from mobilebert_jax.tpu_compile.hlo import counts as hlo_counts
from mobilebert_jax.tpu_compile.hlo import products
from mobilebert_jax.tpu_compile.hlo import text as hlo_text

LOOP = """\
HloModule jit_f, is_scheduled=true

%body (p: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %p = (s32[]{:T(128)}, f32[8,8]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %one = s32[]{:T(128)} constant(STEP)
  %next = s32[]{:T(128)} add(%i, %one)
  %x = f32[8,8]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %y = f32[8,8]{1,0:T(8,128)} convolution(%x, %x), window={size=1}, dim_labels=bf_io->bf
  %z = f32[8,8]{1,0:T(8,128)} all-reduce(%y), channel_id=1, replica_groups=mesh['data'=2,'fsdp'=4] {'fsdp'}, use_global_device_ids=true, to_apply=%add
  ROOT %t = (s32[]{:T(128)}, f32[8,8]{1,0:T(8,128)}) tuple(%next, %z)
}

%cond (q: (s32[], f32[8,8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(10)
  %q = (s32[]{:T(128)}, f32[8,8]{1,0:T(8,128)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%q), index=0
  ROOT %lt = pred[]{:T(512)} compare(%j, %limit), direction=DIRECTION
}

ENTRY %main (a: f32[8,8]) -> f32[8,8] {
  %a = f32[8,8]{1,0:T(8,128)} parameter(0)
  %zero = s32[]{:T(128)} constant(START)
  %first = s32[]{:T(128)} copy(%zero)
  %s = (s32[]{:T(128)}, /*index=1*/f32[8,8]{1,0:T(8,128)}) tuple(%first, %a)
  %w = (s32[]{:T(128)}, f32[8,8]{1,0:T(8,128)}) while(%s), condition=%cond, body=%body
  ROOT %r = f32[8,8]{1,0:T(8,128)} get-tuple-element(%w), index=1
}
"""  # noqa: E501


def loop(start=0, step=1, direction='LT'):
  text = LOOP.replace('START', str(start)).replace('STEP', str(step))
  return text.replace('DIRECTION', direction)


@pytest.mark.parametrize(
  ('start', 'step', 'direction', 'trips'),
  [(0, 1, 'LT', 10), (0, 1, 'LE', 11), (4, 1, 'LT', 6), (0, 3, 'LT', 4)],
)
def test_trip_count_from_the_counter(start, step, direction, trips):
  counts = hlo_counts.count(loop(start, step, direction))
  assert counts.loops == (('w', trips),)
  assert counts.flops == trips * 2 * 8**3
  (found,) = counts.collectives
  assert (found.kind, found.bytes, found.group) == ('all-reduce', 256, 4)
  assert found.times == trips
  assert counts.collective_bytes('all-reduce') == trips * 256
  assert counts.collective_bytes('all-gather') == 0


def test_memory_counts_whole_tiles_and_not_what_is_on_the_core():
  # Each iteration reads x twice and writes y, reads y and writes z: tiles of
  # 8 x 128. The counter: reads two and writes one tile of 128 numbers; before
  # the loop it is copied.
  counter = (10 * 3 + 2) * 128 * 4
  assert hlo_counts.count(loop()).bytes == 10 * 5 * 8 * 128 * 4 + counter
  on_core = loop().replace('T(8,128)}', 'T(8,128)S(1)}')
  assert hlo_counts.count(on_core).bytes == counter


@pytest.mark.parametrize(
  ('broken', 'message'),
  [
    (loop(direction='NE'), 'ends by compare NE'),
    (loop(step=0), 'does not tell how often'),
    (loop().replace('ENTRY ', ''), 'no ENTRY'),
    (loop().replace('f32[8,8]', 'q9[8,8]'), "unknown dtype 'q9'"),
    (loop().replace('constant(10)', 'parameter(1)'), 'does not tell how often'),
    (loop().replace('  %zero = s32', '  zero s32'), 'not an instruction'),
  ],
  ids=['direction', 'step', 'entry', 'dtype', 'limit', 'line'],
)
def test_what_is_not_understood_is_no_silent_zero(broken, message):
  with pytest.raises(hlo_text.HloError, match=message):
    hlo_counts.count(broken)


def test_a_convolution_with_holes_is_a_batched_product():
  """What the TPU compiler makes of [8, 4] products of 128 x 32 x 128."""
  text = """\
ENTRY %main (a: bf16[8,128,4,32], b: bf16[8,128,4,32]) -> f32[8,4,128,128] {
  %a = bf16[8,128,4,32]{3,2,1,0} parameter(0)
  %b = bf16[8,128,4,32]{3,2,1,0} parameter(1)
  ROOT %c = f32[8,4,128,128]{3,2,1,0} convolution(%a, %b), window={size=8x4 stride=7x3 lhs_dilate=8x4}, dim_labels=0b1f_0o1i->01bf
}
"""  # noqa: E501
  counts = hlo_counts.count(text)
  assert counts.flops == 2 * 8 * 4 * 128 * 128 * 32
  assert counts.flops_by_dtypes() == {('bf16', 'bf16', 'f32'): counts.flops}


def test_a_collective_that_is_spread_over_fusions_counts_once():
  """As the TPU compiler writes an all-gather that others compute beside."""
  gather = (
    'all-gather(%p), channel_id=3, replica_groups=[1,4]<=[4], dimensions={0}, '
    'frontend_attributes={chain_id="0"}'
  )
  text = f"""\
%start (p: f32[2]) -> (f32[2], f32[8]) {{
  %p = f32[2]{{0}} parameter(0)
  %g = f32[8]{{0}} {gather}
  ROOT %s = (f32[2]{{0}}, f32[8]{{0}}) custom-call(%g), custom_call_target="AsyncCollectiveStart"
}}

%go_on (p: f32[2]) -> f32[8] {{
  %p = f32[2]{{0}} parameter(0)
  ROOT %g = f32[8]{{0}} {gather}
}}

ENTRY %main (a: f32[2]) -> f32[8] {{
  %a = f32[2]{{0}} parameter(0)
  %f = (f32[2]{{0}}, f32[8]{{0}}) fusion(%a), kind=kCustom, calls=%start
  %b = f32[8]{{0}} fusion(%a), kind=kCustom, calls=%go_on
  %o = f32[4,1]{{1,0}} constant({{...}})
  %p = f32[4,4]{{1,0}} dot(%o, %o), lhs_contracting_dims={{1}}, rhs_contracting_dims={{1}}
  ROOT %c = f32[8]{{0}} fusion(%a), kind=kCustom, calls=%go_on
}}
"""  # noqa: E501
  counts = hlo_counts.count(text)
  (found,) = counts.collectives
  assert (found.kind, found.bytes, found.times) == ('all-gather', 32, 1)
  assert found.is_async and counts.uncounted == ()
  # Beside it: the product, and what is spread.
  assert found.flops_beside == counts.flops == 2 * 4 * 4
  assert found.bytes_beside == (4 + 4 + 16) * 4 + (2 + 8) * 4


def test_what_runs_between_start_and_done_is_beside_it():
  text = """\
ENTRY %main (a: f32[4,4]) -> f32[4,4] {
  %a = f32[4,4]{1,0} parameter(0)
  %b = f32[4,4]{1,0} dot(%a, %a), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %s = f32[4,4]{1,0} all-reduce-start(%b), channel_id=1, replica_groups={{0,1}}, to_apply=%add
  %c = f32[4,4]{1,0} dot(%a, %a), lhs_contracting_dims={0}, rhs_contracting_dims={0}
  %d = f32[4,4]{1,0} all-reduce-done(%s)
  ROOT %e = f32[4,4]{1,0} dot(%c, %d), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""  # noqa: E501
  counts = hlo_counts.count(text)
  (found,) = counts.collectives
  assert found.is_async and counts.flops == 3 * 2 * 4**3
  assert found.flops_beside == 2 * 4**3
  assert found.bytes_beside == 3 * 16 * 4


KERNEL = """\
ENTRY %main (a: bf16[256,128], b: bf16[128,128]) -> f32[256,128] {
  %a = bf16[256,128]{1,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[128,128]{1,0:T(8,128)(2,1)} parameter(1)
  %c = f32[256,128]{1,0:T(8,128)} convolution(%a, %b), window={size=1}, dim_labels=bf_io->bf
  ROOT %k = f32[256,128]{1,0:T(8,128)} custom-call(%c, %b), custom_call_target="tpu_custom_call", metadata={op_name="jit(f)/fused/pallas_call"}, backend_config={"custom_call_config":{"body":"TUzv",COST"serialization_format":"1"}}
}
"""  # noqa: E501


def kernel(flops, moved):
  cost = (
    f'"cost_estimate":{{"flops":"{flops}","transcendentals":"5",'
    f'"bytes_accessed":"{moved}","remote_bytes_transferred":"0"}},'
  )
  return KERNEL.replace('COST', cost)


def test_a_kernel_counts_by_what_it_declares():
  border = (2 * 256 * 4 + 128 * 2) * 128
  counts = hlo_counts.count(kernel(10**9, border))
  (found,) = counts.kernels
  assert (found.flops, found.bytes, found.times) == (10**9, border, 1)
  assert found.op_name == 'jit(f)/fused/pallas_call'
  product = 2 * 256 * 128 * 128
  assert counts.flops == product + 10**9
  assert counts.flops_by_dtypes() == {('bf16', 'bf16', 'f32'): product}
  assert counts.uncounted == ()
  # The product and the kernel, by all that crosses their borders.
  assert [o.name for o in counts.operations] == ['c', 'k']
  assert counts.bytes == sum(o.bytes for o in counts.operations)
  # A kernel that reads an operand again says so.
  (found,) = hlo_counts.count(kernel(10**9, border + 4096)).kernels
  assert found.bytes == border + 4096
  # What lies on the core costs no bandwidth.
  near = kernel(1, border).replace('T(8,128)(2,1)}', 'T(8,128)(2,1)S(1)}')
  (found,) = hlo_counts.count(near).kernels
  assert found.bytes == 2 * 256 * 4 * 128


def test_a_kernel_that_declares_nothing_is_named():
  counts = hlo_counts.count(KERNEL.replace('COST', ''))
  assert counts.uncounted == ('tpu_custom_call',)
  assert [o.flops for o in counts.kernels] == [0]


def test_the_compilers_own_kernel_counts_as_the_product_that_it_replaces():
  text = KERNEL.replace('jit(f)/fused/pallas_call', 'online-softmax')
  counts = hlo_counts.count(text.replace('COST', ''))
  (found,) = counts.kernels
  assert found.flops == 2 * 256 * 128 * 128 and counts.uncounted == ()


def test_operations_hold_all_that_a_program_computes_and_moves():
  """Of a real one, with a loop and fusions."""

  def layers(x, kernel):
    def layer(x, _):
      return jnp.sin(x @ kernel) + jnp.cos(x), None

    return jax.lax.scan(layer, x, length=5)[0]

  shape = jax.ShapeDtypeStruct((64, 64), jnp.float32)
  counts = hlo_counts.count(
    jax.jit(layers).lower(shape, shape).compile().as_text()
  )
  assert counts.flops == 5 * 2 * 64**3
  assert sum(o.flops * o.times for o in counts.operations) == counts.flops
  assert sum(o.bytes * o.times for o in counts.operations) == counts.bytes


@pytest.mark.parametrize(
  ('window', 'positions'),
  [
    ({}, 5),
    ({'size': '3', 'pad': '1_1'}, 13),
    ({'size': '5', 'pad': '4_4', 'rhs_dilate': '1'}, 25),
    ({'size': '5', 'stride': '4', 'lhs_dilate': '5'}, 5),
  ],
  ids=['one', 'padded', 'all-pairs', 'diagonal'],
)
def test_positions_outside_of_the_input_are_no_work(window, positions):
  result = 9 if window.get('size') == '5' and 'pad' in window else 5
  assert products.valid_positions(5, result, window) == positions


@pytest.mark.parametrize(
  ('groups', 'size'),
  [
    ('', 0),
    ('{}', 0),
    ('{{0,1,2,3}}', 4),
    ('{{0,2},{1,3}}', 2),
    ('[2,4]<=[8]', 4),
    ('[4,2]<=[2,4]T(1,0)', 2),
    ("mesh['data'=4,'fsdp'=2,'tensor'=1] {'data'}", 4),
    ("mesh['data'=4,'fsdp'=2,'tensor'=1] {'data','fsdp'}", 8),
    ("mesh['a'=8] {'a':(2)4}", 4),
  ],
)
def test_group_size(groups, size):
  assert hlo_counts.group_size(groups) == size


def test_unknown_groups():
  with pytest.raises(hlo_text.HloError, match='unknown replica groups'):
    hlo_counts.group_size('<all>')


def test_elements_of_a_shape():
  shape = '((f32[2]{0}, u32[]), /*index=1*/bf16[4,2]{1,0:T(8,128)(2,1)S(1)})'
  assert hlo_text.elements(shape) == [
    '(f32[2]{0}, u32[])', 'bf16[4,2]{1,0:T(8,128)(2,1)S(1)}',
  ]  # fmt: skip
  *_, array = hlo_text.parse_arrays(shape)
  assert (array.dims, array.tile, array.space) == ((4, 2), (8, 128), 1)
  assert (array.bytes, array.laid_out_bytes) == (16, 2048)


def test_a_slice_of_a_stack_counts_as_the_slice():
  """On a real program: a loop that reads and writes one row of a stack."""

  def rows(stack):
    def one(i, stack):
      row = jax.lax.dynamic_index_in_dim(stack, i, keepdims=False)
      return jax.lax.dynamic_update_index_in_dim(stack, jnp.sin(row), i, 0)

    return jax.lax.fori_loop(0, 64, one, stack)

  stack = jax.ShapeDtypeStruct((64, 512), jnp.float32)
  text = jax.jit(rows, donate_argnums=0).lower(stack).compile().as_text()
  counts = hlo_counts.count(text)
  assert [trips for _, trips in counts.loops] == [64]
  # Each row is read once and written once; the counters are a few bytes.
  touched = 2 * 64 * 512 * 4
  assert touched <= counts.bytes < 1.05 * touched


def test_a_loop_counts_as_its_unrolled_program():
  """Where both move the same: no iteration has arrays of its own."""

  def layers(unroll, x, kernel):
    def layer(x, _):
      return jax.lax.optimization_barrier(jnp.sin(x @ kernel)), None

    return jax.lax.scan(layer, x, length=6, unroll=unroll)[0]

  shape = jax.ShapeDtypeStruct((64, 64), jnp.float32)
  looped, unrolled = (
    hlo_counts.count(
      jax.jit(functools.partial(layers, unroll), donate_argnums=0)
      .lower(shape, shape)
      .compile()
      .as_text()
    )
    for unroll in (1, 6)
  )
  assert [trips for _, trips in looped.loops] == [6]
  assert not unrolled.loops
  assert looped.flops == unrolled.flops == 6 * 2 * 64**3
  assert looped.bytes == pytest.approx(unrolled.bytes, rel=0.01)


def test_the_branch_that_computes_more_counts():
  def f(flag, x):
    return jax.lax.cond(flag, lambda x: x @ x @ x, lambda x: x @ x, x)

  args = (jnp.bool_(True), jnp.ones((16, 16)))
  text = jax.jit(f).lower(*args).compile().as_text()
  assert hlo_counts.count(text).flops == 2 * 2 * 16**3


@pytest.mark.parametrize('equation', ['bik,bkj->bij', 'ik,kj->ij', 'bi,bj->ij'])
def test_products_as_jax_writes_them(equation):
  sizes = {'b': 3, 'i': 5, 'k': 7, 'j': 11}
  left, right = equation.split('->')[0].split(',')
  x, y = (jnp.ones([sizes[c] for c in names]) for names in (left, right))
  text = (
    jax.jit(lambda x, y: jnp.einsum(equation, x, y))
    .lower(x, y)
    .compile()
    .as_text()
  )
  expected = 2
  for name in set(left + right):
    expected *= sizes[name]
  assert hlo_counts.count(text).flops == expected
