/* index.c - integer expressions over loops and sizes, in canonical form.
 * In: atoms, sums, multiples, floor quotients and remainders by constants.  Out: ids.
 * Invariants: an id names one constant + sum of scale * atom; terms are sorted by atom, no scale is
 * 0; in an atom x/n or x%n every scale of x is below n in magnitude and x's constant is in [0, n).
 *   i < 4, j < 8:   (8*i + j)/8 => i    (8*i + j)%4 => j%4    4*(j/4) + j%4 => j               */
#include "ir/ir.h"

#define LIMIT ((int64_t)1 << 62)  // a bound of -LIMIT or LIMIT says nothing
enum { TERMS_MAX = 64, WEIGHT_MAX = 1 << 20 };

typedef struct {
    int64_t constant, low, high;
    const Term *terms;
    int count;
    int weight;  // how many quotients and remainders it is made of, nested ones too
} Sum;

struct IndexTable {
    Arena *arena;
    LIST(const Sum *) sums;    // by Index
    LIST(const Atom *) atoms;  // by Term.atom
    Map *sum_ids, *atom_ids;
};

// A sum being made.
typedef struct {
    int64_t constant;
    int count;
    Term terms[TERMS_MAX];
} Draft;

IndexTable *index_table_new(Arena *arena) {
    IndexTable *table = arena_object(arena, IndexTable);
    table->arena = arena;
    table->sum_ids = map_new(arena);
    table->atom_ids = map_new(arena);
    return table;
}

static const Sum *sum_of(const IndexTable *table, Index a) { return table->sums.at[a]; }

bool index_is_symbolic(const IndexTable *table, int64_t id) {
    return id < table->sums.count && sum_of(table, (Index)id)->count > 0;
}

const Atom *index_atom_of(const IndexTable *table, int32_t atom) { return table->atoms.at[atom]; }

// ---- checked arithmetic ------------------------------------------------------------------------

static int64_t plus(int64_t a, int64_t b) {
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) fatal("index: %ld + %ld overflows 64 bits", a, b);
    return sum;
}

static int64_t times(int64_t a, int64_t b) {
    int64_t product;
    if (__builtin_mul_overflow(a, b, &product)) fatal("index: %ld * %ld overflows 64 bits", a, b);
    return product;
}

static int64_t floor_div(int64_t a, int64_t by) { return a / by - (a % by < 0); }

static int64_t floor_mod(int64_t a, int64_t by) { return a % by + (a % by < 0 ? by : 0); }

static int64_t magnitude(int64_t a) { return a < 0 ? -a : a; }

static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a; }

static int64_t clamp(__int128 bound) {
    return bound < -LIMIT ? -LIMIT : bound > LIMIT ? LIMIT : (int64_t)bound;
}

static int64_t bound_add(int64_t a, int64_t b, int64_t unknown) {
    return a == unknown || b == unknown ? unknown : clamp((__int128)a + b);
}

static int64_t bound_div(int64_t bound, int64_t by, int64_t unknown) {
    return bound == unknown ? unknown : floor_div(bound, by);
}

// ---- drafts and interning ----------------------------------------------------------------------

static void draft_term(Draft *draft, int32_t atom, int64_t scale) {
    if (!scale) return;
    int at = draft->count;
    while (at > 0 && draft->terms[at - 1].atom >= atom) at--;
    bool there = at < draft->count && draft->terms[at].atom == atom;
    int64_t sum = there ? plus(draft->terms[at].scale, scale) : scale;
    if (sum == INT64_MIN) fatal("index: a multiple of %ld has no negative", sum);
    if (there && !sum) {
        draft->count--;
        for (; at < draft->count; at++) draft->terms[at] = draft->terms[at + 1];
        return;
    }
    if (!there) {
        if (draft->count == TERMS_MAX) fatal("index: a sum of more than %d terms", TERMS_MAX);
        for (int i = draft->count++; i > at; i--) draft->terms[i] = draft->terms[i - 1];
    }
    draft->terms[at] = (Term){sum, atom};
}

static void draft_add(Draft *draft, const Sum *sum, int64_t scale) {
    draft->constant = plus(draft->constant, times(sum->constant, scale));
    for (int i = 0; i < sum->count; i++)
        draft_term(draft, sum->terms[i].atom, times(sum->terms[i].scale, scale));
}

static void draft_bounds(const IndexTable *table, const Draft *draft, int64_t *low, int64_t *high) {
    *low = *high = clamp(draft->constant);
    for (int i = 0; i < draft->count; i++) {
        const Atom *atom = table->atoms.at[draft->terms[i].atom];
        __int128 scale = draft->terms[i].scale;
        int64_t first = clamp(scale * atom->low), last = clamp(scale * atom->high);
        *low = bound_add(*low, min_i64(first, last), -LIMIT);
        *high = bound_add(*high, max_i64(first, last), LIMIT);
    }
}

static int draft_weight(const IndexTable *table, const Draft *draft) {
    int64_t weight = 0;
    for (int i = 0; i < draft->count; i++) {
        const Atom *atom = table->atoms.at[draft->terms[i].atom];
        if (atom->by) weight += 1 + sum_of(table, atom->of)->weight;
    }
    return (int)min_i64(weight, WEIGHT_MAX);
}

typedef struct {
    const IndexTable *table;
    const void *key;
} Wanted;

static bool same_sum(const void *context, int32_t id) {
    const Wanted *wanted = context;
    const Draft *draft = wanted->key;
    const Sum *sum = sum_of(wanted->table, id);
    if (sum->constant != draft->constant || sum->count != draft->count) return false;
    for (int i = 0; i < sum->count; i++)
        if (sum->terms[i].atom != draft->terms[i].atom ||
            sum->terms[i].scale != draft->terms[i].scale)
            return false;
    return true;
}

static Index sum_intern(IndexTable *table, const Draft *draft) {
    uint64_t hash = (uint64_t)draft->constant;
    for (int i = 0; i < draft->count; i++)
        hash = hash_bytes((int64_t[]){draft->terms[i].scale, draft->terms[i].atom}, 16, hash);
    int32_t id = map_find(table->sum_ids, hash, same_sum, &(Wanted){table, draft});
    if (id >= 0) return id;
    Sum *sum = arena_object(table->arena, Sum);
    sum->constant = draft->constant;
    sum->count = draft->count;
    sum->terms = arena_copy(table->arena, draft->terms, (size_t)draft->count * sizeof(Term));
    sum->weight = draft_weight(table, draft);
    draft_bounds(table, draft, &sum->low, &sum->high);
    id = table->sums.count;
    *list_add(table->arena, &table->sums) = sum;
    map_add(table->arena, table->sum_ids, hash, id);
    return id;
}

static Index term_index(IndexTable *table, Term term) {
    Draft draft;
    draft.constant = 0;
    draft.count = 1;
    draft.terms[0] = term;
    return sum_intern(table, &draft);
}

static bool same_atom(const void *context, int32_t id) {
    const Wanted *wanted = context;
    const Atom *a = wanted->key, *b = wanted->table->atoms.at[id];
    return a->kind == b->kind && a->of == b->of && a->by == b->by;
}

// 1 * atom
static Index atom_intern(IndexTable *table, Atom atom) {
    uint64_t hash = hash_bytes((int64_t[]){atom.kind, atom.of, atom.by}, 24, 0);
    int32_t id = map_find(table->atom_ids, hash, same_atom, &(Wanted){table, &atom});
    if (id < 0) {
        id = table->atoms.count;
        *list_add(table->arena, &table->atoms) = arena_copy(table->arena, &atom, sizeof atom);
        map_add(table->arena, table->atom_ids, hash, id);
    }
    return term_index(table, (Term){1, id});
}

Index index_const(IndexTable *table, int64_t value) {
    Draft draft;
    draft.constant = value;
    draft.count = 0;
    return sum_intern(table, &draft);
}

// A loop of one iteration, or of none, is its first value.
Index index_atom(IndexTable *table, AtomKind kind, int32_t of, int64_t low, int64_t high) {
    if (low >= high) return index_const(table, low);
    return atom_intern(table, (Atom){kind, of, 0, clamp(low), clamp(high)});
}

// ---- sums --------------------------------------------------------------------------------------

// a + scale * b, as it stands.
static Index combine(IndexTable *table, Index a, Index b, int64_t scale) {
    Draft draft;
    draft.constant = 0;
    draft.count = 0;
    draft_add(&draft, sum_of(table, a), 1);
    draft_add(&draft, sum_of(table, b), scale);
    return sum_intern(table, &draft);
}

static int64_t scale_of(const Sum *sum, int32_t atom) {
    for (int i = 0; i < sum->count; i++)
        if (sum->terms[i].atom == atom) return sum->terms[i].scale;
    return 0;
}

// `a`, in which the term `rest`, s * (x%n), and another of scale s*n are made one if they match:
//   s*n * (x/n)      + s * (x%n) => s * x
//   s*n * ((x/n)%m)  + s * (x%n) => s * (x%(n*m))
// The second holds for p%m with any p = x/n + r too, since (x + n*r)%n is x%n.
static Index join_terms(IndexTable *table, Index a, Term rest, Term other) {
    Index x = table->atoms.at[rest.atom]->of;
    int64_t n = table->atoms.at[rest.atom]->by, by;
    const Sum *quotient = sum_of(table, index_div(table, x, n));  // x/n, up to a constant
    if (quotient->count != 1 || quotient->terms[0].scale != 1) return a;
    x = combine(table, x, index_const(table, quotient->constant), -n);
    Index over = term_index(table, quotient->terms[0]);
    Index others = combine(table, combine(table, a, term_index(table, rest), -1),
                           term_index(table, other), -1);
    if (other.atom == quotient->terms[0].atom) return combine(table, others, x, rest.scale);

    const Atom *outer = table->atoms.at[other.atom];
    if (outer->kind != ATOM_MOD || scale_of(sum_of(table, outer->of), quotient->terms[0].atom) != 1)
        return a;
    if (__builtin_mul_overflow(n, outer->by, &by)) return a;
    Index r = combine(table, outer->of, over, -1);
    return combine(table, others, index_mod(table, combine(table, x, r, n), by), rest.scale);
}

static Index join(IndexTable *table, Index a) {
    const Sum *sum = sum_of(table, a);
    for (int i = 0; i < sum->count; i++) {
        const Atom *rest = table->atoms.at[sum->terms[i].atom];
        int64_t outer;
        if (rest->kind != ATOM_MOD) continue;
        if (__builtin_mul_overflow(sum->terms[i].scale, rest->by, &outer)) continue;
        for (int j = 0; j < sum->count; j++) {
            if (sum->terms[j].scale != outer) continue;
            Index joined = join_terms(table, a, sum->terms[i], sum->terms[j]);
            if (sum_of(table, joined)->weight < sum->weight) return joined;
        }
    }
    return a;
}

Index index_add(IndexTable *table, Index a, Index b) {
    Index sum = combine(table, a, b, 1), before;
    do {
        before = sum;
        if (sum_of(table, sum)->weight >= 2) sum = join(table, sum);
    } while (sum != before);
    return sum;
}

Index index_scale(IndexTable *table, Index a, int64_t scale) {
    Draft draft;
    draft.constant = 0;
    draft.count = 0;
    draft_add(&draft, sum_of(table, a), scale);
    return sum_intern(table, &draft);
}

Index index_sub(IndexTable *table, Index a, Index b) {
    return index_add(table, a, index_scale(table, b, -1));
}

// ---- quotients and remainders ------------------------------------------------------------------

// a = by * whole + unit * kept + rest with 0 <= rest < unit, where unit divides `by`.
typedef struct {
    Index whole, kept, rest;
    int64_t unit;
} Split;

// The terms of `part` below `least` in magnitude and the constant modulo `unit`; or what is left.
static void draft_below(Draft *draft, const Draft *part, int64_t least, int64_t unit) {
    draft->constant = floor_mod(part->constant, unit);
    draft->count = 0;
    for (int i = 0; i < part->count; i++)
        if (magnitude(part->terms[i].scale) < least) draft->terms[draft->count++] = part->terms[i];
}

static int64_t largest_below(const Draft *part, int64_t least) {
    int64_t largest = 0;
    for (int i = 0; i < part->count; i++) {
        int64_t scale = magnitude(part->terms[i].scale);
        if (scale < least) largest = max_i64(largest, scale);
    }
    return largest;
}

// Takes the largest unit for which the terms that are no multiples of it stay within one unit.
// Such terms are smaller than it, so `rest` is always what is below some magnitude.
static Split split(IndexTable *table, Index a, int64_t by) {
    const Sum *sum = sum_of(table, a);
    Draft whole, part, rest;
    whole.constant = floor_div(sum->constant, by);
    part.constant = floor_mod(sum->constant, by);
    whole.count = part.count = 0;
    for (int i = 0; i < sum->count; i++) {
        draft_term(&whole, sum->terms[i].atom, sum->terms[i].scale / by);
        draft_term(&part, sum->terms[i].atom, sum->terms[i].scale % by);
    }
    int64_t unit = by, least = INT64_MAX, low, high;
    for (;;) {
        draft_below(&rest, &part, least, unit);
        draft_bounds(table, &rest, &low, &high);
        bool bounded = !rest.count || (low > -LIMIT && high < LIMIT);
        if (bounded && floor_div(low, unit) == floor_div(high, unit)) break;
        least = largest_below(&part, least);
        unit = gcd(unit, least);
    }
    int64_t units = floor_div(low, unit);  // that rest holds: they move over to kept
    Draft kept = {.constant = plus(part.constant / unit, units)};
    rest.constant -= units * unit;
    for (int i = 0; i < part.count; i++)
        if (magnitude(part.terms[i].scale) >= least)
            draft_term(&kept, part.terms[i].atom, part.terms[i].scale / unit);
    return (Split){sum_intern(table, &whole), sum_intern(table, &kept), sum_intern(table, &rest),
                   unit};
}

// The only atom of `a` if `a` is (x%n) with `by` a divisor of n.
static const Atom *multiple_mod(const IndexTable *table, Index a, int64_t by) {
    const Sum *sum = sum_of(table, a);
    if (sum->count != 1 || sum->constant || sum->terms[0].scale != 1) return NULL;
    const Atom *atom = table->atoms.at[sum->terms[0].atom];
    return atom->kind == ATOM_MOD && atom->by % by == 0 ? atom : NULL;
}

// a / by, where nothing of `a` splits off.
static Index quotient(IndexTable *table, Index a, int64_t by) {
    const Atom *mod = multiple_mod(table, a, by);
    if (mod) return index_mod(table, index_div(table, mod->of, by), mod->by / by);
    const Sum *sum = sum_of(table, a);
    for (int i = 0; i < sum->count; i++) {  // (x/n + r)/by = (x + n*r)/(n*by)
        const Atom *atom = table->atoms.at[sum->terms[i].atom];
        int64_t product;
        if (atom->kind != ATOM_DIV || sum->terms[i].scale != 1) continue;
        if (__builtin_mul_overflow(atom->by, by, &product)) continue;
        Index r = combine(table, a, term_index(table, sum->terms[i]), -1);
        return index_div(table, index_add(table, atom->of, index_scale(table, r, atom->by)),
                         product);
    }
    return atom_intern(table, (Atom){ATOM_DIV, a, by, bound_div(sum->low, by, -LIMIT),
                                     bound_div(sum->high, by, LIMIT)});
}

static Index remainder_of(IndexTable *table, Index a, int64_t by) {
    const Atom *mod = multiple_mod(table, a, by);
    if (mod) return index_mod(table, mod->of, by);
    return atom_intern(table, (Atom){ATOM_MOD, a, by, 0, by - 1});
}

Index index_div(IndexTable *table, Index a, int64_t by) {
    if (by < 1) fatal("index_div: by %ld. Hint: divide by 1 or more", by);
    if (by == 1) return a;
    Split s = split(table, a, by);
    Index kept = s.unit == 1 ? quotient(table, s.kept, by) : index_div(table, s.kept, by / s.unit);
    return index_add(table, s.whole, kept);
}

Index index_mod(IndexTable *table, Index a, int64_t by) {
    if (by < 1) fatal("index_mod: by %ld. Hint: divide by 1 or more", by);
    if (by == 1) return index_const(table, 0);
    Split s = split(table, a, by);
    Index kept =
        s.unit == 1 ? remainder_of(table, s.kept, by) : index_mod(table, s.kept, by / s.unit);
    return index_add(table, index_scale(table, kept, s.unit), s.rest);
}

// ---- questions ---------------------------------------------------------------------------------

bool index_is_const(const IndexTable *table, Index a, int64_t *value) {
    const Sum *sum = sum_of(table, a);
    if (sum->count) return false;
    *value = sum->constant;
    return true;
}

int64_t index_low(const IndexTable *table, Index a) { return sum_of(table, a)->low; }

int64_t index_high(const IndexTable *table, Index a) { return sum_of(table, a)->high; }

int64_t index_constant(const IndexTable *table, Index a) { return sum_of(table, a)->constant; }

int index_terms(const IndexTable *table, Index a, const Term **terms) {
    *terms = sum_of(table, a)->terms;
    return sum_of(table, a)->count;
}

static bool atom_uses(const IndexTable *table, const Atom *atom, AtomKind kind, int32_t of) {
    return (atom->kind == kind && atom->of == of) ||
           (atom->by && index_uses(table, atom->of, kind, of));
}

Index index_of_atom(IndexTable *table, const Atom *atom) {
    if (atom->kind == ATOM_DIV) return index_div(table, atom->of, atom->by);
    if (atom->kind == ATOM_MOD) return index_mod(table, atom->of, atom->by);
    return index_atom(table, atom->kind, atom->of, atom->low, atom->high);
}

bool index_uses(const IndexTable *table, Index a, AtomKind kind, int32_t of) {
    const Sum *sum = sum_of(table, a);
    for (int i = 0; i < sum->count; i++)
        if (atom_uses(table, table->atoms.at[sum->terms[i].atom], kind, of)) return true;
    return false;
}

bool index_stride(const IndexTable *table, Index a, int32_t loop, int64_t *stride) {
    const Sum *sum = sum_of(table, a);
    *stride = 0;
    for (int i = 0; i < sum->count; i++) {
        const Atom *atom = table->atoms.at[sum->terms[i].atom];
        if (atom->kind == ATOM_LOOP && atom->of == loop)
            *stride = sum->terms[i].scale;
        else if (atom_uses(table, atom, ATOM_LOOP, loop))
            return false;
    }
    return true;
}

int64_t index_value(const IndexTable *table, Index a, IndexValue *value, void *context) {
    const Sum *sum = sum_of(table, a);
    int64_t result = sum->constant;
    for (int i = 0; i < sum->count; i++) {
        const Atom *atom = table->atoms.at[sum->terms[i].atom];
        int64_t x = atom->by ? index_value(table, atom->of, value, context) : value(context, atom);
        if (atom->kind == ATOM_DIV) x = floor_div(x, atom->by);
        if (atom->kind == ATOM_MOD) x = floor_mod(x, atom->by);
        result = plus(result, times(sum->terms[i].scale, x));
    }
    return result;
}

// ---- rebuilding --------------------------------------------------------------------------------

Index index_copy(IndexTable *to, const IndexTable *from, Index a, IndexMap *map, void *context) {
    const Sum *sum = sum_of(from, a);
    Index result = index_const(to, sum->constant);
    for (int i = 0; i < sum->count; i++) {
        const Atom *atom = from->atoms.at[sum->terms[i].atom];
        Index x;
        if (atom->kind == ATOM_DIV)
            x = index_div(to, index_copy(to, from, atom->of, map, context), atom->by);
        else if (atom->kind == ATOM_MOD)
            x = index_mod(to, index_copy(to, from, atom->of, map, context), atom->by);
        else if (map)
            x = map(context, to, atom);
        else
            x = atom_intern(to, *atom);
        result = index_add(to, result, index_scale(to, x, sum->terms[i].scale));
    }
    return result;
}

typedef struct {
    AtomKind kind;
    int32_t of;
    Index by;
} Replacement;

static Index replace_atom(void *context, IndexTable *table, const Atom *atom) {
    const Replacement *it = context;
    return atom->kind == it->kind && atom->of == it->of ? it->by : atom_intern(table, *atom);
}

Index index_replace(IndexTable *table, Index a, AtomKind kind, int32_t of, Index b) {
    if (!index_uses(table, a, kind, of)) return a;
    return index_copy(table, table, a, replace_atom, &(Replacement){kind, of, b});
}
