//! Snapshots alone, without a server of ours: Apache's of every compression read into a world, and that world written by
//! us and read by Apache.

use ostler_engine::io::disk::RealDisk;
use ostler_engine::snapshot::{
    Compression, Contents, Image, Pinned, ReadOptions, SnapshotSource, load_newest, reader, writer,
};
use ostler_engine::world::{Head, Restorer, Settings};
use ostler_replication::Zxid;
use ostler_tests::client::Client;
use ostler_tests::peers::{self, Apache};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

const SETTINGS: Settings = Settings { hash_seed: [5, 6], digests: true };

/// A server with some znodes, ephemerals among them, stopped and started once so that it wrote a snapshot of them.
fn populated(dir: &Path, lines: &[&str]) {
    let apache = Apache::start(dir, lines);
    let mut client = Client::connect(apache.address(), 30_000).unwrap();
    for n in 0..300 {
        let data = vec![b'0' + (n % 10) as u8; n % 90];
        assert_eq!(client.create(&format!("/z{n}"), &data).unwrap(), 0);
        assert_eq!(client.create(&format!("/z{n}/ä"), b"").unwrap(), 0);
    }
    let mut leaver = Client::connect(apache.address(), 30_000).unwrap();
    assert_eq!(leaver.create("/last", b"txn").unwrap(), 0);
    leaver.close().unwrap();
    apache.stop();
    // Started again it writes what it recovered; the first client's session is still open in it.
    Apache::start(dir, lines).stop();
}

fn restore(dir: &Path) -> (Head, Contents, PathBuf) {
    let fresh = |zxid| Restorer::new(SETTINGS, zxid);
    let loaded =
        load_newest(&RealDisk, &dir.join("version-2"), ReadOptions::default(), fresh).unwrap().unwrap();
    assert!(loaded.skipped.is_empty(), "{:?}", loaded.skipped);
    (loaded.restored.finish().unwrap(), loaded.contents, loaded.path)
}

/// SnapshotFormatter's blocks, in no order: ours and Apache's children differ in theirs.
fn blocks(path: &Path) -> BTreeSet<String> {
    peers::apache_snapshot(path).split("----\n").map(str::to_owned).collect()
}

fn write(dir: &Path, head: &mut Head, compression: Compression) -> PathBuf {
    let source = Pinned { view: head.seal(), digest: true };
    let dir = dir.join("version-2");
    std::fs::create_dir_all(&dir).unwrap();
    writer::write(&RealDisk, &dir, &source, compression, &mut |_| ControlFlow::Continue(())).unwrap().path
}

#[test]
fn apaches_snapshots_of_every_compression_become_the_same_world() {
    if !peers::wanted() {
        return eprintln!("skipped: no peers wanted");
    }
    let temp = tempfile::tempdir().unwrap();
    for (method, suffix) in [("", ""), ("gz", "gz"), ("snappy", "snappy")] {
        let dir = temp.path().join(format!("apache-{method}"));
        let line = format!("snapshot.compression.method={method}");
        let lines: Vec<&str> = if method.is_empty() { Vec::new() } else { vec![&line] };
        populated(&dir, &lines);
        let (mut head, contents, path) = restore(&dir);
        assert!(path.to_str().unwrap().ends_with(suffix), "{}", path.display());
        let digest = contents.digest.unwrap();
        assert_eq!((digest.zxid, contents.footer), (head.zxid(), false));
        assert_eq!(head.digest(), digest.value, "{method}");
        assert_eq!((contents.nodes, contents.sessions), (605, 1));

        // Back to Apache: the same text of each znode and session, and it starts from ours alone.
        let ours = if method.is_empty() { vec![Compression::Plain, Compression::Gzip] } else { Vec::new() };
        for ours in ours {
            let back = temp.path().join(format!("back-{method}-{ours:?}"));
            let written = write(&back, &mut head, ours);
            assert_eq!(blocks(&path), blocks(&written));
            let apache = Apache::start(&back, &[]);
            assert!(apache.ask("srvr").contains("Node count: 606"), "{}", apache.ask("srvr"));
            assert!(apache.ask("srvr").contains(&format!("Zxid: 0x{:x}", head.zxid().0)));
            apache.stop();
            // What it writes at its start is what we wrote.
            let (again, contents, _) = restore(&back);
            assert_eq!((again.digest(), contents.sessions), (head.digest(), 1));
        }
    }
}

#[test]
fn apache_starts_from_our_first_snapshot() {
    if !peers::wanted() {
        return eprintln!("skipped: no peers wanted");
    }
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), &mut Head::new(SETTINGS), Compression::Plain);
    assert_eq!(std::fs::metadata(&written).unwrap().len(), 478 + 25);
    let apache = Apache::start(dir.path(), &[]);
    assert!(apache.ask("srvr").contains("Zxid: 0x0") && apache.ask("srvr").contains("Node count: 5"));
    let mut client = Client::connect(apache.address(), 30_000).unwrap();
    assert_eq!(client.create("/a", b"").unwrap(), 0);
}

#[test]
fn apache_refuses_what_we_refuse() {
    if !peers::wanted() {
        return eprintln!("skipped: no peers wanted");
    }
    // A flipped bit in the newest makes both fall back to the one before.
    let dir = tempfile::tempdir().unwrap();
    let mut head = Head::new(SETTINGS);
    write(dir.path(), &mut head, Compression::Plain);
    let image = Image { zxid: Zxid(5), ..Image::initial() };
    let version = dir.path().join("version-2");
    let path =
        writer::write(&RealDisk, &version, &image, Compression::Plain, &mut |_| ControlFlow::Continue(()))
            .unwrap()
            .path;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut nothing = Image::default();
    assert!(reader::read(&RealDisk, &path, ReadOptions::default(), &mut nothing).is_err());
    let fresh = |zxid| Restorer::new(SETTINGS, zxid);
    let loaded = load_newest(&RealDisk, &version, ReadOptions::default(), fresh).unwrap().unwrap();
    assert_eq!((loaded.zxid, loaded.skipped.len()), (Zxid(0), 1));
    let source = Pinned { view: loaded.restored.finish().unwrap().seal(), digest: true };
    assert_eq!(source.zxid(), Zxid(0));
    let apache = Apache::start(dir.path(), &[]);
    assert!(apache.ask("srvr").contains("Zxid: 0x0"), "{}", apache.ask("srvr"));
}
