/* elementwise_type.h - the scalar column of ops.def as loops over one element type, and the casts
 * from it. Included by elementwise.c once a type, with
 *   ELEMENT  the dtype, as in I32        KIND  its kind
 *   WIDE     what its arithmetic is done in, where nothing overflows (the compiler narrows it)   */

#define TAKES(properties)                                                 \
    (((properties)&MAPS) && !((properties) & (TYPED | CHOOSES)) &&        \
     !((properties) & (KIND == KIND_FLOAT ? BITS | INTEGERS : FLOATS)) && \
     !(KIND == KIND_BOOL && (properties)&INTEGERS))

// What an op does not take must compile nevertheless: bits of floats, here, are those of integers.
#define OPERAND(properties)           \
    __typeof__(__builtin_choose_expr( \
        KIND == KIND_FLOAT && ((properties) & (BITS | INTEGERS)) != 0, (int64_t)0, (WIDE)0))

static void TYPE_NAME(map)(Op op, int count, const void *first, const void *second,
                           const void *third, void *to) {
    enum { bits = 8 * sizeof(TYPE_NAME(Computed)) };
    const TYPE_NAME(Computed) *a = first, *b = second, *c = third;
    (void)bits;
    switch (op) {
        // `(T[1]){expression}[0]` is 0 where the table has no expression.
#define OP(name, text, arity, properties, scalar, ...)                             \
    case OP_##name:                                                                \
        if (!TAKES(properties)) break;                                             \
        EACH for (int i = 0; i < count; i++) {                                     \
            OPERAND(properties) x = (OPERAND(properties))a[i];                     \
            OPERAND(properties) y = (OPERAND(properties))(arity > 1 ? b[i] : 0);   \
            OPERAND(properties) z = (OPERAND(properties))(arity > 2 ? c[i] : 0);   \
            (void)x, (void)y, (void)z;                                             \
            OPERAND(properties) value = (__typeof__(x)[1]){scalar}[0];             \
            if ((properties)&TO_BOOL)                                              \
                ((Computed_BOOL *)to)[i] = value != 0;                             \
            else                                                                   \
                ((TYPE_NAME(Computed) *)to)[i] =                                   \
                    (TYPE_NAME(Computed))(KIND == KIND_BOOL ? value != 0 : value); \
        }                                                                          \
        return;
#include "ir/ops.def"
#undef OP
    default: break;
    }
    fatal("chunk: %s does not map elements of this dtype", ops[op].text);
}

static void TYPE_NAME(cast)(DType into, int count, const void *from, void *to) {
    const TYPE_NAME(Computed) *x = from;
    switch (into) {
#define DTYPE(name, text, bytes, kind, stored, computed)                             \
    case DT_##name:                                                                  \
        EACH for (int i = 0; i < count; i++)((Computed_##name *)to)[i] =             \
            kind == KIND_BOOL                          ? x[i] != 0                   \
            : KIND == KIND_FLOAT && kind != KIND_FLOAT ? SATURATE(bytes, kind, x[i]) \
                                                       : (computed)x[i];             \
        return;
#include "ir/dtypes.def"
#undef DTYPE
    default: break;
    }
}

#undef OPERAND
#undef TAKES
#undef ELEMENT
#undef KIND
#undef WIDE
