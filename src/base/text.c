/* text.c - writing text into an arena, reading it with a position.
 * In: formats and pieces; text with its name.  Out: one string; words, names, numbers.
 * Invariant: numbers are written and read in the C locale, whatever the program around us has set.
 *   Text text = text_new(mem); text_add(&text, "%%%d", 12);      text.at is "%12"
 *   Reader in = reader_new("rule", "(mul ?x 1)"); reader_take(&in, "(");                         */
#include "base/base.h"

#include <errno.h>
#include <locale.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { OPEN_MAX = 5000 };  // brackets; two to three functions for each fit a stack of 8 MB

static locale_t c_locale;

static void c_locale_open(void) { c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0); }

// Enters the C locale on this thread; the result goes to uselocale() afterwards.
static locale_t c_locale_enter(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, c_locale_open);
    return uselocale(c_locale);
}

Text text_new(Arena *arena) {
    static char empty[1];
    return (Text){.arena = arena, .at = empty};
}

// Room for `extra` more bytes and the final zero.
static void text_reserve(Text *text, size_t extra) {
    size_t needed;
    if (__builtin_add_overflow(text->count, extra, &needed) || needed > SIZE_MAX / 4)
        fatal("out of memory: a text of more than %zu bytes", text->count);
    if (text->capacity > needed) return;
    size_t capacity = text->capacity ? text->capacity : hostile() ? 1 : 32;
    while (capacity <= needed) capacity *= 2;
    char *grown = arena_alloc(text->arena, capacity);
    memcpy(grown, text->at, text->count);
    text->at = grown;
    text->capacity = capacity;
}

// In decimal, into the end of `digits`.
static const char *integer_text(int64_t value, char digits[24]) {
    char *at = digits + 23;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    for (*at = 0; rest || !*at; rest /= 10) *--at = (char)('0' + rest % 10);
    if (value < 0) *--at = '-';
    return at;
}

// Writes plain text, %s, %d, %ld and %lld: most of all that is ever written. Returns the rest of
// the format, from the first other directive on.
static const char *add_simple(Text *text, const char *format, va_list *arguments) {
    char digits[24];
    for (size_t longs;; format += 2 + longs) {
        size_t plain = strcspn(format, "%");
        text_add_bytes(text, format, plain);
        format += plain;
        longs = *format ? strspn(format + 1, "l") : 0;
        bool is_word = !strncmp(format, "%s", 2);
        if (!is_word && (!*format || longs > 2 || format[1 + longs] != 'd')) return format;
        const char *word = is_word      ? va_arg(*arguments, const char *)
                           : longs == 2 ? integer_text(va_arg(*arguments, long long), digits)
                           : longs      ? integer_text(va_arg(*arguments, long), digits)
                                        : integer_text(va_arg(*arguments, int), digits);
        text_add_bytes(text, word, strlen(word));
    }
}

static void add_formatted(Text *text, const char *format, va_list arguments) {
    locale_t outer = c_locale_enter();
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(text->at + text->count, text->capacity - text->count, format, again);
    va_end(again);
    if (length >= 0 && (size_t)length >= text->capacity - text->count) {
        text_reserve(text, (size_t)length);
        length = vsnprintf(text->at + text->count, text->capacity - text->count, format, arguments);
    }
    uselocale(outer);
    if (length < 0) fatal("cannot print with the format \"%s\"", format);
    text->count += (size_t)length;
}

void text_add_list(Text *text, const char *format, va_list arguments) {
    va_list left;
    va_copy(left, arguments);
    format = add_simple(text, format, &left);
    if (*format) add_formatted(text, format, left);
    va_end(left);
}

void text_add(Text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    text_add_list(text, format, arguments);
    va_end(arguments);
}

void text_add_bytes(Text *text, const char *bytes, size_t count) {
    text_reserve(text, count);
    if (count) memcpy(text->at + text->count, bytes, count);
    text->count += count;
    text->at[text->count] = 0;
}

Reader reader_new(const char *name, const char *text) {
    return (Reader){.name = name, .start = text, .at = text, .end = text + strlen(text)};
}

// Not isalpha and its kin: they follow the locale.
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_word(char c) { return is_letter(c) || is_digit(c); }

// Where the name that starts at `at` ends. A dot belongs to it if a letter or digit follows.
static const char *name_end(const char *at) {
    while (is_word(*at) || (*at == '.' && is_word(at[1]))) at++;
    return at;
}

void reader_skip(Reader *reader) {
    while (reader->at < reader->end) {
        char c = *reader->at;
        if (c == '#')
            reader->at += strcspn(reader->at, "\n");
        else if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
            reader->at++;
        else
            return;
    }
}

bool reader_peek(Reader *reader, const char *word) {
    reader_skip(reader);
    size_t length = strlen(word);
    if (strncmp(reader->at, word, length) != 0) return false;
    return !is_word(word[0]) || name_end(reader->at) <= reader->at + length;
}

bool reader_take(Reader *reader, const char *word) {
    if (!reader_peek(reader, word)) return false;
    reader->at += strlen(word);
    return true;
}

void reader_expect(Reader *reader, const char *word) {
    if (!reader_take(reader, word)) reader_fatal(reader, "expected '%s'", word);
}

bool reader_open(Reader *reader) {
    if (!reader_take(reader, "(")) return false;
    if (++reader->open > OPEN_MAX) reader_fatal(reader, "more than %d brackets are open", OPEN_MAX);
    return true;
}

void reader_close(Reader *reader) {
    reader_expect(reader, ")");
    reader->open--;
}

const char *reader_name(Reader *reader, Arena *arena) {
    reader_skip(reader);
    if (!is_letter(*reader->at)) return NULL;
    const char *start = reader->at;
    reader->at = name_end(start);
    char *name = arena_alloc(arena, (size_t)(reader->at - start) + 1);
    return memcpy(name, start, (size_t)(reader->at - start));
}

// Whether the digits that end at `at` go on as a number that is no integer: 1.5, 2e3, 2e-3, 0x1p3.
static bool goes_on(const char *start, const char *at) {
    if (*at == '.') return is_digit(at[1]);
    if (*at == 'e' || *at == 'E')
        return is_digit(at[1]) || ((at[1] == '-' || at[1] == '+') && is_digit(at[2]));
    return (*at == 'x' || *at == 'X') && at == start + 1 && *start == '0';
}

bool reader_int(Reader *reader, int64_t *value) {
    reader_skip(reader);
    const char *digits = reader->at + (*reader->at == '-'), *end = digits;
    while (is_digit(*end)) end++;
    if (end == digits || goes_on(digits, end)) return false;
    errno = 0;
    *value = strtoll(reader->at, NULL, 10);
    if (errno) reader_fatal(reader, "the integer does not fit in 64 bits");
    reader->at = end;
    return true;
}

bool reader_number(Reader *reader, double *value) {
    reader_skip(reader);
    const char *start = reader->at + (*reader->at == '-');
    bool special = (!strncmp(start, "inf", 3) || !strncmp(start, "nan", 3)) && !is_word(start[3]);
    if (!special && !is_digit(*start) && !(*start == '.' && is_digit(start[1]))) return false;
    if (special) {
        double magnitude = *start == 'i' ? __builtin_inf() : __builtin_nan("");
        *value = start > reader->at ? -magnitude : magnitude;
        reader->at = start + 3;
        return true;
    }
    locale_t outer = c_locale_enter();
    char *end;
    *value = strtod(reader->at, &end);
    uselocale(outer);
    if (is_word(*end)) return false;
    reader->at = end;
    return true;
}

void reader_fatal(const Reader *reader, const char *format, ...) {
    int line = 1, column = 1;
    for (const char *at = reader->start; at < reader->at; at++) {
        column = *at == '\n' ? 1 : column + 1;
        line += *at == '\n';
    }
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    if (reader->at >= reader->end)
        fatal("%s:%d:%d: %s, but the text ends", reader->name, line, column, what);
    int shown = (int)strcspn(reader->at, "\n");
    fatal("%s:%d:%d: %s, at '%.*s'", reader->name, line, column, what, shown < 40 ? shown : 40,
          reader->at);
}
