/* rewrite.h - graph in, graph out: rules and the greedy rewriter, the polynomials of the
 * transcendental ops, convolutions with fewer products, gradients. */
#ifndef PICOGRAD_REWRITE_H
#define PICOGRAD_REWRITE_H
#include "ir/ir.h"

// ---- greedy.c: rules as text, and the rewriter that applies them -------------------------------
// How far the two sides of a rule may differ. A NaN counts as a NaN, whatever its bits.
typedef enum {
    RULE_EXACT,         // not at all, but for max, which may give either zero of two
    RULE_REASSOCIATES,  // in rounding and in the sign of a zero
    RULE_FINITE,        // and also where an infinity or a NaN comes up on the way
} RuleClass;
enum { RULE_SLOTS = 4 };
typedef struct {
    Graph *graph;
    Id root;            // what the left side matched
    Id at[RULE_SLOTS];  // the rule's variables, in the order of their first appearance
} Match;
// LEFT => RIGHT. ?x is any node, $c a CONST, a number a CONST of that value (0 and -0 differ).
// (op a b) is a node; where the op commutes both orders match. `*` is any elementwise op that folds
// exactly, so not EXP2, LOG2 and SIN. On the right a number has the root's dtype and shape, and `!`
// stands for what make() gives.
typedef struct {
    const char *text;
    RuleClass class;
    bool (*when)(const Match *match);  // NULL: always
    Id (*make)(const Match *match);    // for `!`; -1: the rule does not hold here
} Rule;
typedef struct RuleTable RuleTable;  // rules, parsed; read-only, so any thread may use it
RuleTable *rule_table_new(Arena *arena);
void rule_table_add(RuleTable *table, const Rule *rule);
// Bottom-up into a new graph: each node and what it becomes is rewritten until no rule matches.
// The outputs' new ids go to new_output; the new graph has the same VARs under the same numbers.
Graph *rewrite(Arena *arena, const Graph *graph, const RuleTable *table, int outputs,
               const Id *output, Id *new_output);
void rewrite_copy_vars(Graph *to, const Graph *from);

// ---- rules.c, expand.c: the rules --------------------------------------------------------------
typedef enum {
    RULES_CLEAN,    // what only gradients needed: DETACH, WITHGRAD
    RULES_ALGEBRA,  // exact and reassociating ones
    RULES_FINITE,   // those too that hold only without infinities and NaNs
    RULES_EXPAND,   // EXP2, LOG2 and SIN into polynomials over the other ops
    RULES_SETS
} RuleSet;
const RuleTable *rules(RuleSet set);             // parsed once for the process
int rules_list(RuleSet set, const Rule **list);  // the rules that only this set has; their number
extern const Rule rules_expand[];                // expand.c
extern const int rules_expand_count;

// kernel.c: the same expansion inside a kernel, in place.
void expand_kernel(Kernel *kernel);

// ---- winograd.c: convolutions of 3 x 3 as products of transformed tiles ------------------------
enum { WINOGRAD_MATRICES = 3 };
// Writes a matrix of constants; the number of its elements. out NULL: only that.
int64_t winograd_matrix(int number, float *out);
// A new graph, with the same VARs; the outputs' new ids replace the old. NULL: there is nothing to
// rewrite. buffer: the memory of the matrices, which the graph reads. always: also where it does
// not pay.
Graph *winograd(Arena *arena, const Graph *graph, int outputs, Id *output, const int64_t *buffer,
                bool always);

// ---- gradient.c: reverse mode ------------------------------------------------------------------
// out[i] becomes the derivative of sum(loss * seed) by wrt[i], of wrt[i]'s shape; seed -1 is all
// ones. Appends to the graph. What the loss does not depend on gets zeros. Its results are nodes
// like any, so gradients of gradients work.
void gradient(Graph *graph, Id loss, Id seed, int count, const Id *wrt, Id *out);
#endif
