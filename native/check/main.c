/* Run the checks: all of them, twice if there are two engines, or only those of threads. */
#include "check.h"
#include "lane_rig.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void
with_this_engine(void)
{
    check_vectors();
    check_ciphers();
    check_extents();
    check_files();
}

static void
the_lane(void)
{
    check_lane();
    check_lane_names();
    check_lane_directories();
    check_lane_sharing();
    check_lane_hostile();
    check_lane_talk();
}

int
main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "threads") == 0) {
        check_threads();
        return 0;
    }
    check_memory();
    check_system();
    check_acls();
    check_names();
    the_lane();
    rig_careful = 1;
    the_lane();
    EXPECT(rig_asides > 100, "%u requests were put aside", rig_asides);
    check_lane_aside();
    check_lane_left();
    rig_careful = 0;
    const char *best = fc_engine();
    with_this_engine();
    if (strcmp(best, "portable") != 0) {
        EXPECT(fc_set_engine("portable") == 0 && strcmp(fc_engine(), "portable") == 0, "no other engine");
        with_this_engine();
        EXPECT(fc_set_engine(best) == 0, "engine lost");
    }
    check_threads();
    return 0;
}
