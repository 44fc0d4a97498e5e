/* lower_products.c - lowering, the part for products of four warps, which begin where they stand
 * and are done later.
 * In: tile loops of TILE_WARPGROUP among other statements.  Out: MMAs in groups, and waits.
 * Invariants: nothing touches the registers of a product between its BEGIN and the WAIT; threads
 * meet behind the WAIT, so that memory that it reads is not written before; before they meet, what
 * they have stored is shown to products.
 *   b[t] = tf32 x ; for k < 4 { s += a[k] b[k] } ; c[t] = s[0]   =>
 *       store b ; show ; barrier ; hold s, a ; begin ; 4 mma ; commit ; wait ; hold s ; store c
 * Source: the PTX ISA's "Asynchronous Warpgroup Level Matrix Instructions": wgmma.fence,
 * wgmma.commit_group, wgmma.wait_group, and "Async Proxy".                                       */
#include "codegen/lower.h"

static bool is_product(const Kernel *kernel, const Statement *loop, TileUse *tile) {
    return kernel->loops.at[loop->loop].kind == LOOP_TILE && !kernel_tile(kernel, loop, tile) &&
           tile->kind == TILE_WARPGROUP;
}

static bool find_roles(const Kernel *kernel, const Statement *list, ProductRole *role) {
    bool any = false;
    for (; list; list = list->next) {
        TileUse tile;
        if (list->kind != STATEMENT_LOOP) continue;
        if (!is_product(kernel, list, &tile)) {
            any |= find_roles(kernel, list->body, role);
            continue;
        }
        any = true;
        role[tile.buffer[0]] = PRODUCT_SUM;
        role[tile.buffer[1]] = PRODUCT_FACTOR;
    }
    return any;
}

const ProductRole *lower_product_roles(Arena *arena, const Kernel *kernel) {
    ProductRole *role = arena_array(arena, ProductRole, kernel->buffers.count);
    return find_roles(kernel, kernel->body, role) ? role : NULL;
}

void lower_product(Lower *lower, const TileUse *tile) {
    Step step = {.kind = STEP_MMA,
                 .condition = -1,
                 .source = {-1, -1, -1},
                 .index = -1,
                 .limit = -1,
                 .columns = tile->columns,
                 .apart = {tile->apart[0], tile->apart[1]}};
    for (int i = 0; i < 3; i++) {
        step.tile[i] = lower->place[tile->buffer[i]];
        step.at[i] = mapped_element(lower, tile->buffer[i], tile->first[i]);
    }
    step_add(lower, step);
}

static void add_step(Lower *lower, StepKind kind, int32_t buffer) {
    step_add(lower, (Step){.kind = kind,
                           .tile = {buffer, -1, -1},
                           .condition = -1,
                           .source = {-1, -1, -1},
                           .index = -1,
                           .limit = -1});
}

static void hold(Lower *lower, ProductRole least) {
    for (int32_t i = 0; i < lower->kernel->buffers.count; i++)
        if (lower->role[i] >= least) add_step(lower, STEP_MMA_HOLD, lower->place[i]);
}

void lower_wait(Lower *lower) {
    if (!lower->under_way || lower->in_products) return;
    add_step(lower, STEP_MMA_WAIT, -1);
    hold(lower, PRODUCT_SUM);
    lower->under_way = false;
}

void lower_before_barrier(Lower *lower) {
    lower_wait(lower);
    if (lower->role) add_step(lower, STEP_SHOW, -1);
}

// Nothing but products, in loops that each thread runs for itself.
bool lower_is_group(const Lower *lower, const Statement *statement) {
    TileUse tile;
    if (statement->kind != STATEMENT_LOOP) return false;
    LoopKind kind = lower->kernel->loops.at[statement->loop].kind;
    if (kind == LOOP_TILE) return is_product(lower->kernel, statement, &tile);
    if (kind != LOOP_SERIAL && kind != LOOP_UNROLL) return false;
    for (const Statement *at = statement->body; at; at = at->next)
        if (!lower_is_group(lower, at)) return false;
    return true;
}

// The statement uses registers of products, or may run several times, or not at all.
static bool must_wait(const Lower *lower, const Statement *statement) {
    Statement alone = *statement;
    alone.next = NULL;
    if (statement->kind == STATEMENT_LOOP &&
        lower->kernel->loops.at[statement->loop].kind == LOOP_SERIAL)
        return true;
    AccessList accesses = kernel_accesses(lower->arena, lower->kernel, &alone, -1);
    for (int i = 0; i < accesses.count; i++)
        if (lower->role[accesses.at[i].buffer]) return true;
    return false;
}

bool lower_begin_group(Lower *lower, const Statement *statement) {
    if (!lower->role || lower->in_products) return false;
    if (lower->under_way && must_wait(lower, statement)) lower_wait(lower);
    if (!lower_is_group(lower, statement)) return false;
    hold(lower, PRODUCT_FACTOR);
    add_step(lower, STEP_MMA_BEGIN, -1);
    return lower->in_products = lower->under_way = true;
}

bool lower_end_group(Lower *lower) {
    add_step(lower, STEP_MMA_COMMIT, -1);
    return lower->in_products = false;
}
