/* nn.c - what networks are made of, written as a user would write it.
 * In: handles.  Out: a handle; nothing in between is realised.
 * Invariants: where a value is finite, so is its gradient; a contraction stays a sum of a product.
 *   pg_rms_norm(x, w, e)   =>   x * 1 / sqrt(mean(x * x) + e) * w                                */
#include "tensor/tensor.h"

#include <math.h>

static PgTensor *zero(void) { return pg_scalar(0); }

// ---- activations -------------------------------------------------------------------------------

// Its slope at 0 is 0.
PgTensor *pg_relu(PgTensor *x) {
    compose_begin();
    PgTensor *slope = pg_where(pg_lt(zero(), x), x, zero());
    return compose_end(with_slope_of(pg_maximum(x, zero()), slope));
}

// Through exp(-|x|), which cannot overflow: 1 / (1 + e), or e / (1 + e) where x < 0.
PgTensor *pg_sigmoid(PgTensor *given) {
    compose_begin();
    PgTensor *x = wide(given), *negative = pg_lt(x, zero());
    PgTensor *power = pg_exp(pg_where(negative, x, pg_neg(x)));
    PgTensor *one = pg_recip(shifted(power, 1));
    return compose_end(rounded(pg_mul(pg_where(negative, power, pg_scalar(1)), one), given));
}

PgTensor *pg_silu(PgTensor *x) {
    compose_begin();
    return compose_end(rounded(pg_mul(wide(x), pg_sigmoid(wide(x))), x));
}

// The normal distribution's integral from -infinity to x: for x < 0 it is exp(-x^2/2) times a
// polynomial in t = 1 / (1 + 0.3 |x|), else 1 less that of -x. Our own fit of the relative error
// for |x| to 13: 1.2e-7, and 4e-7 when computed in f32.
static PgTensor *normal_integral(PgTensor *x) {
    static const double fit[] = {0.03619472282, -0.1593777501, 0.2101174189, -0.0571664629,
                                 0.1304159741,  0.09934727013, 0.1208455067, 0.1196232642};
    PgTensor *negative = pg_lt(x, zero()), *magnitude = pg_where(negative, pg_neg(x), x);
    PgTensor *t = pg_recip(shifted(scaled(magnitude, 0.3), 1));
    PgTensor *sum = scaled(t, fit[0]);
    for (int i = 1; i < COUNT_OF(fit); i++) sum = pg_mul(shifted(sum, fit[i]), t);
    PgTensor *tail = pg_mul(pg_exp(scaled(pg_mul(x, x), -0.5)), sum);
    return pg_where(negative, tail, pg_sub(pg_scalar(1), tail));
}

PgTensor *pg_gelu(PgTensor *x) {
    compose_begin();
    return compose_end(rounded(pg_mul(wide(x), normal_integral(wide(x))), x));
}

// (1 + tanh(y)) / 2 is sigmoid(2y).
PgTensor *pg_gelu_tanh(PgTensor *given) {
    compose_begin();
    PgTensor *x = wide(given), *cube = pg_mul(x, pg_mul(x, x));
    PgTensor *inner = scaled(pg_add(x, scaled(cube, 0.044715)), 2 * sqrt(2 / M_PI));
    return compose_end(rounded(pg_mul(x, pg_sigmoid(inner)), given));
}

// ---- norms -------------------------------------------------------------------------------------

static void must_fit(const char *what, PgTensor *x, PgTensor *part, int64_t size) {
    if (!part) return;
    must_be_alike(what, x, part);
    if (pg_rank(part) != 1 || pg_shape(part, 0) != size)
        fatal("%s: shape %s where x is %s. Hint: one axis, of as many elements as x's", what,
              shape_name(tensor_in(part)), shape_name(tensor_in(x)));
}

// Of x, which is wide, in like's type.
static PgTensor *scaled_and_shifted(PgTensor *x, PgTensor *weight, PgTensor *bias, PgTensor *like) {
    if (weight) x = pg_mul(x, wide(weight));
    return rounded(bias ? pg_add(x, wide(bias)) : x, like);
}

// x with mean 0 and variance 1 along the axes.
static PgTensor *normalised(PgTensor *x, int count, const int *axes, double epsilon) {
    PgTensor *centred = pg_sub(x, pg_mean(x, count, axes, true));
    PgTensor *variance = pg_mean(pg_mul(centred, centred), count, axes, true);
    return pg_mul(centred, pg_rsqrt(shifted(variance, epsilon)));
}

PgTensor *pg_layer_norm(PgTensor *x, PgTensor *weight, PgTensor *bias, double epsilon) {
    must_fit("layer_norm's weight", x, weight, pg_shape(x, -1));
    must_fit("layer_norm's bias", x, bias, pg_shape(x, -1));
    compose_begin();
    PgTensor *result = normalised(wide(x), PG_AXES(-1), epsilon);
    return compose_end(scaled_and_shifted(result, weight, bias, x));
}

PgTensor *pg_rms_norm(PgTensor *x, PgTensor *weight, double epsilon) {
    must_fit("rms_norm's weight", x, weight, pg_shape(x, -1));
    compose_begin();
    PgTensor *from = wide(x), *mean = pg_mean(pg_mul(from, from), PG_AXES(-1), true);
    PgTensor *result = pg_mul(from, pg_rsqrt(shifted(mean, epsilon)));
    return compose_end(scaled_and_shifted(result, weight, NULL, x));
}

// (c) as (c, 1, 1 ...), to meet the channels of (n, c, ...).
static PgTensor *per_channel(PgTensor *x, int rank) {
    for (int i = 2; x && i < rank; i++) x = pg_unsqueeze(x, -1);
    return x;
}

PgTensor *pg_group_norm(PgTensor *x, int groups, PgTensor *weight, PgTensor *bias, double epsilon) {
    Shape shape = shape_at(tensor_in(x));
    if (shape.rank < 2 || groups < 1 || shape.size[1] % groups)
        fatal("group_norm: %d groups of shape %s. Hint: (n, c, ...), c a multiple of groups",
              groups, shape_name(tensor_in(x)));
    must_fit("group_norm's weight", x, weight, shape.size[1]);
    must_fit("group_norm's bias", x, bias, shape.size[1]);
    compose_begin();
    PgTensor *grouped = pg_reshape(wide(x), PG_SHAPE(shape.size[0], groups, -1));
    PgTensor *result =
        pg_reshape(normalised(grouped, PG_AXES(-1), epsilon), shape.rank, shape.size);
    return compose_end(scaled_and_shifted(result, per_channel(weight, shape.rank),
                                          per_channel(bias, shape.rank), x));
}

// ---- products ----------------------------------------------------------------------------------

PgTensor *pg_linear(PgTensor *x, PgTensor *weight, PgTensor *bias) {
    if (pg_rank(weight) != 2 || pg_rank(x) < 1 || pg_shape(weight, 1) != pg_shape(x, -1))
        fatal("linear: shape %s does not fit a weight of shape %s. Hint: (..., in) and (out, in)",
              shape_name(tensor_in(x)), shape_name(tensor_in(weight)));
    must_fit("linear's bias", weight, bias, pg_shape(weight, 0));
    compose_begin();
    PgTensor *product = pg_matmul(x, pg_transpose(weight, 0, 1));
    return compose_end(bias ? pg_add(product, bias) : product);
}

// Windows of the last two axes, as two new last axes. `around` is what padding is filled with.
static PgTensor *windows(PgTensor *x, const int64_t size[2], PgConv conv, double around) {
    int64_t padding[RANK_MAX] = {0};
    int rank = pg_rank(x);
    if (rank < 2) fatal("pool: shape %s has no two axes", shape_name(tensor_in(x)));
    for (int i = 0; i < 2; i++) padding[rank - 2 + i] = conv.padding[i];
    if (conv.padding[0] || conv.padding[1]) x = pg_pad(x, padding, padding, around);
    for (int i = 0; i < 2; i++)
        x = pg_unfold(x, rank - 2 + i, size[i], conv.stride[i] ? conv.stride[i] : 1,
                      conv.dilation[i] ? conv.dilation[i] : 1);
    return x;
}

// x as (n, group, 1, c, h, w, kh, kw), weight as (1, group, out, c, 1, 1, kh, kw).
PgTensor *pg_conv2d(PgTensor *x, PgTensor *weight, PgTensor *bias, PgConv conv) {
    Shape from = shape_at(tensor_in(x)), by = shape_at(tensor_in(weight));
    int64_t groups = conv.groups ? conv.groups : 1;
    if (from.rank != 4 || by.rank != 4 || groups < 1 || from.size[1] != by.size[1] * groups ||
        by.size[0] % groups)
        fatal("conv: shape %s, a weight of shape %s and %lld groups do not fit. Hint: (n, c, ...) "
              "and (out, c / groups, ...)",
              shape_name(tensor_in(x)), shape_name(tensor_in(weight)), (long long)groups);
    must_fit("conv's bias", weight, bias, by.size[0]);
    compose_begin();
    PgTensor *parts = windows(x, &by.size[2], conv, 0);
    int64_t height = pg_shape(parts, 2), width = pg_shape(parts, 3), out = by.size[0];
    int64_t kh = by.size[2], kw = by.size[3], each = by.size[1];
    parts = pg_reshape(parts, PG_SHAPE(from.size[0], groups, 1, each, height, width, kh, kw));
    weight = pg_reshape(weight, PG_SHAPE(1, groups, out / groups, each, 1, 1, kh, kw));
    PgTensor *result = pg_sum(pg_mul(parts, weight), PG_AXES(3, 6, 7), false);
    result = pg_reshape(result, PG_SHAPE(from.size[0], out, height, width));
    return compose_end(bias ? pg_add(result, per_channel(bias, 4)) : result);
}

PgTensor *pg_conv1d(PgTensor *x, PgTensor *weight, PgTensor *bias, PgConv conv) {
    compose_begin();
    PgConv flat = {.groups = conv.groups};
    flat.stride[1] = conv.stride[0];
    flat.padding[1] = conv.padding[0];
    flat.dilation[1] = conv.dilation[0];
    PgTensor *result = pg_conv2d(pg_unsqueeze(x, -2), pg_unsqueeze(weight, -2), bias, flat);
    return compose_end(pg_squeeze(result, -2));
}

static PgTensor *pooled(PgTensor *x, const int size[2], PgConv conv, double around) {
    return windows(x, (const int64_t[]){size[0], size[1]}, conv, around);
}

PgTensor *pg_avg_pool2d(PgTensor *x, const int size[2], PgConv conv) {
    compose_begin();
    return compose_end(pg_mean(pooled(x, size, conv, 0), PG_AXES(-2, -1), false));
}

PgTensor *pg_max_pool2d(PgTensor *x, const int size[2], PgConv conv) {
    compose_begin();
    return compose_end(pg_max(pooled(x, size, conv, -INFINITY), PG_AXES(-2, -1), false));
}

// ---- attention ---------------------------------------------------------------------------------

static const double UNSEEN = -1e30;  // a score whose power is 0 beside any other

static void must_attend(PgTensor *q, PgTensor *k, PgTensor *v) {
    Shape a = shape_at(tensor_in(q)), b = shape_at(tensor_in(k));
    Shape c = shape_at(tensor_in(v));
    int rank = a.rank;
    bool fits = rank >= 3 && b.rank == rank && c.rank == rank;
    fits = fits && a.size[rank - 1] == b.size[rank - 1] && b.size[rank - 2] == c.size[rank - 2];
    fits = fits && b.size[rank - 3] == c.size[rank - 3] && b.size[rank - 3] > 0 &&
           a.size[rank - 3] % b.size[rank - 3] == 0;
    if (!fits)
        fatal("attention: q %s, k %s, v %s do not fit. Hint: (..., heads, t, d) and twice "
              "(..., key heads, s, d), heads a multiple of key heads",
              shape_name(tensor_in(q)), shape_name(tensor_in(k)), shape_name(tensor_in(v)));
}

// Axis -3, of `heads`, as two: key heads, and the heads that share each; of size 1, as (1, 1).
static PgTensor *grouped_heads(PgTensor *x, int64_t key_heads) {
    int rank = pg_rank(x);
    if (rank < 3) return x;
    Shape shape = shape_at(tensor_in(x)), to = {.rank = rank + 1};
    for (int i = 0; i < to.rank; i++) to.size[i] = shape.size[i < rank - 2 ? i : i - 1];
    int64_t heads = shape.size[rank - 3];
    to.size[rank - 3] = heads == 1 ? 1 : key_heads;
    to.size[rank - 2] = heads == 1 ? 1 : heads / key_heads;
    return pg_reshape(x, to.rank, to.size);
}

// Which keys each query sees, by the mask and causally; NULL: all. A mask of numbers is added to
// the scores, and hides what it makes very negative.
static PgTensor *visible_keys(PgTensor **scores, PgAttention how, int64_t key_heads) {
    PgTensor *visible = NULL;
    if (how.mask) {
        PgTensor *mask = grouped_heads(how.mask, key_heads);
        bool adds = pg_type(mask) != PG_BOOL;
        if (adds) *scores = pg_add(*scores, mask);
        visible = adds ? pg_not(pg_lt(*scores, pg_scalar(UNSEEN / 10))) : mask;
    }
    if (!how.causal) return visible;
    PgTensor *causal = pg_tril_mask(pg_shape(*scores, -2), pg_shape(*scores, -1), how.offset);
    return visible ? pg_and(visible, causal) : causal;
}

// With heads as (key heads, heads for each), keys and values are stretched, never repeated. The
// division by the powers' sum comes last: there are fewer outputs than powers.
PgTensor *pg_attention(PgTensor *q, PgTensor *k, PgTensor *v, PgAttention how) {
    must_attend(q, k, v);
    compose_begin();
    int64_t key_heads = pg_shape(k, -3);
    double scale = how.scale != 0 ? how.scale : 1 / sqrt((double)pg_shape(q, -1));
    must_be_alike("attention", q, k);
    must_be_alike("attention", q, v);
    PgTensor *queries = grouped_heads(wide(q), key_heads), *keys = pg_unsqueeze(wide(k), -3);
    PgTensor *scores = scaled(pg_matmul(queries, pg_transpose(keys, -1, -2)), scale);
    PgTensor *visible = visible_keys(&scores, how, key_heads);
    bool some_see_nothing = how.mask || (how.causal && how.offset < 0) || pg_shape(k, -2) == 0;
    if (visible) scores = pg_where(visible, scores, pg_scalar(UNSEEN));
    PgTensor *power = pg_exp(pg_sub(scores, pg_detach(pg_max(scores, PG_AXES(-1), true))));
    if (some_see_nothing && visible) power = pg_where(visible, power, zero());
    PgTensor *sum = pg_sum(power, PG_AXES(-1), true);
    if (some_see_nothing) sum = pg_where(pg_lt(zero(), sum), sum, pg_scalar(1));
    PgTensor *result = pg_div(pg_matmul(power, pg_unsqueeze(wide(v), -3)), sum);
    Shape shape = shape_at(tensor_in(q));
    shape.size[shape.rank - 1] = pg_shape(v, -1);
    return compose_end(rounded(pg_reshape(result, shape.rank, shape.size), q));
}

// With the two of each pair on an axis of their own: x * cos + flip(x) * (-sin, sin).
PgTensor *pg_rope(PgTensor *x, PgTensor *positions, double base, PgTensor *factors,
                  bool interleaved) {
    Shape shape = shape_at(tensor_in(x)), paired = shape;
    int last = shape.rank - 1;
    if (shape.rank < 2 || shape.size[last] % 2 || !dtype_is_float(dtype_at(tensor_in(x))) ||
        pg_rank(positions) != 1 || pg_shape(positions, 0) != shape.size[last - 1])
        fatal("rope: shape %s, positions of shape %s. Hint: (..., t, d) with an even d, and (t)",
              shape_name(tensor_in(x)), shape_name(tensor_in(positions)));
    compose_begin();
    int64_t half = shape.size[last] / 2;
    int pair = interleaved ? last + 1 : last;  // the axis of the two
    paired.rank++;
    paired.size[last] = interleaved ? half : 2;
    paired.size[last + 1] = interleaved ? 2 : half;
    PgTensor *speed = pg_exp2(scaled(pg_arange(PG_F32, 0, half, 1), -log2(base) / (double)half));
    if (factors) speed = pg_div(speed, factors);
    PgTensor *angle = pg_mul(pg_unsqueeze(pg_cast(positions, PG_F32), 1), speed);
    angle = pg_unsqueeze(angle, interleaved ? 2 : 1);  // (t, half, 1) or (t, 1, half)
    PgTensor *sign = shifted(scaled(pg_arange(PG_F32, 0, 2, 1), 2), -1);
    PgTensor *sine = pg_mul(pg_sin(angle), interleaved ? sign : pg_unsqueeze(sign, 1));
    x = pg_reshape(x, paired.rank, paired.size);
    PgTensor *turned = pg_mul(pg_flip(x, 1, &pair), pg_cast(sine, pg_type(x)));
    turned = pg_add(pg_mul(x, pg_cast(pg_cos(angle), pg_type(x))), turned);
    return compose_end(pg_reshape(turned, shape.rank, shape.size));
}

// ---- losses ------------------------------------------------------------------------------------

PgTensor *pg_cross_entropy(PgTensor *logits, PgTensor *target) {
    if (pg_rank(logits) != 2 || pg_rank(target) != 1 || pg_shape(logits, 0) != pg_shape(target, 0))
        fatal("cross_entropy: logits %s and target %s do not fit. Hint: (n, classes) and (n)",
              shape_name(tensor_in(logits)), shape_name(tensor_in(target)));
    compose_begin();
    PgTensor *from = wide(logits), *sum = pg_logsumexp(from, PG_AXES(1), false);
    PgTensor *chosen = pg_squeeze(pg_gather(from, 1, pg_unsqueeze(target, 1)), 1);
    return compose_end(rounded(pg_mean(pg_sub(sum, chosen), PG_ALL_AXES, false), logits));
}

PgTensor *pg_mse(PgTensor *x, PgTensor *y) {
    compose_begin();
    must_be_alike("mse", x, y);
    PgTensor *difference = pg_sub(wide(x), wide(y));
    return compose_end(rounded(pg_mean(pg_mul(difference, difference), PG_ALL_AXES, false), x));
}
