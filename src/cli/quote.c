/* quote.c - text as JSON has it.
 * In: any bytes.  Out: a JSON string of valid UTF-8, what is no UTF-8 as U+FFFD.
 *   a "b"<newline>   =>   "a \"b\"\n"                                                            */
#include "cli/cli.h"

#include <string.h>

void quote_json(Text *to, const char *at, size_t length) {
    static const char special[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    Text valid = text_new(to->arena);
    Utf8Stream stream = {0};
    utf8_push(&stream, at, length, &valid);
    utf8_finish(&stream, &valid);
    text_add_bytes(to, "\"", 1);
    for (size_t i = 0; i < valid.count; i++) {
        char byte = valid.at[i];
        const char *found = byte ? strchr(special, byte) : NULL;
        if (found)
            text_add(to, "\\%c", letter[found - special]);
        else if ((unsigned char)byte < ' ' || byte == 0x7f)
            text_add(to, "\\u%04x", (unsigned char)byte);
        else
            text_add_bytes(to, &byte, 1);
    }
    text_add_bytes(to, "\"", 1);
}

void quote_json_text(Text *to, const char *text) {
    if (text)
        quote_json(to, text, strlen(text));
    else
        text_add(to, "null");
}
