/* render.h - inside the renderers: names, indices and values as text, which C for a CPU and CUDA C
 * share. */
#ifndef PICOGRAD_RENDER_H
#define PICOGRAD_RENDER_H
#include "codegen/codegen.h"

#define PRINT(...) arena_print(render->arena, __VA_ARGS__)
enum { RENDER_COLUMNS = 100 };

typedef struct {
    Arena *arena;
    const Program *program;
    bool cuda;  // i32 where intervals allow it, no vectors but in memory
    Text text;
    const bool *used;    // by step
    bool *named;         // by step: more than one place uses it
    bool *whole;         // by step: what is stored, so that it may fill a line
    const char **value;  // by step: how it is written where it is used
    const char **loop;   // by step: a FOR's variable
    const char **buffer, **variable, **var;
    int tiles;
    struct {
        const char *came, *group, *bytes;  // barriers; the number of the next group, and its bytes
        int32_t places;                    // barriers there are; 0: a launch without bulk copies
        bool alone;                        // no other copies are asynchronous
    } bulk;
    LIST(const char *) taken;
    LIST(int32_t) scopes;  // by open block: how many names were taken before it
} Render;
Render *render_new(Arena *arena, const Program *program, bool cuda);  // with all its names
// The file: comment, what the text needs, the text. RENDER_HASH in it becomes its content's hash,
// and symbol pg_k_ and that hash.
#define RENDER_HASH "################"
char *render_file(Render *render, const char *comment, char symbol[SYMBOL_SIZE]);

// A name of C's that is like `name` and nobody else's until the block ends. Names taken since there
// were `taken` of them end with the block.
const char *render_name(Render *render, const char *name);
void render_open(Render *render, int32_t taken);
void render_close(Render *render);
const char *render_element(DType dtype);                            // in memory
const char *render_suffix(Render *render, DType dtype, int lanes);  // "f32x8"
const char *render_type(Render *render, ValueType type);            // of a variable
// Long ones are broken behind a comma, or before an operator.
void render_line(Render *render, const char *format, ...) PRINTF(2, 3);

const Step *render_step_of(const Render *render, int32_t id);
bool render_masked(const Render *render, const Step *step);  // lane by lane
// `lane` stands for the lane atom.
const char *render_index(Render *render, Index index, int lane);
bool render_narrow(const Render *render, Index index);  // that text is an i32
Index render_at_lane(Render *render, Index index, int lane);
// Whether lanes are at equal distances from each other.
bool render_strides(Render *render, Index index, int lanes, int64_t *stride);
const char *render_address(Render *render, const Step *step);
void render_let(Render *render, int32_t id);  // a step with a value
#endif
