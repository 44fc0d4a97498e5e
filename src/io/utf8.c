/* utf8.c - makes bytes into valid UTF-8, as they come.
 * In: any bytes, cut anywhere.  Out: valid UTF-8; what was not becomes U+FFFD.
 * Invariant: between pushes, held is the start of a character that more bytes could complete, so
 * the output does not depend on where the input was cut.
 *   push "a\xe2\x82" -> "a";  push "\xac\xff" -> "\xe2\x82\xac" (the euro sign), U+FFFD        */
#include "io/io.h"

#include <string.h>

// How many of the bytes make a character, or could begin one. *whole: it is complete. *whole false
// and fewer than `left`: those bytes (at least one) never make a character.
// The second byte's range keeps out overlong forms, surrogates and what lies above U+10FFFF.
static size_t character(const uint8_t *at, size_t left, bool *whole) {
    uint8_t lead = at[0], lowest = 0x80, highest = 0xbf;
    size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4, i = 1;
    *whole = size == 1;
    if (*whole || lead < 0xc2 || lead > 0xf4) return 1;
    if (lead == 0xe0) lowest = 0xa0;
    if (lead == 0xed) highest = 0x9f;
    if (lead == 0xf0) lowest = 0x90;
    if (lead == 0xf4) highest = 0x8f;
    for (; i < size && i < left && at[i] >= lowest && at[i] <= highest; i++) {
        lowest = 0x80;
        highest = 0xbf;
    }
    *whole = i == size;
    return i;
}

static bool could_grow(const uint8_t *at, size_t size, size_t left) {
    return size == left && at[0] >= 0xc2 && at[0] <= 0xf4;
}

static void add_replacement(Text *out) { text_add_bytes(out, "\xef\xbf\xbd", 3); }

// Consumes whole characters and hopeless bytes; what could still grow is left over.
static size_t convert(const uint8_t *bytes, size_t count, Text *out) {
    size_t start = 0, at = 0;  // [start, at) is valid and not yet in out
    while (at < count) {
        bool whole;
        size_t size = character(bytes + at, count - at, &whole);
        if (!whole) {
            text_add_bytes(out, (const char *)bytes + start, at - start);
            start = at;
            if (could_grow(bytes + at, size, count - at)) return at;
            add_replacement(out);
            start += size;
        }
        at += size;
    }
    text_add_bytes(out, (const char *)bytes + start, at - start);
    return at;
}

void utf8_push(Utf8Stream *stream, const char *bytes, size_t count, Text *out) {
    const uint8_t *at = (const uint8_t *)bytes;
    while (stream->count && count) {
        // Four bytes are enough to complete or refuse what is held, which is at most three.
        stream->held[stream->count++] = *at++;
        count--;
        size_t used = convert(stream->held, (size_t)stream->count, out);
        stream->count -= (int)used;
        memmove(stream->held, stream->held + used, (size_t)stream->count);
    }
    size_t used = convert(at, count, out);
    for (; used < count; used++) stream->held[stream->count++] = at[used];
}

void utf8_finish(Utf8Stream *stream, Text *out) {
    if (stream->count) add_replacement(out);
    stream->count = 0;
}
