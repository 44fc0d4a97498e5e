/* sha256_test.c - the examples of FIPS 180-4. */
#include "io/io.h"
#include "test.h"

#include <string.h>

static void check_sum(const char *text, size_t count, size_t piece, const char *wanted) {
    Sha256 sha;
    char hex[65];
    sha256_start(&sha);
    for (size_t at = 0; at < count; at += piece) {
        sha256_add(&sha, text + at, piece < count - at ? piece : count - at);
    }
    sha256_finish(&sha, hex);
    CHECK_TEXT(hex, wanted);
}

TEST(known_sums) {
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    check_sum("", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_sum("abc", 3, 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_sum(two_blocks, 56, 56,
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(pieces_do_not_matter) {
    static char letters[1000000];
    memset(letters, 'a', sizeof letters);
    const size_t pieces[] = {1, 63, 64, 65, 1000000};
    for (int i = 0; i < COUNT_OF(pieces); i++) {
        check_sum(letters, sizeof letters, pieces[i],
                  "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
}
