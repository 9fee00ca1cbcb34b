/* The C client library 3.8.0, unmodified: its synchronous API, multis, watches, pipelining, sessions. One line a check. */
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

static const char *server;
static int failures;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void report(const char *name, const char *format, ...) {
    va_list args;
    if (!format) {
        printf("ok %s\n", name);
        fflush(stdout);
        return;
    }
    failures++;
    printf("FAIL %s: ", name);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
}

#define EXPECT(wanted, call)                                                                        \
    do {                                                                                            \
        int rc_ = (call);                                                                           \
        if (rc_ != (wanted)) {                                                                      \
            report(__func__, "line %d: %s gave %d, not %s", __LINE__, #call, rc_, #wanted);          \
            return;                                                                                 \
        }                                                                                           \
    } while (0)
#define THAT(condition)                                                                             \
    do {                                                                                            \
        if (!(condition)) {                                                                         \
            report(__func__, "line %d: not so: %s", __LINE__, #condition);                           \
            return;                                                                                 \
        }                                                                                           \
    } while (0)

/* --- waiting --------------------------------------------------------------------------------- */

typedef struct {
    int connected, expired, count;
    int types[64];
    char paths[64][256];
} seen_t;

static void watch(zhandle_t *zh, int type, int state, const char *path, void *context) {
    seen_t *seen = context ? context : (seen_t *)zoo_get_context(zh);
    pthread_mutex_lock(&lock);
    if (type == ZOO_SESSION_EVENT) {
        seen->connected = state == ZOO_CONNECTED_STATE;
        seen->expired |= state == ZOO_EXPIRED_SESSION_STATE;
    } else if (seen->count < 64) {
        seen->types[seen->count] = type;
        snprintf(seen->paths[seen->count++], 256, "%s", path);
    }
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* Until the number is reached, for at most 30 s. */
static int await(const int *number, int wanted) {
    struct timespec deadline;
    int reached;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += 30;
    pthread_mutex_lock(&lock);
    while (*number < wanted && !pthread_cond_timedwait(&changed, &lock, &deadline)) {
    }
    reached = *number >= wanted;
    pthread_mutex_unlock(&lock);
    return reached;
}

static zhandle_t *connect_as(seen_t *seen, int timeout, const clientid_t *id) {
    memset(seen, 0, sizeof *seen);
    zhandle_t *zh = zookeeper_init(server, watch, timeout, id, seen, 0);
    if (zh && !await(&seen->connected, 1)) {
        zookeeper_close(zh);
        return NULL;
    }
    return zh;
}

/* --- checks ---------------------------------------------------------------------------------- */

static void c_create_read_write_delete(void) {
    seen_t seen;
    struct Stat stat;
    char buffer[256], path[256];
    int length = sizeof buffer;
    zhandle_t *zh = connect_as(&seen, 30000, NULL);
    THAT(zh);
    EXPECT(ZOK, zoo_create(zh, "/c", "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path));
    EXPECT(ZNODEEXISTS, zoo_create(zh, "/c", "one", 3, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EXPECT(ZNONODE, zoo_create(zh, "/none/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EXPECT(ZOK, zoo_get(zh, "/c", 0, buffer, &length, &stat));
    THAT(length == 3 && !memcmp(buffer, "one", 3) && stat.version == 0 && stat.czxid == stat.mzxid);
    EXPECT(ZOK, zoo_set2(zh, "/c", "two!", 4, 0, &stat));
    THAT(stat.version == 1 && stat.dataLength == 4);
    EXPECT(ZBADVERSION, zoo_set(zh, "/c", "x", 1, 0));
    EXPECT(ZOK, zoo_create2(zh, "/c/s-", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_SEQUENTIAL, path, sizeof path, &stat));
    THAT(!strcmp(path, "/c/s-0000000000"));
    length = sizeof buffer;
    EXPECT(ZOK, zoo_get(zh, path, 0, buffer, &length, &stat));
    THAT(length == -1);
    EXPECT(ZOK, zoo_create(zh, "/c/e", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0));
    EXPECT(ZNOCHILDRENFOREPHEMERALS, zoo_create(zh, "/c/e/x", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EXPECT(ZOK, zoo_create2(zh, "/c/box", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_CONTAINER, path, sizeof path, &stat));
    EXPECT(ZOK, zoo_create_ttl(zh, "/c/ttl", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_PERSISTENT_WITH_TTL, 100000, path, sizeof path));
    EXPECT(ZOK, zoo_exists(zh, "/c/e", 0, &stat));
    THAT(stat.ephemeralOwner == zoo_client_id(zh)->client_id);
    struct String_vector names;
    EXPECT(ZOK, zoo_get_children2(zh, "/c", 0, &names, &stat));
    THAT(names.count == 4 && stat.numChildren == 4 && stat.cversion == 4);
    deallocate_String_vector(&names);
    EXPECT(ZNOTEMPTY, zoo_delete(zh, "/c", -1));
    EXPECT(ZOK, zoo_delete(zh, "/c/s-0000000000", 0));
    EXPECT(ZNONODE, zoo_delete(zh, "/c/s-0000000000", 0));
    EXPECT(ZNONODE, zoo_exists(zh, "/none", 0, &stat));
    EXPECT(ZOK, zookeeper_close(zh));
    report(__func__, NULL);
}

static void c_acl_and_auth(void) {
    seen_t seen, others;
    struct Stat stat;
    struct ACL_vector acl;
    char buffer[16];
    int length = sizeof buffer;
    zhandle_t *zh = connect_as(&seen, 30000, NULL), *other = connect_as(&others, 30000, NULL);
    THAT(zh && other);
    EXPECT(ZINVALIDACL, zoo_create(zh, "/cacl", "x", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    EXPECT(ZOK, zoo_add_auth(zh, "digest", "bob:secret", 10, NULL, NULL));
    EXPECT(ZOK, zoo_create(zh, "/cacl", "x", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    EXPECT(ZNOAUTH, zoo_get(other, "/cacl", 0, buffer, &length, &stat));
    EXPECT(ZOK, zoo_get_acl(zh, "/cacl", &acl, &stat));
    THAT(acl.count == 1 && !strcmp(acl.data[0].id.scheme, "digest") && !strncmp(acl.data[0].id.id, "bob:", 4));
    deallocate_ACL_vector(&acl);
    EXPECT(ZOK, zoo_set_acl(zh, "/cacl", 0, &ZOO_OPEN_ACL_UNSAFE));
    length = sizeof buffer;
    EXPECT(ZOK, zoo_get(other, "/cacl", 0, buffer, &length, &stat));
    THAT(stat.aversion == 1 && length == 1);
    zookeeper_close(zh);
    zookeeper_close(other);
    report(__func__, NULL);
}

static void c_multi(void) {
    seen_t seen;
    char path[3][256];
    struct Stat stat;
    zoo_op_t ops[4];
    zoo_op_result_t results[4];
    zhandle_t *zh = connect_as(&seen, 30000, NULL);
    THAT(zh);
    zoo_create_op_init(&ops[0], "/cm", "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, path[0], 256);
    zoo_create_op_init(&ops[1], "/cm/s-", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_SEQUENCE, path[1], 256);
    zoo_set_op_init(&ops[2], "/cm", "yy", 2, 0, &stat);
    zoo_check_op_init(&ops[3], "/cm", 1);
    EXPECT(ZOK, zoo_multi(zh, 4, ops, results));
    THAT(!strcmp(path[1], "/cm/s-0000000000") && stat.version == 1 && results[3].err == ZOK);
    zoo_delete_op_init(&ops[0], "/cm/s-0000000000", -1);
    zoo_delete_op_init(&ops[1], "/cm/none", -1);
    zoo_delete_op_init(&ops[2], "/cm", -1);
    EXPECT(ZNONODE, zoo_multi(zh, 3, ops, results));
    THAT(results[0].err == ZOK && results[1].err == ZNONODE && results[2].err == ZRUNTIMEINCONSISTENCY);
    EXPECT(ZOK, zoo_exists(zh, "/cm/s-0000000000", 0, &stat));
    zookeeper_close(zh);
    report(__func__, NULL);
}

static void c_watches(void) {
    seen_t seen, others, data, child, exist;
    struct Stat stat;
    struct String_vector names;
    char buffer[16];
    int length = sizeof buffer;
    zhandle_t *zh = connect_as(&seen, 30000, NULL), *other = connect_as(&others, 30000, NULL);
    THAT(zh && other);
    memset(&data, 0, sizeof data);
    memset(&child, 0, sizeof child);
    memset(&exist, 0, sizeof exist);
    EXPECT(ZOK, zoo_create(zh, "/cw", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EXPECT(ZOK, zoo_wget(zh, "/cw", watch, &data, buffer, &length, &stat));
    EXPECT(ZOK, zoo_wget_children(zh, "/cw", watch, &child, &names));
    deallocate_String_vector(&names);
    EXPECT(ZNONODE, zoo_wexists(zh, "/cw/a", watch, &exist, &stat));
    EXPECT(ZOK, zoo_create(other, "/cw/a", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    EXPECT(ZOK, zoo_set(other, "/cw", "1", 1, -1));
    EXPECT(ZOK, zoo_set(other, "/cw", "2", 1, -1));
    THAT(await(&exist.count, 1) && exist.types[0] == ZOO_CREATED_EVENT && !strcmp(exist.paths[0], "/cw/a"));
    THAT(await(&child.count, 1) && child.types[0] == ZOO_CHILD_EVENT && !strcmp(child.paths[0], "/cw"));
    THAT(await(&data.count, 1) && data.types[0] == ZOO_CHANGED_EVENT);
    length = sizeof buffer;
    EXPECT(ZOK, zoo_wget(zh, "/cw/a", watch, &data, buffer, &length, &stat));
    EXPECT(ZOK, zoo_delete(other, "/cw/a", -1));
    THAT(await(&data.count, 2) && data.types[1] == ZOO_DELETED_EVENT && !strcmp(data.paths[1], "/cw/a"));
    length = sizeof buffer;
    EXPECT(ZOK, zoo_wget(zh, "/cw", watch, &data, buffer, &length, &stat));
    EXPECT(ZOK, zoo_remove_watches(zh, "/cw", ZWATCHTYPE_DATA, watch, &data, 0));
    EXPECT(ZNOWATCHER, zoo_remove_watches(zh, "/cw", ZWATCHTYPE_DATA, watch, &data, 0));
    zookeeper_close(zh);
    zookeeper_close(other);
    report(__func__, NULL);
}

static int answered, wrong;

static void set_done(int rc, const struct Stat *stat, const void *number) {
    pthread_mutex_lock(&lock);
    wrong += rc != ZOK || stat->version != (int)(long)number;
    answered++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void sync_done(int rc, const char *path, const void *number) {
    pthread_mutex_lock(&lock);
    wrong += rc != ZOK || strcmp(path, "/cp");
    answered++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void c_pipelining(void) {
    seen_t seen;
    zhandle_t *zh = connect_as(&seen, 30000, NULL);
    THAT(zh);
    EXPECT(ZOK, zoo_create(zh, "/cp", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0));
    answered = wrong = 0;
    for (long i = 1; i <= 2000; i++) {
        EXPECT(ZOK, zoo_aset(zh, "/cp", "x", 1, -1, set_done, (void *)i));
        EXPECT(ZOK, zoo_aexists(zh, "/cp", 0, set_done, (void *)i));
    }
    EXPECT(ZOK, zoo_async(zh, "/cp", sync_done, NULL));
    THAT(await(&answered, 4001));
    THAT(wrong == 0);
    zookeeper_close(zh);
    report(__func__, NULL);
}

/* A client that dies without a word leaves its session to whoever knows id and password. */
static void c_session_handover_and_end(void) {
    seen_t seen, gone;
    struct Stat stat;
    clientid_t id;
    int pipes[2], status;
    THAT(pipe(pipes) == 0);
    pid_t child = fork();
    if (child == 0) {
        zhandle_t *zh = connect_as(&seen, 20000, NULL);
        if (!zh || zoo_create(zh, "/ch", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0) != ZOK
            || write(pipes[1], zoo_client_id(zh), sizeof id) != sizeof id) {
            _exit(1);
        }
        pause();
    }
    THAT(read(pipes[0], &id, sizeof id) == sizeof id);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    zhandle_t *again = connect_as(&seen, 20000, &id);
    THAT(again);
    THAT(zoo_client_id(again)->client_id == id.client_id);
    EXPECT(ZOK, zoo_exists(again, "/ch", 0, &stat));
    THAT(stat.ephemeralOwner == id.client_id);
    EXPECT(ZOK, zookeeper_close(again));
    memset(&gone, 0, sizeof gone);
    zhandle_t *expired = zookeeper_init(server, watch, 20000, &id, &gone, 0);
    THAT(expired && await(&gone.expired, 1));
    zookeeper_close(expired);
    report(__func__, NULL);
}

static void c_timeouts_are_clamped(void) {
    seen_t seen;
    zhandle_t *zh = connect_as(&seen, 100, NULL);
    THAT(zh);
    THAT(zoo_recv_timeout(zh) == 4000);
    zookeeper_close(zh);
    zh = connect_as(&seen, 10000000, NULL);
    THAT(zh);
    THAT(zoo_recv_timeout(zh) == 40000);
    zookeeper_close(zh);
    report(__func__, NULL);
}

int main(int argc, char **argv) {
    (void)argc;
    server = argv[1];
    zoo_set_debug_level(0);
    c_create_read_write_delete();
    c_acl_and_auth();
    c_multi();
    c_watches();
    c_pipelining();
    c_session_handover_and_end();
    c_timeouts_are_clamped();
    return failures != 0;
}
