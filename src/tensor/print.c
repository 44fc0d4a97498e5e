/* print.c - tensors as text, as NumPy shows them.
 * In: a tensor.  Out: rows in brackets, columns aligned.
 * Invariant: of an axis that is too long, only its ends are computed, read and shown.
 *   pg_arange(PG_F32, 0, 2000, 1)   =>   [   0.    1.    2. ... 1997. 1998. 1999.]               */
#include "tensor/tensor.h"

#include <math.h>
#include <string.h>

enum { SHOWN_MAX = 1000, EDGE = 3, ELEMENT_SIZE = 32 };  // elements; at each end of an axis; bytes

typedef struct {
    Text text;
    int rank;
    int64_t size[RANK_MAX];
    bool cut[RANK_MAX];    // "..." after EDGE of them
    const float *real;     // of a float tensor, else
    const int64_t *whole;  // these
    bool truth;            // which are False and True
    const char *form;      // of a finite float
    int width;
    int64_t next;
} Printer;

static PgTensor *ends_of(Printer *printer, PgTensor *x) {
    int64_t all = pg_count(x);
    for (int axis = 0; axis < printer->rank; axis++) {
        printer->cut[axis] = all > SHOWN_MAX && pg_shape(x, axis) > 2 * EDGE;
        PgTensor *ends[] = {pg_slice(x, axis, 0, EDGE, 1), pg_slice(x, axis, -EDGE, PG_NONE, 1)};
        if (printer->cut[axis]) x = pg_concat(2, ends, axis);
        printer->size[axis] = pg_shape(x, axis);
    }
    return x;
}

// One way of writing for all floats, so that they compare at a glance.
static const char *form_of(const float *real, int64_t count) {
    float largest = 0, smallest = INFINITY;
    bool whole = true;
    for (int64_t i = 0; i < count; i++) {
        float size = isfinite(real[i]) ? fabsf(real[i]) : 0;
        whole = whole && size == truncf(size);
        largest = fmaxf(largest, size);
        if (size > 0) smallest = fminf(smallest, size);
    }
    if (whole && largest < 1e8f) return "%.0f.";
    return largest < 1e5f && smallest >= 1e-4f ? "%.4f" : "%.4e";
}

static const char *element(const Printer *printer, int64_t i, char text[ELEMENT_SIZE]) {
    if (printer->truth) return printer->whole[i] ? "True" : "False";
    if (printer->whole) {
        snprintf(text, ELEMENT_SIZE, "%lld", (long long)printer->whole[i]);
        return text;
    }
    double value = (double)printer->real[i];
    if (!isfinite(value)) return isnan(value) ? "nan" : value < 0 ? "-inf" : "inf";
    snprintf(text, ELEMENT_SIZE, printer->form, value);
    return text;
}

static void put_gap(Printer *printer, int axis) {
    bool last = axis == printer->rank - 1;
    for (int i = axis; i < printer->rank - 1; i++) text_add(&printer->text, "\n");
    text_add(&printer->text, "%*s", last ? 1 : axis + 1, "");
}

static void put(Printer *printer, int axis) {
    char text[ELEMENT_SIZE];
    if (axis == printer->rank) {
        text_add(&printer->text, "%*s", printer->width, element(printer, printer->next++, text));
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

// In the memory of the innermost scope.
static char *tensor_text(PgTensor *x) {
    Arena *arena = scope_now()->arena;
    Printer printer = {.text = text_new(arena), .rank = pg_rank(x), .truth = pg_type(x) == PG_BOOL};
    bool floats = dtype_is_float((DType)pg_type(x));
    x = pg_cast(ends_of(&printer, x), floats ? PG_F32 : PG_I64);
    int64_t count = pg_count(x);
    size_t bytes = (size_t)count * (floats ? sizeof(float) : sizeof(int64_t));
    void *data = arena_alloc(arena, bytes);
    pg_to_host(x, data, bytes);
    if (floats)
        printer.form = form_of(printer.real = data, count);
    else
        printer.whole = data;
    char text[ELEMENT_SIZE];
    for (int64_t i = 0; i < count; i++)
        printer.width = (int)max_i64(printer.width, (int64_t)strlen(element(&printer, i, text)));
    put(&printer, 0);
    return printer.text.at;
}

void pg_print(PgTensor *x) {
    must_not_trace("print", "return the tensor through out and print it after pg_call");
    pg_scope_begin();
    puts(tensor_text(x));
    pg_scope_end();
}

size_t pg_format(PgTensor *x, char *text, size_t size) {
    must_not_trace("format", "return the tensor through out and print it after pg_call");
    pg_scope_begin();
    size_t length = (size_t)snprintf(text, size, "%s", tensor_text(x));
    pg_scope_end();
    return length;
}
