/* contract.c - sums of products: matmul and einsum.
 * In: operands and which of their axes meet.  Out: a tensor over the axes that stay.
 * Invariant: every contraction of two is REDUCE add over a MUL of two views of the operands, with
 * nothing in between, so that the engine can see it.
 *   (m, k) (k, n)  =>  %3 = mul (m, n, k) of two views; %4 = reduce %3 {add, axis 2}             */
#include "tensor/tensor.h"

#include <math.h>
#include <string.h>

// The sum over the folded axes of x * y, both stretched to their common shape.
static Id contract(Id x, Id y, uint32_t folded) {
    Shape shape;
    shape_broadcast(shape_at(x), shape_at(y), &shape);
    Id product = node_binary(graph_now(), OP_MUL, broadcast(x, shape), broadcast(y, shape));
    if (!folded) return product;
    return without_axes(node_reduce(graph_now(), OP_ADD, product, folded), folded);
}

void must_be_alike(const char *verb, PgTensor *x, PgTensor *y) {
    DType left = dtype_at(tensor_in(x)), right = dtype_at(tensor_in(y));
    if (left != right)
        fatal("%s: types %s and %s differ. Hint: pg_cast one of them", verb, dtypes[left].text,
              dtypes[right].text);
}

// ---- matmul ------------------------------------------------------------------------------------

static bool can_multiply(Shape x, Shape y) {
    Shape batch;
    if (!x.rank || !y.rank || x.size[x.rank - 1] != y.size[y.rank > 1 ? y.rank - 2 : 0])
        return false;
    x.rank = x.rank > 2 ? x.rank - 2 : 0;
    y.rank = y.rank > 2 ? y.rank - 2 : 0;
    return shape_broadcast(x, y, &batch);
}

// x as (..., m, 1, k), y as (..., 1, n, k).
PgTensor *pg_matmul(PgTensor *x, PgTensor *y) {
    Id left = tensor_in(x), right = tensor_in(y);
    int left_rank = shape_at(left).rank, right_rank = shape_at(right).rank;
    must_be_alike("matmul", x, y);
    if (!can_multiply(shape_at(left), shape_at(right)))
        fatal("matmul: shapes %s and %s do not fit. Hint: (..., m, k) and (..., k, n)",
              shape_name(left), shape_name(right));
    if (right_rank > 1) right = tensor_in(pg_unsqueeze(pg_transpose(y, -1, -2), -3));
    left = with_axis(left, left_rank - 1);
    int last = max_i64(shape_at(left).rank, shape_at(right).rank) - 1;
    Id result = contract(left, right, 1u << last);  // (..., m, n)
    if (right_rank == 1)
        result = without_axes(result, 1u << (last - 1));
    else if (left_rank == 1)
        result = without_axes(result, 1u << (last - 2));
    return tensor_out(result);
}

// ---- einsum ------------------------------------------------------------------------------------

// Letters are numbers: an ellipsis' axes end at 7, then come A to Z and a to z. The axes of an
// operand lie in the order of its letters, so that a set of letters says it all.
enum { OPERANDS_MAX = 8, DOTS_END = 8, LETTERS = DOTS_END + 52 };

typedef struct {
    Id id;
    uint64_t letters;
} Operand;

typedef struct {
    int count, letter[RANK_MAX];
} Subscript;

typedef struct {
    const char *equation;
    int operands;
    Operand operand[OPERANDS_MAX];
    uint64_t out;
    int64_t size[LETTERS];              // for the order; symbolic sizes at their most
    double cost[1 << OPERANDS_MAX];     // multiplications to make the product of a set of operands
    uint32_t split[1 << OPERANDS_MAX];  // one of the two sets that it is best made of
} Einsum;

static int letter_of(char c) {
    if (c >= 'A' && c <= 'Z') return DOTS_END + c - 'A';
    return c >= 'a' && c <= 'z' ? DOTS_END + 26 + c - 'a' : -1;
}

static void add_letter(const Einsum *sum, Subscript *subscript, int letter) {
    if (subscript->count == RANK_MAX)
        fatal("einsum: \"%s\" has over %d axes in one place. Hint: split it", sum->equation,
              RANK_MAX);
    subscript->letter[subscript->count++] = letter;
}

// Up to a comma or `end`. An ellipsis stands for what `rank` has beside the letters.
static Subscript parse_subscript(const Einsum *sum, const char **at, const char *end, int rank) {
    Subscript subscript = {0};
    int dots = rank;
    for (const char *c = *at; c < end && *c != ','; c++) dots -= letter_of(*c) >= 0;
    for (; *at < end && **at != ','; ++*at) {
        if (**at == ' ') continue;
        bool ellipsis = end - *at >= 3 && !strncmp(*at, "...", 3) && dots >= 0;
        if (!ellipsis && letter_of(**at) < 0)
            fatal("einsum: \"%s\" has '%c' where a letter should be. Hint: \"ij,jk->ik\"",
                  sum->equation, **at);
        if (!ellipsis) {
            add_letter(sum, &subscript, letter_of(**at));
            continue;
        }
        for (; dots > 0; dots--) add_letter(sum, &subscript, DOTS_END - dots);
        dots = -1;
        *at += 2;
    }
    return subscript;
}

// Of two axes with one letter, the places where they are equal are left, as one axis.
static Id diagonal(const Einsum *sum, Id x, int to, int from) {
    Graph *graph = graph_now();
    Shape shape = shape_at(x);
    if (shape.size[to] != shape.size[from])
        fatal("einsum: \"%s\" names two axes of shape %s that have no diagonal", sum->equation,
              shape_name(x));
    Id row = node_iota(graph, DT_I64, shape, to), column = node_iota(graph, DT_I64, shape, from);
    Id beside = node_binary(graph, OP_CMPNE, row, column);
    Id only = node_where(graph, beside, constant(dtype_at(x), shape, 0), x);
    return without_axes(node_reduce(graph, OP_ADD, only, 1u << from), 1u << from);
}

static Operand operand_of(const Einsum *sum, Id x, Subscript subscript) {
    Operand operand = {.id = x};
    for (int i = 0; i < subscript.count; i++)
        for (int j = subscript.count - 1; j > i; j--) {
            if (subscript.letter[j] != subscript.letter[i]) continue;
            operand.id = diagonal(sum, operand.id, i, j);
            memmove(&subscript.letter[j], &subscript.letter[j + 1],
                    (size_t)(--subscript.count - j) * sizeof *subscript.letter);
        }
    int order[RANK_MAX], count = 0;
    for (int letter = 0; letter < LETTERS; letter++)
        for (int i = 0; i < subscript.count; i++)
            if (subscript.letter[i] == letter) {
                order[count++] = i;
                operand.letters |= (uint64_t)1 << letter;
            }
    operand.id = node_permute(graph_now(), operand.id, order);
    return operand;
}

static void parse_operand(Einsum *sum, int number, PgTensor *x, const char **at, const char *end) {
    Id id = tensor_in(x);
    Shape shape = shape_at(id);
    Subscript subscript = parse_subscript(sum, at, end, shape.rank);
    if (subscript.count != shape.rank)
        fatal("einsum: \"%s\" names %d axes of operand %d, which has shape %s. Hint: all, or ...",
              sum->equation, subscript.count, number, shape_name(id));
    for (int i = 0; i < subscript.count; i++) {
        int64_t size = size_max(graph_indices(graph_now()), shape.size[i]);
        int64_t *known = &sum->size[subscript.letter[i]];
        if (*known > 1 && size > 1 && *known != size)
            fatal("einsum: \"%s\": axis %d of operand %d of shape %s was %lld before",
                  sum->equation, i, number, shape_name(id), (long long)*known);
        if (size != 1 || !*known) *known = size;
    }
    sum->operand[number] = operand_of(sum, id, subscript);
}

// Without "->", the ellipsis and then the letters that are there once, in order.
static Subscript implicit_output(const Einsum *sum, const char *end) {
    Subscript out = {0};
    int seen[LETTERS] = {0};
    for (const char *c = sum->equation; c < end; c++)
        if (letter_of(*c) >= 0) seen[letter_of(*c)]++;
    for (int letter = 0; letter < LETTERS; letter++)
        if (letter < DOTS_END ? sum->size[letter] : seen[letter] == 1)
            add_letter(sum, &out, letter);
    return out;
}

static Subscript explicit_output(const Einsum *sum, const char *at) {
    int rank = 0;
    for (const char *c = at; *c; c++) rank += letter_of(*c) >= 0;
    for (int letter = 0; letter < DOTS_END; letter++) rank += sum->size[letter] != 0;
    Subscript out = parse_subscript(sum, &at, at + strlen(at), rank);
    uint64_t there = 0, named = 0;
    for (int i = 0; i < sum->operands; i++) there |= sum->operand[i].letters;
    for (int i = 0; i < out.count; i++) {
        uint64_t bit = (uint64_t)1 << out.letter[i];
        if (named & bit || !(there & bit))
            fatal("einsum: \"%s\": axis %d of the result %s. Hint: each letter once", sum->equation,
                  i, named & bit ? "is named twice" : "is in no operand");
        named |= bit;
    }
    if (*at) fatal("einsum: \"%s\" has more than one result. Hint: drop the ','", sum->equation);
    return out;
}

static Subscript parse(Einsum *sum, PgTensor **x) {
    const char *at = sum->equation, *arrow = strstr(at, "->");
    const char *end = arrow ? arrow : at + strlen(at);
    for (int i = 0; i < sum->operands; i++) {
        must_be_alike("einsum", x[i], x[0]);
        parse_operand(sum, i, x[i], &at, end);
        bool more = i + 1 < sum->operands;
        if (more != (at < end && *at == ','))
            fatal("einsum: \"%s\" does not have %d operands", sum->equation, sum->operands);
        at += more;
    }
    return arrow ? explicit_output(sum, arrow + 2) : implicit_output(sum, end);
}

// The letters that the product of the operands in `set` must have.
static uint64_t letters_left(const Einsum *sum, uint32_t set) {
    uint64_t inside = 0, needed = sum->out;
    for (int i = 0; i < sum->operands; i++)
        *(set >> i & 1 ? &inside : &needed) |= sum->operand[i].letters;
    return inside & needed;
}

// The cheapest way to make each set of operands, from the cheapest ways to make its halves.
static void plan(Einsum *sum) {
    for (uint32_t set = 1; set < 1u << sum->operands; set++) {
        sum->cost[set] = set & (set - 1) ? INFINITY : 0;
        for (uint32_t part = (set - 1) & set; part; part = (part - 1) & set) {
            uint64_t letters = letters_left(sum, part) | letters_left(sum, set ^ part);
            double cost = 1;
            for (; letters; letters &= letters - 1)
                cost *= (double)sum->size[__builtin_ctzll(letters)];
            cost += sum->cost[part] + sum->cost[set ^ part];
            if (cost >= sum->cost[set]) continue;
            sum->cost[set] = cost;
            sum->split[set] = part;
        }
    }
}

// x with axes for all of the letters; of size 1 where it has none.
static Id stretched(Operand x, uint64_t letters) {
    for (int axis = 0; letters; letters &= letters - 1, axis++)
        if (!(x.letters & letters & -letters)) x.id = with_axis(x.id, axis);
    return x.id;
}

static Operand product_of(const Einsum *sum, uint32_t set) {
    uint64_t kept = letters_left(sum, set);
    bool single = !(set & (set - 1));
    Operand left = single ? sum->operand[__builtin_ctz(set)] : product_of(sum, sum->split[set]);
    Operand right = single ? left : product_of(sum, set ^ sum->split[set]);
    uint64_t all = left.letters | right.letters;
    uint32_t folded = 0, axis = 1;
    for (uint64_t rest = all; rest; rest &= rest - 1, axis <<= 1)
        if (!(kept & rest & -rest)) folded |= axis;
    if (!single)
        return (Operand){contract(stretched(left, all), stretched(right, all), folded), kept};
    if (folded) left.id = without_axes(node_reduce(graph_now(), OP_ADD, left.id, folded), folded);
    return (Operand){left.id, kept};
}

PgTensor *pg_einsum(const char *equation, int count, PgTensor **x) {
    if (count < 1 || count > OPERANDS_MAX)
        fatal("einsum: %d operands. Hint: 1 to %d", count, OPERANDS_MAX);
    Einsum *sum = arena_object(scope_now()->arena, Einsum);
    sum->equation = equation;
    sum->operands = count;
    Subscript out = parse(sum, x);
    for (int i = 0; i < out.count; i++) sum->out |= (uint64_t)1 << out.letter[i];
    plan(sum);
    Operand result = product_of(sum, (1u << count) - 1);
    int order[RANK_MAX];
    for (int i = 0; i < out.count; i++)
        order[i] = __builtin_popcountll(sum->out & (((uint64_t)1 << out.letter[i]) - 1));
    return tensor_out(node_permute(graph_now(), result.id, order));
}
