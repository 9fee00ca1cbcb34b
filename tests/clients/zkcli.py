#!/usr/bin/env python3
"""Apache's shell (ZooKeeperMain 3.9.5), unmodified, driven by scripts: every command, its output, its exit codes.

With OSTLER_SHELL=1 the same scripts drive `ostler cli` instead, which must print the same.
"""

import fcntl
import os
import pty
import re
import select
import socket
import subprocess
import termios

import harness
from harness import check

OURS = bool(os.environ.get("OSTLER_SHELL"))
MARK = "====mark===="
STAT = r"""cZxid = 0x[0-9a-f]+
ctime = \w{3} \w{3} \d\d \d\d:\d\d:\d\d \w+ \d{4}
mZxid = 0x[0-9a-f]+
mtime = \w{3} \w{3} \d\d \d\d:\d\d:\d\d \w+ \d{4}
pZxid = 0x[0-9a-f]+
cversion = %s
dataVersion = %s
aclVersion = %s
ephemeralOwner = %s
dataLength = %s
numChildren = %s"""


def stat(cversion=r"-?\d+", version=r"-?\d+", aversion=r"-?\d+", owner=r"0x[0-9a-f]+", length=r"\d+", children=r"\d+"):
    return STAT % (cversion, version, aversion, owner, length, children)


def shell(server, *arguments):
    if OURS:
        binary = os.environ.get("OSTLER_BIN") or os.path.join(harness.TESTS, "..", "target", "release", "ostler")
        return [binary, "cli", "-server", server.address, *arguments]
    return harness.java("org.apache.zookeeper.ZooKeeperMain", "-server", server.address, *arguments)


def without_events(text):
    """The shell's other thread prints an event as two lines, each with an empty one before it; an answer may come between."""
    return re.sub(r"\n?(?:WATCHER::|WatchedEvent .*)\n", "", text)


def session(server, *commands):
    """What each command printed, standard error included; events, which come when they come, apart and last.

    A command may be a pair with the text of an event: no more is typed before that has been printed.
    """
    with subprocess.Popen(shell(server), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            printed = b""
            for command in commands:
                command, event = command if isinstance(command, tuple) else (command, None)
                process.stdin.write(f"{command}\nget /mark\n".encode())
                process.stdin.flush()
                start = len(printed)
                while event and event.encode() not in printed[start:]:
                    assert select.select([process.stdout], [], [], 100)[0], f"no event {event!r} in\n{printed.decode()}"
                    read = os.read(process.stdout.fileno(), 1 << 16)
                    assert read, f"ended before event {event!r}:\n{printed.decode()}"
                    printed += read
            printed += process.communicate(b"quit\n", timeout=100)[0]
        finally:
            process.kill()
    text = output = printed.decode()
    events = re.findall(r"^(?:\[zk: .*?\] ?)?(WatchedEvent .*)\n", text, flags=re.M)
    text = without_events(text)
    text = re.sub(r"^\[zk: .*?\] ?", "", text, flags=re.M)
    start = text.index("JLine support is disabled\n") + len("JLine support is disabled\n") if "JLine support" in text else 0
    blocks = text[start:].split(MARK + "\n")
    assert len(blocks) == len(commands) + 1, f"{len(blocks)} answers to {len(commands)} commands:\n{output}"
    return [block.strip("\n") for block in blocks[:-1]], events


def expect(server, *pairs):
    """Commands and the regular expression that the whole of each answer must match."""
    answers, events = session(server, *[command for command, _ in pairs])
    for (command, wanted), answer in zip(pairs, answers):
        assert re.fullmatch(wanted, answer.strip()), f"{command!r} printed\n{answer}\nnot\n{wanted}"
    return events


def once(server, *arguments, code=0):
    """One command on the command line; its output without the greeting and the events."""
    process = subprocess.run(shell(server, *arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100)
    assert process.returncode == code, f"{arguments} ended with {process.returncode}:\n{process.stdout}\n{process.stderr}"
    out = without_events(process.stdout)
    out = re.sub(r"^Connecting to .*\n", "", out)
    return out.strip(), process.stderr.strip()


@check
def one_command_and_its_exit_code(server):
    # Every other check needs its mark.
    out, err = once(server, "create", "/mark", MARK)
    assert "Created /mark" in out + err
    assert once(server, "ls", "/") == ("[mark, zookeeper]", "")
    out, err = once(server, "ls", "/none", code=1)
    assert "Node does not exist: /none" in out + err, (out, err)
    out, err = once(server, "nonsense", code=127)
    assert "Command not found" in out + err, (out, err)
    out, err = once(server, "get", code=1)
    assert "get [-s] [-w]" in out + err, (out, err)


@check
def create_get_set_delete(server):
    expect(
        server,
        ("create /a words", "Created /a"),
        ("get /a", "words"),
        ("get -s /a", f"words\n{stat(version='0', length='5')}"),
        ("create /a", "Node already exists: /a"),
        ("create /none/b x", "Node does not exist: /none/b"),
        ('create /a/b "two words"', "Created /a/b"),
        ("get /a/b", "two words"),
        ("create -s /a/s- x", r"Created /a/s-0000000001"),
        ("create -e /a/e x", "Created /a/e"),
        ("create -e -s /a/es- x", "Created /a/es-0000000003"),
        ("create /a/e/x x", "Ephemerals cannot have children: /a/e/x"),
        ("create -c /a/c", "Created /a/c"),
        ("create -t 100000 /a/t x", "Created /a/t"),
        ("create -s -t 100000 /a/ts- x", "Created /a/ts-0000000006"),
        ("get /a/c", "null"),
        ("ls /a", r"\[b, c, e, es-0000000003, s-0000000001, t, ts-0000000006\]"),
        ("ls -s /a", r"\[b, c, e, es-0000000003, s-0000000001, t, ts-0000000006\]\n?" + stat(cversion="7", children="7")),
        ("ls -R /a", "/a\n/a/b\n/a/c\n/a/e\n/a/es-0000000003\n/a/s-0000000001\n/a/t\n/a/ts-0000000006"),
        ("stat /a", stat(cversion="7", version="0", aversion="0", owner="0x0", length="5", children="7")),
        ("stat /a/e", stat(owner="0x[1-9a-f][0-9a-f]+")),
        ("set /a more", ""),
        ("set -s /a again", stat(version="2")),
        ("set -v 2 /a versioned", ""),
        ("set -v 2 /a versioned", "version No is not valid : /a"),
        ("getAllChildrenNumber /a", "7"),
        ("getEphemerals", r"\[(/a/e, /a/es-0000000003|/a/es-0000000003, /a/e)\]"),
        ("getEphemerals /a/es", r"\[/a/es-0000000003\]"),
        ("delete /a", "Node not empty: /a"),
        ("delete -v 9 /a/b", "version No is not valid : /a/b"),
        ("delete -v 0 /a/b", ""),
        ("delete /a/none", "Node does not exist: /a/none"),
        ("deleteall /a", ""),
        ("stat /a", "Node does not exist: /a"),
        ("set /a x", "Node does not exist: /a"),
        ("get /a", "Node does not exist: /a"),
        ("create relative x", "(?s).*Path must start with / character.*"),
    )


@check
def paths_are_checked_before_they_are_sent(server):
    expect(
        server,
        ("create //bad", r'Invalid path string "//bad" caused by empty node name specified @1'),
        ("create /a/../b", r'Invalid path string "/a/../b" caused by relative paths not allowed @4'),
        ("get /a/.", r'Invalid path string "/a/." caused by relative paths not allowed @3'),
        ("create /end/", "Path must not end with / character"),
        ("create /sequences", "Created /sequences"),
        ("create -s /sequences/", "Created /sequences/0000000000"),
        ("create -s //x", r'Invalid path string "//x1" caused by empty node name specified @1'),
        ("getEphemerals relative", "Path must start with / character"),
        ("listquota /", r"absolute path is /zookeeper/quota//zookeeper_limits\n"
                        r'Invalid path string "/zookeeper/quota//zookeeper_limits" caused by empty node name specified @17'),
        ("deleteall /sequences", ""),
    )


@check
def a_quote_groups_words_only_where_a_word_begins_with_it(server):
    spellings = [
        ('{"port":9092,"hosts":["a","b"]}', '{"port":9092,"hosts":["a","b"]}'),
        ("""'{"a": "b c"}'""", '{"a": "b c"}'),
        ('"two words"', "two words"),
        ('"it\'s"', "it's"),
        ("it's", "it's"),
        ('x="y"', 'x="y"'),
        ('"b', "b"),
        (r'b\"c', r'b\"c'),
        ("'\"'", '"'),
        ('=""', '=""'),
        ("-- --x", "--x"),
    ]
    expect(server, ("create /quotes", "Created /quotes"), *(
        pair for typed, stored in spellings
        for pair in ((f"set /quotes {typed}", ""), ("get /quotes", re.escape(stored)))
    ), ('create /t"', 'Created /t"'), ('delete /t"', ""), (' "get /quotes', r'(?s).*Command not found  "get'))
    assert 'Created /t"' in "".join(once(server, "create", '/t"', '{"a":"b c"}'))
    assert once(server, "get", '/t"')[0] == '{"a":"b c"}'
    expect(server, ('delete /t"', ""), ("delete /quotes", ""))


GET_USAGE = r"""get \[-s\] \[-w\] \[-b\] \[-x\] path
 -b   Output data in base64 format
 -s   Print znode stats additionally
 -w   Watch for changes on the znode
 -x   Output data in hexdump format"""
SET_USAGE = r"""set path data \[-s\] \[-v version\] \[-b\]
 -b         Supply data in base64 format
 -s         Print znode stats additionally
 -v <arg>   Set with an expected version"""


@check
def words_that_make_no_command(server):
    parser = r"org\.apache\.commons\.cli\."
    expect(
        server,
        ("get", GET_USAGE),
        ("set /x", SET_USAGE),
        ("stat", r"stat \[-w\] path"),
        ("create -x /x", parser + "UnrecognizedOptionException: Unrecognized option: -x"),
        ("create /x -t", parser + "MissingArgumentException: Missing argument for option: t"),
        ("create -e -t 5 /x", "TTLs cannot be used with Ephemeral znodes"),
        ("create -c -t 5 /x", "TTLs cannot be used with Container znodes"),
        ("create -t abc /x", "-t argument must be a long value"),
        *((f"create -t {ttl} /x", "ttl must be positive and cannot be larger than: 1099511627775") for ttl in (0, -5, 1 << 40)),
        ("deleteall -b abc /x", "-b argument must be an int value"),
        ("addWatch -m bogus /x", r"addWatch \[-m mode\] path # optional mode is one of \[PERSISTENT, PERSISTENT_RECURSIVE\].*"),
        ("addWatch -m persistent /x", ""),
        ("create /x x world:anyone", "world:anyone does not have the form scheme:id:perm\nKeeperErrorCode = InvalidACL\nAcl is not valid : null"),
        ("create /x x bad:x:r", "KeeperErrorCode = InvalidACL for /x\nAcl is not valid : /x"),
        ("setAcl / world:anyone", "world:anyone does not have the form scheme:id:perm\nAcl is not valid : null"),
    )


@check
def versions_and_watches_of_old(server):
    expect(
        server,
        ("create /old x", "Created /old"),
        ("set /old y 99", ""),
        ("get /old watch", r"'get path \[watch\]' has been deprecated. Please use 'get \[-s\] \[-w\] path' instead.\ny"),
        ("ls /old watch", r"'ls path \[watch\]' has been deprecated. Please use 'ls \[-w\] path' instead.\n\[\]"),
        ("delete /old 5", r"'delete path \[version\]' has been deprecated. Please use 'delete \[-v version\] path' instead."),
        ("get /old", "Node does not exist: /old"),
        ("create /old x", "Created /old"),
        ("create /old/child x", "Created /old/child"),
        ("deleteall -b 0 /old", ""),
        ("get /old", "Node does not exist: /old"),
    )


@check
def a_listing_of_everything_below(server):
    expect(
        server,
        *((f"create {path} x", f"Created {path}") for path in ("/r", "/r/b", "/r/a", "/r/a/x", "/r/a/x/y", "/r/b/z")),
        ("ls -R /r", "/r\n/r/a\n/r/b\n/r/a/x\n/r/a/x/y\n/r/b/z"),
        ("ls -sR /r/a/x", "/r/a/x\n/r/a/x/y"),
        ("ls -R /r/none", "Node does not exist: /r/none"),
        ("deleteall /r", ""),
    )


@check
def other_forms_of_data(server):
    expect(
        server,
        ("create /forms hello", "Created /forms"),
        ("get -b /forms", "aGVsbG8="),
        ("get -x /forms", r"(?s).*68 65 6c 6c 6f.*hello.*"),
        ("set -b /forms d29ybGQ=", ""),
        ("get /forms", "world"),
        ("create /forms/empty", "Created /forms/empty"),
        ("get /forms/empty", "null"),
        ("get -b /forms/empty", "bnVsbA=="),
        ("get -x /forms/empty", r"(?s).*6e 75 6c 6c.*null.*"),
        ("get -b -x /forms", r"(?s).*77 6f 72 6c 64.*world.*"),
        ("set /forms \"\"", ""),
        ("get -x /forms", ""),
        ("deleteall /forms -b 10", ""),
    )


@check
def acl_commands(server):
    expect(
        server,
        ("create /acl x", "Created /acl"),
        ("getAcl /acl", "'world,'anyone\n: cdrwa"),
        ("setAcl -s /acl world:anyone:cra", stat(aversion="1")),
        ("getAcl /acl", "'world,'anyone\n: cra"),
        ("getAcl -s /acl", "'world,'anyone\n: cra\n" + stat(aversion="1")),
        ("set /acl y", "Insufficient permission : /acl"),
        ("setAcl -v 7 /acl world:anyone:cdrwa", "version No is not valid : /acl"),
        ("addauth digest bob:secret", ""),
        ("whoami", r"Auth scheme: User\n(ip: 127.0.0.1\ndigest: bob|digest: bob\nip: 127.0.0.1)"),
        ("create /acl/mine x auth::cdrwa", "Created /acl/mine"),
        ("getAcl /acl/mine", r"'digest,'bob:[A-Za-z0-9+/=]{28}\n: cdrwa"),
        ("setAcl /acl bad:x:r", "Acl is not valid : /acl"),
        ("setAcl -R /acl world:anyone:cdrwa", ""),
        ("getAcl /acl/mine", "'world,'anyone\n: cdrwa"),
        ("setAcl /acl digest:bob:abc=:r,world:anyone:cdrw", ""),
        ("getAcl /acl", "'digest,'bob:x\n: r\n'world,'anyone\n: cdrw"),
        ("delete /acl/mine", ""),
        ("delete /acl", ""),
    )


@check
def watch_commands(server):
    events = expect(
        server,
        ("create /w x", "Created /w"),
        ("get -w /w", "x"),
        ("set /w y", ""),
        ("stat -w /w", stat()),
        ("ls -w /w", r"\[\]"),
        ("create /w/a", "Created /w/a"),
        ("set /w z", ""),
        ("addWatch /w", ""),
        ("set /w/a 1", ""),
        ("create /w/b", "Created /w/b"),
        (("removewatches /w", "PersistentWatchRemoved"), ""),
        ("removewatches /w", "KeeperErrorCode = No such watcher for /w"),
        ("addWatch -m PERSISTENT /w", ""),
        ("delete /w/b", ""),
        (("removewatches /w -p", "PersistentWatchRemoved"), ""),
        ("printwatches", "printwatches is on"),
        ("printwatches off", ""),
        ("printwatches", "printwatches is off"),
        ("printwatches on", ""),
        ("printwatches maybe", ""),
        ("printwatches", "printwatches is off"),
        ("get -w /w", "z"),
        ("set /w unprinted", ""),
        ("deleteall /w", ""),
    )
    seen = [re.sub(r" zxid: -?\d+", "", event) for event in events if "type:None" not in event]
    assert seen == [
        "WatchedEvent state:SyncConnected type:NodeDataChanged path:/w",
        "WatchedEvent state:SyncConnected type:NodeChildrenChanged path:/w",
        "WatchedEvent state:SyncConnected type:NodeDataChanged path:/w",
        "WatchedEvent state:SyncConnected type:NodeDataChanged path:/w/a",
        "WatchedEvent state:SyncConnected type:NodeCreated path:/w/b",
        "WatchedEvent state:SyncConnected type:PersistentWatchRemoved path:/w",
        "WatchedEvent state:SyncConnected type:NodeChildrenChanged path:/w",
        "WatchedEvent state:SyncConnected type:PersistentWatchRemoved path:/w",
    ], seen


@check
def quota_commands(server):
    expect(
        server,
        ("create /q 1234567", "Created /q"),
        ("listquota /q", r"(absolute path is /zookeeper/quota/q/zookeeper_limits\n)?quota for /q does not exist."),
        ("setquota -n 5 /q", ""),
        ("setquota -b 10 /q", ""),
        ("create /q/a", "Created /q/a"),
        ("create /q/b", "Created /q/b"),
        ("listquota /q", r"absolute path is /zookeeper/quota/q/zookeeper_limits\n"
                         r"Output quota for /q count=5,bytes=10(=;byteHardLimit=-1;countHardLimit=-1)?\n"
                         r"Output stat for /q count=3,bytes=7"),
        ("setquota -N 9 /q", ""),
        ("setquota -B 99 /q", ""),
        ("listquota /q", r"(?s).*Output quota for /q count=5,bytes=10=;byteHardLimit=99;countHardLimit=9\n.*"),
        ("setquota -n 2 /q", r"(?s).*\[Warning\]: the count quota.*"),
        ("setquota -n 3 /q/a", r"(?s).*/q/a has a parent /q which has a quota.*"),
        ("delquota -n /q", ""),
        ("delquota -b /q", ""),
        ("delquota -N /q", ""),
        ("delquota -B /q", ""),
        ("delquota /q", ""),
        ("delquota /q", "(?s)Quota does not exist for /q.*|quota for /q does not exist."),
        ("deleteall /q", ""),
    )


@check
def quotas_that_cannot_be(server):
    parser = r"org\.apache\.commons\.cli\."
    selected = parser + "AlreadySelectedException: The option '%s' was specified but an option from this group has already been selected: '%s'"
    expect(
        server,
        ("setquota", parser + r"MissingOptionException: Missing required option: "
                              r"\[-n num soft quota, -b bytes soft quota, -N num hard quota, -B bytes hard quota\]"),
        ("setquota -n 5", r"setquota -n\|-b\|-N\|-B val path"),
        ("setquota -n 5 /none", "/none does not exist."),
        ("setquota -n -5 /none", "the num quota must be greater than zero"),
        ("setquota -N 0 /none", "the num quota must be greater than zero"),
        ("setquota -b -2 /none", "the bytes quota must be greater than or equal to zero"),
        ("setquota -n abc /none", "NumberFormatException happens when parsing the option value"),
        ("setquota -N 5 -B 7 /none", selected % ("B", "N")),
        ("delquota -n -b /none", selected % ("b", "n")),
        ("setquota -n 5 /zookeeper/quota", "cannot set a quota under the path: /zookeeper/quota"),
    )


@check
def server_and_shell_commands(server):
    out, _ = session(server, "sync /", "version", "config", "config -c", "history", "nonsense", "help", "reconfig -remove 3")
    sync, version, config, config_c, history, nonsense, help_, reconfig = out
    assert sync == "Sync is OK", sync
    assert version.startswith("ZooKeeper CLI version: 3.9.5"), version
    assert config.strip() == "" and config_c.strip() == "", (config, config_c)
    assert "0 - sync /" in history and "- history" in history, history
    for text in (nonsense, help_):
        assert "ZooKeeper -server host:port" in text and "Command not found: Command not found" in text, text
        assert "\n\taddauth scheme auth\n" in text and "\n\twhoami" in text, text
    assert "reconfig" in reconfig.lower() and "disabled" in reconfig.lower(), reconfig


@check
def redo_and_connect_again(server):
    answers, _ = session(server, "create /redo x", "set /redo y", "redo 2", "get /redo -s", "deleteall /redo", f"connect {server.address}", "ls /")
    assert re.search(r"dataVersion = 2", answers[3]), answers
    assert "mark" in answers[6], answers
    process = subprocess.run(shell(server), input="close\nls /\nquit\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100)
    assert "Not connected" in process.stdout, process.stdout


@check
def no_credentials_at_all_end_the_session(server):
    commands = "addauth digest\nget /mark\nget /mark\nquit\n"
    process = subprocess.run(shell(server), input=commands, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100)
    # Where the refusal overtakes the first command, that finds no session either.
    assert re.search(r"KeeperErrorCode = AuthFailed for /mark|Not connected", process.stdout), process.stdout
    assert "Not connected" in process.stdout and MARK not in process.stdout, process.stdout


@check
def ephemerals_go_with_the_shell(server):
    expect(server, ("create -e /gone x", "Created /gone"), ("get /gone", "x"))
    expect(server, ("get /gone", "Node does not exist: /gone"))


class Terminal:
    """The shell on a terminal of its own."""

    def __init__(self, *command):
        self.ours, theirs = pty.openpty()
        environment = dict(os.environ, TERM="xterm", HOME="/nonexistent")
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
                                        preexec_fn=self._take_terminal)
        os.close(theirs)
        self.text = ""

    @staticmethod
    def _take_terminal():
        """Keys such as Ctrl-C are signals to the group in the foreground of a terminal."""
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)

    def type(self, text):
        os.write(self.ours, text.encode())

    def wait_for(self, pattern, start=0):
        """Reads until the pattern stands behind `start`; where it ends."""
        while not (found := re.search(pattern, self.text[start:], flags=re.M)):
            assert select.select([self.ours], [], [], 30)[0], f"no {pattern!r} in\n{self.text[start:]}"
            try:
                self.text += os.read(self.ours, 65536).decode()
            except OSError:  # the other end is closed
                raise AssertionError(f"ended before {pattern!r}:\n{self.text[start:]}") from None
        return start + found.end()

    def end(self):
        self.type("quit\n")
        while select.select([self.ours], [], [], 30)[0]:
            try:
                self.text += os.read(self.ours, 65536).decode()
            except OSError:
                break
        assert self.process.wait(30) == 0, self.text


PROMPT = r"\[zk: [^]]*\] "


def lines_pasted_into_a_terminal_are_as_many_commands(server):
    with Terminal(*shell(server)) as terminal:
        terminal.wait_for(PROMPT)
        terminal.type("create /pasted x\nset /pasted first\nget /pasted\ndelete /pasted\n")
        terminal.end()
        assert "Created /pasted" in terminal.text and re.search(r"^first\r$", terminal.text, flags=re.M), terminal.text
    assert "pasted" not in once(server, "ls", "/")[0]


def an_interrupt_cancels_the_command_and_keeps_the_shell(server):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        # Bound and not listened on: nobody can be reached there.
        command = shell(server)
        command[command.index("-server") + 1] = "127.0.0.1:%d" % closed.getsockname()[1]
        with Terminal(*command) as terminal:
            told = terminal.wait_for(r"Connection refused.*trying again")
            prompt = terminal.wait_for(PROMPT, told)
            terminal.type("ls /\n")
            echoed = terminal.wait_for(r"ls /\r\n", prompt)
            again = terminal.wait_for(r"trying again", echoed)
            terminal.type("\x03")
            cancelled = terminal.wait_for(r"Cancelled", again)
            terminal.wait_for(PROMPT, cancelled)
            terminal.type("version\n")
            terminal.wait_for(r"ZooKeeper CLI version: 3\.9\.5", cancelled)
            # An event or a line of trouble leaves the prompt below it.
            told = terminal.wait_for(r"trying again", terminal.wait_for(PROMPT, cancelled))
            terminal.wait_for(PROMPT, told)
            terminal.end()


def tab_completes_commands_flags_and_children(server):
    expect(server, *((f"create {path} x", ".*") for path in ("/tab", "/tab/common-a", "/tab/common-b", '"/tab/two words"')))
    with Terminal(*shell(server)) as terminal:
        at = terminal.wait_for(PROMPT)
        terminal.type("getE\t")
        at = terminal.wait_for(r"getEphemerals ", at)
        terminal.type("/\x15ls /tab/c\t")
        at = terminal.wait_for(r"/tab/common-", at)
        terminal.type("\t\t")
        at = terminal.wait_for(r"common-a +common-b", at)
        terminal.type("b\n")
        at = terminal.wait_for(r"^\[\]", at)
        terminal.wait_for(PROMPT, at)
        terminal.type("create -\t\t")
        at = terminal.wait_for(r"-s +-e +-c +-t", at)
        terminal.type("\x15ls \"/tab/t\t")
        at = terminal.wait_for(r'"/tab/two words', at)
        terminal.type('"\n')
        terminal.wait_for(r"^\[\]", at)
        terminal.end()
    expect(server, ("deleteall /tab", ""))


if OURS:
    # Apache's edits lines with JLine only where that is on its class path.
    check(lines_pasted_into_a_terminal_are_as_many_commands)
    check(an_interrupt_cancels_the_command_and_keeps_the_shell)
    check(tab_completes_commands_flags_and_children)


if __name__ == "__main__":
    harness.main(__doc__)
