/* tokenizer_fuzz.c - bytes as a GGUF file with a tokenizer: opened, a text encoded and decoded,
 * every token looked at. */
#include "fuzz/fuzz.h"
#include "io/io.h"

static void use(const Tokenizer *tokenizer, Arena *arena) {
    static const char text[] = "Hello  12 worlds\n<|im_end|>\xe2\x96\x81\xc3\xa9\xff<0x0A>";
    for (int flags = 0; flags < 4; flags++) {
        IdList ids = {0};
        Text out = text_new(arena);
        int status = tokenizer_encode(tokenizer, arena, text, sizeof text - 1, flags, &ids);
        if (status) fuzz_refused("fuzz.gguf");  // a map of characters may point outside itself
        for (int32_t i = 0; i < ids.count; i++)
            fuzz_check(ids.at[i] >= 0 && ids.at[i] < tokenizer_count(tokenizer), "an id");
        tokenizer_decode(tokenizer, ids.at, ids.count, &out);
    }
    Text out = text_new(arena);
    for (int32_t id = 0; id < tokenizer_count(tokenizer); id++) {
        TextSpan piece = tokenizer_piece(tokenizer, id);
        text_add_bytes(&out, piece.at, piece.length);
        fuzz_check(!tokenizer_is_end(tokenizer, id) || id >= 0, "an end");
    }
    const int32_t named[] = {tokenizer_bos(tokenizer), tokenizer_eos(tokenizer),
                             tokenizer_eot(tokenizer), tokenizer_find(tokenizer, "<s>")};
    for (int i = 0; i < COUNT_OF(named); i++)
        fuzz_check(named[i] >= -1 && named[i] < tokenizer_count(tokenizer), "a named token");
}

void fuzz_one(const uint8_t *data, size_t size) {
    Gguf *gguf = gguf_read("fuzz.gguf", (FileBytes){.at = data, .size = size});
    Tokenizer *tokenizer = gguf ? tokenizer_open(gguf) : NULL;
    if (!tokenizer) fuzz_refused("fuzz.gguf");
    if (tokenizer) {
        Arena *arena = arena_new();
        use(tokenizer, arena);
        arena_free(arena);
    }
    tokenizer_close(tokenizer);
    gguf_close(gguf);
}
