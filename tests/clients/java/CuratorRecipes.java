import static java.nio.charset.StandardCharsets.UTF_8;
import static java.util.concurrent.TimeUnit.SECONDS;

import java.io.Closeable;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.api.transaction.CuratorTransactionResult;
import org.apache.curator.framework.recipes.atomic.AtomicValue;
import org.apache.curator.framework.recipes.atomic.CachedAtomicLong;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicInteger;
import org.apache.curator.framework.recipes.atomic.DistributedAtomicLong;
import org.apache.curator.framework.recipes.atomic.PromotedToLock;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.barriers.DistributedDoubleBarrier;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.cache.NodeCache;
import org.apache.curator.framework.recipes.cache.PathChildrenCache;
import org.apache.curator.framework.recipes.cache.TreeCache;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessMultiLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreMutex;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.framework.recipes.nodes.GroupMember;
import org.apache.curator.framework.recipes.nodes.PersistentNode;
import org.apache.curator.framework.recipes.nodes.PersistentTtlNode;
import org.apache.curator.framework.recipes.queue.DistributedDelayQueue;
import org.apache.curator.framework.recipes.queue.DistributedPriorityQueue;
import org.apache.curator.framework.recipes.queue.DistributedQueue;
import org.apache.curator.framework.recipes.queue.QueueBuilder;
import org.apache.curator.framework.recipes.queue.QueueConsumer;
import org.apache.curator.framework.recipes.queue.QueueSerializer;
import org.apache.curator.framework.recipes.queue.SimpleDistributedQueue;
import org.apache.curator.framework.recipes.shared.SharedCount;
import org.apache.curator.framework.recipes.shared.SharedValue;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.ExponentialBackoffRetry;
import org.apache.curator.retry.RetryNTimes;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher.Event.EventType;

/** Curator 5.9.0, unmodified: its framework and its recipes against the server at the address given. */
public final class CuratorRecipes {
    private static String server;

    public static void main(String[] args) throws Exception {
        server = args[0];
        Checks checks = new Checks();
        checks.check("curator_framework", CuratorRecipes::framework);
        checks.check("curator_transactions", CuratorRecipes::transactions);
        checks.check("curator_mutex", CuratorRecipes::mutex);
        checks.check("curator_read_write_lock", CuratorRecipes::readWriteLock);
        checks.check("curator_semaphores", CuratorRecipes::semaphores);
        checks.check("curator_multi_lock", CuratorRecipes::multiLock);
        checks.check("curator_lock_after_loss", CuratorRecipes::lockAfterLoss);
        checks.check("curator_leader_latch", CuratorRecipes::leaderLatch);
        checks.check("curator_leader_selector", CuratorRecipes::leaderSelector);
        checks.check("curator_node_cache", CuratorRecipes::nodeCache);
        checks.check("curator_path_children_cache", CuratorRecipes::pathChildrenCache);
        checks.check("curator_tree_cache", CuratorRecipes::treeCache);
        checks.check("curator_cache", CuratorRecipes::curatorCache);
        checks.check("curator_cache_after_reconnect", CuratorRecipes::curatorCacheAfterReconnect);
        checks.check("curator_atomics", CuratorRecipes::atomics);
        checks.check("curator_shared_values", CuratorRecipes::sharedValues);
        checks.check("curator_barriers", CuratorRecipes::barriers);
        checks.check("curator_queues", CuratorRecipes::queues);
        checks.check("curator_persistent_node", CuratorRecipes::persistentNode);
        checks.check("curator_ttl_node", CuratorRecipes::ttlNode);
        checks.check("curator_group_member", CuratorRecipes::groupMember);
        checks.check("curator_persistent_watcher", CuratorRecipes::persistentWatcher);
        checks.check("curator_namespace_and_protection", CuratorRecipes::namespaceAndProtection);
        checks.end();
    }

    private static CuratorFramework connect(String address) throws Exception {
        return connect(address, 20000);
    }

    private static CuratorFramework connect(String address, int timeout) throws Exception {
        CuratorFramework curator = CuratorFrameworkFactory.newClient(address, timeout, 10000, new ExponentialBackoffRetry(50, 10, 2000));
        curator.start();
        Checks.that(curator.blockUntilConnected(30, SECONDS), "not connected within 30 s");
        return curator;
    }

    private static CuratorFramework connect() throws Exception {
        return connect(server);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    private static String text(byte[] data) {
        return new String(data, UTF_8);
    }

    /** Runs all at once and waits for them. */
    private static void together(List<Checks.Check> checks) throws Exception {
        ExecutorService threads = Executors.newCachedThreadPool();
        try {
            List<Future<?>> futures = new ArrayList<>();
            for (Checks.Check check : checks) {
                futures.add(threads.submit(() -> {
                    check.run();
                    return null;
                }));
            }
            for (Future<?> future : futures) {
                future.get(60, SECONDS);
            }
        } finally {
            threads.shutdownNow();
        }
    }

    private static void framework() throws Exception {
        try (CuratorFramework c = connect()) {
            Checks.same("/f/a/b", c.create().creatingParentsIfNeeded().forPath("/f/a/b", bytes("x")));
            Checks.same("/f/box/c", c.create().creatingParentContainersIfNeeded().forPath("/f/box/c", bytes("x")));
            Checks.same("x", text(c.getData().forPath("/f/a/b")));
            c.create().orSetData().forPath("/f/a/b", bytes("y"));
            Checks.same("y", text(c.getData().forPath("/f/a/b")));
            c.setData().compressed().withVersion(1).forPath("/f/a/b", bytes("z".repeat(1000)));
            Checks.same(1000, c.getData().decompressed().forPath("/f/a/b").length);
            CountDownLatch background = new CountDownLatch(2);
            c.getChildren().inBackground((f, event) -> {
                if (event.getChildren().size() == 2) {
                    background.countDown();
                }
            }).forPath("/f");
            c.sync().inBackground((f, event) -> background.countDown()).forPath("/f");
            Checks.that(background.await(30, SECONDS), "background calls");
            Checks.same(System.getenv("OSTLER_IN_ENSEMBLE") == null, c.getConfig().forEnsemble().length == 0);
            c.delete().guaranteed().deletingChildrenIfNeeded().forPath("/f");
            Checks.same(null, c.checkExists().forPath("/f"));
        }
    }

    private static void transactions() throws Exception {
        try (CuratorFramework c = connect()) {
            List<CuratorTransactionResult> results = c.transaction().forOperations(
                c.transactionOp().create().forPath("/t", bytes("0")),
                c.transactionOp().setData().withVersion(0).forPath("/t", bytes("1")),
                c.transactionOp().create().withMode(CreateMode.PERSISTENT_SEQUENTIAL).forPath("/t/s-"),
                c.transactionOp().check().withVersion(1).forPath("/t"));
            Checks.same("/t/s-0000000000", results.get(2).getResultPath());
            try {
                c.transaction().forOperations(
                    c.transactionOp().delete().forPath("/t/s-0000000000"),
                    c.transactionOp().check().withVersion(9).forPath("/t"));
                throw new AssertionError("committed");
            } catch (org.apache.zookeeper.KeeperException.BadVersionException expected) {
                Checks.that(c.checkExists().forPath("/t/s-0000000000") != null, "rolled back");
            }
        }
    }

    private static void mutex() throws Exception {
        try (CuratorFramework a = connect(); CuratorFramework b = connect()) {
            AtomicInteger inside = new AtomicInteger();
            AtomicInteger total = new AtomicInteger();
            List<Checks.Check> work = new ArrayList<>();
            for (int i = 0; i < 6; i++) {
                CuratorFramework c = i % 2 == 0 ? a : b;
                InterProcessMutex mutex = new InterProcessMutex(c, "/mutex");
                work.add(() -> {
                    for (int round = 0; round < 10; round++) {
                        Checks.that(mutex.acquire(40, SECONDS), "not acquired");
                        Checks.same(1, inside.incrementAndGet());
                        Checks.that(mutex.acquire(1, SECONDS), "re-entrant");
                        total.incrementAndGet();
                        inside.decrementAndGet();
                        mutex.release();
                        mutex.release();
                    }
                });
            }
            together(work);
            Checks.same(60, total.get());
            InterProcessMutex held = new InterProcessMutex(a, "/mutex");
            held.acquire();
            Checks.that(!new InterProcessMutex(b, "/mutex").acquire(300, java.util.concurrent.TimeUnit.MILLISECONDS), "acquired twice");
            Checks.same(1, held.getParticipantNodes().size());
            held.release();
        }
    }

    private static void readWriteLock() throws Exception {
        try (CuratorFramework a = connect(); CuratorFramework b = connect()) {
            InterProcessReadWriteLock one = new InterProcessReadWriteLock(a, "/rwl");
            InterProcessReadWriteLock two = new InterProcessReadWriteLock(b, "/rwl");
            one.readLock().acquire();
            Checks.that(two.readLock().acquire(10, SECONDS), "readers share");
            Checks.that(!two.writeLock().acquire(300, java.util.concurrent.TimeUnit.MILLISECONDS), "a writer among readers");
            two.readLock().release();
            one.readLock().release();
            Checks.that(two.writeLock().acquire(10, SECONDS), "the writer alone");
            Checks.that(!one.readLock().acquire(300, java.util.concurrent.TimeUnit.MILLISECONDS), "a reader beside the writer");
            Checks.that(two.readLock().acquire(10, SECONDS), "the writer may read");
            two.writeLock().release();
            Checks.that(one.readLock().acquire(10, SECONDS), "downgraded");
            one.readLock().release();
            two.readLock().release();
        }
    }

    private static void semaphores() throws Exception {
        try (CuratorFramework a = connect(); CuratorFramework b = connect()) {
            InterProcessSemaphoreV2 one = new InterProcessSemaphoreV2(a, "/sem", 3);
            InterProcessSemaphoreV2 two = new InterProcessSemaphoreV2(b, "/sem", 3);
            Lease first = one.acquire();
            List<Lease> more = new ArrayList<>(two.acquire(2));
            Checks.same(null, one.acquire(300, java.util.concurrent.TimeUnit.MILLISECONDS));
            two.returnLease(more.get(0));
            Lease again = one.acquire(20, SECONDS);
            Checks.that(again != null, "a returned lease");
            one.returnLease(again);
            one.returnLease(first);
            two.returnLease(more.get(1));
            InterProcessSemaphoreMutex mutex = new InterProcessSemaphoreMutex(a, "/semmutex");
            mutex.acquire();
            Checks.that(!new InterProcessSemaphoreMutex(b, "/semmutex").acquire(300, java.util.concurrent.TimeUnit.MILLISECONDS), "twice");
            mutex.release();
        }
    }

    private static void multiLock() throws Exception {
        try (CuratorFramework a = connect(); CuratorFramework b = connect()) {
            InterProcessMultiLock both = new InterProcessMultiLock(a, List.of("/ml1", "/ml2"));
            InterProcessMutex other = new InterProcessMutex(b, "/ml2");
            both.acquire();
            Checks.that(!other.acquire(300, java.util.concurrent.TimeUnit.MILLISECONDS), "held by the multi lock");
            both.release();
            Checks.that(other.acquire(10, SECONDS), "free again");
            other.release();
        }
    }

    /** The holder's session ends without a word; the lock goes to the next. */
    private static void lockAfterLoss() throws Exception {
        try (Checks.Proxy proxy = new Checks.Proxy(server); CuratorFramework b = connect()) {
            CuratorFramework a = CuratorFrameworkFactory.newClient(proxy.address(), 4000, 4000, new RetryNTimes(1, 10));
            // Before the start: the listener hears of CONNECTED on a thread of its own, whenever that comes.
            BlockingQueue<ConnectionState> states = new LinkedBlockingQueue<>();
            a.getConnectionStateListenable().addListener((c, state) -> states.add(state));
            a.start();
            Checks.same(ConnectionState.CONNECTED, states.poll(30, SECONDS));
            new InterProcessMutex(a, "/lossy").acquire();
            proxy.cut(true);
            Checks.that(new InterProcessMutex(b, "/lossy").acquire(30, SECONDS), "the lock of a dead session");
            Checks.same(ConnectionState.SUSPENDED, states.poll(30, SECONDS));
            a.close();
        }
    }

    private static void leaderLatch() throws Exception {
        List<CuratorFramework> clients = List.of(connect(), connect(), connect());
        List<LeaderLatch> latches = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            LeaderLatch latch = new LeaderLatch(clients.get(i), "/latch", "n" + i);
            latch.start();
            latches.add(latch);
            Checks.eventually("participants", () -> latch.getParticipants().size() == latches.size());
        }
        Checks.that(latches.get(0).await(30, SECONDS), "the first leads");
        Checks.same("n0", latches.get(2).getLeader().getId());
        latches.get(0).close();
        Checks.that(latches.get(1).await(30, SECONDS), "the second leads");
        clients.get(1).close();
        Checks.that(latches.get(2).await(30, SECONDS), "the third leads");
        latches.get(2).close();
        clients.get(0).close();
        clients.get(2).close();
    }

    private static void leaderSelector() throws Exception {
        try (CuratorFramework a = connect(); CuratorFramework b = connect()) {
            List<String> led = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch four = new CountDownLatch(4);
            AtomicInteger leaders = new AtomicInteger();
            List<LeaderSelector> selectors = new ArrayList<>();
            for (CuratorFramework c : List.of(a, b)) {
                String name = c == a ? "a" : "b";
                LeaderSelector selector = new LeaderSelector(c, "/selector", new LeaderSelectorListenerAdapter() {
                    @Override
                    public void takeLeadership(CuratorFramework client) {
                        if (leaders.incrementAndGet() == 1) {
                            led.add(name);
                        }
                        leaders.decrementAndGet();
                        four.countDown();
                    }
                });
                selector.autoRequeue();
                selector.start();
                selectors.add(selector);
            }
            Checks.that(four.await(30, SECONDS), led);
            selectors.forEach(LeaderSelector::close);
            Checks.that(led.size() >= 4, "two led at once: " + led);
        }
    }

    @SuppressWarnings("deprecation")
    private static void nodeCache() throws Exception {
        try (CuratorFramework c = connect(); CuratorFramework other = connect(); NodeCache cache = new NodeCache(c, "/nc")) {
            cache.start(true);
            Checks.same(null, cache.getCurrentData());
            other.create().forPath("/nc", bytes("1"));
            Checks.eventually("created", () -> cache.getCurrentData() != null && text(cache.getCurrentData().getData()).equals("1"));
            other.setData().forPath("/nc", bytes("2"));
            Checks.eventually("changed", () -> text(cache.getCurrentData().getData()).equals("2"));
            other.delete().forPath("/nc");
            Checks.eventually("deleted", () -> cache.getCurrentData() == null);
        }
    }

    @SuppressWarnings("deprecation")
    private static void pathChildrenCache() throws Exception {
        try (CuratorFramework c = connect(); CuratorFramework other = connect();
             PathChildrenCache cache = new PathChildrenCache(c, "/pcc", true)) {
            other.create().creatingParentsIfNeeded().forPath("/pcc/before", bytes("b"));
            cache.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
            Checks.same(1, cache.getCurrentData().size());
            for (int i = 0; i < 50; i++) {
                other.create().forPath("/pcc/n" + i, bytes("" + i));
            }
            Checks.eventually("all there", () -> cache.getCurrentData().size() == 51);
            other.setData().forPath("/pcc/n7", bytes("seven"));
            Checks.eventually("changed", () -> text(cache.getCurrentData("/pcc/n7").getData()).equals("seven"));
            for (int i = 0; i < 50; i++) {
                other.delete().forPath("/pcc/n" + i);
            }
            Checks.eventually("gone", () -> cache.getCurrentData().size() == 1);
        }
    }

    @SuppressWarnings("deprecation")
    private static void treeCache() throws Exception {
        try (CuratorFramework c = connect(); CuratorFramework other = connect(); TreeCache cache = new TreeCache(c, "/tc")) {
            other.create().creatingParentsIfNeeded().forPath("/tc/a/b/c", bytes("1"));
            cache.start();
            Checks.eventually("built", () -> cache.getCurrentData("/tc/a/b/c") != null);
            other.setData().forPath("/tc/a/b/c", bytes("2"));
            Checks.eventually("changed", () -> text(cache.getCurrentData("/tc/a/b/c").getData()).equals("2"));
            other.create().forPath("/tc/a/d");
            Checks.eventually("grown", () -> cache.getCurrentChildren("/tc/a").size() == 2);
            other.delete().deletingChildrenIfNeeded().forPath("/tc/a");
            Checks.eventually("pruned", () -> cache.getCurrentChildren("/tc").isEmpty());
        }
    }

    private static void curatorCache() throws Exception {
        try (CuratorFramework c = connect(); CuratorFramework other = connect(); CuratorCache cache = CuratorCache.build(c, "/cc")) {
            BlockingQueue<String> events = new LinkedBlockingQueue<>();
            CountDownLatch initialized = new CountDownLatch(1);
            cache.listenable().addListener(CuratorCacheListener.builder()
                .forCreates(node -> events.add("created " + node.getPath()))
                .forChanges((old, node) -> events.add("changed " + node.getPath() + " " + text(node.getData())))
                .forDeletes(node -> events.add("deleted " + node.getPath()))
                .forInitialized(initialized::countDown).build());
            cache.start();
            Checks.that(initialized.await(30, SECONDS), "initialized");
            other.create().forPath("/cc", bytes("root"));
            Checks.same("created /cc", events.poll(30, SECONDS));
            for (String step : List.of("created /cc/a", "created /cc/a/b", "changed /cc/a/b 2", "deleted /cc/a/b", "deleted /cc/a")) {
                String path = step.split(" ")[1];
                switch (step.split(" ")[0]) {
                    case "created" -> other.create().forPath(path, bytes("1"));
                    case "changed" -> other.setData().forPath(path, bytes("2"));
                    default -> other.delete().forPath(path);
                }
                Checks.same(step, events.poll(30, SECONDS));
            }
            Checks.same(1L, cache.stream().count());
        }
    }

    private static void curatorCacheAfterReconnect() throws Exception {
        try (Checks.Proxy proxy = new Checks.Proxy(server); CuratorFramework c = connect(proxy.address()); CuratorFramework other = connect();
             CuratorCache cache = CuratorCache.build(c, "/ccr")) {
            other.create().creatingParentsIfNeeded().forPath("/ccr/a", bytes("1"));
            cache.start();
            Checks.eventually("built", () -> cache.get("/ccr/a").isPresent());
            proxy.cut(true);
            other.setData().forPath("/ccr/a", bytes("2"));
            other.create().forPath("/ccr/b", bytes("new"));
            proxy.open();
            Checks.eventually("caught up", () -> cache.get("/ccr/b").isPresent() && text(cache.get("/ccr/a").get().getData()).equals("2"));
            other.setData().forPath("/ccr/a", bytes("3"));
            Checks.eventually("watching again", () -> text(cache.get("/ccr/a").get().getData()).equals("3"));
        }
    }

    private static void atomics() throws Exception {
        try (CuratorFramework a = connect(); CuratorFramework b = connect()) {
            PromotedToLock promoted = PromotedToLock.builder().lockPath("/atomic-lock").retryPolicy(new RetryNTimes(100, 20)).build();
            List<Checks.Check> work = new ArrayList<>();
            for (CuratorFramework c : List.of(a, b, a, b)) {
                DistributedAtomicLong counter = new DistributedAtomicLong(c, "/atomic", new RetryNTimes(3, 5), promoted);
                work.add(() -> {
                    for (int i = 0; i < 20; i++) {
                        Checks.that(counter.add(3L).succeeded(), "add failed");
                    }
                });
            }
            together(work);
            DistributedAtomicLong counter = new DistributedAtomicLong(a, "/atomic", new RetryNTimes(3, 5));
            Checks.same(240L, counter.get().postValue());
            AtomicValue<Long> swapped = counter.compareAndSet(240L, 7L);
            Checks.that(swapped.succeeded() && !counter.compareAndSet(240L, 8L).succeeded(), "compareAndSet");
            Checks.same(6L, counter.decrement().postValue());
            DistributedAtomicInteger integer = new DistributedAtomicInteger(b, "/atomic-int", new RetryNTimes(3, 5));
            Checks.that(integer.initialize(40) && !integer.initialize(41), "initialize");
            Checks.same(42, integer.add(2).postValue());
            Checks.same(0L, new CachedAtomicLong(new DistributedAtomicLong(b, "/atomic-cached", new RetryNTimes(3, 5)), 10).next().preValue());
        }
    }

    private static void sharedValues() throws Exception {
        try (CuratorFramework a = connect(); CuratorFramework b = connect(); SharedCount one = new SharedCount(a, "/shared", 5);
             SharedCount two = new SharedCount(b, "/shared", 9); SharedValue value = new SharedValue(a, "/shared-value", bytes("seed"))) {
            one.start();
            two.start();
            value.start();
            Checks.same(5, two.getCount());
            one.setCount(6);
            Checks.eventually("seen by the other", () -> two.getCount() == 6);
            Checks.that(two.trySetCount(two.getVersionedValue(), 7), "trySetCount");
            Checks.eventually("seen back", () -> one.getCount() == 7);
            value.setValue(bytes("grown"));
            Checks.same("grown", text(b.getData().forPath("/shared-value")));
        }
    }

    private static void barriers() throws Exception {
        try (CuratorFramework a = connect(); CuratorFramework b = connect(); CuratorFramework c = connect()) {
            DistributedBarrier barrier = new DistributedBarrier(a, "/cb");
            barrier.setBarrier();
            Checks.that(!new DistributedBarrier(b, "/cb").waitOnBarrier(300, java.util.concurrent.TimeUnit.MILLISECONDS), "passed");
            together(List.of(
                () -> Checks.that(new DistributedBarrier(b, "/cb").waitOnBarrier(30, SECONDS), "b waits"),
                () -> Checks.that(new DistributedBarrier(c, "/cb").waitOnBarrier(30, SECONDS), "c waits"),
                barrier::removeBarrier));
            AtomicInteger inside = new AtomicInteger();
            List<Checks.Check> work = new ArrayList<>();
            for (CuratorFramework each : List.of(a, b, c)) {
                work.add(() -> {
                    DistributedDoubleBarrier both = new DistributedDoubleBarrier(each, "/cdb", 3);
                    Checks.that(both.enter(30, SECONDS), "enter");
                    inside.incrementAndGet();
                    Checks.eventually("all inside", () -> inside.get() == 3);
                    Checks.that(both.leave(30, SECONDS), "leave");
                });
            }
            together(work);
        }
    }

    private static void queues() throws Exception {
        try (CuratorFramework a = connect(); CuratorFramework b = connect()) {
            SimpleDistributedQueue simple = new SimpleDistributedQueue(a, "/simple");
            for (int i = 0; i < 20; i++) {
                simple.offer(bytes("" + i));
            }
            SimpleDistributedQueue same = new SimpleDistributedQueue(b, "/simple");
            Checks.same("0", text(same.peek()));
            for (int i = 0; i < 20; i++) {
                Checks.same("" + i, text(i % 2 == 0 ? same.take() : simple.remove()));
            }
            Checks.same(null, same.poll());
            BlockingQueue<String> got = new LinkedBlockingQueue<>();
            try (DistributedQueue<String> queue = QueueBuilder.builder(a, consumer(got), SERIALIZER, "/queue").lockPath("/queue-lock").buildQueue()) {
                queue.start();
                for (int i = 0; i < 20; i++) {
                    queue.put("item" + i);
                }
                for (int i = 0; i < 20; i++) {
                    Checks.same("item" + i, got.poll(30, SECONDS));
                }
            }
            try (DistributedPriorityQueue<String> queue = QueueBuilder.builder(a, null, SERIALIZER, "/pqueue").buildPriorityQueue(0)) {
                queue.start();
                queue.put("low", 30);
                queue.put("high", 1);
                queue.put("middle", 10);
                Checks.that(queue.flushPuts(30, SECONDS), "flushed");
            }
            try (DistributedPriorityQueue<String> queue = QueueBuilder.builder(b, consumer(got), SERIALIZER, "/pqueue").buildPriorityQueue(0)) {
                queue.start();
                Checks.same("high", got.poll(30, SECONDS));
                Checks.same("middle", got.poll(30, SECONDS));
                Checks.same("low", got.poll(30, SECONDS));
            }
            try (DistributedDelayQueue<String> queue = QueueBuilder.builder(b, consumer(got), SERIALIZER, "/dqueue").buildDelayQueue()) {
                queue.start();
                long now = System.currentTimeMillis();
                queue.put("later", now + 1200);
                queue.put("sooner", now + 400);
                Checks.same("sooner", got.poll(30, SECONDS));
                Checks.same("later", got.poll(30, SECONDS));
            }
        }
    }

    private static final QueueSerializer<String> SERIALIZER = new QueueSerializer<>() {
        @Override
        public byte[] serialize(String item) {
            return bytes(item);
        }

        @Override
        public String deserialize(byte[] data) {
            return text(data);
        }
    };

    private static QueueConsumer<String> consumer(BlockingQueue<String> into) {
        return new QueueConsumer<>() {
            @Override
            public void consumeMessage(String message) {
                into.add(message);
            }

            @Override
            public void stateChanged(CuratorFramework client, ConnectionState state) {
            }
        };
    }

    private static void persistentNode() throws Exception {
        try (CuratorFramework a = connect(server, 4000); CuratorFramework b = connect()) {
            PersistentNode node = new PersistentNode(a, CreateMode.EPHEMERAL, false, "/pn", bytes("here"));
            node.start();
            Checks.that(node.waitForInitialCreate(30, SECONDS), "created");
            Checks.same("here", text(b.getData().forPath("/pn")));
            b.delete().forPath("/pn");
            Checks.eventually("made again", () -> b.checkExists().forPath("/pn") != null);
            // A lost session loses the znode; the recipe brings it back in the new one.
            long old = a.getZookeeperClient().getZooKeeper().getSessionId();
            a.getZookeeperClient().getZooKeeper().getTestable().injectSessionExpiration();
            Checks.eventually("made again in a new session", () -> {
                org.apache.zookeeper.data.Stat stat = b.checkExists().forPath("/pn");
                return stat != null && stat.getEphemeralOwner() != old;
            });
            node.close();
            Checks.eventually("gone", () -> b.checkExists().forPath("/pn") == null);
        }
    }

    private static void ttlNode() throws Exception {
        try (CuratorFramework a = connect()) {
            PersistentTtlNode node = new PersistentTtlNode(a, "/ttl-node", 3_000, bytes("x"));
            node.start();
            Checks.that(node.waitForInitialCreate(30, SECONDS), "created");
            Checks.eventually("touched", () -> a.checkExists().forPath("/ttl-node/touch") != null);
            node.close();
        }
    }

    private static void groupMember() throws Exception {
        try (CuratorFramework a = connect(); CuratorFramework b = connect()) {
            GroupMember one = new GroupMember(a, "/group", "one", bytes("1"));
            GroupMember two = new GroupMember(b, "/group", "two", bytes("2"));
            one.start();
            two.start();
            Checks.eventually("both seen", () -> one.getCurrentMembers().size() == 2 && two.getCurrentMembers().size() == 2);
            Checks.same(new TreeSet<>(List.of("one", "two")), new TreeSet<>(one.getCurrentMembers().keySet()));
            two.close();
            Checks.eventually("one left", () -> one.getCurrentMembers().size() == 1);
            one.close();
        }
    }

    private static void persistentWatcher() throws Exception {
        try (CuratorFramework a = connect(); CuratorFramework b = connect(); PersistentWatcher watcher = new PersistentWatcher(a, "/pwatch", true)) {
            BlockingQueue<WatchedEvent> events = new LinkedBlockingQueue<>();
            watcher.getListenable().addListener(events::add);
            CountDownLatch reset = new CountDownLatch(1);
            watcher.getResetListenable().addListener(reset::countDown);
            watcher.start();
            Checks.that(reset.await(30, SECONDS), "set");
            b.create().creatingParentsIfNeeded().forPath("/pwatch/a");
            Checks.same("/pwatch", events.poll(30, SECONDS).getPath());
            WatchedEvent second = events.poll(30, SECONDS);
            Checks.same("/pwatch/a", second.getPath());
            Checks.same(EventType.NodeCreated, second.getType());
        }
    }

    private static void namespaceAndProtection() throws Exception {
        try (CuratorFramework a = connect()) {
            CuratorFramework inside = a.usingNamespace("space");
            String made = inside.create().withProtection().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/item-", bytes("x"));
            Checks.that(made.startsWith("/_c_") && made.endsWith("-item-0000000000"), made);
            Checks.that(a.checkExists().forPath("/space" + made) != null, "below the namespace");
            a.create().idempotent().forPath("/idempotent", bytes("x"));
            a.create().idempotent().forPath("/idempotent", bytes("x"));
        }
    }
}
