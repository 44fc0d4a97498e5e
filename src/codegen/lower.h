/* lower.h - what the files of lowering share: lower.c (statements), expression.c, scan.c. */
#ifndef PICOGRAD_LOWER_H
#define PICOGRAD_LOWER_H
#include "codegen/codegen.h"

// How a REGISTER buffer is kept: in variables of so many lanes each, or (0) in an array.
typedef struct {
    int lanes;
    int32_t first;  // variable
    Spread spread;  // among a block's threads
} Promotion;
typedef LIST(const Statement *) StatementList;
typedef struct {  // a store of a thread loop that folds into what all threads share
    const Statement *store;
    int32_t variable;  // what this thread has folded
    Op op;
    Id value;  // what is folded into it: x, or x * y
    Id y;      // -1: none
} ThreadFold;
typedef struct {  // a load in this block has asked for the cache line there
    int32_t buffer;
    Index moving;  // the index but for its constant
    int64_t byte;
} Asked;

// Of registers, in products of four warps.
typedef enum { PRODUCT_NONE, PRODUCT_FACTOR, PRODUCT_SUM } ProductRole;

typedef struct {
    Arena *arena;
    const Kernel *kernel;
    Program *program;
    Promotion *promotion;    // by buffer of the kernel
    int32_t *place;          // by buffer of the kernel: the program's, if it is not promoted
    StatementList barriers;  // a barrier stands before each of these
    Index *loop_value;       // by the kernel's loop: its value in the program
    int lanes;               // of the vector loop around, else 1
    int32_t mask;            // which of its lanes run; -1: all
    bool inside;             // a thread loop, or what thread 0 does alone
    int around;              // loops around what is lowered
    int counters;            // of the barrier's that have a loop
    LIST(Asked) asked;
    bool gpu;
    int32_t threads;       // of the launch
    int32_t warp, thread;  // the kernel's loops over warps and threads around; -1: none
    LIST(ThreadFold) folds;
    const ProductRole *role;      // by buffer of the kernel; NULL: no products of four warps
    bool in_products, under_way;  // what is lowered is one, or several; some may not be done
    int32_t statement;            // counts them: values are remembered within one
    int32_t *value;               // by node of the kernel
    int32_t *valued_in;           // by node: the statement that its value belongs to
} Lower;

// scan.c: what must be known of the whole kernel before its first step is written
Promotion *scan_promotions(Arena *arena, const Kernel *kernel);  // by buffer, `first` not set
// Statements outside of thread loops that must not start before all threads are done with the last.
StatementList scan_barriers(Arena *arena, const Kernel *kernel, const bool *aliased);
bool scan_has_thread_loop(const Kernel *kernel, const Statement *list);
bool scan_is_for_one(const Kernel *kernel, const Statement *statement);  // to be run by thread 0

// lower.c
void lower_list(Lower *lower, const Statement *list);
void lower_value(Lower *lower, const Statement *store, Index index, int32_t value);  // stores it
int32_t lower_open(Lower *lower, StepKind kind, int32_t condition);                  // IF, ONCE
void lower_close(Lower *lower);
// The loop whose iterations lower_list will run, as a FOR that is shared so.
void lower_body(Lower *lower, const Statement *statement, Share share, int counter);
int32_t lower_lanes(Lower *lower, Op op, DType dtype, int32_t value);  // folded into one
int32_t lower_identity(Lower *lower, Op fold, DType dtype);
// Whether the store is `element = element (op) x`, or + x * y; fatal if it carries on otherwise.
typedef struct {
    Op op;
    Id old, x, y;
} Fold;
bool lower_fold_of(const Lower *lower, const Statement *store, Fold *fold);

// lower_gpu.c: launches, and loops over blocks, warps and threads
void lower_launches(Lower *lower);
void lower_thread(Lower *lower, const Statement *statement);
void lower_warp(Lower *lower, const Statement *statement);
bool lower_on_chip(const Lower *lower, int32_t buffer);  // only one launch uses it
// A store by all threads together, in a loop over them; false if it is an ordinary one.
bool lower_thread_fold(Lower *lower, const Statement *store);
bool lower_copy(Lower *lower, const Statement *store);  // likewise, if it is asynchronous
void lower_bulk(Lower *lower, const Statement *loop, const TileUse *tile);

// lower_products.c: products of four warps, which are not done at once
const ProductRole *lower_product_roles(Arena *arena, const Kernel *kernel);
void lower_product(Lower *lower, const TileUse *tile);  // of one warp, too
// Products in a row are a group. Before each statement behind another group's end or none: waits
// for what is under way if it must, and true if a group begins; the end is false.
bool lower_is_group(const Lower *lower, const Statement *statement);
bool lower_begin_group(Lower *lower, const Statement *statement);
bool lower_end_group(Lower *lower);
void lower_wait(Lower *lower);
void lower_before_barrier(Lower *lower);

// expression.c: steps that give values; conditions are values, -1 being true
int32_t step_add(Lower *lower, Step step);  // its id
int lanes_of(const Lower *lower, int32_t value);
// One step; scalar sources are widened if others are vectors. -1 for sources that it does not have.
int32_t let(Lower *lower, Op op, DType dtype, int32_t x, int32_t y, int32_t z);
int32_t let_integer(Lower *lower, DType dtype, int64_t value);
int32_t let_number(Lower *lower, double value);  // f32
int32_t let_index(Lower *lower, Index index, DType dtype);
int32_t let_lane(Lower *lower, int32_t value, int lane);  // of a scalar: itself
int32_t let_get(Lower *lower, int32_t variable);
int32_t widened(Lower *lower, int32_t value, int lanes);  // a scalar to a vector
int32_t both(Lower *lower, int32_t a, int32_t b);         // of two conditions
// The op as scalar_apply does it, in the range and precision of the dtype.
int32_t apply(Lower *lower, Op op, DType dtype, int32_t x, int32_t y, int32_t z);
int32_t stored(Lower *lower, int32_t value, DType dtype);  // as it lies in memory
Index mapped(Lower *lower, Index index);                   // a kernel's index, in the program
Index mapped_element(Lower *lower, int32_t buffer, Index index);  // also if it is each thread's own
// Where an element of a promoted buffer is: the lane of a variable, or (-1) all of it.
int32_t variable_of(const Lower *lower, int32_t buffer, Index index, int *lane);
int32_t expression(Lower *lower, Id node);  // of dtype_computed(its dtype)

// simplify.c: what let would add, in fewer instructions; -1: there is no such form.
int32_t simplified(Lower *lower, Op op, DType dtype, const int32_t source[3]);
#endif
