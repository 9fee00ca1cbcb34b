//! Whole servers in this process, spoken to over sockets.

use super::*;
use crate::model::SessionId;
use crate::wire::{AclBytes, ConnectRequest, ConnectResponse, JutePut, OpCode, Reader};
use ostler_replication::Zxid;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

struct Client {
    stream: TcpStream,
    response: ConnectResponse,
    xid: i32,
}

struct Reply {
    xid: i32,
    zxid: i64,
    error: i32,
    body: Vec<u8>,
}

impl Client {
    fn connect(server: &Server) -> Client {
        Client::attach(server, SessionId::NONE, None)
    }

    fn attach(server: &Server, session: SessionId, password: Option<[u8; 16]>) -> Client {
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let ask = ConnectRequest {
            protocol: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 10_000,
            session,
            password,
            read_only: Some(false),
        };
        let mut out = Vec::new();
        ask.encode(&mut out);
        stream.write_all(&out).unwrap();
        let response = ConnectResponse::decode(&read_frame(&mut stream).unwrap()).unwrap();
        Client { stream, response, xid: 0 }
    }

    fn send(&mut self, op: OpCode, record: impl FnOnce(&mut Vec<u8>)) -> i32 {
        self.xid += 1;
        let mut out = Vec::new();
        crate::wire::frame::put_frame(&mut out, |out| {
            out.put_i32(self.xid);
            out.put_i32(op.to_i32());
            record(out);
        });
        self.stream.write_all(&out).unwrap();
        self.xid
    }

    /// `None`: the server closed the connection.
    fn reply(&mut self) -> Option<Reply> {
        let frame = read_frame(&mut self.stream)?;
        let mut reader = Reader::new(&frame);
        let (xid, zxid, error) = (reader.i32().unwrap(), reader.i64().unwrap(), reader.i32().unwrap());
        Some(Reply { xid, zxid, error, body: reader.rest().to_vec() })
    }

    fn call(&mut self, op: OpCode, record: impl FnOnce(&mut Vec<u8>)) -> Reply {
        let xid = self.send(op, record);
        let reply = self.reply().expect("an answer");
        assert_eq!(reply.xid, xid);
        reply
    }

    fn create(&mut self, path: &str, data: &[u8]) -> Reply {
        self.call(OpCode::Create, |out| put_create(out, path, data))
    }

    fn data(&mut self, path: &str) -> Option<Vec<u8>> {
        let reply = self.call(OpCode::GetData, |out| {
            out.put_string(path);
            out.put_bool(false);
        });
        (reply.error == 0).then(|| Reader::new(&reply.body).buffer().unwrap().unwrap().to_vec())
    }
}

fn put_create(out: &mut Vec<u8>, path: &str, data: &[u8]) {
    out.put_string(path);
    out.put_buffer(Some(data));
    out.extend_from_slice(AclBytes::OPEN_BYTES);
    out.put_i32(0);
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn config(dir: &std::path::Path) -> Config {
    Config { segment_bytes: 1 << 20, ..Config::embedded(dir) }
}

/// Runs a scenario on both shapes of a server: core and worker on one thread, and apart.
fn check(scenario: impl Fn(&dyn Fn(Config) -> Server)) {
    scenario(&|config| Server::start_on(config, 1).unwrap());
    scenario(&|config| Server::start_on(Config { workers: 2, ..config }, 2).unwrap());
}

#[test]
fn an_address_that_cannot_be_bound_is_told_with_its_way_out() {
    let check = |kind: std::io::ErrorKind, expected: &str| {
        let address = ([10, 0, 0, 1], 81).into();
        let error = StartError::Listen { address, source: kind.into() }.to_string();
        assert!(error.contains("10.0.0.1:81") && error.contains(expected), "{error}");
    };
    check(std::io::ErrorKind::AddrInUse, "'sport = :81'");
    check(std::io::ErrorKind::PermissionDenied, "CAP_NET_BIND_SERVICE");
    check(std::io::ErrorKind::AddrNotAvailable, "no address 10.0.0.1: correct clientPortAddress");
}

#[test]
fn data_and_session_are_there_after_a_restart() {
    check(|start| {
        let dir = tempfile::tempdir().unwrap();
        let server = start(config(dir.path()));
        let mut client = Client::connect(&server);
        assert_eq!(client.create("/a", b"one").error, 0);
        assert_eq!(client.create("/a", b"two").error, -110);
        assert_eq!(client.data("/a").unwrap(), b"one");
        let (session, password) = (client.response.session, client.response.password);
        server.stop();
        assert!(dir.path().join("version-2/snapshot.0").exists());

        let server = start(config(dir.path()));
        let mut client = Client::attach(&server, session, Some(password));
        assert_eq!(client.response.session, session);
        assert_eq!(client.data("/a").unwrap(), b"one");
        // The txns before: session, create, error.
        assert_eq!(client.create("/b", b"").zxid, 4);
        server.stop();
    });
}

#[test]
fn what_was_acknowledged_before_a_stop_is_there_and_nothing_is_lost_on_the_way() {
    check(|start| {
        let dir = tempfile::tempdir().unwrap();
        let server = start(config(dir.path()));
        let mut client = Client::connect(&server);
        for number in 0..500 {
            client.send(OpCode::Create, |out| put_create(out, &format!("/n{number}"), b"x"));
        }
        // Stopped in the middle: what was read is answered, then the connection ends.
        let first = client.reply().unwrap();
        let reader = std::thread::spawn(move || {
            let mut answered = vec![first];
            answered.extend(std::iter::from_fn(|| client.reply()));
            answered
        });
        server.stop();
        let answered = reader.join().unwrap();
        assert!(
            answered.iter().enumerate().all(|(at, reply)| reply.xid == at as i32 + 1 && reply.error == 0)
        );

        let server = start(config(dir.path()));
        let mut client = Client::connect(&server);
        for number in 0..answered.len() {
            assert!(client.data(&format!("/n{number}")).is_some(), "/n{number} of {}", answered.len());
        }
        server.stop();
    });
}

#[test]
fn workers_share_one_order() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_on(Config { workers: 3, ..config(dir.path()) }, 4).unwrap();
    let mut clients: Vec<Client> = (0..6).map(|_| Client::connect(&server)).collect();
    assert_eq!(clients[0].create("/a", b"0").error, 0);
    for round in 1..50u32 {
        let writer = round as usize % clients.len();
        let reply = clients[writer].call(OpCode::SetData, |out| {
            out.put_string("/a");
            out.put_buffer(Some(round.to_string().as_bytes()));
            out.put_i32(round as i32 - 1);
        });
        assert_eq!(reply.error, 0);
        // Whoever heard of a write finds it, on whichever worker.
        for client in &mut clients {
            assert_eq!(client.data("/a").unwrap(), round.to_string().as_bytes());
        }
    }
    server.stop();
}

#[test]
fn whoever_heard_of_a_write_finds_it_counted() {
    check(|start| {
        let dir = tempfile::tempdir().unwrap();
        let server = start(config(dir.path()));
        let mut client = Client::connect(&server);
        for count in 0..100 {
            assert_eq!(client.create(&format!("/counted-{count}"), b"").error, 0);
            let mut stream = TcpStream::connect(server.local_addr()).unwrap();
            stream.write_all(b"srvr").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert!(text.contains(&format!("Node count: {}\n", 6 + count)), "{count}: {text}");
        }
        server.stop();
    });
}

#[test]
fn a_directory_serves_one_server_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).unwrap();
    assert!(matches!(Server::start(config(dir.path())), Err(StartError::Directory(_))));
    server.stop();
    Server::start(config(dir.path())).unwrap().stop();
}

#[test]
fn a_log_without_a_snapshot_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path())).unwrap();
    Client::connect(&server).create("/a", b"");
    server.stop();
    std::fs::remove_file(dir.path().join("version-2/snapshot.0")).unwrap();
    assert!(matches!(Server::start(config(dir.path())), Err(StartError::NoSnapshot { .. })));
    let trusting = Config { trust_empty_snapshot: true, ..config(dir.path()) };
    let server = Server::start(trusting).unwrap();
    assert!(Client::connect(&server).data("/a").is_some());
    server.stop();
}

#[test]
fn snapshots_are_written_beside_traffic_and_recovered_from() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Config { snap_txns: 20, ..config(dir.path()) }).unwrap();
    let mut client = Client::connect(&server);
    for number in 0..200 {
        // Large enough that the log always exceeds the last snapshot.
        assert_eq!(client.create(&format!("/n{number}"), &[7; 2000]).error, 0);
        client.call(OpCode::Delete, |out| {
            out.put_string(&format!("/n{number}"));
            out.put_i32(-1);
        });
    }
    client.create("/last", b"here");
    server.stop();
    let snapshots = std::fs::read_dir(dir.path().join("version-2"))
        .unwrap()
        .filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().starts_with("snapshot."))
        .count();
    assert!(snapshots > 2, "{snapshots} snapshots");
    let server = Server::start(config(dir.path())).unwrap();
    let mut client = Client::connect(&server);
    assert_eq!(client.data("/last").unwrap(), b"here");
    assert_eq!(client.data("/n7"), None);
    server.stop();
}
