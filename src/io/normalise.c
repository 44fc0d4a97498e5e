/* normalise.c - Unicode's normal form C, by utf8proc's tables.
 * In: valid UTF-8.  Out: the text in that form; the text itself where nothing can change.
 * Invariant: a text without characters from U+0300 on is in normal form C already; marks behind a
 * letter are ordered by counting, so that a million of them take no longer than a million letters.
 *   e U+0301 -> U+00E9                                                                          */
#include "io/tokenizer.h"

#include <string.h>

enum { FIRST_LEAD = 0xcc };  // U+0300 is 0xcc 0x80

static bool may_change(TextSpan text) {
    for (size_t i = 0; i < text.length; i++) {
        if ((uint8_t)text.at[i] >= FIRST_LEAD) return true;
    }
    return false;
}

#ifdef PG_HAVE_UTF8PROC
#include <utf8proc.h>

enum { CLASSES = 256, LONGEST_DECOMPOSITION = 8 };  // Unicode's longest canonical one has 4

// Marks, and letters that compose, that came with Unicode 10 and later: the tables of the
// tokenizers library end before, so that it leaves them, and what is behind them, as they are.
// Between those of a row lies nothing older that has a class or composes.
static const struct {
    utf8proc_int32_t first, last;
} newer[] = {
    {0x7fd, 0x7fd},     {0x897, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},
    {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},
    {0x1abf, 0x1aff},   {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},   {0x105c0, 0x105f3},
    {0x10d24, 0x10eff}, {0x10f46, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b},
    {0x11380, 0x113e2}, {0x1145e, 0x1145e}, {0x11839, 0x119e0}, {0x11a34, 0x11a99},
    {0x11d42, 0x11d97}, {0x11f00, 0x11f5a}, {0x1611e, 0x1612f}, {0x16d63, 0x16d6a},
    {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ef},
    {0x1e4ec, 0x1e4ef}, {0x1e5ee, 0x1e5ef},
};

static bool is_newer(utf8proc_int32_t point) {
    for (int i = 0; i < COUNT_OF(newer); i++) {
        if (point <= newer[i].last) return point >= newer[i].first;
    }
    return false;
}

typedef struct {
    Arena *arena;
    LIST(utf8proc_int32_t) points;
} Decomposed;

static int decompose(Decomposed *out, TextSpan text) {
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text.at;
    utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    for (size_t at = 0; at < text.length;) {
        utf8proc_int32_t point, parts[LONGEST_DECOMPOSITION];
        int boundary = 0;
        utf8proc_ssize_t size =
            utf8proc_iterate(bytes + at, (utf8proc_ssize_t)(text.length - at), &point);
        if (size < 1) return fail("normalising text failed: %s", utf8proc_errmsg(size));
        utf8proc_ssize_t count = 1;
        parts[0] = point;
        if (!is_newer(point))
            count =
                utf8proc_decompose_char(point, parts, LONGEST_DECOMPOSITION, options, &boundary);
        if (count < 0 || count > LONGEST_DECOMPOSITION) {
            return fail("normalising text failed: %s", utf8proc_errmsg(count));
        }
        for (int i = 0; i < count; i++) *list_add(out->arena, &out->points) = parts[i];
        at += (size_t)size;
    }
    return 0;
}

static int class_of(utf8proc_int32_t point) {
    if (is_newer(point)) return 0;
    return (uint8_t)utf8proc_get_property(point)->combining_class;
}

// By class, those of equal class in the order they have.
static void sort_marks(Arena *arena, utf8proc_int32_t *marks, int32_t count) {
    int32_t next[CLASSES + 1] = {0};
    utf8proc_int32_t *copy = arena_copy(arena, marks, (size_t)count * sizeof *marks);
    for (int32_t i = 0; i < count; i++) next[class_of(copy[i]) + 1]++;
    for (int i = 1; i < CLASSES; i++) next[i] += next[i - 1];
    for (int32_t i = 0; i < count; i++) marks[next[class_of(copy[i])]++] = copy[i];
}

static void order_marks(Decomposed *text) {
    utf8proc_int32_t *points = text->points.at;
    for (int32_t i = 0, end; i < text->points.count; i = end + 1) {
        bool ordered = true;
        int last = 0;
        for (end = i; end < text->points.count; end++) {
            int class = class_of(points[end]);
            if (!class) break;
            ordered = ordered && class >= last;
            last = class;
        }
        if (!ordered) sort_marks(text->arena, points + i, end - i);
    }
}

static void add_point(Text *out, utf8proc_int32_t point) {
    utf8proc_uint8_t character[4];
    utf8proc_ssize_t size = utf8proc_encode_char(point, character);
    text_add_bytes(out, (const char *)character, (size_t)size);
}

// Composes points, none of which is newer.
static int compose(utf8proc_int32_t *points, utf8proc_ssize_t count, Text *out) {
    if (count) count = utf8proc_normalize_utf32(points, count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (count < 0) return fail("normalising text failed: %s", utf8proc_errmsg(count));
    for (utf8proc_ssize_t i = 0; i < count; i++) add_point(out, points[i]);
    return 0;
}

int normalise_nfc(Arena *arena, TextSpan text, TextSpan *out) {
    *out = text;
    if (!may_change(text)) return 0;
    Decomposed points = {.arena = arena};
    if (decompose(&points, text)) return -1;
    order_marks(&points);
    Text bytes = text_new(arena);
    int32_t count = points.points.count;
    for (int32_t start = 0, end; start < count; start = end + 1) {
        for (end = start; end < count && !is_newer(points.points.at[end]);) end++;
        if (compose(points.points.at + start, end - start, &bytes)) return -1;
        if (end < count) add_point(&bytes, points.points.at[end]);
    }
    *out = (TextSpan){bytes.at, bytes.count};
    return 0;
}
#else
int normalise_nfc(Arena *arena, TextSpan text, TextSpan *out) {
    (void)arena;
    *out = text;
    if (!may_change(text)) return 0;
    return fail("this build has no utf8proc, which this model's tokenizer needs for text beyond "
                "U+02FF: install libutf8proc-dev, then run make");
}
#endif
