/* contract.c - sums of products: matmul and einsum.
 * In: operands and which of their axes meet.  Out: a tensor over the axes that stay.
 * Invariant: every contraction of two is REDUCE add over a MUL of two views of the operands, with
 * nothing in between, so that the engine can see it.
 *   (m, k) (k, n)  =>  %3 = mul (m, n, k) of two views; %4 = reduce %3 {add, axis 2}               */
#include "tensor/tensor.h"

#include <math.h>
#include <string.h>

// x and y have one rank; sizes of 1 stretch.
static Id contract(Graph *graph, Id x, Id y, uint32_t folded) {
    Shape shape;
    shape_broadcast(node_shape(graph, x), node_shape(graph, y), &shape);
    x = broadcast(graph, x, shape);
    y = broadcast(graph, y, shape);
    Id product = node_binary(graph, OP_MUL, x, y);
    if (!folded) return product;
    return without_axes(graph, node_reduce(graph, OP_ADD, product, folded), folded);
}

static void must_be_alike(const char *verb, Id x, Id y) {
    DType left = node_dtype(scope_now()->graph, x), right = node_dtype(scope_now()->graph, y);
    if (left != right)
        fatal("%s: types %s and %s differ. Hint: pg_cast one of them", verb, dtypes[left].text,
              dtypes[right].text);
}

// ---- matmul ---------------------------------------------------------------------------------

static Id swap_last(Graph *graph, Id x) {
    int rank = node_shape(graph, x).rank, order[RANK_MAX];
    for (int i = 0; i < rank; i++) order[i] = i;
    order[rank - 2] = rank - 1;
    order[rank - 1] = rank - 2;
    return node_permute(graph, x, order);
}

static void must_multiply(Id x, Id y) {
    Graph *graph = scope_now()->graph;
    Shape left = node_shape(graph, x), right = node_shape(graph, y), batch;
    bool fits = left.rank > 0 && right.rank > 0;
    int left_batch = left.rank > 2 ? left.rank - 2 : 0, right_batch = right.rank > 2 ? right.rank - 2 : 0;
    if (fits) {
        fits = left.size[left.rank - 1] == right.size[right.rank > 1 ? right.rank - 2 : 0];
        left.rank = left_batch;
        right.rank = right_batch;
        fits = fits && shape_broadcast(left, right, &batch) && batch.rank + 3 <= RANK_MAX;
    }
    if (!fits)
        fatal("matmul: shapes %s and %s do not fit. Hint: (..., m, k) and (..., k, n)",
              shape_name(graph, x), shape_name(graph, y));
}

// x as (..., m, 1, k), y as (..., 1, n, k).
PgTensor *pg_matmul(PgTensor *x, PgTensor *y) {
    Graph *graph = scope_now()->graph;
    Id left = tensor_in(x), right = tensor_in(y);
    must_be_alike("matmul", left, right);
    must_multiply(left, right);
    int left_rank = node_shape(graph, left).rank, right_rank = node_shape(graph, right).rank;
    left = with_axis(graph, left, left_rank - 1);
    if (right_rank > 1) right = with_axis(graph, swap_last(graph, right), right_rank - 2);
    int rank = (left_rank > right_rank ? left_rank : right_rank) + 1;
    while (node_shape(graph, left).rank < rank) left = with_axis(graph, left, 0);
    while (node_shape(graph, right).rank < rank) right = with_axis(graph, right, 0);
    Id result = contract(graph, left, right, 1u << (rank - 1));
    if (right_rank == 1) result = without_axes(graph, result, 1u << (rank - 2));
    else if (left_rank == 1) result = without_axes(graph, result, 1u << (rank - 3));
    return tensor_out(result);
}

// ---- einsum ---------------------------------------------------------------------------------

enum { OPERANDS_MAX = 8 };

typedef struct {
    Id id;
    int rank;
    char letter[RANK_MAX];  // of each axis; an ellipsis' axes are '1' for the last, then '2' ...
} Operand;

typedef struct {
    const char *equation;
    Graph *graph;
    int operands;
    Operand operand[OPERANDS_MAX];
    Operand out;
    int64_t size[128];  // of each letter, for the order; symbolic sizes at their most
    int seen[128];      // how often the operands have it
    double cost[1 << OPERANDS_MAX];    // multiplications to make the product of a set of operands
    uint32_t split[1 << OPERANDS_MAX];  // one of the two sets that it is best made of
} Einsum;

static bool has(const Operand *operand, char letter) {
    return memchr(operand->letter, letter, (size_t)operand->rank) != NULL;
}

static void add_letter(const Einsum *sum, Operand *operand, char letter) {
    if (operand->rank == RANK_MAX)
        fatal("einsum: \"%s\" needs more than %d axes at once", sum->equation, RANK_MAX);
    operand->letter[operand->rank++] = letter;
}

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Letters up to `end`; an ellipsis stands for `dots` axes, or is fatal if dots is negative.
static Operand parse_letters(const Einsum *sum, const char **at, const char *end, int dots) {
    Operand operand = {0};
    bool dotted = false;
    for (; *at < end && **at != ','; ++*at) {
        if (**at == ' ') continue;
        bool ellipsis = end - *at >= 3 && !strncmp(*at, "...", 3) && !dotted && dots >= 0;
        if (!ellipsis && !is_letter(**at))
            fatal("einsum: \"%s\" has '%c' where a letter should be. Hint: \"ij,jk->ik\"",
                  sum->equation, **at);
        if (!ellipsis) {
            add_letter(sum, &operand, **at);
            continue;
        }
        for (int i = dots; i > 0; i--) add_letter(sum, &operand, (char)('0' + i));
        *at += 2;
        dotted = true;
    }
    return operand;
}

static int count_letters(const char *at, const char *end) {
    int count = 0;
    for (; at < end && *at != ','; at++) count += is_letter(*at);
    return count;
}

static void parse_operand(Einsum *sum, int number, PgTensor *x, const char **at, const char *end) {
    Id id = tensor_in(x);
    Shape shape = node_shape(sum->graph, id);
    must_be_alike("einsum", tensor_in(x), number ? sum->operand[0].id : id);
    Operand operand = parse_letters(sum, at, end, shape.rank - count_letters(*at, end));
    operand.id = id;
    if (operand.rank != shape.rank)
        fatal("einsum: \"%s\" names %d axes of operand %d, which has shape %s", sum->equation,
              operand.rank, number, shape_name(sum->graph, id));
    for (int i = 0; i < operand.rank; i++) {
        int letter = operand.letter[i];
        int64_t size = size_max(graph_indices(sum->graph), shape.size[i]);
        if (sum->size[letter] > 1 && size > 1 && sum->size[letter] != size)
            fatal("einsum: \"%s\": '%c' is %lld in operand %d of shape %s, and %lld before",
                  sum->equation, letter, (long long)size, number, shape_name(sum->graph, id),
                  (long long)sum->size[letter]);
        if (size != 1 || !sum->size[letter]) sum->size[letter] = size;
        sum->seen[letter]++;
    }
    sum->operand[number] = operand;
}

// Without "->", the ellipsis and then the letters that occur once, in order.
static Operand implicit_output(const Einsum *sum) {
    Operand out = {0};
    for (int i = RANK_MAX; i > 0; i--)
        if (sum->seen['0' + i]) add_letter(sum, &out, (char)('0' + i));
    for (int letter = 'A'; letter <= 'z'; letter++)
        if (sum->seen[letter] == 1) add_letter(sum, &out, (char)letter);
    return out;
}

static void parse_output(Einsum *sum, const char *at) {
    int dots = 0;
    while (dots < RANK_MAX && sum->seen['1' + dots]) dots++;
    sum->out = parse_letters(sum, &at, at + strlen(at), dots);
    for (int i = 0; i < sum->out.rank; i++) {
        char letter = sum->out.letter[i];
        bool twice = memchr(sum->out.letter, letter, (size_t)i) != NULL;
        if (twice || !sum->seen[(int)letter])
            fatal("einsum: \"%s\": '%c' of the result %s", sum->equation, letter,
                  twice ? "is there twice" : "is in no operand");
    }
    if (*at) fatal("einsum: \"%s\" has more than one result", sum->equation);
}

static void parse(Einsum *sum, PgTensor **x) {
    const char *at = sum->equation, *arrow = strstr(at, "->");
    const char *end = arrow ? arrow : at + strlen(at);
    for (int i = 0; i < sum->operands; i++) {
        parse_operand(sum, i, x[i], &at, end);
        bool more = i + 1 < sum->operands;
        if (more != (at < end && *at == ','))
            fatal("einsum: \"%s\" does not have %d operands", sum->equation, sum->operands);
        at += more;
    }
    if (arrow) parse_output(sum, arrow + 2);
    else sum->out = implicit_output(sum);
}

// x with axes for `letters`, in that order; of size 1 where it has none.
static Id aligned(Graph *graph, const Operand *x, const Operand *letters) {
    int order[RANK_MAX], count = 0;
    for (int i = 0; i < letters->rank; i++)
        for (int j = 0; j < x->rank; j++)
            if (x->letter[j] == letters->letter[i]) order[count++] = j;
    Id id = node_permute(graph, x->id, order);
    for (int i = 0; i < letters->rank; i++)
        if (!has(x, letters->letter[i])) id = with_axis(graph, id, i);
    return id;
}

// Axes `first` and `second`, both of size n, as one at the end: in the plane of n * n elements a
// step along the diagonal is n + 1 elements long.
static Operand diagonal(Graph *graph, Operand x, int first, int second) {
    int order[RANK_MAX], count = 0;
    Operand result = {.rank = x.rank - 1};
    for (int i = 0; i < x.rank; i++)
        if (i != first && i != second) {
            result.letter[count] = x.letter[i];
            order[count++] = i;
        }
    result.letter[count] = x.letter[first];
    order[count] = first;
    order[count + 1] = second;
    Shape shape = node_shape(graph, x.id);
    int64_t n = shape.size[first];
    if (size_is_symbolic(n) || n != shape.size[second])
        fatal("einsum: '%c' names two axes of shape %s that have no diagonal", x.letter[first],
              shape_name(graph, x.id));
    Id id = node_permute(graph, x.id, order);
    shape = node_shape(graph, id);
    shape.rank--;
    shape.size[count] = n * n;
    Size before[RANK_MAX] = {0}, after[RANK_MAX] = {0};
    after[count] = n;
    id = node_pad(graph, node_reshape(graph, id, shape), before, after);
    shape.rank++;
    shape.size[count] = n;
    shape.size[count + 1] = n + 1;
    id = shrink_axis(graph, node_reshape(graph, id, shape), count + 1, 0, 1);
    result.id = without_axes(graph, id, 1u << (count + 1));
    return result;
}

static Operand without_repeats(Graph *graph, Operand x) {
    for (int i = 0; i < x.rank; i++)
        for (int j = i + 1; j < x.rank; j++)
            if (x.letter[i] == x.letter[j])
                return without_repeats(graph, diagonal(graph, x, i, j));
    return x;
}

// Whether the product of the operands in `set` must still have the letter.
static bool is_kept(const Einsum *sum, uint32_t set, char letter) {
    bool kept = has(&sum->out, letter);
    for (int i = 0; i < sum->operands; i++)
        if (!(set >> i & 1)) kept |= has(&sum->operand[i], letter);
    return kept;
}

static double multiplications(const Einsum *sum, uint32_t left, uint32_t right) {
    double count = 1;
    for (int letter = '1'; letter <= 'z'; letter++) {
        bool there = false;
        for (int i = 0; i < sum->operands; i++)
            there |= ((left >> i & 1 && is_kept(sum, left, (char)letter)) ||
                      (right >> i & 1 && is_kept(sum, right, (char)letter))) &&
                     has(&sum->operand[i], (char)letter);
        if (there) count *= (double)sum->size[letter];
    }
    return count;
}

// The cheapest way to make each set of operands, from the cheapest ways to make its halves.
static void plan(Einsum *sum) {
    for (uint32_t set = 1; set < 1u << sum->operands; set++) {
        bool single = !(set & (set - 1));
        sum->cost[set] = single ? 0 : INFINITY;
        for (uint32_t part = (set - 1) & set; part; part = (part - 1) & set) {
            uint32_t rest = set ^ part;
            double cost = sum->cost[part] + sum->cost[rest] + multiplications(sum, part, rest);
            if (cost >= sum->cost[set]) continue;
            sum->cost[set] = cost;
            sum->split[set] = part;
        }
    }
}

// Letters of both, those that stay first; returns which axes are folded.
static uint32_t meeting_letters(const Einsum *sum, uint32_t set, const Operand *x, const Operand *y,
                                Operand *all) {
    *all = (Operand){0};
    uint32_t folded = 0;
    for (int kept = 1; kept >= 0; kept--)
        for (int i = 0; i < x->rank + y->rank; i++) {
            char letter = i < x->rank ? x->letter[i] : y->letter[i - x->rank];
            if (is_kept(sum, set, letter) != kept || has(all, letter)) continue;
            if (!kept) folded |= 1u << all->rank;
            add_letter(sum, all, letter);
        }
    return folded;
}

static Operand product_of(const Einsum *sum, uint32_t set) {
    Graph *graph = sum->graph;
    bool single = !(set & (set - 1));
    Operand left, right = {0}, all;
    if (single) left = sum->operand[__builtin_ctz(set)];
    else left = product_of(sum, sum->split[set]), right = product_of(sum, set ^ sum->split[set]);
    uint32_t folded = meeting_letters(sum, set, &left, &right, &all);
    if (single && !folded) return left;
    all.id = aligned(graph, &left, &all);
    if (!single) all.id = contract(graph, all.id, aligned(graph, &right, &all), folded);
    else all.id = without_axes(graph, node_reduce(graph, OP_ADD, all.id, folded), folded);
    all.rank -= __builtin_popcount(folded);
    return all;
}

PgTensor *pg_einsum(const char *equation, int count, PgTensor **x) {
    if (count < 1 || count > OPERANDS_MAX)
        fatal("einsum: %d operands. Hint: 1 to %d", count, OPERANDS_MAX);
    Scope *scope = scope_now();
    Einsum *sum = arena_object(scope->arena, Einsum);
    sum->equation = equation;
    sum->graph = scope->graph;
    sum->operands = count;
    parse(sum, x);
    for (int i = 0; i < count; i++)
        sum->operand[i] = without_repeats(scope->graph, sum->operand[i]);
    plan(sum);
    Operand result = product_of(sum, (1u << count) - 1);
    return tensor_out(aligned(scope->graph, &result, &sum->out));
}
