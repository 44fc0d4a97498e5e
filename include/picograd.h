/* picograd.h - tensors with gradients, run eagerly or compiled.
 *
 *   PgTensor *x = pg_from_data(PG_F32, PG_SHAPE(2, 2), (float[]){1, 2, 3, 4});
 *   PgTensor *loss = pg_sum(pg_mul(x, x), PG_ALL_AXES, false), *slope;
 *   pg_grad(loss, 1, &x, &slope);
 *   pg_print(slope);                                     // [[2. 4.] [6. 8.]]
 *
 * Memory. A tensor belongs to the scope that is innermost on its thread when it is made, and dies
 * with it; every thread has a root scope. pg_keep carries a value over into the scope around.
 * Threads share no tensors.
 * Results. A call computes its result at once; views (marked "view") only describe where elements
 * of another tensor lie. Inside a traced function (see pg_function) nothing is computed: calls are
 * recorded, then compiled together.
 * Types. Operands of one operation have one element type; nothing converts by itself, but
 * pg_scalar's constants take the type of what they meet. Shapes broadcast as in NumPy: aligned at
 * the right, a size of 1 stretches. Axes may be counted from the end: -1 is the last.
 * Errors. Misuse (shapes, types, reading a value while tracing) is fatal: one message with the
 * caller's file and line, to pg_try or the pg_on_fatal hook, then exit. What the outside world can
 * refuse (files, the compiler, a GPU) returns -1 or NULL and pg_error() says why.  */
#ifndef PICOGRAD_H
#define PICOGRAD_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#include <initializer_list>
extern "C" {
#endif

#define PG_API __attribute__((visibility("default")))

typedef struct PgTensor PgTensor;
typedef struct PgFunction PgFunction;
typedef struct PgScope PgScope;

typedef enum {
    PG_F32,
    PG_F16,
    PG_BF16,
    PG_I8,
    PG_I32,
    PG_I64,
    PG_U8,
    PG_U16,
    PG_U32,
    PG_BOOL
} PgType;

/* ---- lists of sizes and axes ----------------------------------------------------------------
 * PG_SHAPE(2, 3) and PG_AXES(0, -1) stand for two arguments: a count and an array.
 * A size may be symbolic inside a traced function, see pg_var.                                 */
#ifdef __cplusplus
#define PG_SHAPE(...) pg_list_count<int64_t>({__VA_ARGS__}), pg_list_data<int64_t>({__VA_ARGS__})
#define PG_AXES(...)  pg_list_count<int>({__VA_ARGS__}), pg_list_data<int>({__VA_ARGS__})
#else
#define PG_LIST(type, ...) \
    (int)(sizeof((type[]){__VA_ARGS__}) / sizeof(type)), (const type[]) { __VA_ARGS__ }
#define PG_SHAPE(...) PG_LIST(int64_t, __VA_ARGS__)
#define PG_AXES(...)  PG_LIST(int, __VA_ARGS__)
#endif
#define PG_SCALAR   0, NULL /* the shape of a single number */
#define PG_ALL_AXES 0, NULL
#define PG_NONE     INT64_MIN /* of pg_slice: as far as it goes */

/* ---- errors --------------------------------------------------------------------------------- */
/* Runs function(argument). -1 if something fatal stopped it: pg_error() says what, and the scopes
 * that it opened are closed. */
PG_API int pg_try(void (*function)(void *), void *argument);
PG_API const char *pg_error(void); /* this thread's last message, "" if none */
PG_API void pg_on_fatal(void (*hook)(const char *message)); /* called before a fatal exits */
typedef struct {
    const char *file;
    int line;
} PgCaller;
/* Who calls next; returns who did. The macros at the end do it around every call. */
PG_API PgCaller pg_here(const char *file, int line);
PG_API void pg_back(const PgCaller *caller);

/* ---- scopes ---------------------------------------------------------------------------------- */
PG_API void pg_scope_begin(void);
PG_API void pg_scope_end(void); /* frees every tensor made since the matching begin */
/* Closes the innermost scope but keeps its tensors, which belong to an object of the program's own:
 * they are used like those of a scope around, until pg_scope_free. NULL may be freed. */
PG_API PgScope *pg_scope_leave(void);
PG_API void pg_scope_free(PgScope *scope);
/* x's value as a tensor of the scope around; in the root scope, of the root scope. Its history ends
 * there: gradients do not flow through it. It has memory of its own, unless x is in memory as a
 * whole already; packed weights stay packed. */
PG_API PgTensor *pg_keep(PgTensor *x);
PG_API bool pg_no_grad(bool on); /* while on, no history is recorded; returns the old state */

/* ---- functions to trace and compile ----------------------------------------------------------
 * pg_call runs body(context, in, out). In graph mode the body is traced once for each new set of
 * input shapes and types (and state of pg_no_grad, and device), compiled, and its code is called
 * from then on; in eager mode the body just runs. Tensors that the body uses beyond its inputs are
 * captured by reference: what pg_assign writes to them, the next call sees. Whatever else the body
 * does happens when it is traced, and not at each call. Results have no history: take gradients
 * inside. */
typedef void PgFunctionBody(void *context, PgTensor **in, PgTensor **out);
typedef enum { PG_GRAPH, PG_EAGER } PgMode;
/* Of this thread. Until it is set: PG_MODE=eager or graph; else graph, or, where there is no C
 * compiler, eager with a line that says so. */
PG_API void pg_set_mode(PgMode mode);
PG_API PgMode pg_mode(void);
/* Where everything is computed from now on, on all threads: "cpu"; "cuda" or "cuda:1", an NVIDIA
 * GPU; "simt", a GPU's kernels on the CPU, slowly. Until it is set: PG_DEVICE, else cpu. Values go
 * where they are used, and functions are traced once for each device. -1: it cannot be had, and
 * pg_error() says what to do; nothing has changed then. */
PG_API int pg_set_device(const char *name);
PG_API PgFunction *pg_function(PgFunctionBody *body, void *context, int inputs, int outputs);
PG_API void pg_function_free(PgFunction *function);
/* -1: it was not compiled, or a GPU has no room for it. */
PG_API int pg_call(PgFunction *function, PgTensor **in, PgTensor **out);
PG_API int pg_function_traces(const PgFunction *function); /* how often it was traced so far */
/* A size or position that changes from call to call, low <= value <= high. Outside a traced
 * function this gives its value, as pg_bind last set it on this thread; inside, a symbol that may
 * stand for any size, start or end below. One compiled function serves all values. */
PG_API int64_t pg_var(const char *name, int64_t low, int64_t high);
PG_API void pg_bind(const char *name, int64_t value);
PG_API int64_t pg_size_add(int64_t a, int64_t b); /* of sizes, symbolic or not */
PG_API int64_t pg_size_sub(int64_t a, int64_t b);
PG_API int64_t pg_size_scale(int64_t a, int64_t by); /* by is a plain number */
PG_API PgTensor *pg_from_size(int64_t size);         /* an i64 scalar */

/* ---- gradients -------------------------------------------------------------------------------
 * out[i] = d loss / d wrt[i], of wrt[i]'s shape; zeros where loss does not depend on it. loss is a
 * float scalar. The results have a history of their own: gradients of gradients work. */
PG_API void pg_grad(PgTensor *loss, int count, PgTensor **wrt, PgTensor **out);
PG_API PgTensor *pg_detach(PgTensor *x); /* view: the same value, no history */

/* ---- facts ----------------------------------------------------------------------------------- */
PG_API PgType pg_type(PgTensor *x);
PG_API int pg_rank(PgTensor *x);
PG_API int64_t pg_shape(PgTensor *x, int axis);
PG_API int64_t pg_count(PgTensor *x); /* of elements */

/* ---- to and from the host --------------------------------------------------------------------
 * Reading is fatal inside a traced function. f16 and bf16 are 16 bits, bool one byte, 0 or 1. */
PG_API PgTensor *pg_from_data(PgType type, int rank, const int64_t *shape, const void *data);
PG_API void pg_to_host(PgTensor *x, void *data, size_t bytes); /* row-major; bytes must match */
PG_API double pg_item(PgTensor *x);                            /* of a tensor with one element */
PG_API int64_t pg_item_int(PgTensor *x);
PG_API void pg_print(PgTensor *x); /* to standard output, as NumPy would; long axes are cut */
PG_API size_t pg_format(PgTensor *x, char *text, size_t size); /* the same, as snprintf */
/* Memory of the caller's as a read-only tensor, not copied unless `beyond`, the number of bytes
 * readable behind it, is below 64. Any alignment. It must not change while the tensor is used:
 * compiled functions read copies of weights, in an order of their own. release(owner) is called
 * when it is no longer used; it may be NULL. */
PG_API PgTensor *pg_wrap(PgType type, int rank, const int64_t *shape, const void *data,
                         size_t beyond, void (*release)(void *owner), void *owner);
/* The same for weights stored as F32, F16, BF16 or GGUF's Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL
 * (blocks of 32 elements along the last axis), Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS (of 256): an
 * f32 tensor that is unpacked where it is used, never as a whole. NULL for another format. */
PG_API PgTensor *pg_from_blocks(const char *format, int rank, const int64_t *shape,
                                const void *data, size_t beyond, void (*release)(void *owner),
                                void *owner);
/* Named tensors in one file, in the safetensors format. pg_load makes out[i] from names[i]. */
PG_API int pg_save(const char *path, int count, const char *const *names, PgTensor **tensors);
PG_API int pg_load(const char *path, int count, const char *const *names, PgTensor **out);

/* ---- creation -------------------------------------------------------------------------------- */
PG_API PgTensor *pg_scalar(double value); /* f32 by itself; else of the type that it meets */
PG_API PgTensor *pg_full(PgType type, int rank, const int64_t *shape, double value);
PG_API PgTensor *pg_zeros(PgType type, int rank, const int64_t *shape);
PG_API PgTensor *pg_ones(PgType type, int rank, const int64_t *shape);
PG_API PgTensor *pg_arange(PgType type, int64_t start, int64_t end, int64_t step);
PG_API PgTensor *pg_linspace(double first, double last, int64_t count); /* f32 */
PG_API PgTensor *pg_eye(PgType type, int64_t size);
/* (rows, columns) of bool: column <= row + diagonal */
PG_API PgTensor *pg_tril_mask(int64_t rows, int64_t columns, int64_t diagonal);

/* Random numbers are a pure function of (seed, element): the same in both modes, on every machine.
 * seed: an integer scalar tensor. NULL takes the next of this thread's own seeds, which pg_seed
 * starts anew; inside a traced function it must be given, or every call would draw the same. */
PG_API void pg_seed(uint64_t seed);
PG_API PgTensor *pg_random_bits(PgTensor *seed, int rank, const int64_t *shape); /* u32 */
PG_API PgTensor *pg_rand(PgTensor *seed, int rank, const int64_t *shape);        /* f32 in [0, 1) */
PG_API PgTensor *pg_randn(PgTensor *seed, int rank, const int64_t *shape);       /* f32, normal */
PG_API PgTensor *pg_dropout(PgTensor *seed, PgTensor *x, double probability);

/* ---- views ----------------------------------------------------------------------------------- */
PG_API PgTensor *pg_reshape(PgTensor *x, int rank, const int64_t *shape); /* one size may be -1 */
PG_API PgTensor *pg_permute(PgTensor *x, int count, const int *axes);
PG_API PgTensor *pg_transpose(PgTensor *x, int axis, int other);
PG_API PgTensor *pg_expand(PgTensor *x, int rank, const int64_t *shape); /* broadcasts */
/* Python's x[start:end:step] along an axis. start and end may be PG_NONE, count from the end if
 * negative, and are clamped; symbolic ones need a step of 1 and must lie inside. */
PG_API PgTensor *pg_slice(PgTensor *x, int axis, int64_t start, int64_t end, int64_t step);
PG_API PgTensor *pg_select(PgTensor *x, int axis, int64_t index); /* x[index], the axis is gone */
PG_API PgTensor *pg_squeeze(PgTensor *x, int axis);
PG_API PgTensor *pg_unsqueeze(PgTensor *x, int axis); /* the new axis' place in the result */
PG_API PgTensor *pg_flip(PgTensor *x, int count, const int *axes);
/* Sliding windows of an axis, as a new last axis. */
PG_API PgTensor *pg_unfold(PgTensor *x, int axis, int64_t size, int64_t stride, int64_t dilation);
PG_API void pg_split(PgTensor *x, int axis, int count, const int64_t *sizes, PgTensor **out);

/* ---- copies ---------------------------------------------------------------------------------- */
PG_API PgTensor *pg_contiguous(PgTensor *x); /* in memory of its own */
/* before[axis] and after[axis] elements of `value` around x */
PG_API PgTensor *pg_pad(PgTensor *x, const int64_t *before, const int64_t *after, double value);
PG_API PgTensor *pg_concat(int count, PgTensor **x, int axis);
PG_API PgTensor *pg_stack(int count, PgTensor **x, int axis);
/* Writes value (broadcast) into a view of a tensor that is in memory: one from data, kept, or given
 * to or returned by a function. Every view of the same memory reads the new bytes. Gradients do not
 * flow through it, and those that need the old bytes must be taken before. */
PG_API void pg_assign(PgTensor *view, PgTensor *value);

/* ---- element by element ---------------------------------------------------------------------- */
PG_API PgTensor *pg_cast(PgTensor *x, PgType type);    /* float to integer truncates, saturates */
PG_API PgTensor *pg_bitcast(PgTensor *x, PgType type); /* the last axis scales with the width */
PG_API PgTensor *pg_add(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_sub(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_mul(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_div(PgTensor *x, PgTensor *y);  /* floats: x times 1 / y */
PG_API PgTensor *pg_idiv(PgTensor *x, PgTensor *y); /* integers, rounded down; by 0 gives 0 */
PG_API PgTensor *pg_mod(PgTensor *x, PgTensor *y);  /* integers, the divisor's sign */
PG_API PgTensor *pg_pow(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_maximum(PgTensor *x, PgTensor *y); /* NaN if either is */
PG_API PgTensor *pg_minimum(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_clamp(PgTensor *x, double low, double high);
PG_API PgTensor *pg_neg(PgTensor *x);
PG_API PgTensor *pg_abs(PgTensor *x);
PG_API PgTensor *pg_recip(PgTensor *x);
PG_API PgTensor *pg_sqrt(PgTensor *x);
PG_API PgTensor *pg_rsqrt(PgTensor *x);
PG_API PgTensor *pg_exp(PgTensor *x);
PG_API PgTensor *pg_exp2(PgTensor *x);
PG_API PgTensor *pg_log(PgTensor *x);
PG_API PgTensor *pg_log2(PgTensor *x);
PG_API PgTensor *pg_sin(PgTensor *x); /* 0 from 1e7 on, where floats are 1 apart; cos 1 */
PG_API PgTensor *pg_cos(PgTensor *x);
PG_API PgTensor *pg_tanh(PgTensor *x);
PG_API PgTensor *pg_trunc(PgTensor *x);
PG_API PgTensor *pg_floor(PgTensor *x);
PG_API PgTensor *pg_ceil(PgTensor *x);
PG_API PgTensor *pg_round(PgTensor *x);           /* halves to even */
PG_API PgTensor *pg_lt(PgTensor *x, PgTensor *y); /* comparisons give bool */
PG_API PgTensor *pg_le(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_gt(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_ge(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_eq(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_ne(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_and(PgTensor *x, PgTensor *y); /* logical for bool, bitwise for integers */
PG_API PgTensor *pg_or(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_xor(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_not(PgTensor *x);
PG_API PgTensor *pg_shl(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_shr(PgTensor *x, PgTensor *y);
PG_API PgTensor *pg_where(PgTensor *condition, PgTensor *x, PgTensor *y);

/* ---- along axes ------------------------------------------------------------------------------
 * keep: reduced axes stay, with size 1. Of nothing, the sum is 0, the product 1, the maximum the
 * least value there is. Equal maxima share the gradient. */
PG_API PgTensor *pg_sum(PgTensor *x, int count, const int *axes, bool keep);
PG_API PgTensor *pg_mean(PgTensor *x, int count, const int *axes, bool keep);
PG_API PgTensor *pg_max(PgTensor *x, int count, const int *axes, bool keep);
PG_API PgTensor *pg_min(PgTensor *x, int count, const int *axes, bool keep);
PG_API PgTensor *pg_prod(PgTensor *x, int count, const int *axes, bool keep);
/* correction is subtracted from the count: 1 for samples, 0 for all there is */
PG_API PgTensor *pg_variance(PgTensor *x, int count, const int *axes, int correction, bool keep);
PG_API PgTensor *pg_std(PgTensor *x, int count, const int *axes, int correction, bool keep);
PG_API PgTensor *pg_any(PgTensor *x, int count, const int *axes, bool keep); /* of x != 0 */
PG_API PgTensor *pg_all(PgTensor *x, int count, const int *axes, bool keep);
PG_API PgTensor *pg_logsumexp(PgTensor *x, int count, const int *axes, bool keep);
PG_API PgTensor *pg_argmax(PgTensor *x, int axis, bool keep); /* i64; the first of equals */
PG_API PgTensor *pg_argmin(PgTensor *x, int axis, bool keep);
PG_API PgTensor *pg_cumsum(PgTensor *x, int axis);
PG_API PgTensor *pg_cumprod(PgTensor *x, int axis);
PG_API PgTensor *pg_softmax(PgTensor *x, int axis);
PG_API PgTensor *pg_log_softmax(PgTensor *x, int axis);

/* ---- by index: i32 or i64 indices; outside an axis reads 0 and writes nothing ---------------- */
/* out[i][j] = x[index[i][j]][j] for axis 0; shape of index */
PG_API PgTensor *pg_gather(PgTensor *x, int axis, PgTensor *index);
/* x with values[i][j] added at [index[i][j]][j] for axis 0 */
PG_API PgTensor *pg_scatter_add(PgTensor *x, int axis, PgTensor *index, PgTensor *values);
PG_API PgTensor *pg_index(PgTensor *x, int axis, PgTensor *index); /* slices; index has rank 1 */
PG_API PgTensor *pg_embedding(PgTensor *table, PgTensor *index);   /* index's shape, then rows */

/* ---- products of tensors --------------------------------------------------------------------- */
/* (..., m, k) (..., k, n) -> (..., m, n); leading axes broadcast; rank 1 as in NumPy */
PG_API PgTensor *pg_matmul(PgTensor *x, PgTensor *y);
/* Any letters, "ij,jk->ik" or "ij,jk", repeated ones ("ii->i"), and "..."; up to 8 operands */
PG_API PgTensor *pg_einsum(const char *equation, int count, PgTensor **x);
/* x (..., in), weight (out, in), bias (out) or NULL */
PG_API PgTensor *pg_linear(PgTensor *x, PgTensor *weight, PgTensor *bias);
typedef struct {
    int stride[2], padding[2], dilation[2]; /* 0 stands for stride 1, padding 0, dilation 1 */
    int groups;                             /* 0 stands for 1 */
} PgConv;
/* x (n, c, length), weight (out, c / groups, size), bias (out) or NULL; fields [0] count */
PG_API PgTensor *pg_conv1d(PgTensor *x, PgTensor *weight, PgTensor *bias, PgConv conv);
/* x (n, c, h, w), weight (out, c / groups, kh, kw) */
PG_API PgTensor *pg_conv2d(PgTensor *x, PgTensor *weight, PgTensor *bias, PgConv conv);
/* Windows of (h, w), the last two axes; padding counts as zeros, but not for the maximum */
PG_API PgTensor *pg_avg_pool2d(PgTensor *x, const int size[2], PgConv conv);
PG_API PgTensor *pg_max_pool2d(PgTensor *x, const int size[2], PgConv conv);

/* ---- neural networks ------------------------------------------------------------------------- */
PG_API PgTensor *pg_relu(PgTensor *x);
PG_API PgTensor *pg_sigmoid(PgTensor *x);
PG_API PgTensor *pg_silu(PgTensor *x);
PG_API PgTensor *pg_gelu(PgTensor *x); /* x times the normal distribution's integral up to x */
PG_API PgTensor *pg_gelu_tanh(PgTensor *x);
/* Over the last axis; weight and bias have its size, or are NULL. */
PG_API PgTensor *pg_layer_norm(PgTensor *x, PgTensor *weight, PgTensor *bias, double epsilon);
PG_API PgTensor *pg_rms_norm(PgTensor *x, PgTensor *weight, double epsilon);
/* x (n, c, ...), weight and bias (c) or NULL */
PG_API PgTensor *pg_group_norm(PgTensor *x, int groups, PgTensor *weight, PgTensor *bias,
                               double epsilon);
/* q (..., heads, t, d), k and v (..., key heads, s, d), heads a multiple of key heads; the result
 * is (..., heads, t, d). mask: bool (true: look), or f32 to add, of a shape that broadcasts to
 * (..., heads, t, s); or NULL. causal: query t sees keys up to t + offset. scale 0: 1 / sqrt(d).
 * A query that sees nothing gives zeros. */
typedef struct {
    PgTensor *mask;
    bool causal;
    int64_t offset;
    double scale;
} PgAttention;
PG_API PgTensor *pg_attention(PgTensor *q, PgTensor *k, PgTensor *v, PgAttention how);
/* Rotary position embedding of x (..., t, d) at positions (t): pair i turns by position *
 * base^(-2i/d) / factors[i]. interleaved: pairs are (2i, 2i+1), else (i, i + d/2). factors (d/2)
 * may be NULL. */
PG_API PgTensor *pg_rope(PgTensor *x, PgTensor *positions, double base, PgTensor *factors,
                         bool interleaved);
/* Mean over n of -log softmax(logits (n, classes))[target (n)]; that of a target outside the
 * classes is the log of the sum of all powers. */
PG_API PgTensor *pg_cross_entropy(PgTensor *logits, PgTensor *target);
PG_API PgTensor *pg_mse(PgTensor *x, PgTensor *y);

/* ---- optimizers: each updates one weight and its state in place; rate is a scalar ------------ */
/* velocity: zeros like weight, or NULL without momentum */
PG_API void pg_sgd(PgTensor *weight, PgTensor *grad, PgTensor *velocity, PgTensor *rate,
                   double momentum, double decay);
typedef struct {
    double beta1, beta2, epsilon, decay;
} PgAdam;
/* mean and square: zeros like weight; step: 1 at the first update, a scalar */
PG_API void pg_adamw(PgTensor *weight, PgTensor *grad, PgTensor *mean, PgTensor *square,
                     PgTensor *step, PgTensor *rate, PgAdam how);

/* ---- language models -------------------------------------------------------------------------
 *   PgModel *model = pg_model_open("model.gguf", 0);
 *   if (!model || pg_model_generate(model, "Once upon a time", NULL) < 0) puts(pg_error());
 *
 * A model reads tokens (ids of its vocabulary) and gives logits, one for each token that may come
 * next. It remembers what it has read, in a cache of keys and values, so each call goes on where
 * the last one ended. A model is used by one thread at a time; several threads may each use one.
 * What fails here is a file, a text too long for the context, or the compiler: -1 or NULL. */
typedef struct PgModel PgModel;
/* A GGUF file (of a model in parts, any), a Hugging Face folder, or a name of `picograd models`.
 * context: tokens there is room for; 0: 4096, or fewer if the model was trained on fewer. */
PG_API PgModel *pg_model_open(const char *path, int64_t context);
PG_API void pg_model_close(PgModel *model); /* NULL is allowed */
PG_API int64_t pg_model_vocabulary(const PgModel *model);
PG_API int64_t pg_model_context(const PgModel *model);
PG_API int64_t pg_model_position(const PgModel *model); /* tokens read so far */
/* Forgets what was read after the first `position` tokens. */
PG_API void pg_model_rewind(PgModel *model, int64_t position);
/* The ids of a text, as many as `max` into ids; the result is how many there are. At position 0
 * they begin with the token that begins texts, if the model has one. special: the texts of control
 * tokens, like <|im_end|>, become those tokens; not for text from strangers. */
PG_API int64_t pg_model_tokenize(const PgModel *model, const char *text, size_t length,
                                 bool special, int32_t *ids, int64_t max);
/* The bytes of a token, not always whole characters; used as snprintf is. */
PG_API size_t pg_model_piece(const PgModel *model, int32_t id, char *text, size_t size);
PG_API bool pg_model_is_end(const PgModel *model, int32_t id); /* ends a text or a turn */
/* Reads tokens: many at once, or the next one. logits (vocabulary) are those after the last; NULL
 * if they are not wanted. */
PG_API int pg_model_prefill(PgModel *model, const int32_t *ids, int64_t count, float *logits);
PG_API int pg_model_decode(PgModel *model, int32_t id, float *logits);
/* How a token is chosen. A field that is 0 means: not used, but for temperature, where 0 takes the
 * largest logit. The order is that of the fields. */
typedef struct {
    double repeat_penalty, frequency_penalty, presence_penalty;
    int64_t top_k;
    double typical_p, top_p, min_p;
    double temperature;
    uint64_t seed;
} PgSampling;
typedef struct PgSampler PgSampler; /* a sampling, and where its random numbers are */
PG_API PgSampler *pg_sampler_new(PgSampling sampling);
PG_API void pg_sampler_free(PgSampler *sampler);
/* Changes logits. history: the tokens so far, which penalties look at; NULL and 0: none. */
PG_API int32_t pg_sample(PgSampler *sampler, float *logits, int64_t vocabulary,
                         const int32_t *history, int64_t count);
/* The whole loop. token is called with each token and the text that can be shown now (valid UTF-8,
 * length bytes, perhaps none), at the end with id -1 and what was held back; false ends the run. */
typedef struct {
    PgSampling sampling;
    int64_t count;    /* tokens at most; 0: until the text ends or the context is full */
    const char *stop; /* the text ends before this; NULL: by itself */
    bool special;     /* the prompt's, as in pg_model_tokenize */
    bool (*token)(void *context, int32_t id, const char *text, size_t length);
    void *context;
} PgGenerate;
/* Reads the prompt and generates; the result is how many tokens. how NULL: the largest logits,
 * until the text ends, to standard output. */
PG_API int64_t pg_model_generate(PgModel *model, const char *prompt, const PgGenerate *how);
/* From another thread or a signal's handler: ends the generation that runs now. */
PG_API void pg_model_cancel(PgModel *model);
/* What was read, with the cache, to a file and back; of this very model. */
PG_API int pg_model_save(const PgModel *model, const char *path);
PG_API int pg_model_load(PgModel *model, const char *path);

#ifdef __cplusplus
}
template <typename T> inline int pg_list_count(std::initializer_list<T> list) {
    return (int)list.size();
}
// The array lives until the end of the full expression, that is, of the call.
template <typename T> inline const T *pg_list_data(std::initializer_list<T> list) {
    return list.begin();
}
#endif

/* ---- call sites ----------------------------------------------------------------------------
 * A message about misuse names the line that called: it is noted before the arguments are looked
 * at, and noted again when the calls among them are done.                                        */
#ifndef PG_NO_CALL_SITES
#define PG_JOIN(a, b) a##b
#define PG_NAME(a, b) PG_JOIN(a, b)
#define PG_AT(name, call)                                               \
    __extension__({                                                     \
        __attribute__((cleanup(pg_back), unused)) const PgCaller name = \
            pg_here(__FILE__, __LINE__);                                \
        call;                                                           \
    })
#define PG_FROM(call)         PG_AT(PG_NAME(pg_caller_, __COUNTER__), call)
#define pg_scope_end(...)     PG_FROM(pg_scope_end(__VA_ARGS__))
#define pg_scope_leave(...)   PG_FROM(pg_scope_leave(__VA_ARGS__))
#define pg_keep(...)          PG_FROM(pg_keep(__VA_ARGS__))
#define pg_function(...)      PG_FROM(pg_function(__VA_ARGS__))
#define pg_call(...)          PG_FROM(pg_call(__VA_ARGS__))
#define pg_var(...)           PG_FROM(pg_var(__VA_ARGS__))
#define pg_size_add(...)      PG_FROM(pg_size_add(__VA_ARGS__))
#define pg_size_sub(...)      PG_FROM(pg_size_sub(__VA_ARGS__))
#define pg_size_scale(...)    PG_FROM(pg_size_scale(__VA_ARGS__))
#define pg_from_size(...)     PG_FROM(pg_from_size(__VA_ARGS__))
#define pg_grad(...)          PG_FROM(pg_grad(__VA_ARGS__))
#define pg_detach(...)        PG_FROM(pg_detach(__VA_ARGS__))
#define pg_type(...)          PG_FROM(pg_type(__VA_ARGS__))
#define pg_rank(...)          PG_FROM(pg_rank(__VA_ARGS__))
#define pg_shape(...)         PG_FROM(pg_shape(__VA_ARGS__))
#define pg_count(...)         PG_FROM(pg_count(__VA_ARGS__))
#define pg_from_data(...)     PG_FROM(pg_from_data(__VA_ARGS__))
#define pg_to_host(...)       PG_FROM(pg_to_host(__VA_ARGS__))
#define pg_item(...)          PG_FROM(pg_item(__VA_ARGS__))
#define pg_item_int(...)      PG_FROM(pg_item_int(__VA_ARGS__))
#define pg_print(...)         PG_FROM(pg_print(__VA_ARGS__))
#define pg_format(...)        PG_FROM(pg_format(__VA_ARGS__))
#define pg_wrap(...)          PG_FROM(pg_wrap(__VA_ARGS__))
#define pg_from_blocks(...)   PG_FROM(pg_from_blocks(__VA_ARGS__))
#define pg_save(...)          PG_FROM(pg_save(__VA_ARGS__))
#define pg_load(...)          PG_FROM(pg_load(__VA_ARGS__))
#define pg_scalar(...)        PG_FROM(pg_scalar(__VA_ARGS__))
#define pg_full(...)          PG_FROM(pg_full(__VA_ARGS__))
#define pg_zeros(...)         PG_FROM(pg_zeros(__VA_ARGS__))
#define pg_ones(...)          PG_FROM(pg_ones(__VA_ARGS__))
#define pg_arange(...)        PG_FROM(pg_arange(__VA_ARGS__))
#define pg_linspace(...)      PG_FROM(pg_linspace(__VA_ARGS__))
#define pg_eye(...)           PG_FROM(pg_eye(__VA_ARGS__))
#define pg_tril_mask(...)     PG_FROM(pg_tril_mask(__VA_ARGS__))
#define pg_random_bits(...)   PG_FROM(pg_random_bits(__VA_ARGS__))
#define pg_rand(...)          PG_FROM(pg_rand(__VA_ARGS__))
#define pg_randn(...)         PG_FROM(pg_randn(__VA_ARGS__))
#define pg_dropout(...)       PG_FROM(pg_dropout(__VA_ARGS__))
#define pg_reshape(...)       PG_FROM(pg_reshape(__VA_ARGS__))
#define pg_permute(...)       PG_FROM(pg_permute(__VA_ARGS__))
#define pg_transpose(...)     PG_FROM(pg_transpose(__VA_ARGS__))
#define pg_expand(...)        PG_FROM(pg_expand(__VA_ARGS__))
#define pg_slice(...)         PG_FROM(pg_slice(__VA_ARGS__))
#define pg_select(...)        PG_FROM(pg_select(__VA_ARGS__))
#define pg_squeeze(...)       PG_FROM(pg_squeeze(__VA_ARGS__))
#define pg_unsqueeze(...)     PG_FROM(pg_unsqueeze(__VA_ARGS__))
#define pg_flip(...)          PG_FROM(pg_flip(__VA_ARGS__))
#define pg_unfold(...)        PG_FROM(pg_unfold(__VA_ARGS__))
#define pg_split(...)         PG_FROM(pg_split(__VA_ARGS__))
#define pg_contiguous(...)    PG_FROM(pg_contiguous(__VA_ARGS__))
#define pg_pad(...)           PG_FROM(pg_pad(__VA_ARGS__))
#define pg_concat(...)        PG_FROM(pg_concat(__VA_ARGS__))
#define pg_stack(...)         PG_FROM(pg_stack(__VA_ARGS__))
#define pg_assign(...)        PG_FROM(pg_assign(__VA_ARGS__))
#define pg_cast(...)          PG_FROM(pg_cast(__VA_ARGS__))
#define pg_bitcast(...)       PG_FROM(pg_bitcast(__VA_ARGS__))
#define pg_add(...)           PG_FROM(pg_add(__VA_ARGS__))
#define pg_sub(...)           PG_FROM(pg_sub(__VA_ARGS__))
#define pg_mul(...)           PG_FROM(pg_mul(__VA_ARGS__))
#define pg_div(...)           PG_FROM(pg_div(__VA_ARGS__))
#define pg_idiv(...)          PG_FROM(pg_idiv(__VA_ARGS__))
#define pg_mod(...)           PG_FROM(pg_mod(__VA_ARGS__))
#define pg_pow(...)           PG_FROM(pg_pow(__VA_ARGS__))
#define pg_maximum(...)       PG_FROM(pg_maximum(__VA_ARGS__))
#define pg_minimum(...)       PG_FROM(pg_minimum(__VA_ARGS__))
#define pg_clamp(...)         PG_FROM(pg_clamp(__VA_ARGS__))
#define pg_neg(...)           PG_FROM(pg_neg(__VA_ARGS__))
#define pg_abs(...)           PG_FROM(pg_abs(__VA_ARGS__))
#define pg_recip(...)         PG_FROM(pg_recip(__VA_ARGS__))
#define pg_sqrt(...)          PG_FROM(pg_sqrt(__VA_ARGS__))
#define pg_rsqrt(...)         PG_FROM(pg_rsqrt(__VA_ARGS__))
#define pg_exp(...)           PG_FROM(pg_exp(__VA_ARGS__))
#define pg_exp2(...)          PG_FROM(pg_exp2(__VA_ARGS__))
#define pg_log(...)           PG_FROM(pg_log(__VA_ARGS__))
#define pg_log2(...)          PG_FROM(pg_log2(__VA_ARGS__))
#define pg_sin(...)           PG_FROM(pg_sin(__VA_ARGS__))
#define pg_cos(...)           PG_FROM(pg_cos(__VA_ARGS__))
#define pg_tanh(...)          PG_FROM(pg_tanh(__VA_ARGS__))
#define pg_trunc(...)         PG_FROM(pg_trunc(__VA_ARGS__))
#define pg_floor(...)         PG_FROM(pg_floor(__VA_ARGS__))
#define pg_ceil(...)          PG_FROM(pg_ceil(__VA_ARGS__))
#define pg_round(...)         PG_FROM(pg_round(__VA_ARGS__))
#define pg_lt(...)            PG_FROM(pg_lt(__VA_ARGS__))
#define pg_le(...)            PG_FROM(pg_le(__VA_ARGS__))
#define pg_gt(...)            PG_FROM(pg_gt(__VA_ARGS__))
#define pg_ge(...)            PG_FROM(pg_ge(__VA_ARGS__))
#define pg_eq(...)            PG_FROM(pg_eq(__VA_ARGS__))
#define pg_ne(...)            PG_FROM(pg_ne(__VA_ARGS__))
#define pg_and(...)           PG_FROM(pg_and(__VA_ARGS__))
#define pg_or(...)            PG_FROM(pg_or(__VA_ARGS__))
#define pg_xor(...)           PG_FROM(pg_xor(__VA_ARGS__))
#define pg_not(...)           PG_FROM(pg_not(__VA_ARGS__))
#define pg_shl(...)           PG_FROM(pg_shl(__VA_ARGS__))
#define pg_shr(...)           PG_FROM(pg_shr(__VA_ARGS__))
#define pg_where(...)         PG_FROM(pg_where(__VA_ARGS__))
#define pg_sum(...)           PG_FROM(pg_sum(__VA_ARGS__))
#define pg_mean(...)          PG_FROM(pg_mean(__VA_ARGS__))
#define pg_max(...)           PG_FROM(pg_max(__VA_ARGS__))
#define pg_min(...)           PG_FROM(pg_min(__VA_ARGS__))
#define pg_prod(...)          PG_FROM(pg_prod(__VA_ARGS__))
#define pg_variance(...)      PG_FROM(pg_variance(__VA_ARGS__))
#define pg_std(...)           PG_FROM(pg_std(__VA_ARGS__))
#define pg_any(...)           PG_FROM(pg_any(__VA_ARGS__))
#define pg_all(...)           PG_FROM(pg_all(__VA_ARGS__))
#define pg_logsumexp(...)     PG_FROM(pg_logsumexp(__VA_ARGS__))
#define pg_argmax(...)        PG_FROM(pg_argmax(__VA_ARGS__))
#define pg_argmin(...)        PG_FROM(pg_argmin(__VA_ARGS__))
#define pg_cumsum(...)        PG_FROM(pg_cumsum(__VA_ARGS__))
#define pg_cumprod(...)       PG_FROM(pg_cumprod(__VA_ARGS__))
#define pg_softmax(...)       PG_FROM(pg_softmax(__VA_ARGS__))
#define pg_log_softmax(...)   PG_FROM(pg_log_softmax(__VA_ARGS__))
#define pg_gather(...)        PG_FROM(pg_gather(__VA_ARGS__))
#define pg_scatter_add(...)   PG_FROM(pg_scatter_add(__VA_ARGS__))
#define pg_index(...)         PG_FROM(pg_index(__VA_ARGS__))
#define pg_embedding(...)     PG_FROM(pg_embedding(__VA_ARGS__))
#define pg_matmul(...)        PG_FROM(pg_matmul(__VA_ARGS__))
#define pg_einsum(...)        PG_FROM(pg_einsum(__VA_ARGS__))
#define pg_linear(...)        PG_FROM(pg_linear(__VA_ARGS__))
#define pg_conv1d(...)        PG_FROM(pg_conv1d(__VA_ARGS__))
#define pg_conv2d(...)        PG_FROM(pg_conv2d(__VA_ARGS__))
#define pg_avg_pool2d(...)    PG_FROM(pg_avg_pool2d(__VA_ARGS__))
#define pg_max_pool2d(...)    PG_FROM(pg_max_pool2d(__VA_ARGS__))
#define pg_relu(...)          PG_FROM(pg_relu(__VA_ARGS__))
#define pg_sigmoid(...)       PG_FROM(pg_sigmoid(__VA_ARGS__))
#define pg_silu(...)          PG_FROM(pg_silu(__VA_ARGS__))
#define pg_gelu(...)          PG_FROM(pg_gelu(__VA_ARGS__))
#define pg_gelu_tanh(...)     PG_FROM(pg_gelu_tanh(__VA_ARGS__))
#define pg_layer_norm(...)    PG_FROM(pg_layer_norm(__VA_ARGS__))
#define pg_rms_norm(...)      PG_FROM(pg_rms_norm(__VA_ARGS__))
#define pg_group_norm(...)    PG_FROM(pg_group_norm(__VA_ARGS__))
#define pg_attention(...)     PG_FROM(pg_attention(__VA_ARGS__))
#define pg_rope(...)          PG_FROM(pg_rope(__VA_ARGS__))
#define pg_cross_entropy(...) PG_FROM(pg_cross_entropy(__VA_ARGS__))
#define pg_mse(...)           PG_FROM(pg_mse(__VA_ARGS__))
#define pg_sgd(...)           PG_FROM(pg_sgd(__VA_ARGS__))
#define pg_adamw(...)         PG_FROM(pg_adamw(__VA_ARGS__))
#endif
#endif
