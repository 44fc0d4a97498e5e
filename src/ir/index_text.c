/* index_text.c - index expressions as text.
 * In: an Index and names for its atoms, or text.  Out: text, or the Index.
 * Invariant: what is printed reads as in C (but / and % round down), and parses to the same id.
 *   32*i + k + 5    100 - 32*k    3*((i + 3)/16)    (i + 3)%16                                  */
#include "ir/ir.h"

#include <stdlib.h>
#include <string.h>

static void print_atom(Text *text, const IndexTable *table, const Atom *atom, IndexName *name,
                       void *context) {
    if (!atom->by) {
        text_add(text, "%s", name(context, atom));
        return;
    }
    const Term *terms;
    bool plain = index_terms(table, atom->of, &terms) == 1 && terms[0].scale == 1 &&
                 !index_constant(table, atom->of) && !index_atom_of(table, terms[0].atom)->by;
    text_add(text, plain ? "" : "(");
    index_print(text, table, atom->of, name, context);
    text_add(text, "%s%c%ld", plain ? "" : ")", atom->kind == ATOM_DIV ? '/' : '%', atom->by);
}

// "a + b - c" for any signs.
static void print_sign(Text *text, bool first, bool negative) {
    text_add(text, first ? negative ? "-" : "" : negative ? " - " : " + ");
}

static uint64_t magnitude(int64_t value) { return value < 0 ? -(uint64_t)value : (uint64_t)value; }

// Large scales come first, as in a row-major index; equal ones by their text, so that it does not
// show which atom was made first.
typedef struct {
    const Atom *atom;
    int64_t scale;
    int order;
    const char *text;  // NULL until it is made, in order of scales, then of making
} Printed;

static int printing_order(const void *a, const void *b) {
    const Printed *x = a, *y = b;
    uint64_t first = magnitude(x->scale), second = magnitude(y->scale);
    if (first != second) return first < second ? 1 : -1;
    return x->text ? strcmp(x->text, y->text) : x->order - y->order;
}

static void print_term(Text *text, const Printed *term, bool first) {
    bool brackets = term->atom->by && (magnitude(term->scale) != 1 || (first && term->scale < 0));
    print_sign(text, first, term->scale < 0);
    if (magnitude(term->scale) != 1) text_add(text, "%lu*", magnitude(term->scale));
    text_add(text, brackets ? "(%s)" : "%s", term->text);
}

// What is added comes first, then what is taken away: 100 - 32*k.
void index_print(Text *text, const IndexTable *table, Index a, IndexName *name, void *context) {
    const Term *terms;
    int count = index_terms(table, a, &terms);
    int64_t constant = index_constant(table, a);
    bool first = true;
    Printed *printed = arena_array(text->arena, Printed, count);
    for (int i = 0; i < count; i++)
        printed[i] = (Printed){index_atom_of(table, terms[i].atom), terms[i].scale, i, NULL};
    if (count) qsort(printed, (size_t)count, sizeof *printed, printing_order);
    for (int i = 0; i < count; i++) {
        Text atom = text_new(text->arena);
        print_atom(&atom, table, printed[i].atom, name, context);
        printed[i].text = atom.at;
    }
    if (count) qsort(printed, (size_t)count, sizeof *printed, printing_order);
    for (int negative = 0; negative < 2; negative++) {
        for (int i = 0; i < count; i++) {
            if ((printed[i].scale < 0) != negative) continue;
            print_term(text, &printed[i], first);
            first = false;
        }
        if (!constant || (constant < 0) != negative) continue;
        print_sign(text, first, negative);
        text_add(text, "%lu", magnitude(constant));
        first = false;
    }
    if (first) text_add(text, "0");
}

typedef struct {
    Reader *reader;
    Arena *scratch;
    IndexTable *table;
    IndexFind *find;
    void *context;
} Parser;

static Index parse_sum(const Parser *parser);

static Index parse_operand(const Parser *parser) {
    if (reader_open(parser->reader)) {
        Index inside = parse_sum(parser);
        reader_close(parser->reader);
        return inside;
    }
    const char *name = reader_name(parser->reader, parser->scratch);
    if (!name) reader_fatal(parser->reader, "expected an index: a name, an integer or '('");
    return parser->find(parser->context, parser->reader, name);
}

static Index parse_factor(const Parser *parser) {
    int64_t value, sign = 1;
    while (!reader_int(parser->reader, &value)) {
        if (!reader_take(parser->reader, "-"))
            return index_scale(parser->table, parse_operand(parser), sign);
        sign = -sign;
    }
    return index_scale(parser->table, index_const(parser->table, value), sign);
}

static int64_t parse_divisor(const Parser *parser) {
    int64_t by;
    if (!reader_int(parser->reader, &by) || by < 1)
        reader_fatal(parser->reader, "expected a positive integer to divide by");
    return by;
}

static Index parse_product(const Parser *parser) {
    IndexTable *table = parser->table;
    Index a = parse_factor(parser);
    for (;;) {
        int64_t scale;
        if (reader_take(parser->reader, "/")) {
            a = index_div(table, a, parse_divisor(parser));
        } else if (reader_take(parser->reader, "%")) {
            a = index_mod(table, a, parse_divisor(parser));
        } else if (reader_take(parser->reader, "*")) {
            Index b = parse_factor(parser);
            if (index_is_const(table, b, &scale))
                a = index_scale(table, a, scale);
            else if (index_is_const(table, a, &scale))
                a = index_scale(table, b, scale);
            else
                reader_fatal(parser->reader, "a product needs a constant side");
        } else {
            return a;
        }
    }
}

static Index parse_sum(const Parser *parser) {
    IndexTable *table = parser->table;
    Index sum = parse_product(parser);
    for (;;) {
        if (reader_take(parser->reader, "+"))
            sum = index_add(table, sum, parse_product(parser));
        else if (reader_take(parser->reader, "-"))
            sum = index_sub(table, sum, parse_product(parser));
        else
            return sum;
    }
}

Index index_parse(Reader *reader, Arena *scratch, IndexTable *table, IndexFind *find,
                  void *context) {
    return parse_sum(&(Parser){reader, scratch, table, find, context});
}
