"""What the Python suites share: starting the server under test, running checks, reporting them.

A suite decorates functions with `@check` and ends with `harness.main(__doc__)`. Each function gets the running
`Server`; it passes unless it raises. Its own znodes go below a path of its own, so that one server serves them all.
"""

import argparse
import contextlib
import faulthandler
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
CHECK_SECONDS_MAX = 120
START_SECONDS_MAX = 60


def peers_env():
    """The env file that tests/setup wrote; what is missing is fetched first."""
    path = subprocess.run([os.path.join(TESTS, "setup"), "--env"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with open(path) as lines:
        return dict(line.strip().split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


ENV = peers_env()
if os.path.realpath(sys.prefix) != os.path.realpath(os.path.dirname(os.path.dirname(ENV["OSTLER_PYTHON"]))):
    # The suites may be called with any Python; kazoo is in the cache's own.
    os.execv(ENV["OSTLER_PYTHON"], [ENV["OSTLER_PYTHON"], *sys.argv])

_checks = []
_endings = []


def check(function):
    _checks.append(function)
    return function


def at_end(function):
    """Called when the suite ends, however it does: for servers of its own."""
    _endings.append(function)


def owns_server(function):
    """Marks a check that stops or restarts the server: skipped against a server given by address."""
    function.owns_server = True
    return function


def eventually(condition, seconds=20, what=None):
    """Waits until `condition()` is true and returns what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or condition.__doc__ or condition.__code__}"
        time.sleep(0.02)


def ask(port, word, host="127.0.0.1"):
    """The answer to a four-letter word."""
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(word.encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer.decode()


class Server:
    """One standalone server: Ostler, Apache, or one that is already there."""

    def __init__(self, peer, address=None, lines=()):
        self.peer, self.lines, self.process = peer, list(lines), None
        if address:
            host, port = address.rsplit(":", 1)
            self.host, self.port, self.dir = host, int(port), None
        else:
            self.host, self.dir = "127.0.0.1", tempfile.mkdtemp(prefix="ostler-clients-")
            self.port = None
            self.start()

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def start(self):
        for _ in range(5):
            if self.port is None:
                with socket.socket() as probe:
                    probe.bind((self.host, 0))
                    self.port = probe.getsockname()[1]
            config = os.path.join(self.dir, "zoo.cfg")
            with open(config, "w") as out:
                out.write("\n".join([
                    f"dataDir={self.dir}", f"clientPort={self.port}", f"clientPortAddress={self.host}", "tickTime=2000",
                    "maxClientCnxns=0", "admin.enableServer=false", "4lw.commands.whitelist=*",
                    "extendedTypesEnabled=true", *self.lines, ""]))
            log = open(os.path.join(self.dir, "server.log"), "a")
            self.process = subprocess.Popen(self._command(config), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            log.close()
            deadline = time.monotonic() + START_SECONDS_MAX
            while self.process.poll() is None and time.monotonic() < deadline:
                try:
                    if "Mode:" in ask(self.port, "srvr"):
                        return
                except OSError:
                    pass
                time.sleep(0.05)
            self.kill()
            if "in use" not in self.log():
                break
            self.port = None
        raise SystemExit(f"{self.peer} did not come up:\n{self.log()[-2000:]}")

    def _command(self, config):
        if self.peer == "apache":
            return ["java", "-Xmx512m", "-XX:+UseSerialGC", *os.environ.get("JAVA_FLAGS", "").split(), "-cp",
                    ENV["OSTLER_CLASSPATH"], "org.apache.zookeeper.server.quorum.QuorumPeerMain", config]
        binary = os.environ.get("OSTLER_BIN") or os.path.join(TESTS, "..", "target", "release", "ostler")
        return [binary, "server", config]

    def log(self):
        with open(os.path.join(self.dir, "server.log"), errors="replace") as log:
            return log.read()

    def stop(self):
        """SIGTERM, and wait; the exit status."""
        self.process.terminate()
        return self.process.wait(30)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self, gently=True):
        """Same port, same data."""
        self.stop() if gently else self.kill()
        self.start()

    def end(self):
        if self.process and self.process.poll() is None:
            self.kill()
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)


def relay(command, seconds, **options):
    """Runs a client program that prints its own ok and FAIL lines; true when it ended well."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        print(f"FAIL {command[-2:]}: not done within {seconds} s", flush=True)
        return False
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def java(main, *args, classes=None, properties=()):
    """The command line for a class of the cached jars, or of `classes`."""
    path = ENV["OSTLER_CLASSPATH"] + (":" + classes if classes else "")
    return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData",
            "-Dorg.apache.logging.log4j.level=OFF", *properties, "-cp", path, main, *args]


@contextlib.contextmanager
def compiled(*sources):
    """A temporary directory with the classes of these Java files, which lie in tests/clients/java."""
    with tempfile.TemporaryDirectory(prefix="ostler-classes-") as classes:
        files = [os.path.join(HERE, "java", source) for source in sources]
        subprocess.run(["javac", "-nowarn", "-cp", ENV["OSTLER_CLASSPATH"], "-d", classes, *files], check=True)
        yield classes


class TookTooLong(Exception):
    pass


def _alarm(_signal, _frame):
    faulthandler.dump_traceback(all_threads=True)
    raise TookTooLong("not done within the time for one check")


def serve(description, play, lines=()):
    """For suites whose checks run elsewhere: `play(server)` says whether all went well."""
    args = _arguments(description)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    server = Server(args.peer, args.server, lines)
    try:
        well = play(server)
        if server.process and server.process.poll() is not None:
            print(f"FAIL server: ended with {server.process.returncode}:\n{server.log()[-2000:]}", flush=True)
            well = False
    finally:
        server.end()
    sys.exit(0 if well else 1)


def _arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--server", metavar="HOST:PORT", help="a running server; checks that restart it are skipped")
    parser.add_argument("--peer", choices=["ostler", "apache"], default="ostler", help="what to start otherwise")
    parser.add_argument("--only", metavar="NAME", help="the checks with NAME in their name")
    return parser.parse_args()


def main_without_server(description, check_seconds_max=CHECK_SECONDS_MAX):
    """As `main`, for checks that start all their servers themselves; they get `None`."""
    main(description, has_server=False, check_seconds_max=check_seconds_max)


def main(description, lines=(), has_server=True, check_seconds_max=CHECK_SECONDS_MAX):
    args = _arguments(description)
    # A stop from outside must end the server too: turn it into an exception.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, _alarm)
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    server = Server(args.peer, args.server, lines) if has_server else None
    failures = 0
    try:
        for function in _checks:
            name = function.__name__
            if args.only and args.only not in name:
                continue
            if server and server.dir is None and getattr(function, "owns_server", False):
                print(f"skip {name}: the server is not ours to restart", flush=True)
                continue
            began = time.monotonic()
            signal.alarm(check_seconds_max)
            try:
                function(server)
                signal.alarm(0)
                print(f"ok {name} ({time.monotonic() - began:.1f} s)", flush=True)
            except (Exception, TookTooLong) as error:
                signal.alarm(0)
                failures += 1
                print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
                traceback.print_exc()
            if server and server.process and server.process.poll() is not None:
                print(f"FAIL server: ended with {server.process.returncode} during {name}:\n{server.log()[-2000:]}", flush=True)
                failures += 1
                break
    finally:
        if server:
            server.end()
        for ending in _endings:
            ending()
    # Client threads that a failed check left behind must not keep the suite alive.
    sys.stdout.flush()
    os._exit(1 if failures else 0)
