#define _GNU_SOURCE  // nftw
#include "helpers.h"

#include "test.h"

#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/picograd-test-XXXXXX";
static pid_t owner;

static int remove_entry(const char *path, const struct stat *facts, int kind, struct FTW *place) {
    (void)facts, (void)kind, (void)place;
    return remove(path);
}

static void remove_temporary(void) {
    if (getpid() == owner) nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *temporary_folder(void) {
    if (owner) return folder;
    if (!mkdtemp(folder)) fatal("no temporary folder %s", folder);
    owner = getpid();
    atexit(remove_temporary);
    return folder;
}

const char *temporary_path(Arena *arena, const char *name) {
    return arena_print(arena, "%s/%s", temporary_folder(), name);
}

Lines golden_lines(Arena *arena, const char *name) {
    size_t size;
    LIST(TextSpan) lines = {0};
    char *text = file_read(arena, arena_print(arena, "tests/io/golden/%s", name), &size);
    if (!text) fatal("%s. Hint: run the tests from the top of the repository", error_text());
    for (char *at = text, *end = text + size; at < end;) {
        char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((newline ? newline : end) - at);
        *list_add(arena, &lines) = (TextSpan){at, length};
        at += length + 1;
    }
    return (Lines){lines.at, lines.count};
}

TextSpan unescape(Arena *arena, TextSpan line) {
    Text text = text_new(arena);
    for (size_t i = 0; i < line.length; i++) {
        char byte = line.at[i];
        if (byte == '\\') {
            byte = (char)strtol(terminated(arena, (TextSpan){line.at + i + 2, 2}), NULL, 16);
            i += 3;
        }
        text_add_bytes(&text, &byte, 1);
    }
    return (TextSpan){text.at, text.count};
}

const char *terminated(Arena *arena, TextSpan span) {
    return arena_print(arena, "%.*s", (int)span.length, span.at);
}

GgufWriter *small_vocabulary_writer(Arena *arena, const char *rule) {
    GgufWriter *writer = gguf_writer_new();
    Lines lines = golden_lines(arena, "vocabulary.txt");
    LIST(TextSpan) tokens = {0};
    LIST(int32_t) kinds = {0};
    int i = 0;
    for (; lines.at[i].length; i++) {
        *list_add(arena, &kinds) = lines.at[i].at[0] - '0';
        *list_add(arena, &tokens) = (TextSpan){lines.at[i].at + 2, lines.at[i].length - 2};
    }
    gguf_put_text(writer, "tokenizer.ggml.model", "gpt2");
    if (rule) gguf_put_text(writer, "tokenizer.ggml.pre", rule);
    gguf_put_array_text(writer, "tokenizer.ggml.tokens", tokens.at, tokens.count);
    gguf_put_array_i32(writer, "tokenizer.ggml.token_type", kinds.at, kinds.count);
    gguf_put_array_text(writer, "tokenizer.ggml.merges", lines.at + i + 1, lines.count - i - 1);
    return writer;
}

Gguf *reopened(Arena *arena, GgufWriter *writer) {
    const char *path = temporary_path(arena, "written.gguf");
    CHECK_INT(gguf_writer_save(writer, path), 0);
    gguf_writer_free(writer);
    return gguf_open(path);
}

Gguf *small_vocabulary(Arena *arena, const char *rule) {
    return reopened(arena, small_vocabulary_writer(arena, rule));
}

Tokenizer *opened_tokenizer(const Gguf *gguf) {
    Tokenizer *tokenizer = tokenizer_open(gguf);
    if (!tokenizer && strstr(error_text(), "PCRE2")) SKIP("built without PCRE2");
    if (!tokenizer) CHECK_TEXT(error_text(), "");
    return tokenizer;
}

const char *encoded(Arena *arena, const Tokenizer *tokenizer, TextSpan text, int flags) {
    IdList ids = {0};
    Text out = text_new(arena);
    if (tokenizer_encode(tokenizer, arena, text.at, text.length, flags, &ids)) {
        if (strstr(error_text(), "utf8proc")) SKIP("built without utf8proc");
        CHECK_TEXT(error_text(), "");
    }
    for (int i = 0; i < ids.count; i++) text_add(&out, i ? " %d" : "%d", ids.at[i]);
    return out.at;
}

TextSpan span(const char *text) { return (TextSpan){text, strlen(text)}; }

void check_golden_ids(const Tokenizer *tokenizer, const char *name, int flags) {
    Arena *arena = arena_new();
    Lines texts = golden_lines(arena, "texts.txt");
    Lines wanted = golden_lines(arena, arena_print(arena, "ids-%s.txt", name));
    CHECK_INT(texts.count, wanted.count);
    for (int i = 0; i < texts.count; i++) {
        const char *got = encoded(arena, tokenizer, unescape(arena, texts.at[i]), flags);
        const char *right = terminated(arena, wanted.at[i]);
        if (strcmp(got, right)) {
            const char *line = terminated(arena, texts.at[i]);
            CHECK_TEXT(arena_print(arena, "%s\n%s", line, got),
                       arena_print(arena, "%s\n%s", line, right));
        }
    }
    arena_free(arena);
}

static size_t put_utf8(char *out, int c) {
    int size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = size - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(size == 1 ? c : 0xf00 >> size | c);
    return (size_t)size;
}

Text code_point_lines(Arena *arena, int first) {
    const char *after[] = {"1", "", " ", "!", "'s ", "\n"};
    Text text = text_new(arena);
    for (int c = first; c < first + 4096; c++) {
        char utf8[4];
        size_t size = put_utf8(utf8, c);
        if (c >= 0xd800 && c < 0xe000) continue;
        text_add(&text, "a");
        for (int i = 0; i < COUNT_OF(after); i++) {
            text_add_bytes(&text, utf8, size);
            text_add(&text, "%s", after[i]);
        }
    }
    return text;
}

const char *short_sum(Arena *arena, Text text) {
    Sha256 sha;
    char hex[65];
    sha256_start(&sha);
    sha256_add(&sha, text.at, text.count);
    sha256_finish(&sha, hex);
    return arena_print(arena, "%.16s", hex);
}
