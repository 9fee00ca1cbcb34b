import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;

/** What the Java suites share: running and reporting checks, waiting, a watcher that keeps, a proxy that cuts. */
final class Checks {
    interface Check {
        void run() throws Exception;
    }

    private int failures;
    private final String only = System.getProperty("only", "");

    void check(String name, Check check) {
        if (!name.contains(only)) {
            return;
        }
        long began = System.nanoTime();
        try {
            check.run();
            System.out.printf("ok %s (%.1f s)%n", name, (System.nanoTime() - began) / 1e9);
        } catch (Throwable problem) {
            failures++;
            System.out.println("FAIL " + name + ": " + problem);
            problem.printStackTrace();
        }
        System.out.flush();
    }

    void end() {
        System.out.flush();
        // Threads of a failed check must not keep the program alive.
        Runtime.getRuntime().halt(failures == 0 ? 0 : 1);
    }

    static void that(boolean condition, Object what) {
        if (!condition) {
            throw new AssertionError(what);
        }
    }

    static void same(Object expected, Object found) {
        that(java.util.Objects.equals(expected, found), "expected " + expected + ", found " + found);
    }

    static void fails(KeeperException.Code code, Check check) throws Exception {
        try {
            check.run();
        } catch (KeeperException e) {
            that(e.code() == code, "expected " + code + ", got " + e.code());
            return;
        }
        throw new AssertionError("did not fail with " + code);
    }

    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
        while (!condition.call()) {
            that(System.nanoTime() < deadline, "not within 30 s: " + what);
            Thread.sleep(10);
        }
    }

    /** Keeps what it is told. */
    static final class Kept implements Watcher {
        final BlockingQueue<WatchedEvent> events = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            // Connection events reach every watcher; the checks ask for znodes' events.
            if (event.getType() != Event.EventType.None) {
                events.add(event);
            }
        }

        WatchedEvent next() throws InterruptedException {
            WatchedEvent event = events.poll(30, TimeUnit.SECONDS);
            that(event != null, "no event within 30 s");
            return event;
        }

        void next(Event.EventType type, String path) throws InterruptedException {
            WatchedEvent event = next();
            that(event.getType() == type && path.equals(event.getPath()), "expected " + type + " " + path + ", got " + event);
        }

        void none() {
            that(events.isEmpty(), "unexpected " + events);
        }
    }

    /** A TCP proxy in front of the server whose connections can be cut, and kept from coming back. */
    static final class Proxy implements AutoCloseable {
        private final ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        private final InetSocketAddress server;
        private final List<Socket> sockets = new ArrayList<>();
        private boolean closed;

        Proxy(String address) throws Exception {
            int colon = address.lastIndexOf(':');
            server = new InetSocketAddress(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)));
            start(this::accept);
        }

        String address() {
            return "127.0.0.1:" + listener.getLocalPort();
        }

        private void accept() {
            try {
                while (true) {
                    Socket in = listener.accept();
                    synchronized (this) {
                        if (closed) {
                            in.close();
                            continue;
                        }
                        Socket out = new Socket(server.getAddress(), server.getPort());
                        sockets.add(in);
                        sockets.add(out);
                        start(() -> copy(in, out));
                        start(() -> copy(out, in));
                    }
                }
            } catch (Exception e) {
                // the listener was closed
            }
        }

        private static void copy(Socket from, Socket to) {
            byte[] buffer = new byte[65536];
            try (InputStream in = from.getInputStream(); OutputStream out = to.getOutputStream()) {
                for (int count; (count = in.read(buffer)) > 0; ) {
                    out.write(buffer, 0, count);
                }
            } catch (Exception e) {
                // cut
            }
        }

        /** Ends all connections; with `stay`, new ones end as well until `open`. */
        synchronized void cut(boolean stay) throws Exception {
            closed = stay;
            for (Socket socket : sockets) {
                socket.close();
            }
            sockets.clear();
        }

        synchronized void open() {
            closed = false;
        }

        @Override
        public void close() throws Exception {
            listener.close();
            cut(true);
        }

        private static void start(Runnable task) {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            thread.start();
        }
    }
}
