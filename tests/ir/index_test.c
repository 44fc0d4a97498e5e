/* index_test.c - canonical index expressions: what they simplify to, and, by enumeration, that each
 * still has the value that it was built for.  PG_SEED=n repeats one run of the random tests.    */
#include "ir/ir.h"
#include "test.h"

#include <string.h>

// Loops i0 < 4, i1 < 8, ...: names and ids go together, the extents are given at first use.
enum { NAMES = 8 };
static const char *const names[NAMES] = {"i", "j", "k", "l", "m", "n", "o", "p"};

typedef struct {
    Arena *arena;
    IndexTable *table;
    Index loop[NAMES];
    int64_t value[NAMES];  // for index_value
} World;

static World world_new(const int64_t *low, const int64_t *high, int count) {
    World world = {.arena = arena_new()};
    world.table = index_table_new(world.arena);
    for (int i = 0; i < count; i++)
        world.loop[i] = index_atom(world.table, ATOM_LOOP, i, low[i], high[i]);
    return world;
}

static const char *name_of(void *context, const Atom *atom) {
    (void)context;
    return names[atom->of];
}

static int64_t value_of(void *context, const Atom *atom) {
    return ((const World *)context)->value[atom->of];
}

static Index find_name(void *context, Reader *reader, const char *name) {
    const World *world = context;
    for (int i = 0; i < NAMES; i++)
        if (!strcmp(name, names[i])) return world->loop[i];
    reader_fatal(reader, "unknown name");
}

static Index parse(World *world, const char *text) {
    Reader reader = reader_new("index", text);
    Index a = index_parse(&reader, world->arena, world->table, find_name, world);
    reader_skip(&reader);
    if (reader.at != reader.end) reader_fatal(&reader, "expected the end");
    return a;
}

static const char *print(const World *world, Index a) {
    Text text = text_new(world->arena);
    index_print(&text, world->table, a, name_of, NULL);
    return text.at;
}

// ---- by hand -----------------------------------------------------------------------------------

// i < 6, j < 4, k < 8, l < 16, m < 2; n and o are from -5 to 5; p is 0 to anything.
static World small_world(void) {
    return world_new((int64_t[]){0, 0, 0, 0, 0, -5, -5, 0},
                     (int64_t[]){5, 3, 7, 15, 1, 5, 5, INT64_MAX}, NAMES);
}

// clang-format off
static const char *const simplified[][2] = {
    {"3", "3"},
    {"i - i", "0"},
    {"j + i", "i + j"},
    {"2*i + 3*i - 5*i + 7", "7"},
    {"2*(i + 3*j) - j", "2*i + 5*j + 6*0"},
    {"(i - 1)*-2", "2 - 2*i"},
    {"-i - 3", "-i - 3"},
    // intervals decide
    {"i/6", "0"},
    {"i%6", "i"},
    {"(i + 6)/6", "1"},
    {"(n - 7)/12", "-1"},
    {"(n - 7)%12", "n + 5"},
    {"n/5", "n/5"},
    {"p/4", "p/4"},
    {"p%1", "0"},
    // multiples split off; what is left stays within one
    {"(8*i + k)/8", "i"},
    {"(8*i + k)%8", "k"},
    {"(16*i + 2*k + 17)/16", "i + (k*2 + 17)/16"},
    {"(4*p + 3)/4", "p"},
    {"(4*p + 3)%4", "3"},
    {"(p + 9)/4", "(p + 1)/4 + 2"},
    {"(p - 1)%4", "(p + 3)%4"},
    {"(5*p + i)/4", "p + (p + i)/4"},
    {"(5*p + i)%4", "(p + i)%4"},
    // a common factor
    {"(4*i + 2*j + 1)/4", "i + j/2"},
    {"(4*i + 2*j + 1)%4", "2*(j%2) + 1"},
    {"(6*i + 4*j + m)/8", "(3*i + 2*j)/4"},
    {"(32*i + 16*m + l)/384", "0"},
    {"(32*p + 16*m + l)/384", "p/12"},
    {"(32*p + 16*m + l)%384", "32*(p%12) + 16*m + l"},
    {"384*((32*p + 16*m + l)/384) + (32*p + 16*m + l)%384", "32*p + 16*m + l"},
    {"12*((32*p + 16*m + l)/384) + ((32*p + 16*m + l)/32)%12", "p"},
    // constants so large that a bound of them says nothing
    {"-1/9000000000000000000", "-1"},
    {"-1%9000000000000000000", "8999999999999999999"},
    {"(8*i - 1)%9000000000000000000", "8*((i + 1124999999999999999)%1125000000000000000) + 7"},
    // a flip: 7 - (4*m + j)
    {"(7 - (4*m + j))/4", "1 - m"},
    {"(7 - (4*m + j))%4", "3 - j"},
    // quotients of quotients, remainders of remainders
    {"p/4/6", "p/24"},
    {"(p/4 + 2*i)/6", "(p + 8*i)/24"},
    {"p%24%4", "p%4"},
    {"p%24/4", "(p/4)%6"},
    {"(p%24/4)/3", "p/12%2"},
    {"p%24%5", "p%24%5"},
    // put together again, also where it stands inside other terms
    {"4*(p/4) + p%4", "p"},
    {"8*(p/4) + 2*(p%4) + i", "2*p + i"},
    {"12*(p/12) + 4*(p/4%3) + p%4", "p"},
    {"3*(p/12) + p/4%3", "p/4"},
    {"4*(p/4%3) + p%4", "p%12"},
    {"4*((p + 3)/4) + (p + 3)%4", "p + 3"},
    {"4*((p + 9)/4) + (p + 9)%4", "p + 9"},
    {"-4*(p/4) - p%4", "-p"},
    {"4*((5*p + i)/4) + (5*p + i)%4", "5*p + i"},
    {"7*((4*(p/3) + p%3)/7) + (4*(p/3) + p%3)%7", "4*(p/3) + p%3"},
    // a window of 3 over 8 wide rows, its place as one loop: l/3, l%3
    {"8*(i + l/3) + k + l%3", "8*i + k + 8*(l/3) + l%3"},
    {"(8*(i + l/3) + l%3)/8", "i + l/3"},
    {"(8*(i + l/3) + l%3)%8", "l%3"},
};
// clang-format on

TEST(simplifies) {
    World world = small_world();
    for (int i = 0; i < COUNT_OF(simplified); i++) {
        Index got = parse(&world, simplified[i][0]), wanted = parse(&world, simplified[i][1]);
        CHECK_TEXT(print(&world, got), print(&world, wanted));
        CHECK_INT(got, wanted);
    }
    arena_free(world.arena);
}

static const char *const printed[] = {
    "0",           "-1",          "i",      "-i",      "32*i + k + 5", "100 - 32*j",
    "i + 5 - 3*j", "-3*i - 5",    "i - 5",  "n/16",    "(n + 3)/16",   "(p + 3)%16",
    "(p/3)%2",     "3*(p/2)",     "-(n/2)", "j - p/2", "5 - 2*(p%4)",  "(3*i + 2*j)/4",
    "(p%24)%5",    "(p/7)%3 + 1", "(-p)/3"};

TEST(prints) {
    World world = small_world();
    for (int i = 0; i < COUNT_OF(printed); i++)
        CHECK_TEXT(print(&world, parse(&world, printed[i])), printed[i]);
    CHECK_TEXT(print(&world, parse(&world, "p/3%2")), "(p/3)%2");
    CHECK_TEXT(print(&world, parse(&world, "-p/3")), "(-p)/3");
    arena_free(world.arena);
}

TEST(parser_refuses) {
    World world = small_world();
    CHECK_FATAL_TEXT(parse(&world, "i*j"), "constant side");
    CHECK_FATAL_TEXT(parse(&world, "i/0"), "positive");
    CHECK_FATAL_TEXT(parse(&world, "i%j"), "positive");
    CHECK_FATAL_TEXT(parse(&world, "i/-2"), "positive");
    CHECK_FATAL_TEXT(parse(&world, "(i"), "')'");
    CHECK_FATAL_TEXT(parse(&world, "i +"), "expected an index");
    CHECK_FATAL_TEXT(parse(&world, "9223372036854775807*2"), "overflows");
    CHECK_FATAL_TEXT(parse(&world, "9223372036854775807 + 1"), "overflows");
    CHECK_FATAL_TEXT(parse(&world, "-9223372036854775808*i"), "has no negative");
    CHECK_FATAL_TEXT(parse(&world, "-4611686018427387904*i - 4611686018427387904*i"),
                     "has no negative");
    arena_free(world.arena);
}

TEST(no_text_is_too_deep) {
    World world = small_world();
    Text minus = text_new(world.arena), brackets = text_new(world.arena);
    for (int i = 0; i < 100001; i++) text_add(&minus, "- ");
    for (int i = 0; i < 100001; i++) text_add(&brackets, "(");
    text_add(&minus, "i");
    CHECK_TEXT(print(&world, parse(&world, minus.at)), "-i");
    CHECK_FATAL_TEXT(parse(&world, brackets.at), "brackets are open");
    arena_free(world.arena);
}

TEST(divisors_are_positive) {
    World world = small_world();
    CHECK_FATAL_TEXT(index_div(world.table, world.loop[0], 0), "by 0");
    CHECK_FATAL_TEXT(index_mod(world.table, world.loop[0], -3), "by -3");
    arena_free(world.arena);
}

TEST(intervals) {
    World world = small_world();
    IndexTable *table = world.table;
    Index a = parse(&world, "3*i - 2*j + 1");
    CHECK_INT(index_low(table, a), -5);
    CHECK_INT(index_high(table, a), 16);
    a = parse(&world, "n/2");
    CHECK_INT(index_low(table, a), -3);
    CHECK_INT(index_high(table, a), 2);
    // They saturate, and what is unknown stays unknown.
    a = parse(&world, "8*p + 1");
    CHECK_INT(index_low(table, a), 1);
    CHECK_INT(index_high(table, a), (int64_t)1 << 62);
    a = parse(&world, "5 - 8*p");
    CHECK_INT(index_low(table, a), -((int64_t)1 << 62));
    CHECK_INT(index_high(table, a), 5);
    CHECK_INT(index_high(table, index_div(table, parse(&world, "3*p - 5"), 1000)),
              (int64_t)1 << 62);
    arena_free(world.arena);
}

TEST(one_iteration_is_a_constant) {
    World world = world_new((int64_t[]){0, 3, 0}, (int64_t[]){0, 3, -1}, 3);
    int64_t value;
    CHECK(index_is_const(world.table, world.loop[0], &value) && value == 0);
    CHECK(index_is_const(world.table, world.loop[1], &value) && value == 3);
    CHECK(index_is_const(world.table, world.loop[2], &value) && value == 0);
    arena_free(world.arena);
}

TEST(strides_and_uses) {
    World world = small_world();
    int64_t stride = -1;
    Index a = parse(&world, "12*i + 3*j + (k + p)/4");
    CHECK(index_stride(world.table, a, 0, &stride) && stride == 12);
    CHECK(index_stride(world.table, a, 4, &stride) && stride == 0);
    CHECK(!index_stride(world.table, a, 2, &stride));
    CHECK(index_uses(world.table, a, ATOM_LOOP, 2));
    CHECK(!index_uses(world.table, a, ATOM_VAR, 2));
    CHECK(!index_uses(world.table, a, ATOM_LOOP, 4));
    const Term *terms;
    CHECK_INT(index_terms(world.table, a, &terms), 3);
    CHECK_INT(terms[0].scale, 12);
    CHECK_INT(index_atom_of(world.table, terms[2].atom)->by, 4);
    CHECK_INT(index_constant(world.table, parse(&world, "i - 4")), -4);
    arena_free(world.arena);
}

TEST(replacing_simplifies) {
    World world = small_world();
    Index a = parse(&world, "8*(p/8) + 2*(p/2%4) + i");
    Index b = parse(&world, "8*j + 2*i + m");
    CHECK_TEXT(print(&world, index_replace(world.table, parse(&world, "p/8"), ATOM_LOOP, 7, b)),
               print(&world, parse(&world, "j + (2*i + m)/8")));
    CHECK_INT(index_replace(world.table, parse(&world, "p%2 + 2*(p/2)"), ATOM_LOOP, 7, b), b);
    CHECK_INT(index_replace(world.table, a, ATOM_LOOP, 7, parse(&world, "8*j + k")),
              parse(&world, "8*j + 2*(k/2) + i"));
    CHECK_INT(index_replace(world.table, a, ATOM_VAR, 7, b), a);
    arena_free(world.arena);
}

// ---- reshapes ----------------------------------------------------------------------------------

static uint64_t random_state;

static int random_below(int count) {
    random_state = random_state * 6364136223846793005 + 1442695040888963407;
    return (int)((random_state >> 33) % (uint64_t)count);
}

static void seed_random(void) {
    random_state = (uint64_t)env_int("SEED", 1);
    for (int i = 0; i < 4; i++) random_below(2);
}

// Splits `count` elements into 1 to 5 axes; returns the rank.
static int random_axes(int64_t count, int64_t *size) {
    int rank = 1 + random_below(5);
    for (int i = 0; i < rank; i++) size[i] = 1;
    while (count > 1) {
        int64_t prime = 2;
        while (count % prime) prime++;
        size[random_below(rank)] *= prime;
        count /= prime;
    }
    return rank;
}

static Index flatten(IndexTable *table, int rank, const int64_t *size, const Index *at) {
    Index flat = index_const(table, 0);
    for (int i = 0; i < rank; i++)
        flat = index_add(table, index_scale(table, flat, size[i]), at[i]);
    return flat;
}

static void unflatten(IndexTable *table, int rank, const int64_t *size, Index flat, Index *at) {
    int64_t stride = 1;
    for (int i = rank; i-- > 0; stride *= size[i])
        at[i] = index_mod(table, index_div(table, flat, stride), size[i]);
}

// Any way through other shapes and back gives the very same index; merging only some axes, too.
TEST(reshapes_come_back) {
    static const int64_t counts[] = {12, 24, 30, 36, 64, 96, 120, 144, 210, 360, 384};
    seed_random();
    for (int round = 0; round < 3000; round++) {
        int64_t size[3][NAMES], low[NAMES] = {0}, high[NAMES];
        int64_t count = counts[random_below(COUNT_OF(counts))];
        int rank[3];
        for (int i = 0; i < 3; i++) rank[i] = random_axes(count, size[i]);
        for (int i = 0; i < rank[0]; i++) high[i] = size[0][i] - 1;
        World world = world_new(low, high, rank[0]);
        Index at[3][NAMES], flat = flatten(world.table, rank[0], size[0], world.loop);
        Index through = flat;
        for (int i = 0; i < 3; i++) {
            unflatten(world.table, rank[i], size[i], through, at[i]);
            through = flatten(world.table, rank[i], size[i], at[i]);
            CHECK_TEXT(print(&world, through), print(&world, flat));
            CHECK_INT(through, flat);
        }
        for (int i = 0; i < rank[0]; i++) CHECK_INT(at[0][i], world.loop[i]);
        // The first axes of shape 1, merged, are the quotient by the size of the others.
        int64_t others = size[1][rank[1] - 1];
        CHECK_INT(flatten(world.table, rank[1] - 1, size[1], at[1]),
                  index_div(world.table, flat, others));
        arena_free(world.arena);
    }
}

// A flip of each axis, and back, through another shape.
TEST(flips_come_back) {
    seed_random();
    for (int round = 0; round < 500; round++) {
        int64_t size[2][NAMES], low[NAMES] = {0}, high[NAMES];
        int rank[2] = {random_axes(240, size[0]), random_axes(240, size[1])};
        for (int i = 0; i < rank[0]; i++) high[i] = size[0][i] - 1;
        World world = world_new(low, high, rank[0]);
        Index flat = flatten(world.table, rank[0], size[0], world.loop), at[NAMES];
        Index flipped = index_sub(world.table, index_const(world.table, 239), flat);
        unflatten(world.table, rank[1], size[1], flipped, at);
        CHECK_INT(flatten(world.table, rank[1], size[1], at), flipped);
        arena_free(world.arena);
    }
}

// ---- enumeration -------------------------------------------------------------------------------

enum { POOL = 24, POINTS_MAX = 1500 };
typedef struct {
    Index index[POOL];
    int32_t value[POOL][POINTS_MAX];
    int points;
} Pool;

// Steps through every point of the loops; false after the last.
static bool next_point(World *world, int loops, const int64_t *low, const int64_t *high) {
    for (int i = loops; i-- > 0; world->value[i] = low[i])
        if (++world->value[i] <= high[i]) return true;
    return false;
}

static int64_t floor_quotient(int64_t a, int64_t by) { return (a - ((a % by) + by) % by) / by; }

static bool small_enough(const Pool *pool, int at) {
    for (int p = 0; p < pool->points; p++)
        if (pool->value[at][p] > 100000 || pool->value[at][p] < -100000) return false;
    return true;
}

// Makes pool entry `to` of two others by a random operation.
static void random_step(World *world, Pool *pool, int to, int used) {
    int a = random_below(used), b = random_below(used), kind = random_below(6);
    int by = 1 + random_below(random_below(2) ? 6 : 24);
    IndexTable *table = world->table;
    Index x = pool->index[a], y = pool->index[b];
    Index result = kind == 0   ? index_add(table, x, y)
                   : kind == 1 ? index_sub(table, x, y)
                   : kind == 2 ? index_scale(table, x, by - 8)
                   : kind == 3 ? index_add(table, index_scale(table, x, by), y)
                   : kind == 4 ? index_div(table, x, by)
                               : index_mod(table, x, by);
    pool->index[to] = result;
    for (int p = 0; p < pool->points; p++) {
        int32_t u = pool->value[a][p], v = pool->value[b][p];
        int32_t quotient = (int32_t)floor_quotient(u, by);
        int32_t direct[] = {u + v, u - v, u * (by - 8), u * by + v, quotient, u - by * quotient};
        pool->value[to][p] = direct[kind];
    }
}

static void check_entry(World *world, const Pool *pool, int at, int loops, const int64_t *low,
                        const int64_t *high) {
    Index a = pool->index[at];
    memcpy(world->value, low, (size_t)loops * sizeof *low);
    for (int p = 0; p < pool->points; p++, next_point(world, loops, low, high)) {
        int64_t value = pool->value[at][p];
        if (index_value(world->table, a, value_of, world) != value) {
            printf("%s at", print(world, a));
            for (int i = 0; i < loops; i++) printf(" %s=%ld", names[i], world->value[i]);
            printf("\n");
            CHECK_INT(index_value(world->table, a, value_of, world), value);
        }
        CHECK(index_low(world->table, a) <= value && value <= index_high(world->table, a));
    }
}

static Index same_atom(void *context, IndexTable *to, const Atom *atom) {
    (void)context;
    return index_atom(to, atom->kind, atom->of, atom->low, atom->high);
}

// Another table, filled in another order: the same text, the same id when it is read back.
static void check_text_forms(World *world, Index a, int loops, const int64_t *low,
                             const int64_t *high) {
    CHECK_INT(parse(world, print(world, a)), a);
    CHECK_INT(index_copy(world->table, world->table, a, same_atom, NULL), a);
    World other = {.arena = arena_new()};
    other.table = index_table_new(other.arena);
    for (int i = loops; i-- > 0;)
        other.loop[i] = index_atom(other.table, ATOM_LOOP, i, low[i], high[i]);
    Index copy = index_copy(other.table, world->table, a, NULL, NULL);
    CHECK_INT(parse(&other, print(world, a)), copy);
    memcpy(world->value, low, (size_t)loops * sizeof *low);
    do
        CHECK_INT(index_value(other.table, copy, value_of, world),
                  index_value(world->table, a, value_of, world));
    while (next_point(world, loops, low, high));
    arena_free(other.arena);
}

// `a` with a loop replaced by b has the value that `a` has where the loop has b's value.
static void check_replace(World *world, Index a, Index b, int loops, const int64_t *low,
                          const int64_t *high) {
    int loop = random_below(loops);
    // Intervals are the loop's, so b is brought into it.
    b = index_mod(world->table, b, high[loop] - low[loop] + 1);
    b = index_add(world->table, b, index_const(world->table, low[loop]));
    Index replaced = index_replace(world->table, a, ATOM_LOOP, loop, b);
    memcpy(world->value, low, (size_t)loops * sizeof *low);
    do {
        int64_t got = index_value(world->table, replaced, value_of, world);
        int64_t kept = world->value[loop];
        world->value[loop] = index_value(world->table, b, value_of, world);
        int64_t wanted = index_value(world->table, a, value_of, world);
        world->value[loop] = kept;
        CHECK_INT(got, wanted);
    } while (next_point(world, loops, low, high));
}

TEST(random_expressions) {
    static Pool pool;
    seed_random();
    int rounds = (int)env_int("ROUNDS", 200);
    for (int round = 0; round < rounds; round++) {
        int loops = 1 + random_below(4), used = loops;
        int64_t low[NAMES], high[NAMES];
        for (int i = 0; i < loops; i++) {
            low[i] = random_below(3) ? 0 : random_below(9) - 6;
            high[i] = low[i] + 1 + random_below(5);
        }
        World world = world_new(low, high, loops);
        memcpy(world.value, low, sizeof low);
        pool.points = 0;
        do {
            for (int i = 0; i < loops; i++) pool.value[i][pool.points] = (int32_t)world.value[i];
            pool.points++;
        } while (next_point(&world, loops, low, high));
        memcpy(pool.index, world.loop, sizeof world.loop);
        while (used < POOL) {
            random_step(&world, &pool, used, used);
            check_entry(&world, &pool, used, loops, low, high);
            if (small_enough(&pool, used)) used++;
        }
        for (int i = 0; i < 4; i++) {
            Index a = pool.index[random_below(POOL)];
            check_text_forms(&world, a, loops, low, high);
            check_replace(&world, a, pool.index[random_below(POOL)], loops, low, high);
        }
        arena_free(world.arena);
    }
}
