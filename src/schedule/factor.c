/* factor.c - what does not change inside a sum moves out of it.
 * In: a kernel in unscheduled form.  Out: the same sums with fewer products in the innermost loops.
 * Invariant: equal up to rounding; only sums of products change, and only where a factor is
 * constant along some loops.
 *   (reduce add g<2 b<32 (mul (add (mul scale[g] code[32*g + b]) offset[g]) x[32*g + b]))
 *   =>  (reduce add g<2 (add (mul scale[g] (reduce add b<32 (mul code[32*g + b] x[32*g + b])))
 *                            (mul offset[g] (reduce add b<32 x[32*g + b]))))
 * This is the one rule by which every block format (value = scale * code + offset) is summed in
 * integers' small range. */
#include "schedule/schedule.h"

enum { FACTORS_MAX = 16 };
typedef struct {
    int factors;
    Id factor[FACTORS_MAX];
} Product;

static bool add_factors(const Kernel *kernel, Id id, Product *product) {
    const Node *node = graph_node(kernel->graph, id);
    if (node->op == OP_MUL && dtype_is_float((DType)node->dtype))
        return add_factors(kernel, node->source[0], product) &&
               add_factors(kernel, node->source[1], product);
    if (product->factors == FACTORS_MAX) return false;
    product->factor[product->factors++] = id;
    return true;
}

// The value as a sum of products: at most one factor that is itself a sum is multiplied out.
static int terms_of(const Kernel *kernel, Id value, Product term[2]) {
    Product whole = {0};
    if (!add_factors(kernel, value, &whole)) return 0;
    term[0] = whole;
    for (int i = 0; i < whole.factors; i++) {
        const Node *sum = graph_node(kernel->graph, whole.factor[i]);
        if (sum->op != OP_ADD) continue;
        for (int t = 0; t < 2; t++) {
            term[t] = (Product){0};
            for (int j = 0; j < whole.factors; j++)
                if (j != i) term[t].factor[term[t].factors++] = whole.factor[j];
            if (!add_factors(kernel, sum->source[t], &term[t])) return 0;
        }
        return 2;
    }
    return 1;
}

static bool depends(const Kernel *kernel, Id id, int32_t loop) {
    LoopSet set = kernel_loops_of(kernel, id);
    return loop_set_has(&set, loop);
}

// The fold's loops along which a factor is constant that changes along others: cheapest inside.
static int inner_loops(const Kernel *kernel, const Node *fold, const Product *term, int terms,
                       int32_t *inner) {
    int best = 0;
    for (int t = 0; t < terms; t++)
        for (int i = 0; i < term[t].factors; i++) {
            int32_t without[LOOPS_MAX];
            int count = 0;
            for (int64_t loop = 0; loop < fold->arg[1]; loop++)
                if (!depends(kernel, term[t].factor[i], (int32_t)fold->arg[2 + loop]))
                    without[count++] = (int32_t)fold->arg[2 + loop];
            if (count <= best || count == fold->arg[1]) continue;
            best = count;
            for (int j = 0; j < count; j++) inner[j] = without[j];
        }
    return best;
}

static Id multiply(Kernel *kernel, Id product, Id factor) {
    return product < 0 ? factor : node_binary(kernel->graph, OP_MUL, product, factor);
}

static Id factored(Kernel *kernel, Id id);

// constant factors * (sum over the inner loops of the others)
static Id factored_term(Kernel *kernel, const Product *term, int inner, const int32_t *loop) {
    Id outside = -1, inside = -1;
    for (int i = 0; i < term->factors; i++) {
        bool changes = false;
        for (int j = 0; j < inner; j++) changes |= depends(kernel, term->factor[i], loop[j]);
        if (changes)
            inside = multiply(kernel, inside, term->factor[i]);
        else
            outside = multiply(kernel, outside, term->factor[i]);
    }
    if (inside < 0) inside = node_const_float(kernel->graph, DT_F32, (Shape){0}, 1);
    Id sum = kernel_reduce(kernel, OP_ADD, inside, inner, loop);
    return multiply(kernel, outside, factored(kernel, sum));
}

static Id factored(Kernel *kernel, Id id) {
    const Node fold = *graph_node(kernel->graph, id);
    Product term[2];
    int32_t inner[LOOPS_MAX], outer[LOOPS_MAX];
    if (fold.op != OP_REDUCE || fold.arg[0] != OP_ADD || fold.dtype != DT_F32) return id;
    int terms = terms_of(kernel, fold.source[0], term), outers = 0;
    int inners = terms ? inner_loops(kernel, &fold, term, terms, inner) : 0;
    if (!inners) return id;
    for (int64_t i = 0; i < fold.arg[1]; i++) {
        bool is_inner = false;
        for (int j = 0; j < inners; j++) is_inner |= inner[j] == fold.arg[2 + i];
        if (!is_inner) outer[outers++] = (int32_t)fold.arg[2 + i];
    }
    Id sum = factored_term(kernel, &term[0], inners, inner);
    if (terms > 1)
        sum =
            node_binary(kernel->graph, OP_ADD, sum, factored_term(kernel, &term[1], inners, inner));
    return kernel_reduce(kernel, OP_ADD, sum, outers, outer);
}

void factor(Kernel *kernel) {
    Statement *statement = kernel->body;
    while (statement && statement->kind == STATEMENT_LOOP && !statement->next)
        statement = statement->body;
    for (const Statement *at = statement; at; at = at->next)
        if (at->kind != STATEMENT_STORE) return;
    if (!statement) return;
    Arena *scratch = arena_new();
    Substitution *by = substitution_new(scratch, kernel);
    for (Id id = 0, nodes = by->nodes; id < nodes; id++) {
        Id now = factored(kernel, id);
        if (now != id) by->node[id] = now;
    }
    statement_substitute(kernel, statement, by);
    arena_free(scratch);
}
