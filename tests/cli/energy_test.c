/* energy_test.c - what a tree of counters, made here, gives in joules. */
#include "test.h"

#include "../../src/cli/energy.c"

#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static void put(const char *folder, const char *file, const char *text) {
    Arena *arena = arena_new();
    mkdir(arena_print(arena, "%s/%s", root, folder), 0700);
    const char *path = arena_print(arena, "%s/%s/%s", root, folder, file);
    CHECK_INT(file_write(path, text, strlen(text)), 0);
    arena_free(arena);
}

// A range of 262 kJ, as many machines have it.
static void put_counter(const char *folder, const char *name, const char *microjoules) {
    put(folder, "name", name);
    put(folder, "max_energy_range_uj", "262143328850\n");
    put(folder, "energy_uj", microjoules);
}

static void make_root(void) {
    strcpy(root, "/tmp/picograd-energy-XXXXXX");
    CHECK(mkdtemp(root) != NULL);
}

static void remove_root(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK_INT(system(command), 0);
}

TEST(packages_are_summed_and_nothing_else) {
    Energy energy;
    make_root();
    put_counter("intel-rapl:0", "package-0\n", "5000000\n");
    put_counter("intel-rapl:1", "package-1\n", "262143000000\n");
    put_counter("intel-rapl:0:0", "core\n", "1\n");
    put_counter("intel-rapl:2", "psys\n", "1\n");
    put_counter("intel-rapl-mmio:0", "package-0\n", "1\n");
    CHECK_INT(energy_start(&energy, root), 0);
    CHECK_INT(energy.packages, 2);
    CHECK_NEAR(energy_joules(&energy), 0, 0);
    put("intel-rapl:0:0", "energy_uj", "900000000\n");
    put("intel-rapl:2", "energy_uj", "900000000\n");
    put("intel-rapl-mmio:0", "energy_uj", "900000000\n");
    put("intel-rapl:0", "energy_uj", "7500000\n");
    CHECK_NEAR(energy_joules(&energy), 2.5, 1e-9);
    put("intel-rapl:1", "energy_uj", "1000000\n");  // 0.32885 J up to the range, and 1 J
    CHECK_NEAR(energy_joules(&energy), 2.5 + 1.32885, 1e-9);
    put("intel-rapl:1", "energy_uj", "2000000\n");
    CHECK_NEAR(energy_joules(&energy), 2.5 + 2.32885, 1e-9);
    remove_root();
}

TEST(a_counter_that_cannot_be_read_is_not_guessed) {
    static const char *const wrong[] = {"",
                                        "\n",
                                        "watt\n",
                                        "-5\n",
                                        " 5\n",
                                        "5 J\n",
                                        "0x10\n",
                                        "1e6\n",
                                        "99999999999999999999\n",
                                        "262143328851\n"};
    Energy energy;
    make_root();
    for (int i = 0; i < COUNT_OF(wrong); i++) {
        put_counter("intel-rapl:0", "package-0\n", wrong[i]);
        CHECK_FAIL(energy_start(&energy, root), "energy_uj: ");
        CHECK(isnan(energy_joules(&energy)));
        put_counter("intel-rapl:0", "package-0\n", "5\n");
        CHECK_INT(energy_start(&energy, root), 0);
        put("intel-rapl:0", "energy_uj", wrong[i]);
        CHECK(isnan(energy_joules(&energy)));
        put("intel-rapl:0", "energy_uj", "7\n");
        CHECK(isnan(energy_joules(&energy)));  // what was missed stays unknown
    }
    put("intel-rapl:0", "max_energy_range_uj", "many\n");
    CHECK_FAIL(energy_start(&energy, root), "max_energy_range_uj: not a number");
    remove_root();
}

TEST(a_counter_that_goes_away) {
    Energy energy;
    make_root();
    put_counter("intel-rapl:0", "package-0\n", "5\n");
    CHECK_INT(energy_start(&energy, root), 0);
    remove_root();
    CHECK(isnan(energy_joules(&energy)));
    CHECK_FAIL(energy_start(&energy, root), "cannot open");
    make_root();
    CHECK_FAIL(energy_start(&energy, root), "has no counter of a package");
    put("intel-rapl:0", "name", "package-0\n");
    put("intel-rapl:0", "max_energy_range_uj", "262143328850\n");
    CHECK_FAIL(energy_start(&energy, root), "No such file");
    remove_root();
}

// 1 mJ is gone through in a microsecond at 1000 W.
TEST(a_counter_that_may_have_wrapped_twice) {
    Energy energy;
    make_root();
    put_counter("intel-rapl:0", "package-0\n", "5\n");
    put("intel-rapl:0", "max_energy_range_uj", "1000\n");
    CHECK_INT(energy_start(&energy, root), 0);
    usleep(1000);
    CHECK(isnan(energy_joules(&energy)));
    CHECK(strstr(error_text(), "may have wrapped around twice"));
    remove_root();
}
