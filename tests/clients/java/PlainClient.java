import static java.nio.charset.StandardCharsets.UTF_8;
import static org.apache.zookeeper.AddWatchMode.PERSISTENT;
import static org.apache.zookeeper.AddWatchMode.PERSISTENT_RECURSIVE;
import static org.apache.zookeeper.CreateMode.CONTAINER;
import static org.apache.zookeeper.CreateMode.EPHEMERAL;
import static org.apache.zookeeper.CreateMode.EPHEMERAL_SEQUENTIAL;
import static org.apache.zookeeper.CreateMode.PERSISTENT_SEQUENTIAL;
import static org.apache.zookeeper.CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL;
import static org.apache.zookeeper.CreateMode.PERSISTENT_WITH_TTL;
import static org.apache.zookeeper.Watcher.Event.EventType.NodeChildrenChanged;
import static org.apache.zookeeper.Watcher.Event.EventType.NodeCreated;
import static org.apache.zookeeper.Watcher.Event.EventType.NodeDataChanged;
import static org.apache.zookeeper.Watcher.Event.EventType.NodeDeleted;
import static org.apache.zookeeper.ZooDefs.Ids.ANYONE_ID_UNSAFE;
import static org.apache.zookeeper.ZooDefs.Ids.CREATOR_ALL_ACL;
import static org.apache.zookeeper.ZooDefs.Ids.OPEN_ACL_UNSAFE;
import static org.apache.zookeeper.ZooDefs.Ids.READ_ACL_UNSAFE;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Transaction;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.Watcher.WatcherType;
import org.apache.zookeeper.ZooDefs.Perms;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.ClientInfo;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;
import org.apache.zookeeper.server.auth.DigestAuthenticationProvider;

/** Apache's own Java client, every call of its API, against the server at the address given. */
public final class PlainClient {
    private static String server;

    public static void main(String[] args) throws Exception {
        server = args[0];
        Checks checks = new Checks();
        checks.check("java_create_every_mode", PlainClient::createEveryMode);
        checks.check("java_read_and_write", PlainClient::readAndWrite);
        checks.check("java_errors", PlainClient::errors);
        checks.check("java_asynchronous_calls", PlainClient::asynchronous);
        checks.check("java_multi", PlainClient::multi);
        checks.check("java_multi_read", PlainClient::multiRead);
        checks.check("java_acl_and_auth", PlainClient::aclAndAuth);
        checks.check("java_failed_auth", PlainClient::failedAuth);
        checks.check("java_who_am_i_and_ephemerals", PlainClient::whoAmIAndEphemerals);
        checks.check("java_config_and_reconfig", PlainClient::configAndReconfig);
        checks.check("java_standard_watches", PlainClient::standardWatches);
        checks.check("java_persistent_watches", PlainClient::persistentWatches);
        checks.check("java_remove_watches", PlainClient::removeWatches);
        checks.check("java_event_before_own_reply", PlainClient::eventBeforeOwnReply);
        checks.check("java_watches_after_reconnect", PlainClient::watchesAfterReconnect);
        checks.check("java_many_watches_after_reconnect", PlainClient::manyWatchesAfterReconnect);
        checks.check("java_persistent_watches_after_reconnect", PlainClient::persistentWatchesAfterReconnect);
        checks.check("java_auth_after_reconnect", PlainClient::authAfterReconnect);
        checks.check("java_session_handover", PlainClient::sessionHandover);
        checks.check("java_expiry_by_time", PlainClient::expiryByTime);
        checks.check("java_expired_on_return", PlainClient::expiredOnReturn);
        checks.check("java_pings_keep_an_idle_session", PlainClient::pings);
        checks.check("java_chroot", PlainClient::chroot);
        checks.check("java_pipelining", PlainClient::pipelining);
        checks.check("java_large_data_and_wide_znodes", PlainClient::large);
        checks.check("java_update_server_list", PlainClient::updateServerList);
        checks.end();
    }

    private static ZooKeeper connect(String address, int timeout, Watcher watcher) throws Exception {
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper zk = new ZooKeeper(address, timeout, event -> {
            if (event.getState() == KeeperState.SyncConnected) {
                connected.countDown();
            }
            watcher.process(event);
        });
        Checks.that(connected.await(30, TimeUnit.SECONDS), "not connected within 30 s");
        return zk;
    }

    private static ZooKeeper connect() throws Exception {
        return connect(server, 30000, event -> { });
    }

    /** Waits until the client, whose connection was cut, has a reply again. */
    private static void served(ZooKeeper zk, String path) throws Exception {
        Checks.eventually("an answer about " + path, () -> {
            try {
                return zk.exists(path, false) != null;
            } catch (KeeperException.ConnectionLossException e) {
                return false;
            }
        });
    }

    private static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    private static String make(ZooKeeper zk, String path) throws Exception {
        return zk.create(path, bytes("x"), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
    }

    private static void createEveryMode() throws Exception {
        try (ZooKeeper zk = connect()) {
            make(zk, "/modes");
            Stat stat = new Stat();
            Checks.same("/modes/p", zk.create("/modes/p", bytes("p"), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, stat));
            Checks.same(1, stat.getDataLength());
            Checks.same(stat, zk.exists("/modes/p", false));
            Checks.same("/modes/e", zk.create("/modes/e", null, OPEN_ACL_UNSAFE, EPHEMERAL, stat));
            Checks.same(zk.getSessionId(), stat.getEphemeralOwner());
            Checks.same("/modes/s0000000002", zk.create("/modes/s", null, OPEN_ACL_UNSAFE, PERSISTENT_SEQUENTIAL));
            Checks.same("/modes/t0000000003", zk.create("/modes/t", null, OPEN_ACL_UNSAFE, EPHEMERAL_SEQUENTIAL));
            Checks.same("/modes/c", zk.create("/modes/c", bytes("c"), OPEN_ACL_UNSAFE, CONTAINER, stat));
            Checks.same(0L, stat.getEphemeralOwner());
            Checks.same("/modes/l", zk.create("/modes/l", null, OPEN_ACL_UNSAFE, PERSISTENT_WITH_TTL, stat, 3_600_000));
            Checks.same("/modes/l0000000006", zk.create("/modes/l", null, OPEN_ACL_UNSAFE, PERSISTENT_SEQUENTIAL_WITH_TTL, stat, 5000));
            make(zk, "/modes/c/child");
            Checks.same(7, zk.getChildren("/modes", false).size());
            Checks.same(8, zk.getAllChildrenNumber("/modes"));
            CountDownLatch done = new CountDownLatch(3);
            zk.create("/modes/async-c", null, OPEN_ACL_UNSAFE, CONTAINER, (rc, path, ctx, name, s) -> {
                if (rc == 0 && s != null && name.equals("/modes/async-c")) {
                    done.countDown();
                }
            }, null);
            zk.create("/modes/async-t", null, OPEN_ACL_UNSAFE, PERSISTENT_WITH_TTL, (rc, path, ctx, name, s) -> {
                if (rc == 0 && s != null) {
                    done.countDown();
                }
            }, null, 10_000);
            zk.create("/modes/async-p", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, path, ctx, name) -> {
                if (rc == 0 && ctx.equals("ctx")) {
                    done.countDown();
                }
            }, "ctx");
            Checks.that(done.await(30, TimeUnit.SECONDS), "asynchronous creates");
        }
    }

    private static void readAndWrite() throws Exception {
        try (ZooKeeper zk = connect()) {
            make(zk, "/rw");
            Stat first = zk.exists("/rw", false);
            Checks.that(first.getCzxid() == first.getMzxid() && first.getCtime() == first.getMtime(), first);
            Stat second = zk.setData("/rw", bytes("two"), 0);
            Checks.same(1, second.getVersion());
            Checks.same(3, second.getDataLength());
            Stat read = new Stat();
            Checks.same("two", new String(zk.getData("/rw", false, read), UTF_8));
            Checks.same(second, read);
            zk.setData("/rw", null, 1);
            Checks.same(null, zk.getData("/rw", false, read));
            zk.setData("/rw", new byte[0], -1);
            Checks.same(0, zk.getData("/rw", false, read).length);
            make(zk, "/rw/a");
            make(zk, "/rw/b");
            Stat parent = new Stat();
            Checks.same(new TreeSet<>(Arrays.asList("a", "b")), new TreeSet<>(zk.getChildren("/rw", false, parent)));
            Checks.same(2, parent.getCversion());
            zk.delete("/rw/a", 0);
            Checks.same(3, zk.exists("/rw", false).getCversion());
            zk.sync("/rw");
            Checks.same(null, zk.exists("/rw/a", false));
            Checks.that(zk.getChildren("/", false).contains("zookeeper"), "the root");
            zk.setData("/", bytes("root"), -1);
            Checks.same("root", new String(zk.getData("/", false, null), UTF_8));
            zk.setData("/", new byte[0], -1);
        }
    }

    private static void errors() throws Exception {
        try (ZooKeeper zk = connect()) {
            make(zk, "/err");
            Checks.fails(Code.NODEEXISTS, () -> make(zk, "/err"));
            Checks.fails(Code.NONODE, () -> make(zk, "/none/child"));
            Checks.fails(Code.NONODE, () -> zk.getData("/none", false, null));
            Checks.fails(Code.NONODE, () -> zk.setData("/none", null, -1));
            Checks.fails(Code.NONODE, () -> zk.delete("/none", -1));
            Checks.fails(Code.NONODE, () -> zk.getChildren("/none", false));
            Checks.fails(Code.NONODE, () -> zk.getACL("/none", null));
            Checks.fails(Code.NONODE, () -> zk.getAllChildrenNumber("/none"));
            Checks.fails(Code.BADVERSION, () -> zk.setData("/err", null, 5));
            Checks.fails(Code.BADVERSION, () -> zk.delete("/err", 5));
            Checks.fails(Code.BADVERSION, () -> zk.setACL("/err", OPEN_ACL_UNSAFE, 5));
            make(zk, "/err/child");
            Checks.fails(Code.NOTEMPTY, () -> zk.delete("/err", -1));
            zk.create("/err/e", null, OPEN_ACL_UNSAFE, EPHEMERAL);
            Checks.fails(Code.NOCHILDRENFOREPHEMERALS, () -> make(zk, "/err/e/x"));
            Checks.fails(Code.INVALIDACL, () -> zk.create("/err/x", null, CREATOR_ALL_ACL, CreateMode.PERSISTENT));
            List<ACL> nobody = Arrays.asList(new ACL(Perms.ALL, new Id("world", "nobody")));
            Checks.fails(Code.INVALIDACL, () -> zk.create("/err/x", null, nobody, CreateMode.PERSISTENT));
            Checks.fails(Code.BADARGUMENTS, () -> zk.delete("/zookeeper", -1));
            Checks.fails(Code.NOAUTH, () -> zk.setData("/zookeeper/config", null, -1));
        }
    }

    private static void asynchronous() throws Exception {
        try (ZooKeeper zk = connect()) {
            make(zk, "/async");
            List<String> order = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch done = new CountDownLatch(11);
            zk.exists("/async", false, (rc, p, c, s) -> note(order, done, "exists " + rc + (s != null)), null);
            zk.getData("/async", false, (rc, p, c, d, s) -> note(order, done, "get " + rc + d.length), null);
            zk.getChildren("/async", false, (rc, p, c, n) -> note(order, done, "ls " + rc + n.size()), null);
            zk.getChildren("/async", false, (rc, p, c, n, s) -> note(order, done, "ls2 " + rc + s.getVersion()), null);
            zk.getACL("/async", new Stat(), (rc, p, c, a, s) -> note(order, done, "acl " + rc + a.size()), null);
            zk.setData("/async", bytes("yy"), 0, (rc, p, c, s) -> note(order, done, "set " + rc + s.getVersion()), null);
            zk.setACL("/async", OPEN_ACL_UNSAFE, 0, (rc, p, c, s) -> note(order, done, "setacl " + rc + s.getAversion()), null);
            zk.sync("/async", (rc, p, c) -> note(order, done, "sync " + rc + p), null);
            zk.getAllChildrenNumber("/async", (rc, p, c, n) -> note(order, done, "count " + rc + n), null);
            zk.getEphemerals("/async", (rc, c, n) -> note(order, done, "eph " + rc + n.size()), null);
            zk.delete("/async", 1, (rc, p, c) -> note(order, done, "delete " + rc), null);
            Checks.that(done.await(30, TimeUnit.SECONDS), order);
            Checks.same(List.of("exists 0true", "get 01", "ls 00", "ls2 00", "acl 01", "set 01", "setacl 01", "sync 0/async",
                "count 00", "eph 00", "delete 0"), order);
        }
    }

    private static void note(List<String> order, CountDownLatch done, String what) {
        order.add(what);
        done.countDown();
    }

    private static void multi() throws Exception {
        try (ZooKeeper zk = connect()) {
            make(zk, "/multi");
            List<OpResult> results = zk.multi(List.of(
                Op.check("/multi", 0),
                Op.create("/multi/a", bytes("a"), OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                Op.create("/multi/s-", null, OPEN_ACL_UNSAFE, PERSISTENT_SEQUENTIAL),
                Op.create("/multi/c", null, OPEN_ACL_UNSAFE, CONTAINER),
                Op.create("/multi/t", null, OPEN_ACL_UNSAFE, PERSISTENT_WITH_TTL, 100_000),
                Op.setData("/multi/a", bytes("aa"), 0),
                Op.delete("/multi/c", 0)));
            Checks.same(7, results.size());
            Checks.same("/multi/s-0000000001", ((OpResult.CreateResult) results.get(2)).getPath());
            Checks.same(1, ((OpResult.SetDataResult) results.get(5)).getStat().getVersion());
            Checks.same(new TreeSet<>(List.of("a", "s-0000000001", "t")), new TreeSet<>(zk.getChildren("/multi", false)));
            try {
                zk.multi(List.of(
                    Op.create("/multi/b", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT),
                    Op.delete("/multi/none", -1),
                    Op.setData("/multi/a", null, -1)));
                throw new AssertionError("a multi with a bad part succeeded");
            } catch (KeeperException e) {
                Checks.same(Code.NONODE, e.code());
                List<OpResult> parts = e.getResults();
                int[] codes = parts.stream().mapToInt(part -> ((OpResult.ErrorResult) part).getErr()).toArray();
                Checks.that(Arrays.equals(codes, new int[] {0, -101, -2}), Arrays.toString(codes));
            }
            Checks.same(null, zk.exists("/multi/b", false));
            Checks.same(0, zk.multi(List.of()).size());
            Transaction transaction = zk.transaction();
            transaction.check("/multi/a", 1).setData("/multi/a", bytes("t"), 1).delete("/multi/t", -1);
            Checks.same(3, transaction.commit().size());
            CountDownLatch done = new CountDownLatch(1);
            zk.multi(List.of(Op.check("/multi/a", 99)), (rc, path, ctx, parts) -> {
                if (rc == Code.BADVERSION.intValue()) {
                    done.countDown();
                }
            }, null);
            Checks.that(done.await(30, TimeUnit.SECONDS), "asynchronous multi");
        }
    }

    private static void multiRead() throws Exception {
        try (ZooKeeper zk = connect()) {
            make(zk, "/mread");
            make(zk, "/mread/a");
            List<OpResult> results = zk.multi(List.of(Op.getData("/mread"), Op.getChildren("/mread"), Op.getData("/mread/none")));
            Checks.same("x", new String(((OpResult.GetDataResult) results.get(0)).getData(), UTF_8));
            Checks.same(List.of("a"), ((OpResult.GetChildrenResult) results.get(1)).getChildren());
            Checks.same(Code.NONODE.intValue(), ((OpResult.ErrorResult) results.get(2)).getErr());
        }
    }

    private static void aclAndAuth() throws Exception {
        try (ZooKeeper bob = connect(); ZooKeeper eve = connect()) {
            bob.addAuthInfo("digest", bytes("bob:secret"));
            bob.create("/acl", bytes("x"), CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            String id = DigestAuthenticationProvider.generateDigest("bob:secret");
            Checks.same(List.of(new ACL(Perms.ALL, new Id("digest", id))), bob.getACL("/acl", new Stat()));
            Checks.fails(Code.NOAUTH, () -> eve.getData("/acl", false, null));
            Checks.fails(Code.NOAUTH, () -> eve.exists("/acl", false));
            Checks.fails(Code.NOAUTH, () -> eve.getACL("/acl", null));
            Checks.fails(Code.NOAUTH, () -> make(eve, "/acl/x"));
            List<ACL> shared = Arrays.asList(new ACL(Perms.READ, ANYONE_ID_UNSAFE), new ACL(Perms.ALL, new Id("auth", "")));
            Stat stat = bob.setACL("/acl", shared, 0);
            Checks.same(1, stat.getAversion());
            Checks.same(0, stat.getVersion());
            Checks.same("x", new String(eve.getData("/acl", false, null), UTF_8));
            Checks.same(new Id("digest", "bob:x"), eve.getACL("/acl", new Stat()).get(1).getId());
            Checks.fails(Code.NOAUTH, () -> eve.setData("/acl", null, -1));
            make(bob, "/acl/child");
            Checks.fails(Code.NOAUTH, () -> eve.delete("/acl/child", -1));
            eve.addAuthInfo("digest", bytes("bob:secret"));
            eve.delete("/acl/child", -1);
            eve.create("/acl/r", null, READ_ACL_UNSAFE, CreateMode.PERSISTENT);
            Checks.fails(Code.NOAUTH, () -> eve.setData("/acl/r", null, -1));
        }
    }

    private static void failedAuth() throws Exception {
        CountDownLatch failed = new CountDownLatch(1);
        try (ZooKeeper zk = connect(server, 30000, event -> {
            if (event.getState() == KeeperState.AuthFailed) {
                failed.countDown();
            }
        })) {
            zk.addAuthInfo("no-such-scheme", bytes("x"));
            Checks.that(failed.await(30, TimeUnit.SECONDS), "no AuthFailed");
            Checks.fails(Code.AUTHFAILED, () -> zk.exists("/", false));
        }
    }

    private static void whoAmIAndEphemerals() throws Exception {
        try (ZooKeeper zk = connect(); ZooKeeper other = connect()) {
            zk.addAuthInfo("digest", bytes("bob:secret"));
            TreeSet<String> ids = new TreeSet<>();
            for (ClientInfo info : zk.whoAmI()) {
                ids.add(info.getAuthScheme() + " " + info.getUser());
            }
            Checks.same(new TreeSet<>(List.of("digest bob", "ip 127.0.0.1")), ids);
            make(zk, "/mine");
            zk.create("/mine/a", null, OPEN_ACL_UNSAFE, EPHEMERAL);
            zk.create("/mine/b", null, OPEN_ACL_UNSAFE, EPHEMERAL);
            zk.create("/mine-not", null, OPEN_ACL_UNSAFE, EPHEMERAL);
            other.create("/mine/others", null, OPEN_ACL_UNSAFE, EPHEMERAL);
            Checks.same(new TreeSet<>(List.of("/mine/a", "/mine/b", "/mine-not")), new TreeSet<>(zk.getEphemerals()));
            // The prefix is one of text, not of paths.
            Checks.same(3, zk.getEphemerals("/mine").size());
            Checks.same(List.of("/mine/a"), zk.getEphemerals("/mine/a"));
            Checks.same(List.of("/mine/others"), other.getEphemerals());
        }
    }

    private static void configAndReconfig() throws Exception {
        try (ZooKeeperAdmin zk = new ZooKeeperAdmin(server, 30000, event -> { })) {
            String before = new String(zk.getConfig(false, new Stat()));
            Checks.same(System.getenv("OSTLER_IN_ENSEMBLE") != null, before.startsWith("server."));
            Checks.same(System.getenv("OSTLER_IN_ENSEMBLE") == null, before.isEmpty());
            Checks.fails(Code.RECONFIGDISABLED, () -> zk.reconfigure("server.7=localhost:1:2;3", null, null, -1, new Stat()));
            Checks.same(before, new String(zk.getConfig(false, new Stat())));
        }
    }

    private static void standardWatches() throws Exception {
        try (ZooKeeper zk = connect(); ZooKeeper other = connect()) {
            Checks.Kept data = new Checks.Kept();
            Checks.Kept child = new Checks.Kept();
            Checks.Kept exist = new Checks.Kept();
            make(zk, "/sw");
            zk.getData("/sw", data, null);
            zk.getChildren("/sw", child);
            Checks.same(null, zk.exists("/sw/a", exist));
            make(other, "/sw/a");
            exist.next(NodeCreated, "/sw/a");
            child.next(NodeChildrenChanged, "/sw");
            other.setData("/sw", bytes("1"), -1);
            other.setData("/sw", bytes("2"), -1);
            data.next(NodeDataChanged, "/sw");
            zk.getData("/sw/a", data, null);
            zk.getChildren("/sw/a", child);
            zk.exists("/sw/a", exist);
            other.delete("/sw/a", -1);
            data.next(NodeDeleted, "/sw/a");
            child.next(NodeDeleted, "/sw/a");
            exist.next(NodeDeleted, "/sw/a");
            zk.exists("/sw", false);
            data.none();
            child.none();
            exist.none();
        }
    }

    private static void persistentWatches() throws Exception {
        try (ZooKeeper zk = connect(); ZooKeeper other = connect()) {
            Checks.Kept one = new Checks.Kept();
            Checks.Kept all = new Checks.Kept();
            zk.addWatch("/pw", one, PERSISTENT);
            zk.addWatch("/pw", all, PERSISTENT_RECURSIVE);
            for (int round = 0; round < 2; round++) {
                make(other, "/pw");
                make(other, "/pw/a");
                make(other, "/pw/a/b");
                other.setData("/pw/a/b", bytes("1"), -1);
                other.setData("/pw", bytes("1"), -1);
                other.delete("/pw/a/b", -1);
                other.delete("/pw/a", -1);
                other.delete("/pw", -1);
                one.next(NodeCreated, "/pw");
                one.next(NodeChildrenChanged, "/pw");
                one.next(NodeDataChanged, "/pw");
                one.next(NodeChildrenChanged, "/pw");
                one.next(NodeDeleted, "/pw");
                all.next(NodeCreated, "/pw");
                all.next(NodeCreated, "/pw/a");
                all.next(NodeCreated, "/pw/a/b");
                all.next(NodeDataChanged, "/pw/a/b");
                all.next(NodeDataChanged, "/pw");
                all.next(NodeDeleted, "/pw/a/b");
                all.next(NodeDeleted, "/pw/a");
                all.next(NodeDeleted, "/pw");
            }
            zk.exists("/", false);
            one.none();
            all.none();
        }
    }

    private static void removeWatches() throws Exception {
        try (ZooKeeper zk = connect(); ZooKeeper other = connect()) {
            make(zk, "/rm");
            Checks.Kept data = new Checks.Kept();
            Checks.Kept child = new Checks.Kept();
            Checks.Kept persistent = new Checks.Kept();
            Checks.Kept recursive = new Checks.Kept();
            zk.getData("/rm", data, null);
            zk.getChildren("/rm", child);
            zk.addWatch("/rm", persistent, PERSISTENT);
            zk.addWatch("/rm", recursive, PERSISTENT_RECURSIVE);
            zk.removeWatches("/rm", data, WatcherType.Data, false);
            zk.removeWatches("/rm", child, WatcherType.Children, false);
            Checks.same(Watcher.Event.EventType.DataWatchRemoved, data.next().getType());
            Checks.same(Watcher.Event.EventType.ChildWatchRemoved, child.next().getType());
            other.setData("/rm", bytes("1"), -1);
            persistent.next(NodeDataChanged, "/rm");
            recursive.next(NodeDataChanged, "/rm");
            zk.removeWatches("/rm", persistent, WatcherType.Any, false);
            zk.removeAllWatches("/rm", WatcherType.Any, false);
            Checks.same(Watcher.Event.EventType.PersistentWatchRemoved, persistent.next().getType());
            Checks.same(Watcher.Event.EventType.PersistentWatchRemoved, recursive.next().getType());
            Checks.fails(Code.NOWATCHER, () -> zk.removeAllWatches("/rm", WatcherType.Any, false));
            Checks.fails(Code.NOWATCHER, () -> zk.removeWatches("/rm", data, WatcherType.Data, false));
            other.setData("/rm", bytes("2"), -1);
            zk.sync("/");
            zk.exists("/rm", false);
            data.none();
            persistent.none();
            recursive.none();
        }
    }

    /** Callbacks and events share the client's event thread, in the order in which they came over the wire. */
    private static void eventBeforeOwnReply() throws Exception {
        try (ZooKeeper zk = connect()) {
            make(zk, "/order");
            List<String> order = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch done = new CountDownLatch(3);
            zk.getData("/order", event -> note(order, done, "event"), null);
            zk.exists("/order", false, (rc, p, c, s) -> note(order, done, "read"), null);
            zk.setData("/order", null, -1, (rc, p, c, s) -> note(order, done, "write"), null);
            Checks.that(done.await(30, TimeUnit.SECONDS), order);
            Checks.same(List.of("read", "event", "write"), order);
        }
    }

    private static void watchesAfterReconnect() throws Exception {
        try (Checks.Proxy proxy = new Checks.Proxy(server); ZooKeeper zk = connect(proxy.address(), 30000, event -> { });
             ZooKeeper other = connect()) {
            for (String name : List.of("changed", "deleted", "same", "grown", "alone", "childgone")) {
                make(zk, "/back-" + name);
            }
            Checks.Kept changed = new Checks.Kept();
            Checks.Kept deleted = new Checks.Kept();
            Checks.Kept same = new Checks.Kept();
            Checks.Kept made = new Checks.Kept();
            Checks.Kept later = new Checks.Kept();
            Checks.Kept grown = new Checks.Kept();
            Checks.Kept alone = new Checks.Kept();
            Checks.Kept childgone = new Checks.Kept();
            zk.getData("/back-changed", changed, null);
            zk.getData("/back-deleted", deleted, null);
            zk.getData("/back-same", same, null);
            zk.exists("/back-made", made);
            zk.exists("/back-later", later);
            zk.getChildren("/back-grown", grown);
            zk.getChildren("/back-alone", alone);
            zk.getChildren("/back-childgone", childgone);
            long session = zk.getSessionId();
            proxy.cut(true);
            other.setData("/back-changed", bytes("1"), -1);
            other.delete("/back-deleted", -1);
            make(other, "/back-made");
            make(other, "/back-grown/child");
            other.delete("/back-childgone", -1);
            proxy.open();
            changed.next(NodeDataChanged, "/back-changed");
            deleted.next(NodeDeleted, "/back-deleted");
            made.next(NodeCreated, "/back-made");
            grown.next(NodeChildrenChanged, "/back-grown");
            childgone.next(NodeDeleted, "/back-childgone");
            served(zk, "/");
            Checks.same(session, zk.getSessionId());
            same.none();
            later.none();
            alone.none();
            other.setData("/back-same", bytes("1"), -1);
            make(other, "/back-later");
            make(other, "/back-alone/child");
            same.next(NodeDataChanged, "/back-same");
            later.next(NodeCreated, "/back-later");
            alone.next(NodeChildrenChanged, "/back-alone");
        }
    }

    /** More paths than fit into one setWatches request of the client. */
    private static void manyWatchesAfterReconnect() throws Exception {
        try (Checks.Proxy proxy = new Checks.Proxy(server); ZooKeeper zk = connect(proxy.address(), 30000, event -> { });
             ZooKeeper other = connect()) {
            make(zk, "/mb");
            Checks.Kept kept = new Checks.Kept();
            int count = 2500;
            String prefix = "/mb/" + "n".repeat(100);
            CountDownLatch set = new CountDownLatch(count);
            for (int i = 0; i < count; i++) {
                zk.create(prefix + i, null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, p, c, n) -> { }, null);
                zk.getData(prefix + i, kept, (rc, p, c, d, s) -> set.countDown(), null);
            }
            Checks.that(set.await(60, TimeUnit.SECONDS), "watches set");
            proxy.cut(true);
            other.setData(prefix + "0", bytes("1"), -1);
            other.setData(prefix + (count - 1), bytes("1"), -1);
            proxy.open();
            TreeSet<String> paths = new TreeSet<>(List.of(kept.next().getPath(), kept.next().getPath()));
            Checks.same(new TreeSet<>(List.of(prefix + "0", prefix + (count - 1))), paths);
            for (int i = 1; i < count - 1; i++) {
                other.setData(prefix + i, bytes("1"), -1, (rc, p, c, s) -> { }, null);
            }
            for (int i = 1; i < count - 1; i++) {
                kept.next(NodeDataChanged, prefix + i);
            }
        }
    }

    private static void persistentWatchesAfterReconnect() throws Exception {
        try (Checks.Proxy proxy = new Checks.Proxy(server); ZooKeeper zk = connect(proxy.address(), 30000, event -> { });
             ZooKeeper other = connect()) {
            make(zk, "/pb");
            Checks.Kept one = new Checks.Kept();
            Checks.Kept all = new Checks.Kept();
            zk.addWatch("/pb", one, PERSISTENT);
            zk.addWatch("/pb", all, PERSISTENT_RECURSIVE);
            proxy.cut(true);
            other.setData("/pb", bytes("unseen"), -1);
            proxy.open();
            served(zk, "/pb");
            make(other, "/pb/a");
            one.next(NodeChildrenChanged, "/pb");
            all.next(NodeCreated, "/pb/a");
        }
    }

    private static void authAfterReconnect() throws Exception {
        try (Checks.Proxy proxy = new Checks.Proxy(server); ZooKeeper zk = connect(proxy.address(), 30000, event -> { })) {
            zk.addAuthInfo("digest", bytes("dave:pw"));
            zk.create("/ab", bytes("x"), CREATOR_ALL_ACL, CreateMode.PERSISTENT);
            for (int i = 0; i < 3; i++) {
                proxy.cut(false);
                served(zk, "/ab");
                Checks.same(1, zk.getData("/ab", false, null).length);
            }
        }
    }

    private static void sessionHandover() throws Exception {
        ZooKeeper first = connect();
        first.create("/handover", null, OPEN_ACL_UNSAFE, EPHEMERAL);
        long session = first.getSessionId();
        byte[] password = first.getSessionPasswd();
        Checks.Proxy proxy = new Checks.Proxy(server);
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper second = new ZooKeeper(proxy.address(), 20000, event -> {
            if (event.getState() == KeeperState.SyncConnected) {
                connected.countDown();
            }
        }, session, password);
        Checks.that(connected.await(30, TimeUnit.SECONDS), "the second did not connect");
        Checks.same(session, second.getSessionId());
        second.close();
        proxy.close();
        try (ZooKeeper third = connect()) {
            Checks.eventually("the ephemeral gone with the closed session", () -> third.exists("/handover", false) == null);
        }
        first.close();
    }

    private static void expiryByTime() throws Exception {
        try (Checks.Proxy proxy = new Checks.Proxy(server); ZooKeeper other = connect()) {
            CountDownLatch expired = new CountDownLatch(1);
            ZooKeeper zk = connect(proxy.address(), 4000, event -> {
                if (event.getState() == KeeperState.Expired) {
                    expired.countDown();
                }
            });
            Checks.same(4000, zk.getSessionTimeout());
            zk.create("/expiring", null, OPEN_ACL_UNSAFE, EPHEMERAL);
            Checks.Kept kept = new Checks.Kept();
            other.exists("/expiring", kept);
            long began = System.nanoTime();
            proxy.cut(true);
            kept.next(NodeDeleted, "/expiring");
            double seconds = (System.nanoTime() - began) / 1e9;
            Checks.that(seconds > 2.5 && seconds < 12, "expired after " + seconds + " s");
            proxy.open();
            Checks.that(expired.await(30, TimeUnit.SECONDS), "the client was not told");
            Checks.fails(Code.SESSIONEXPIRED, () -> zk.exists("/", false));
            zk.close();
        }
    }

    private static void expiredOnReturn() throws Exception {
        ZooKeeper first = connect();
        long session = first.getSessionId();
        byte[] password = first.getSessionPasswd();
        first.close();
        CountDownLatch expired = new CountDownLatch(1);
        ZooKeeper second = new ZooKeeper(server, 20000, event -> {
            if (event.getState() == KeeperState.Expired) {
                expired.countDown();
            }
        }, session, password);
        Checks.that(expired.await(30, TimeUnit.SECONDS), "a closed session came back");
        second.close();
    }

    private static void pings() throws Exception {
        AtomicInteger disconnects = new AtomicInteger();
        try (ZooKeeper zk = connect(server, 4000, event -> {
            if (event.getState() == KeeperState.Disconnected) {
                disconnects.incrementAndGet();
            }
        })) {
            zk.create("/pinged", null, OPEN_ACL_UNSAFE, EPHEMERAL);
            long began = System.nanoTime();
            Checks.eventually("seven seconds", () -> System.nanoTime() - began > 7_000_000_000L);
            Checks.same(0, disconnects.get());
            Checks.that(zk.exists("/pinged", false) != null, "the session is gone");
        }
    }

    private static void chroot() throws Exception {
        try (ZooKeeper zk = connect()) {
            make(zk, "/cr");
            try (ZooKeeper inside = connect(server + "/cr", 30000, event -> { })) {
                make(inside, "/a");
                Checks.Kept kept = new Checks.Kept();
                inside.addWatch("/", kept, PERSISTENT_RECURSIVE);
                zk.setData("/cr/a", null, -1);
                kept.next(NodeDataChanged, "/a");
                inside.create("/e", null, OPEN_ACL_UNSAFE, EPHEMERAL);
                // The client does not take its chroot off these, nor off a multi's results.
                Checks.same(List.of("/cr/e"), inside.getEphemerals());
                OpResult.CreateResult made = (OpResult.CreateResult) inside.multi(
                    List.of(Op.create("/m", null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT))).get(0);
                Checks.same("/cr/m", made.getPath());
            }
            Checks.same(new TreeSet<>(List.of("a", "m")), new TreeSet<>(zk.getChildren("/cr", false)));
        }
    }

    private static void pipelining() throws Exception {
        try (ZooKeeper zk = connect()) {
            make(zk, "/pipelined");
            int count = 5000;
            List<Integer> versions = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch done = new CountDownLatch(count);
            for (int i = 0; i < count; i++) {
                zk.setData("/pipelined", bytes("" + i), i, (rc, p, c, s) -> { }, null);
                zk.getData("/pipelined", false, (rc, p, c, d, s) -> {
                    versions.add(s.getVersion());
                    done.countDown();
                }, null);
            }
            Checks.that(done.await(60, TimeUnit.SECONDS), "not all answered");
            for (int i = 0; i < count; i++) {
                Checks.same(i + 1, versions.get(i));
            }
        }
    }

    private static void large() throws Exception {
        try (ZooKeeper zk = connect()) {
            byte[] big = new byte[1_000_000];
            Arrays.fill(big, (byte) 7);
            zk.create("/large", big, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT);
            Checks.that(Arrays.equals(big, zk.getData("/large", false, null)), "large data");
            int count = 10_000;
            CountDownLatch done = new CountDownLatch(count);
            for (int i = 0; i < count; i++) {
                zk.create(String.format("/large/child-%06d", i), null, OPEN_ACL_UNSAFE, CreateMode.PERSISTENT,
                    (rc, p, c, n) -> done.countDown(), null);
            }
            Checks.that(done.await(60, TimeUnit.SECONDS), "children made");
            Checks.same(count, new TreeSet<>(zk.getChildren("/large", false)).size());
            Checks.same(count, zk.getAllChildrenNumber("/large"));
        }
        // A frame above jute.maxbuffer costs the connection, not the session.
        AtomicInteger disconnects = new AtomicInteger();
        try (ZooKeeper zk = connect(server, 30000, event -> {
            if (event.getState() == KeeperState.Disconnected) {
                disconnects.incrementAndGet();
            }
        })) {
            long session = zk.getSessionId();
            Checks.fails(Code.CONNECTIONLOSS, () -> zk.create("/too-large", new byte[1_100_000], OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
            served(zk, "/");
            Checks.same(null, zk.exists("/too-large", false));
            Checks.same(session, zk.getSessionId());
        }
    }

    private static void updateServerList() throws Exception {
        try (Checks.Proxy one = new Checks.Proxy(server); Checks.Proxy two = new Checks.Proxy(server);
             ZooKeeper zk = connect(one.address(), 30000, event -> { })) {
            long session = zk.getSessionId();
            zk.updateServerList(two.address());
            one.cut(true);
            served(zk, "/");
            Checks.same(session, zk.getSessionId());
        }
    }
}
