/* greedy.c - rules read from text, and the rewriter that applies the first one that matches.
 * In: a graph, a table of rules.  Out: a graph in which no rule matches any more.
 * Invariant: a node is rewritten after its sources, and what replaces it is rewritten in turn, so
 * every node that `settled` names is final.
 *   (add (mul ?x 1) $c) with the rule (mul ?x 1) => ?x becomes (add ?x $c)                       */
#include "rewrite/rewrite.h"

#include <math.h>
#include <string.h>

enum { PATTERNS_MAX = 12, DEPTH_MAX = 1000 };
enum { UNSETTLED = -1, IN_PROGRESS = -2 };
#define ANY_OP OP_COUNT  // in a pattern: `*`

typedef enum { PATTERN_ANY, PATTERN_CONST, PATTERN_NUMBER, PATTERN_NODE, PATTERN_MADE } PatternKind;

typedef struct {
    PatternKind kind;
    int slot;       // ANY, CONST
    double number;  // NUMBER
    Op op;          // NODE
    int sources;
    int source[3];  // patterns of the same rule
    int order;      // of the rule's commuting nodes, which one this is; -1 if it is none
} Pattern;

typedef struct {
    const Rule *rule;
    Pattern pattern[PATTERNS_MAX];
    int patterns, left, right;
    int commuting;  // nodes of the left side with two orders
} ParsedRule;

struct RuleTable {
    Arena *arena;
    LIST(const ParsedRule *) of[OP_COUNT];  // by the op of the left side's root, in table order
};

// ---- parsing -----------------------------------------------------------------------------------

typedef struct {
    Reader reader;
    Arena *arena;
    ParsedRule *parsed;
    const char *name[RULE_SLOTS];
    int names;
} Parsing;

static int pattern_new(Parsing *parsing, Pattern pattern) {
    if (parsing->parsed->patterns == PATTERNS_MAX)
        reader_fatal(&parsing->reader, "a rule has at most %d parts", PATTERNS_MAX);
    parsing->parsed->pattern[parsing->parsed->patterns] = pattern;
    return parsing->parsed->patterns++;
}

static int parse_slot(Parsing *parsing) {
    const char *name = reader_name(&parsing->reader, parsing->arena);
    if (!name) reader_fatal(&parsing->reader, "expected a variable's name");
    for (int i = 0; i < parsing->names; i++)
        if (strcmp(parsing->name[i], name) == 0) return i;
    if (parsing->names == RULE_SLOTS)
        reader_fatal(&parsing->reader, "a rule has at most %d variables", RULE_SLOTS);
    parsing->name[parsing->names] = name;
    return parsing->names++;
}

static Op parse_op(Parsing *parsing) {
    if (reader_take(&parsing->reader, "*")) return ANY_OP;
    Op op;
    const char *name = reader_name(&parsing->reader, parsing->arena);
    if (!name || !op_find(name, &op)) reader_fatal(&parsing->reader, "this is no op");
    return op;
}

static int parse_pattern(Parsing *parsing);

static int parse_node(Parsing *parsing) {
    Pattern node = {.kind = PATTERN_NODE, .op = parse_op(parsing), .order = -1};
    if (node.op != ANY_OP && ops[node.op].properties & COMMUTES)
        node.order = parsing->parsed->commuting++;
    while (!reader_take(&parsing->reader, ")")) {
        if (node.sources == 3) reader_fatal(&parsing->reader, "expected ')'");
        node.source[node.sources++] = parse_pattern(parsing);
    }
    if (node.op != ANY_OP && node.sources != ops[node.op].arity)
        reader_fatal(&parsing->reader, "%s takes %d sources", ops[node.op].text,
                     ops[node.op].arity);
    return pattern_new(parsing, node);
}

static int parse_pattern(Parsing *parsing) {
    Reader *reader = &parsing->reader;
    Pattern pattern = {.kind = PATTERN_NUMBER, .order = -1};
    if (reader_take(reader, "(")) return parse_node(parsing);
    if (reader_take(reader, "?")) {
        pattern.kind = PATTERN_ANY;
        pattern.slot = parse_slot(parsing);
    } else if (reader_take(reader, "$")) {
        pattern.kind = PATTERN_CONST;
        pattern.slot = parse_slot(parsing);
    } else if (reader_take(reader, "!")) {
        pattern.kind = PATTERN_MADE;
    } else if (!reader_number(reader, &pattern.number)) {
        reader_fatal(reader, "expected (op ...), ?x, $c or a number");
    }
    return pattern_new(parsing, pattern);
}

RuleTable *rule_table_new(Arena *arena) {
    RuleTable *table = arena_object(arena, RuleTable);
    table->arena = arena;
    return table;
}

static bool folds_exactly(Op op) {
    return ops[op].properties & MAPS && op != OP_EXP2 && op != OP_LOG2 && op != OP_SIN;
}

void rule_table_add(RuleTable *table, const Rule *rule) {
    ParsedRule *parsed = arena_object(table->arena, ParsedRule);
    Parsing parsing = {reader_new("rule", rule->text), table->arena, parsed, {0}, 0};
    parsed->rule = rule;
    parsed->left = parse_pattern(&parsing);
    int commuting = parsed->commuting;
    reader_expect(&parsing.reader, "=>");
    parsed->right = parse_pattern(&parsing);
    parsed->commuting = commuting;
    const Pattern *left = &parsed->pattern[parsed->left];
    if (left->kind != PATTERN_NODE ||
        (parsed->pattern[parsed->right].kind == PATTERN_MADE) != (rule->make != NULL))
        reader_fatal(&parsing.reader, "a rule is (op ...) => ..., with make() if that is `!`");
    for (int op = 0; op < OP_COUNT; op++)
        if (left->op == (Op)op || (left->op == ANY_OP && folds_exactly((Op)op)))
            *list_add(table->arena, &table->of[op]) = parsed;
}

// ---- matching ----------------------------------------------------------------------------------

static bool has_value(const Graph *graph, Id id, double number) {
    const Node *node = graph_node(graph, id);
    if (node->op != OP_CONST) return false;
    double value = node_const_value(graph, id, NULL);
    return value == number && (!dtype_is_float(node->dtype) || !signbit(value) == !signbit(number));
}

static bool bind(Match *match, int slot, Id id) {
    if (match->at[slot] >= 0) return match->at[slot] == id;
    match->at[slot] = id;
    return true;
}

// Bit i of `swapped` turns the sources of the i-th commuting node round.
static bool matches(const ParsedRule *parsed, int index, Id id, unsigned swapped, Match *match) {
    const Pattern *pattern = &parsed->pattern[index];
    const Node *node = graph_node(match->graph, id);
    switch (pattern->kind) {
    case PATTERN_ANY: return bind(match, pattern->slot, id);
    case PATTERN_CONST: return node->op == OP_CONST && bind(match, pattern->slot, id);
    case PATTERN_NUMBER: return has_value(match->graph, id, pattern->number);
    case PATTERN_MADE: return false;
    case PATTERN_NODE: break;
    }
    if (pattern->op != ANY_OP && pattern->op != (Op)node->op) return false;
    if (pattern->sources != node->sources) return false;
    bool swap = pattern->order >= 0 && swapped >> pattern->order & 1;
    for (int i = 0; i < node->sources; i++)
        if (!matches(parsed, pattern->source[i], node->source[swap ? 1 - i : i], swapped, match))
            return false;
    return true;
}

static bool match_rule(const ParsedRule *parsed, Match *match) {
    for (unsigned swapped = 0; swapped < 1u << parsed->commuting; swapped++) {
        for (int i = 0; i < RULE_SLOTS; i++) match->at[i] = -1;
        if (matches(parsed, parsed->left, match->root, swapped, match) &&
            (!parsed->rule->when || parsed->rule->when(match)))
            return true;
    }
    return false;
}

// ---- building ----------------------------------------------------------------------------------

static Id number_node(const Match *match, double number) {
    DType dtype = node_dtype(match->graph, match->root);
    Shape shape = node_shape(match->graph, match->root);
    if (dtype_is_float(dtype)) return node_const_float(match->graph, dtype, shape, number);
    return node_const_int(match->graph, dtype, shape, (int64_t)number);
}

static Id build(const ParsedRule *parsed, int index, const Match *match) {
    const Pattern *pattern = &parsed->pattern[index];
    Id source[3];
    if (pattern->kind == PATTERN_NUMBER) return number_node(match, pattern->number);
    if (pattern->kind == PATTERN_MADE) return parsed->rule->make(match);
    if (pattern->kind != PATTERN_NODE) return match->at[pattern->slot];
    for (int i = 0; i < pattern->sources; i++) source[i] = build(parsed, pattern->source[i], match);
    if (pattern->sources == 1) return node_unary(match->graph, pattern->op, source[0]);
    if (pattern->sources == 2) return node_binary(match->graph, pattern->op, source[0], source[1]);
    if (pattern->op == OP_FMA) return node_fma(match->graph, source[0], source[1], source[2]);
    return node_where(match->graph, source[0], source[1], source[2]);
}

// What the first rule that matches makes of a node; the node itself if none does.
static Id apply(const RuleTable *table, Graph *graph, Id id) {
    Op op = (Op)graph_node(graph, id)->op;
    for (int i = 0; i < table->of[op].count; i++) {
        const ParsedRule *parsed = table->of[op].at[i];
        Match match = {.graph = graph, .root = id};
        if (!match_rule(parsed, &match)) continue;
        Id made = build(parsed, parsed->right, &match);
        if (made < 0 || made == id) continue;
        if (node_dtype(graph, made) != node_dtype(graph, id) ||
            !shape_equal(node_shape(graph, made), node_shape(graph, id)))
            fatal("the rule %s changes the dtype or the shape", parsed->rule->text);
        return made;
    }
    return id;
}

// ---- rewriting ---------------------------------------------------------------------------------

typedef struct {
    Arena *arena;
    const RuleTable *table;
    Graph *graph;
    LIST(Id) settled;  // by id: what a node finally is; UNSETTLED; IN_PROGRESS
    int depth;
} Rewriter;

static void settled_grow(Rewriter *rewriter) {
    while (rewriter->settled.count < graph_count(rewriter->graph))
        *list_add(rewriter->arena, &rewriter->settled) = UNSETTLED;
}

static Id settle(Rewriter *rewriter, Id id) {
    settled_grow(rewriter);
    if (rewriter->settled.at[id] >= 0) return rewriter->settled.at[id];
    const Node *node = graph_node(rewriter->graph, id);
    if (rewriter->settled.at[id] == IN_PROGRESS || ++rewriter->depth > DEPTH_MAX)
        fatal("rewrite: the rules for %s go round in a circle", ops[node->op].text);
    rewriter->settled.at[id] = IN_PROGRESS;
    bool changed = false;
    for (int i = 0; i < node->sources; i++)
        changed |= settle(rewriter, node->source[i]) != node->source[i];
    Id next = changed ? node_rebuild(rewriter->graph, rewriter->graph, id, rewriter->settled.at)
                      : apply(rewriter->table, rewriter->graph, id);
    Id final = next == id ? id : settle(rewriter, next);
    rewriter->settled.at[id] = final;
    rewriter->depth--;
    return final;
}

void rewrite_copy_vars(Graph *to, const Graph *from) {
    for (int32_t i = 0; i < graph_vars(from); i++) {
        const Var *var = graph_var_info(from, i);
        graph_var(to, var->name, var->low, var->high);
    }
}

// What the outputs need of a graph, and nothing of what rules left behind.
static Graph *copy_reached(Arena *arena, Graph *graph, int outputs, Id *output) {
    IdList nodes = graph_nodes(arena, graph, outputs, output, -1);
    if (nodes.count == graph_count(graph)) return graph;
    Graph *to = graph_new(arena);
    rewrite_copy_vars(to, graph);
    Id *map = arena_array(arena, Id, graph_count(graph));
    for (int32_t i = 0; i < nodes.count; i++)
        map[nodes.at[i]] = node_rebuild(to, graph, nodes.at[i], map);
    for (int i = 0; i < outputs; i++) output[i] = map[output[i]];
    return to;
}

Graph *rewrite(Arena *arena, const Graph *graph, const RuleTable *table, int outputs,
               const Id *output, Id *new_output) {
    Rewriter rewriter = {.arena = arena, .table = table, .graph = graph_new(arena)};
    rewrite_copy_vars(rewriter.graph, graph);
    IdList nodes = graph_nodes(arena, graph, outputs, output, -1);
    Id *map = arena_array(arena, Id, graph_count(graph));
    for (int32_t i = 0; i < nodes.count; i++) {
        Id copy = node_rebuild(rewriter.graph, graph, nodes.at[i], map);
        map[nodes.at[i]] = settle(&rewriter, copy);
    }
    for (int i = 0; i < outputs; i++) new_output[i] = map[output[i]];
    return copy_reached(arena, rewriter.graph, outputs, new_output);
}
