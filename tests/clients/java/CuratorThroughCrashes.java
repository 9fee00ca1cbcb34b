import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.concurrent.TimeUnit.SECONDS;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.cache.ChildData;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZKUtil;
import org.apache.zookeeper.data.Stat;

/**
 * Curator's recipes while the server is killed beneath them. It makes /through/ready when all are at work and ends when it
 * finds /through/over; each lock taken leaves a child of /through/locked, so that whoever kills sees that work goes on.
 */
@SuppressWarnings("deprecation") // TreeCache is still used out there
public final class CuratorThroughCrashes {
    private static final int CLIENTS = 3;
    private static final List<CuratorFramework> clients = new ArrayList<>();
    private static final List<String> wrong = Collections.synchronizedList(new ArrayList<>());
    private static final List<Thread> workers = new ArrayList<>();
    private static final AtomicInteger inside = new AtomicInteger();
    private static final AtomicInteger locked = new AtomicInteger();
    private static final AtomicInteger added = new AtomicInteger();
    private static volatile boolean over;

    public static void main(String[] args) throws Exception {
        for (int i = 0; i < CLIENTS; i++) {
            CuratorFramework client = CuratorFrameworkFactory.newClient(args[0], 30000, 10000, new ExponentialBackoffRetry(50, 20, 1000));
            client.start();
            Checks.that(client.blockUntilConnected(30, SECONDS), "not connected within 30 s");
            clients.add(client);
        }
        CuratorFramework first = clients.get(0);
        for (String path : List.of("data", "locked")) {
            first.create().creatingParentsIfNeeded().forPath("/through/" + path, bytes("0"));
        }
        TreeCache tree = TreeCache.newBuilder(first, "/through/data").build();
        tree.start();
        CuratorCache cache = CuratorCache.build(clients.get(1), "/through/data");
        cache.start();
        AtomicInteger events = new AtomicInteger();
        PersistentWatcher watcher = new PersistentWatcher(clients.get(2), "/through/data", true);
        watcher.getListenable().addListener(event -> events.incrementAndGet());
        watcher.start();
        PersistentNode node = new PersistentNode(first, CreateMode.EPHEMERAL, false, "/through/node", bytes("here"));
        node.start();
        List<LeaderLatch> latches = new ArrayList<>();
        List<GroupMember> members = new ArrayList<>();
        for (int i = 0; i < CLIENTS; i++) {
            latches.add(new LeaderLatch(clients.get(i), "/through/latch", "n" + i));
            latches.get(i).start();
            members.add(new GroupMember(clients.get(i), "/through/group", "n" + i));
            members.get(i).start();
            work(clients.get(i), i);
        }

        Checks checks = new Checks();
        checks.check("curator_works_through_crashes", () -> {
            Checks.eventually("the first lock", () -> locked.get() > 0);
            first.create().forPath("/through/ready");
            try {
                while (!told(first)) {
                    Thread.sleep(100);
                }
            } finally {
                over = true;
            }
            for (Thread worker : workers) {
                worker.join(60_000);
                Checks.that(!worker.isAlive(), "a worker hangs");
            }
            Checks.same(List.of(), wrong);
        });
        checks.check("curator_crashes_lose_nothing", () -> {
            Checks.that(first.getChildren().forPath("/through/locked").size() >= locked.get(), "lost locks");
            long sum = new DistributedAtomicLong(first, "/through/sum", new RetryNTimes(3, 5)).get().postValue();
            // An addition whose answer was lost may have been made.
            Checks.that(added.get() > 0 && sum >= added.get(), "lost additions: " + sum + " of " + added);
            for (String path : List.of("/through/mutex", "/through/semaphore/leases", "/through/semaphore/locks")) {
                Checks.eventually("nothing left below " + path, () -> first.getChildren().forPath(path).isEmpty());
            }
        });
        checks.check("curator_caches_after_crashes", () -> {
            Map<String, String> real = new TreeMap<>();
            for (String path : ZKUtil.listSubTreeBFS(first.getZookeeperClient().getZooKeeper(), "/through/data")) {
                real.put(path, text(first.getData().forPath(path)));
            }
            Checks.eventually("the tree cache", () -> real.equals(seen(tree, "/through/data", new TreeMap<>())));
            Checks.eventually("the cache", () -> {
                Map<String, String> seen = new TreeMap<>();
                cache.stream().forEach(data -> seen.put(data.getPath(), text(data.getData())));
                return real.equals(seen);
            });
            int before = events.get();
            first.create().forPath("/through/data/last");
            Checks.eventually("the watcher", () -> events.get() > before);
        });
        checks.check("curator_memberships_after_crashes", () -> {
            Checks.eventually("one leader", () -> latches.stream().filter(LeaderLatch::hasLeadership).count() == 1);
            Checks.eventually("all members", () -> members.stream().allMatch(member -> member.getCurrentMembers().size() == CLIENTS));
            Checks.eventually("the znode of the present session", () -> {
                Stat stat = first.checkExists().forPath("/through/node");
                return stat != null && stat.getEphemeralOwner() == first.getZookeeperClient().getZooKeeper().getSessionId();
            });
        });
        checks.end();
    }

    private static boolean told(CuratorFramework client) throws Exception {
        try {
            return client.checkExists().forPath("/through/over") != null;
        } catch (KeeperException.ConnectionLossException e) {
            return false;
        }
    }

    private static void work(CuratorFramework client, int number) {
        InterProcessMutex mutex = new InterProcessMutex(client, "/through/mutex");
        repeat(() -> {
            Checks.that(mutex.acquire(60, SECONDS), "no lock within 60 s");
            try {
                Checks.same(1, inside.incrementAndGet());
                client.create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/through/locked/n");
                locked.incrementAndGet();
            } finally {
                inside.decrementAndGet();
                mutex.release();
            }
        });
        InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, "/through/semaphore", 2);
        repeat(() -> {
            Lease lease = semaphore.acquire(60, SECONDS);
            Checks.that(lease != null, "no lease within 60 s");
            semaphore.returnLease(lease);
        });
        DistributedAtomicLong sum = new DistributedAtomicLong(client, "/through/sum", new RetryNTimes(100, 10));
        repeat(() -> {
            if (sum.increment().succeeded()) {
                added.incrementAndGet();
            }
        });
        Random random = new Random(number);
        repeat(() -> {
            String path = "/through/data/" + random.nextInt(20);
            try {
                switch (random.nextInt(3)) {
                    case 0 -> client.create().orSetData().forPath(path, bytes(number + ":" + random.nextInt()));
                    case 1 -> client.create().creatingParentsIfNeeded().forPath(path + "/child", bytes("" + number));
                    default -> client.delete().deletingChildrenIfNeeded().forPath(path);
                }
            } catch (KeeperException.NoNodeException | KeeperException.NodeExistsException e) {
                // another client was there first
            }
        });
    }

    /** On a thread of its own until all is over; a connection lost for longer than Curator tries again is none of its sins. */
    private static void repeat(Checks.Check check) {
        Thread thread = new Thread(() -> {
            while (!over) {
                try {
                    check.run();
                    Thread.sleep(2);
                } catch (KeeperException.ConnectionLossException e) {
                    // tried again
                } catch (Throwable problem) {
                    wrong.add(problem.toString());
                    return;
                }
            }
        });
        thread.setDaemon(true);
        thread.start();
        workers.add(thread);
    }

    private static Map<String, String> seen(TreeCache tree, String path, Map<String, String> into) {
        ChildData data = tree.getCurrentData(path);
        Map<String, ChildData> children = tree.getCurrentChildren(path);
        if (data != null && children != null) {
            into.put(path, text(data.getData()));
            children.keySet().forEach(child -> seen(tree, path + "/" + child, into));
        }
        return into;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    private static String text(byte[] data) {
        return data == null ? "" : new String(data, UTF_8);
    }
}
