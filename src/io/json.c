/* json.c - JSON files, as the folders of models have them.
 * In: a file that nobody has checked.  Out: its values, looked up one by one.
 * Invariant: the whole file is one strict JSON value, of bounded depth, with no name twice in an
 * object; what a value is, is asked each time: nothing is taken for text or a number that is not.
 *   {"a": [1, "two"]}:  json_number(json_element(json_member(root, "a"), 0), &x)   =>   x is 1   */
#include "io/io.h"

#include <string.h>

#ifdef PG_HAVE_JANSSON
#include <jansson.h>

enum { BYTES_MAX = 64 << 20 };  // a value of two bytes takes forty in memory

// Whole numbers are read as reals: configurations say 10^30 where they mean no limit.
Json *json_open(const char *path) {
    FileBytes file;
    json_error_t error;
    if (file_map(path, &file)) return NULL;
    if (file.size > BYTES_MAX) {
        fail("%s: %zu MB of JSON; %d are read", path, file.size >> 20, BYTES_MAX >> 20);
        file_unmap(&file);
        return NULL;
    }
    Json *root =
        json_loadb((const char *)file.at, file.size,
                   JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &error);
    file_unmap(&file);
    if (!root) fail("%s: line %d: %s", path, error.line, error.text);
    return root;
}

void json_close(Json *root) { json_decref(root); }

const Json *json_member(const Json *object, const char *name) {
    const Json *value = json_object_get(object, name);
    return json_is_null(value) ? NULL : value;
}

int64_t json_count(const Json *value) {
    return (int64_t)(json_is_array(value) ? json_array_size(value) : json_object_size(value));
}

const Json *json_element(const Json *array, int64_t i) { return json_array_get(array, (size_t)i); }

static JsonMember member_at(void *place) {
    if (!place) return (JsonMember){0};
    return (JsonMember){json_object_iter_key(place), json_object_iter_value(place), place};
}

// Jansson walks an object that it could change; none is changed here.
JsonMember json_first(const Json *object) {
    return member_at(json_object_iter((Json *)(uintptr_t)object));
}

JsonMember json_next(const Json *object, JsonMember member) {
    return member_at(json_object_iter_next((Json *)(uintptr_t)object, member.place));
}

bool json_text(const Json *value, TextSpan *text) {
    if (!json_is_string(value)) return false;
    *text = (TextSpan){json_string_value(value), json_string_length(value)};
    return true;
}

bool json_number(const Json *value, double *number) {
    if (!json_is_real(value)) return false;
    *number = json_real_value(value);
    return true;
}

bool json_truth(const Json *value, bool *truth) {
    if (!json_is_boolean(value)) return false;
    *truth = json_is_true(value);
    return true;
}
#else
Json *json_open(const char *path) {
    fail("%s: this build has no jansson, which model folders need: install libjansson-dev, then "
         "run make",
         path);
    return NULL;
}

void json_close(Json *root) { (void)root; }

const Json *json_member(const Json *object, const char *name) {
    (void)object, (void)name;
    return NULL;
}

int64_t json_count(const Json *value) {
    (void)value;
    return 0;
}

const Json *json_element(const Json *array, int64_t i) {
    (void)array, (void)i;
    return NULL;
}

JsonMember json_first(const Json *object) {
    (void)object;
    return (JsonMember){0};
}

JsonMember json_next(const Json *object, JsonMember member) {
    (void)object, (void)member;
    return (JsonMember){0};
}

bool json_text(const Json *value, TextSpan *text) {
    (void)value, (void)text;
    return false;
}

bool json_number(const Json *value, double *number) {
    (void)value, (void)number;
    return false;
}

bool json_truth(const Json *value, bool *truth) {
    (void)value, (void)truth;
    return false;
}
#endif

bool json_int(const Json *value, int64_t *integer) {
    const double exact = 9007199254740992;  // 2^53: beyond, a real does not hold every integer
    double number;
    if (!json_number(value, &number) || !(number >= -exact && number <= exact)) return false;
    *integer = (int64_t)number;
    return (double)*integer == number;
}

bool json_is(const Json *value, const char *text) {
    TextSpan span;
    return json_text(value, &span) && span.length == strlen(text) &&
           !memcmp(span.at, text, span.length);
}
