/* print.c - tensors as text, as NumPy shows them.
 * In: a tensor.  Out: rows in brackets, columns aligned.
 * Invariant: of an axis that is too long, only its ends are computed, read and shown.
 *   pg_arange(PG_F32, 0, 2000, 1)   =>   [   0.    1.    2. ... 1997. 1998. 1999.]               */
#include "tensor/tensor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_MAX = 1000, EDGE = 3, ELEMENT_SIZE = 32 };  // elements; at each end of an axis; bytes

typedef struct {
    Text text;
    int rank;
    int64_t size[RANK_MAX];
    bool cut[RANK_MAX];  // "..." after EDGE of them
    DTypeKind kind;
    const float *real;       // of a float tensor, else
    const int64_t *integer;  // these
    int64_t count, next;
    int width;
    int decimals;  // 0: whole numbers, as "2."
    bool exponents;
} Printer;

static PgTensor *ends_of(Printer *printer, PgTensor *x) {
    int64_t all = pg_count(x);
    for (int axis = 0; axis < printer->rank; axis++) {
        printer->cut[axis] = all > SHOWN_MAX && pg_shape(x, axis) > 2 * EDGE;
        if (!printer->cut[axis]) continue;
        PgTensor *ends[] = {pg_slice(x, axis, 0, EDGE, 1), pg_slice(x, axis, -EDGE, PG_NONE, 1)};
        x = pg_concat(2, ends, axis);
    }
    return x;
}

static void read_elements(Printer *printer, PgTensor *x) {
    bool floats = printer->kind == KIND_FLOAT;
    x = pg_cast(x, floats ? PG_F32 : PG_I64);
    printer->count = pg_count(x);
    for (int axis = 0; axis < printer->rank; axis++) printer->size[axis] = pg_shape(x, axis);
    size_t bytes = (size_t)printer->count * (floats ? sizeof(float) : sizeof(int64_t));
    void *data = arena_alloc(printer->text.arena, bytes);
    pg_to_host(x, data, bytes);
    if (floats) printer->real = data;
    else printer->integer = data;
}

// One way of writing for all, so that they compare at a glance.
static void choose_form(Printer *printer) {
    float largest = 0, smallest = INFINITY;
    for (int64_t i = 0; printer->real && i < printer->count; i++) {
        float size = fabsf(printer->real[i]);
        if (!isfinite(size)) continue;
        if (size != truncf(size)) printer->decimals = 4;
        if (size > largest) largest = size;
        if (size > 0 && size < smallest) smallest = size;
    }
    printer->exponents = largest >= 1e8f || (printer->decimals && (largest >= 1e5f ||
                                                                 smallest < 1e-4f));
}

static int element(const Printer *printer, int64_t i, char text[ELEMENT_SIZE]) {
    if (printer->kind == KIND_BOOL)
        return snprintf(text, ELEMENT_SIZE, "%s", printer->integer[i] ? "True" : "False");
    if (printer->integer)
        return snprintf(text, ELEMENT_SIZE, "%lld", (long long)printer->integer[i]);
    double value = (double)printer->real[i];
    if (isnan(value)) return snprintf(text, ELEMENT_SIZE, "nan");
    if (isinf(value)) return snprintf(text, ELEMENT_SIZE, "%s", value < 0 ? "-inf" : "inf");
    if (printer->exponents) return snprintf(text, ELEMENT_SIZE, "%.4e", value);
    return snprintf(text, ELEMENT_SIZE, "%.*f%s", printer->decimals, value,
                    printer->decimals ? "" : ".");
}

static void put_gap(Printer *printer, int axis) {
    if (axis == printer->rank - 1) {
        text_add(&printer->text, " ");
        return;
    }
    for (int i = axis; i < printer->rank - 1; i++) text_add(&printer->text, "\n");
    text_add(&printer->text, "%*s", axis + 1, "");
}

static void put(Printer *printer, int axis) {
    char text[ELEMENT_SIZE];
    if (axis == printer->rank) {
        element(printer, printer->next++, text);
        text_add(&printer->text, "%*s", printer->width, text);
        return;
    }
    text_add(&printer->text, "[");
    for (int64_t i = 0; i < printer->size[axis]; i++) {
        if (i) put_gap(printer, axis);
        if (i == EDGE && printer->cut[axis]) {
            text_add(&printer->text, "...");
            put_gap(printer, axis);
        }
        put(printer, axis + 1);
    }
    text_add(&printer->text, "]");
}

static char *tensor_text(Arena *arena, PgTensor *x) {
    Printer printer = {.text = text_new(arena), .rank = pg_rank(x)};
    printer.kind = dtypes[pg_type(x)].kind;
    read_elements(&printer, ends_of(&printer, x));
    choose_form(&printer);
    char text[ELEMENT_SIZE];
    for (int64_t i = 0; i < printer.count; i++) {
        int width = element(&printer, i, text);
        if (width > printer.width) printer.width = width;
    }
    put(&printer, 0);
    return printer.text.at;
}

void pg_print(PgTensor *x) {
    must_not_trace("print", "return the tensor through out and print it after pg_call");
    Arena *arena = arena_new();
    puts(tensor_text(arena, x));
    arena_free(arena);
}

size_t pg_format(PgTensor *x, char *text, size_t size) {
    must_not_trace("format", "return the tensor through out and print it after pg_call");
    Arena *arena = arena_new();
    size_t length = (size_t)snprintf(text, size, "%s", tensor_text(arena, x));
    arena_free(arena);
    return length;
}
