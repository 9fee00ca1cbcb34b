//! The snapshot that a leader of Apache's sends to a learner, taken by a learner of the test's own: we read it to its last
//! byte, find the packet behind it, and would send the same bytes.

use ostler_engine::io::disk::RealDisk;
use ostler_engine::snapshot::Image;
use ostler_engine::snapshot::wire::{self, Ended, Stage};
use ostler_engine::world::{Restorer, Settings};
use ostler_replication::packet::quorum::{self, PROTOCOL_VERSION};
use ostler_replication::packet::{LearnerInfo, QuorumPacket, Side};
use ostler_replication::{ServerId, Zxid};
use ostler_tests::client::Client;
use ostler_tests::peers::{self, Apache, free_port};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const DATA_BYTES_MAX: usize = 4 << 20;

/// A learner's end of a connection to the quorum port.
struct Learner {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Learner {
    fn send(&mut self, packet: QuorumPacket) {
        self.stream.write_all(&quorum::encode(&packet, Side::Learner)).expect("sent");
    }

    fn more(&mut self) {
        let mut piece = [0; 4096];
        let count = self.stream.read(&mut piece).expect("bytes");
        assert!(count > 0, "the leader has closed the connection; {} bytes lie unread", self.bytes.len());
        self.bytes.extend_from_slice(&piece[..count]);
    }

    fn packet(&mut self) -> QuorumPacket {
        loop {
            if let Some((packet, taken)) =
                quorum::decode(&self.bytes, Side::Leader, DATA_BYTES_MAX).expect("a packet")
            {
                self.bytes.drain(..taken);
                return packet;
            }
            self.more();
        }
    }
}

#[test]
fn an_apache_leaders_snapshot_is_read_to_its_end_and_sent_alike() {
    if !peers::wanted() {
        return eprintln!("skipped: no peers wanted");
    }
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("myid"), "1").expect("myid");
    let ports = [(); 4].map(|()| free_port());
    let lines = [
        "initLimit=10".to_owned(),
        "syncLimit=5".to_owned(),
        "standaloneEnabled=false".to_owned(),
        "-Dzookeeper.forceSnapshotSync=true".to_owned(),
        format!("server.1=127.0.0.1:{}:{}", ports[0], ports[1]),
        format!("server.2=127.0.0.1:{}:{}:observer", ports[2], ports[3]),
    ];
    let apache = Apache::start(dir.path(), &lines.each_ref().map(String::as_str));
    let mut client = Client::connect(apache.address(), 30_000).expect("a session");
    for n in 0..500 {
        let data = vec![b'0' + (n % 10) as u8; n % 3000];
        assert_eq!(client.create(&format!("/z{n}"), &data).expect("a reply"), 0);
        assert_eq!(client.create(&format!("/z{n}/ä"), b"").expect("a reply"), 0);
    }

    let stream = TcpStream::connect(("127.0.0.1", ports[0])).expect("the quorum port");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut learner = Learner { stream, bytes: Vec::new() };
    let info = LearnerInfo { id: Some(ServerId(2)), protocol_version: PROTOCOL_VERSION, config_version: 0 };
    learner.send(QuorumPacket::ObserverInfo { accepted: Zxid(0), info });
    let QuorumPacket::LeaderInfo { .. } = learner.packet() else { panic!("no LEADERINFO") };
    learner.send(QuorumPacket::AckEpoch { zxid: 0, epoch: 0 });
    let QuorumPacket::Snap(zxid) = learner.packet() else { panic!("no SNAP") };

    // Piece by piece as they come, and all of them kept.
    let mut recorded = Vec::new();
    let mut image = Image { zxid, ..Image::default() };
    let first = std::mem::take(&mut learner.bytes);
    let mut early = Some(first);
    let (contents, rest) = wire::restore(
        DATA_BYTES_MAX,
        &mut |held| {
            let piece = early.take().filter(|early| !early.is_empty()).unwrap_or_else(|| {
                learner.more();
                std::mem::take(&mut learner.bytes)
            });
            held.extend_from_slice(&piece);
            recorded.extend_from_slice(&piece);
            Ok::<(), Ended>(())
        },
        &mut image,
    )
    .expect("a whole snapshot");
    assert_eq!((contents.nodes, contents.sessions), (4 + 1000, 1));

    // Behind it packets go on.
    learner.bytes = rest.clone();
    let mut next = learner.packet();
    while !matches!(next, QuorumPacket::NewLeader { .. }) {
        assert!(matches!(next, QuorumPacket::Ping { .. }), "{next:?}");
        next = learner.packet();
    }

    let mut sent = Vec::new();
    wire::send(&image, &mut |piece| {
        sent.extend_from_slice(piece);
        Ok::<(), Ended>(())
    })
    .expect("sent");
    recorded.truncate(recorded.len() - rest.len());
    assert!(sent == recorded, "{} and {} bytes", sent.len(), recorded.len());

    // And it becomes a world and a file that Apache reads.
    let staged_in = tempfile::tempdir().expect("a directory");
    let settings = Settings { hash_seed: [5, 6], digests: true };
    let stage = Stage {
        disk: &RealDisk,
        dir: staged_in.path(),
        zxid,
        number: 1,
        field_bytes_max: DATA_BYTES_MAX,
        digests: true,
    };
    let mut all = Some(sent);
    let (staged, rest) = wire::receive(&stage, Restorer::new(settings, zxid), &mut |held| {
        held.extend(all.take().ok_or(Ended)?);
        Ok(())
    })
    .expect("a world");
    assert!(rest.is_empty());
    std::fs::rename(&staged.partial, &staged.name).expect("renamed");
    let text = peers::apache_snapshot(&staged.name);
    assert!(text.contains("/z499/ä"), "{text}");
    apache.stop();
}
