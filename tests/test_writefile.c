/* Files that appear whole or not at all: what was there before stays until the new one is complete. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/writefile.h"

static char folder[] = "/tmp/test_writefile.XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static void check_holds(const char *path, const char *want)
{
    char text[64] = "";
    const int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, text, sizeof text - 1), strlen(want));
    assert_string_equal(text, want);
    close(fd);
}

/* How many names there are in the folder. */
static int count_names(void)
{
    int n = 0;
    DIR *dir = opendir(".");
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e; e = readdir(dir))
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void test_new_and_replaced(void **state)
{
    (void)state;
    struct stat before, after;
    tdm_err err = {0};
    assert_int_equal(tdm_writefile_check("a", &err), TDM_OK);
    assert_int_equal(count_names(), 0);
    assert_int_equal(tdm_writefile("a", "first", 5, &err), TDM_OK);
    check_holds("a", "first");
    assert_int_equal(stat("a", &before), 0);
    assert_int_equal(tdm_writefile_check("a", &err), TDM_OK);
    assert_int_equal(tdm_writefile("a", NULL, 0, &err), TDM_OK);
    check_holds("a", "");
    assert_int_equal(stat("a", &after), 0);
    assert_true(before.st_ino != after.st_ino); /* another file, not the old one emptied */
    assert_int_equal(count_names(), 1);
    unlink("a");
}

static void test_links_and_devices(void **state)
{
    (void)state;
    struct stat info;
    char text[8] = "";
    tdm_err err = {0};
    assert_int_equal(tdm_writefile("target", "old", 3, &err), TDM_OK);
    assert_int_equal(symlink("target", "link"), 0);
    assert_int_equal(tdm_writefile("link", "new", 3, &err), TDM_OK);
    assert_int_equal(lstat("link", &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    check_holds("target", "new");
    assert_int_equal(unlink("link") | unlink("target"), 0);

    assert_int_equal(mkfifo("pipe", 0600), 0);
    const int fd = open("pipe", O_RDONLY | O_NONBLOCK);
    assert_int_equal(tdm_writefile_check("pipe", &err), TDM_OK);
    assert_int_equal(tdm_writefile("pipe", "bytes", 5, &err), TDM_OK);
    assert_int_equal(read(fd, text, sizeof text), 5);
    assert_memory_equal(text, "bytes", 5);
    close(fd);
    assert_int_equal(stat("pipe", &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
    unlink("pipe");
    assert_int_equal(tdm_writefile("/dev/null", "bytes", 5, &err), TDM_OK);
    assert_int_equal(stat("/dev/null", &info), 0);
    assert_true(S_ISCHR(info.st_mode));
}

static void test_refused(void **state)
{
    (void)state;
    tdm_err err = {0};
    assert_int_equal(mkdir("folder", 0700), 0);
    assert_int_equal(tdm_writefile_check("folder", &err), TDM_ECANTCREATE);
    assert_string_equal(err.msg, "folder: is a folder");
    assert_int_equal(tdm_writefile_check("none/a", &err), TDM_ECANTCREATE);
    assert_string_equal(err.msg, "none/a: its folder: No such file or directory");
    assert_int_equal(tdm_writefile("none/a", "x", 1, &err), TDM_ECANTCREATE);
    assert_int_equal(tdm_writefile("folder", "x", 1, &err), TDM_ECANTCREATE);
    assert_int_equal(count_names(), 1); /* nothing is left of what failed */
    if (access("/dev/full", W_OK) == 0)
        assert_int_equal(tdm_writefile("/dev/full", "x", 1, &err), TDM_EIO);
    assert_int_equal(rmdir("folder"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_and_replaced),
        cmocka_unit_test(test_links_and_devices),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
