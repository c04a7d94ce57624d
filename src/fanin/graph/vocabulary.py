"""The words of ATen: which operation moves, scales, normalises, sums."""

from fanin.graph.graph import Operation


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


RESHAPES = _words(
    """
    view _unsafe_view reshape _reshape_alias flatten squeeze unsqueeze unflatten view_copy
    squeeze_copy unsqueeze_copy _reshape_copy squeeze_multiple
    """
)
"""Same elements, row-major order kept."""

COPIES = _words(
    """
    clone _to_copy alias detach contiguous lift_fresh lift_fresh_copy to positive conj _conj
    resolve_conj resolve_neg _to_dense to_mkldnn flip roll view_as_real_copy
    fake_quantize_per_tensor_affine _neg_view alias_copy detach_copy _efficientzerotensor
    fused_moving_avg_obs_fake_quant unwrapped all_reduce wait_tensor _wrap_tensor_autograd
    broadcast
    """
)
"""The same elements on the same axes."""

SLICES = _words(
    """
    slice select narrow split split_with_sizes unsafe_split chunk unbind
    unsafe_split_with_sizes unsafe_chunk tensor_split slice_copy select_copy split_copy
    split_with_sizes_copy unbind_copy
    """
)
"""A part of the elements."""

PERMUTATIONS = _words(
    """
    t transpose permute swapaxes movedim t_copy transpose_copy permute_copy numpy_T
    """
)

MOVES = (
    RESHAPES
    | COPIES
    | SLICES
    | PERMUTATIONS
    | _words(
        """
    expand expand_copy repeat repeat_interleave as_strided unfold unfold_copy im2col col2im
    diagonal tril triu constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
    replication_pad1d replication_pad2d replication_pad3d pad pixel_shuffle pixel_unshuffle
    channel_shuffle native_channel_shuffle view_as_complex view_as_real real imag index
    index_select gather take masked_select take_along_dim sort topk view_as updated
    _pad_circular rot90 squeeze_ diag_embed native_dropout _fused_dropout upsample_nearest1d
    upsample_nearest2d upsample_nearest3d upsample_linear1d upsample_bilinear2d
    upsample_bicubic2d upsample_trilinear3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d
    grid_sampler_3d _fft_r2c _fft_c2r _fft_c2c _nested_view_from_buffer values block_diag
    all_gather_into_tensor reduce_scatter_tensor _nested_tensor_from_tensor_list to_padded_tensor
    _nested_from_padded
    """
    )
)
"""Values arrive elsewhere, in another shape or only partly, but as they were."""

MERGES = _words(
    """
    cat stack concat where copy_ index_put index_put_ _index_put_impl scatter scatter_add
    scatter_reduce index_add index_copy slice_scatter select_scatter masked_scatter
    as_strided_scatter _unsafe_index_put diagonal_scatter scatter_add_ index_add_ block_diag
    index_fill
    """
)
"""Values of several tensors side by side in one."""

POOLS = _words(
    """
    max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d
    avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d mkldnn_max_pool2d max_pool1d_with_indices mkldnn_adaptive_avg_pool2d
    fractional_max_pool2d segment_reduce _segment_reduce lp_pool2d max_unpool2d
    """
)

REDUCTIONS = _words(
    """
    sum mean amax amin max min var std prod nansum logsumexp var_mean std_mean
    linalg_vector_norm norm median argmax argmin any all count_nonzero aminmax cumsum
    cumprod sum_to_size linalg_norm frobenius_norm _cumsum
    """
)

SOFTMAXES = _words(
    """
    _softmax softmax _safe_softmax _log_softmax log_softmax special_softmax sparse_softmax
    _sparse_softmax _masked_softmax masked_softmax
    """
)

LINEAR_ELEMENTWISE = _words(
    """
    add sub rsub mul div neg addcmul addcdiv lerp true_divide multiply subtract divide
    dropout alpha_dropout mul_scalar floor_divide masked_fill
    """
)
"""Elementwise, and linear in each operand."""

NONLINEAR_ELEMENTWISE = _words(
    """
    relu relu6 leaky_relu gelu silu mish elu celu selu tanh sigmoid softplus hardtanh
    hardswish hardsigmoid hardshrink softshrink threshold log_sigmoid_forward log_sigmoid
    logit exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh asinh
    acosh atanh erf erfc erfinv sqrt rsqrt reciprocal square pow abs sgn sign clamp
    clamp_min clamp_max clip maximum minimum fmax fmin rrelu_with_noise
    rrelu_with_noise_functional round floor ceil trunc frac gt ge lt le eq ne logical_not
    nan_to_num sinc atan2 bitwise_not remainder fmod special_expit special_erf xlogy glu_jvp
    logaddexp isnan isinf hypot heaviside where
    """
)

ELEMENTWISE = LINEAR_ELEMENTWISE | NONLINEAR_ELEMENTWISE | COPIES

NORMS = _words(
    """
    native_layer_norm layer_norm native_batch_norm _native_batch_norm_legit cudnn_batch_norm
    _native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update
    miopen_batch_norm native_group_norm group_norm _fused_rms_norm rms_norm batch_norm
    instance_norm _batch_norm_impl_index local_response_norm
    """
)

MAKERS = _words(
    """
    empty zeros ones full arange linspace rand randn randint randperm eye scalar_tensor
    empty_like zeros_like ones_like full_like rand_like randn_like randint_like new_zeros
    new_ones new_empty new_full empty_strided new_empty_strided tril_indices triu_indices
    logspace normal bernoulli_ uniform_ normal_ fill_ zero_ random_ exponential_ bernoulli
    multinomial _has_compatible_shallow_copy_type sym_size size log_normal_ cauchy_ poisson
    hann_window hamming_window range
    """
)
"""What they make depends on shapes at most, never on the values of a signal."""

COMPARISONS = _words("gt ge lt le eq ne logical_not isnan isinf argmax argmin")

_KEEP_UNDERSCORE = _words(
    """
    bernoulli_ uniform_ normal_ fill_ zero_ random_ exponential_ copy_ log_normal_ cauchy_
    """
)


def word(operation: Operation) -> str:
    """The operation's name without the mark of an in-place form: ``add_`` reads as ``add``."""
    name = operation.name
    if name.endswith("_") and not name.endswith("__") and name not in _KEEP_UNDERSCORE:
        return name[:-1]
    return name
