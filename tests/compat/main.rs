//! Data directories handed from Apache 3.9.5 to Ostler and back: each finds what the other left, to the byte.
//! Not here: the formats themselves (golden bytes beside their codecs), damage and power cuts.

mod snapshots;
mod streams;

use std::collections::BTreeMap;
use std::path::Path;

use ostler_tests::client::{Client, ConnectRequest, ConnectResponse, op};
use ostler_tests::differential::script::{Action, generate};
use ostler_tests::jute::{Body, Reader};
use ostler_tests::peers::{Apache, Ostler, Server, wanted};

const SETTINGS: [&str; 5] = [
    "minSessionTimeout=60000",
    "maxSessionTimeout=120000",
    "snapCount=100",
    "DigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs=",
    "-Dznode.container.checkIntervalMs=1000000000",
];

/// What a znode's two reads reply: data, Stat and ACL, as bytes.
type Tree = BTreeMap<String, (Vec<u8>, Vec<u8>)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Apache,
    Ostler,
}
use Kind::{Apache as A, Ostler as O};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Gently,
    Killed,
}

enum Running {
    Apache(Apache),
    Ostler(Ostler),
}

#[test]
fn apache_to_apache() {
    check(1, &[(A, End::Gently), (A, End::Killed), (A, End::Gently)], &[]);
}

#[test]
fn apache_to_ostler_and_back_stopped_gently() {
    check(2, &[(A, End::Gently), (O, End::Gently), (A, End::Gently), (O, End::Gently)], &[]);
}

#[test]
fn apache_to_ostler_and_back_killed() {
    check(
        3,
        &[(A, End::Killed), (O, End::Killed), (A, End::Killed), (O, End::Killed), (A, End::Killed)],
        &[],
    );
}

#[test]
fn ostler_first() {
    check(4, &[(O, End::Gently), (A, End::Killed), (O, End::Killed), (A, End::Gently)], &[]);
}

#[test]
fn snapshots_packed_by_gzip() {
    let packed = ["-Dzookeeper.snapshot.compression.method=gz"];
    check(5, &[(A, End::Gently), (O, End::Gently), (A, End::Killed), (O, End::Gently)], &packed);
}

#[test]
fn snapshots_packed_by_snappy() {
    let packed = ["-Dzookeeper.snapshot.compression.method=snappy"];
    check(6, &[(A, End::Gently), (O, End::Gently), (A, End::Killed), (O, End::Gently)], &packed);
}

/// One directory through all these hands. Each server must find tree and sessions as the one before left them, then
/// plays some hundred operations on top.
fn check(seed: u64, hands: &[(Kind, End)], extra: &[&str]) {
    if !wanted() {
        return eprintln!("skipped: no peers wanted");
    }
    let dir = tempfile::tempdir().expect("a directory");
    let settings: Vec<&str> = SETTINGS.iter().chain(extra).copied().collect();
    let mut left: Option<Tree> = None;
    let mut sessions: Vec<ConnectResponse> = Vec::new();
    for (round, (kind, end)) in hands.iter().enumerate() {
        let place = format!("seed {seed}, round {round}: {kind:?}, to be ended {end:?}, of {hands:?}");
        let server = Running::start(*kind, dir.path(), &settings);
        // Apache checks each txn's digest while it replays. It logs a few wrong ones itself, hence only after us.
        if *kind == A && hands[..round].iter().all(|(kind, _)| *kind == O) {
            let log = server.log();
            assert!(!log.contains("digest mismatch"), "{place}: Apache finds digests wrong:\n{log}");
        }
        let mut looking = onlooker(&server);
        if let Some(left) = &left {
            compare(left, &tree(&mut looking), &place);
        }
        for session in &sessions {
            let again = Client::attach(server.address(), &ConnectRequest::again(session));
            assert!(again.is_ok(), "{place}: session {:#x} is unknown", session.session);
        }
        sessions.extend(work(&server, seed * 100 + round as u64));
        left = Some(tree(&mut looking));
        drop(looking);
        server.end(*end);
    }
}

impl Running {
    fn start(kind: Kind, dir: &Path, settings: &[&str]) -> Running {
        match kind {
            A => Running::Apache(Apache::start(dir, settings)),
            O => Running::Ostler(Ostler::start(dir, settings)),
        }
    }

    fn end(self, end: End) {
        match (self, end) {
            (Running::Apache(server), End::Gently) => server.stop(),
            (Running::Apache(server), End::Killed) => server.kill(),
            (Running::Ostler(server), End::Gently) => server.stop(),
            (Running::Ostler(server), End::Killed) => server.kill(),
        }
    }
}

impl std::ops::Deref for Running {
    type Target = Server;
    fn deref(&self) -> &Server {
        match self {
            Running::Apache(server) => server,
            Running::Ostler(server) => server,
        }
    }
}

/// A session of the super user.
fn onlooker(server: &Server) -> Client {
    let mut client = Client::connect(server.address(), 60_000).expect("a session");
    let token = Body::new().int(0).string("digest").string("super:admin");
    client.call(op::AUTH, &token.0).expect("super");
    client
}

/// Random writes from two sessions that stay open: half of them succeed, all of them are logged.
fn work(server: &Server, seed: u64) -> Vec<ConnectResponse> {
    let mut clients = [0, 1].map(|_| Client::connect(server.address(), 60_000).expect("a session"));
    let token = Body::new().int(0).string("digest").string("u1:p1");
    clients[1].call(op::AUTH, &token.0).expect("auth");
    for step in generate(seed, 200) {
        let Action::Calls(calls) = step.action else { continue };
        let client = &mut clients[step.slot % 2];
        for call in calls.iter().filter(|call| WRITES.contains(&call.op)) {
            client.call(call.op, &call.body).expect("a reply");
        }
    }
    // An ephemeral each at least, which the session's life decides about in the next round.
    for client in &mut clients {
        let body = Body::new().string("/own-").buffer(None).raw(ostler_tests::client::OPEN_ACL).int(3);
        client.call(op::CREATE, &body.0).expect("a reply");
    }
    clients.into_iter().map(|client| client.session).collect()
}

const WRITES: [i32; 8] = [
    op::CREATE,
    op::CREATE2,
    op::CREATE_CONTAINER,
    op::CREATE_TTL,
    op::DELETE,
    op::SET_DATA,
    op::SET_ACL,
    op::MULTI,
];

fn tree(client: &mut Client) -> Tree {
    let mut tree = Tree::new();
    let mut ahead = vec![String::from("/")];
    while let Some(path) = ahead.pop() {
        let data = client.call(op::GET_DATA, &Body::new().string(&path).bool(false).0).expect("getData");
        let acl = client.call(op::GET_ACL, &Body::new().string(&path).0).expect("getACL");
        let names =
            client.call(op::GET_CHILDREN, &Body::new().string(&path).bool(false).0).expect("getChildren");
        assert_eq!((data.err, acl.err, names.err), (0, 0, 0), "{path}");
        let names = Reader(&names.body).strings().expect("names");
        ahead.extend(
            names.iter().map(|name| if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }),
        );
        tree.insert(path, (data.body, acl.body));
    }
    tree
}

fn compare(left: &Tree, found: &Tree, place: &str) {
    for (path, was) in left {
        let is = found.get(path).unwrap_or_else(|| panic!("{place}: {path:?} is lost"));
        // Both count a quota's usage anew when they start; what was counted before may have been wrong on Apache.
        if path.ends_with("/zookeeper_stats") {
            continue;
        }
        assert_eq!(was, is, "{place}: {path:?} is another");
    }
    let new: Vec<&String> = found.keys().filter(|path| !left.contains_key(*path)).collect();
    assert!(new.is_empty(), "{place}: {new:?} came from nowhere");
}
