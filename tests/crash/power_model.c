#include "tests/crash/power_model.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void *grown(void *p, size_t n, size_t size)
{
    p = realloc(p, n * size);
    EXPECT(p, "no memory");
    return p;
}

/* ---- the log ---- */

static void take_name(char to[64], const char **p, uint32_t len)
{
    EXPECT(len < 64, "a name of %u bytes", (unsigned)len);
    memcpy(to, *p, len);
    to[len] = '\0';
    *p += len;
}

void power_log_load(power_log *log, const char *path)
{
    *log = (power_log){0};
    EXPECT(load(path, &log->text), "%s is not there", path);
    for (const char *p = log->text.p, *end = p + log->text.len; p < end; log->n++) {
        log->events = grown(log->events, log->n + 1, sizeof *log->events);
        power_event *e = &log->events[log->n];
        memcpy(&e->r, p, sizeof e->r);
        p += sizeof e->r;
        take_name(e->name, &p, e->r.n_name);
        take_name(e->other, &p, e->r.n_other);
        e->data = p;
        p += e->r.n_data;
        EXPECT(p <= end, "%s ends in a record", path);
    }
}

void power_log_free(power_log *log)
{
    free(log->events);
    tdm_buf_free(&log->text);
}

/* ---- nodes and names ---- */

static size_t add_node(power_disk *d, uint64_t inode, bool is_folder)
{
    d->nodes = grown(d->nodes, d->n + 1, sizeof *d->nodes);
    d->nodes[d->n] = (power_node){.inode = inode, .is_folder = is_folder};
    return d->n++;
}

/* The last life of an inode; d->n: none that the trace is about. */
static size_t node_of(const power_disk *d, uint64_t inode)
{
    for (size_t i = d->n; i-- > 0;)
        if (d->nodes[i].inode == inode)
            return i;
    return d->n;
}

static size_t find_name(const power_names *names, size_t folder, const char *name)
{
    size_t i = 0;
    while (i < names->n &&
           (names->items[i].folder != folder || strcmp(names->items[i].name, name) != 0))
        i++;
    return i;
}

static void drop_name(power_names *names, size_t folder, const char *name)
{
    const size_t i = find_name(names, folder, name);
    if (i < names->n)
        names->items[i] = names->items[--names->n];
}

static void set_name(power_names *names, size_t folder, const char *name, size_t file)
{
    drop_name(names, folder, name);
    names->items = grown(names->items, names->n + 1, sizeof *names->items);
    power_entry *e = &names->items[names->n++];
    e->folder = folder;
    e->file = file;
    snprintf(e->name, sizeof e->name, "%s", name);
}

static void apply_change(power_names *names, const name_change *c)
{
    switch (c->op) {
    case TRACE_CREATE:
    case TRACE_MKDIR:
        set_name(names, c->folder, c->name, c->file);
        break;
    case TRACE_RENAME:
        drop_name(names, c->folder, c->name);
        set_name(names, c->other_folder, c->other, c->file);
        break;
    case TRACE_LINK:
        set_name(names, c->other_folder, c->other, c->file);
        break;
    default:
        drop_name(names, c->folder, c->name);
    }
}

/* ---- files ---- */

/* What an event makes of a file's bytes. */
static void change_bytes(tdm_buf *b, const power_event *e)
{
    const size_t end = e->r.at + e->r.n_data;
    if (e->r.op == TRACE_TRUNCATE ? b->len != end : b->len < end) {
        const size_t before = b->len;
        EXPECT(b->len >= end || tdm_buf_reserve(b, end - b->len, NULL) == TDM_OK, "no memory");
        if (before < end)
            memset(b->p + before, 0, end - before);
        b->len = end;
    }
    if (e->r.n_data)
        memcpy(b->p + e->r.at, e->data, e->r.n_data);
}

static void copy_bytes(tdm_buf *to, const tdm_buf *from)
{
    to->len = 0;
    EXPECT(tdm_buf_put(to, from->p, from->len, NULL) == TDM_OK, "no memory");
}

/* ---- events ---- */

static void do_names(power_disk *d, const power_event *e)
{
    const size_t folder = node_of(d, e->r.folder);
    if (folder == d->n)
        return; /* elsewhere */
    name_change c = {.op = (trace_op)e->r.op, .folder = folder};
    if (c.op == TRACE_CREATE || c.op == TRACE_MKDIR)
        c.file = add_node(d, e->r.file, c.op == TRACE_MKDIR);
    else
        c.file = node_of(d, e->r.file);
    c.other_folder = e->r.other_folder ? node_of(d, e->r.other_folder) : folder;
    snprintf(c.name, sizeof c.name, "%s", e->name);
    snprintf(c.other, sizeof c.other, "%s", e->other);
    EXPECT(c.file < d->n && c.other_folder < d->n, "a trace of %s in an unknown folder", e->name);
    apply_change(&d->seen, &c);
    power_node *in = &d->nodes[c.other_folder]; /* of two folders the one that gets the name */
    in->changes = grown(in->changes, in->n_changes + 1, sizeof *in->changes);
    in->changes[in->n_changes++] = c;
}

static void do_sync(power_disk *d, power_node *n)
{
    for (size_t i = 0; i < n->n_changes; i++)
        apply_change(&d->kept, &n->changes[i]);
    n->n_changes = n->n_pending = 0;
    if (!n->is_folder)
        copy_bytes(&n->kept, &n->seen);
}

static void do_bytes(power_node *n, const power_event *e)
{
    change_bytes(&n->seen, e);
    n->pending = grown(n->pending, n->n_pending + 1, sizeof *n->pending);
    n->pending[n->n_pending++] = e;
}

void power_disk_do(power_disk *d, const power_event *e)
{
    if (e->r.folder && e->r.op != TRACE_TRUNCATE) {
        do_names(d, e);
        return;
    }
    const size_t node = node_of(d, e->r.file);
    if (node == d->n)
        return;
    if (e->r.op == TRACE_SYNC)
        do_sync(d, &d->nodes[node]);
    else
        do_bytes(&d->nodes[node], e);
}

static void open_folder(power_disk *d, size_t folder, const char *path);

static void open_entry(power_disk *d, size_t folder, const char *path, const char *name)
{
    char full[PATH_CAP];
    struct stat info;
    EXPECT(snprintf(full, sizeof full, "%s/%s", path, name) < PATH_CAP && stat(full, &info) == 0,
           "%s/%s", path, name);
    const size_t node = add_node(d, (uint64_t)info.st_ino, S_ISDIR(info.st_mode));
    set_name(&d->kept, folder, name, node);
    set_name(&d->seen, folder, name, node);
    if (S_ISDIR(info.st_mode)) {
        open_folder(d, node, full);
    } else {
        load(full, &d->nodes[node].kept);
        copy_bytes(&d->nodes[node].seen, &d->nodes[node].kept);
    }
}

static void open_folder(power_disk *d, size_t folder, const char *path)
{
    DIR *dir = opendir(path);
    EXPECT(dir, "%s cannot be listed", path);
    for (const struct dirent *e; (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            open_entry(d, folder, path, e->d_name);
    closedir(dir);
}

void power_disk_open(power_disk *d, const char *folder)
{
    struct stat info;
    *d = (power_disk){0};
    EXPECT(stat(folder, &info) == 0, "%s is not there", folder);
    add_node(d, (uint64_t)info.st_ino, true);
    open_folder(d, 0, folder);
}

void power_disk_free(power_disk *d)
{
    for (size_t i = 0; i < d->n; i++) {
        tdm_buf_free(&d->nodes[i].kept);
        tdm_buf_free(&d->nodes[i].seen);
        free(d->nodes[i].pending);
        free(d->nodes[i].changes);
    }
    free(d->nodes);
    free(d->kept.items);
    free(d->seen.items);
}

const power_node *power_disk_find(const power_disk *d, const char *a, const char *b)
{
    size_t i = find_name(&d->seen, 0, a);
    if (i < d->seen.n && b)
        i = find_name(&d->seen, d->seen.items[i].file, b);
    return i < d->seen.n ? &d->nodes[d->seen.items[i].file] : NULL;
}

/* ---- the loss ---- */

/* Each block that the event touched reaches the disk as it is now, or not. */
static void write_back(tdm_buf *disk, const tdm_buf *seen, const power_event *e,
                       const power_loss *how)
{
    const size_t end = e->r.at + (e->r.op == TRACE_TRUNCATE ? 1 : e->r.n_data);
    for (size_t at = e->r.at / how->block * how->block; at < end && at < seen->len;
         at += how->block) {
        const size_t n = seen->len - at < how->block ? seen->len - at : how->block;
        if (random_share() < how->share)
            memcpy(disk->p + at, seen->p + at, n);
    }
}

static void fill(tdm_buf *disk, size_t len, bool garbage)
{
    const size_t before = disk->len;
    EXPECT(tdm_buf_reserve(disk, len - before, NULL) == TDM_OK, "no memory");
    for (size_t i = before; i < len; i++)
        disk->p[i] = garbage ? (char)(random_below(96) + 32) : 0;
    disk->len = len;
}

static void lose_bytes(const power_node *n, const power_loss *how, tdm_buf *disk)
{
    tdm_buf seen = {0};
    size_t size = n->kept.len, most = size;
    for (size_t i = 0; i < n->n_pending; i++)
        if (n->pending[i]->r.at + n->pending[i]->r.n_data > most)
            most = n->pending[i]->r.at + n->pending[i]->r.n_data;
    copy_bytes(disk, &n->kept);
    copy_bytes(&seen, &n->kept);
    fill(disk, most, how->garbage);
    for (size_t i = 0; i < n->n_pending; i++) {
        change_bytes(&seen, n->pending[i]);
        write_back(disk, &seen, n->pending[i], how);
        if (random_share() < how->share)
            size = seen.len;
    }
    disk->len = size;
    tdm_buf_free(&seen);
}

/* Files and folders of one folder, and below. */
static void put_folder(const power_disk *d, const power_names *names, size_t folder,
                       const power_loss *how, const char *path)
{
    for (size_t i = 0; i < names->n; i++) {
        const power_entry *e = &names->items[i];
        char full[PATH_CAP];
        if (e->folder != folder)
            continue;
        EXPECT(snprintf(full, sizeof full, "%s/%s", path, e->name) < PATH_CAP, "%s: too long",
               path);
        if (d->nodes[e->file].is_folder) {
            EXPECT(mkdir(full, 0777) == 0, "%s cannot be made", full);
            put_folder(d, names, e->file, how, full);
        } else {
            tdm_buf disk = {0};
            lose_bytes(&d->nodes[e->file], how, &disk);
            store(full, disk.p, disk.len);
            tdm_buf_free(&disk);
        }
    }
}

void power_disk_lose(const power_disk *d, const power_loss *how, const char *folder)
{
    power_names left = {0};
    for (size_t i = 0; i < d->kept.n; i++)
        set_name(&left, d->kept.items[i].folder, d->kept.items[i].name, d->kept.items[i].file);
    for (size_t i = 0; i < d->n; i++)
        for (size_t k = 0; k < d->nodes[i].n_changes; k++)
            if (random_share() < how->share)
                apply_change(&left, &d->nodes[i].changes[k]);
    put_folder(d, &left, 0, how, folder);
    free(left.items);
}
