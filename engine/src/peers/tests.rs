//! Over real sockets on loopback and a clock of the test's own: who connects, who is refused, what a snapshot brings.

use super::snapshot::{Inline, Staging, Threads};
use super::*;
use crate::io::disk::RealDisk;
use crate::io::poll::MioPoll;
use crate::limits::PEER_MESSAGE_BYTES;
use crate::snapshot::Image;
use ostler_replication::packet::{LearnerInfo, handshake, quorum};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

const MS: u64 = 1_000_000;
const HELLO_MS: u64 = 5000;

struct Rig {
    peers: Peers<MioPoll>,
    inputs: Vec<Input>,
    now: Moment,
    _dir: tempfile::TempDir,
}

fn staging(dir: &Path) -> Staging {
    let world = crate::world::Settings { hash_seed: [1, 2], digests: true };
    let disk = Arc::new(RealDisk);
    Staging { disk, dir: dir.to_owned(), world, tree_bytes_max: 1 << 30, field_bytes_max: 1 << 20 }
}

fn endpoint(host: &str, port: u16) -> Endpoint {
    Endpoint { host: host.to_owned(), port }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Server `me`, whose own ports the kernel gave, with these places of others.
fn rig(me: u64, others: &[(u64, Place)], threads: bool) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let own = Place {
        election: vec![endpoint("127.0.0.1", free_port())],
        quorum: vec![endpoint("localhost", free_port())],
    };
    let places = others.iter().cloned().chain([(me, own)]).map(|(id, place)| (ServerId(id), place));
    let settings = Settings {
        me: ServerId(me),
        places: places.collect(),
        listen_everywhere: false,
        bind_tries: Some(2),
        election_connect_ms: 5000,
        quorum_connect_ms: 5000,
        hello_ms: HELLO_MS,
        data_bytes_max: 1 << 20,
        queue_bytes_max: 4 << 20,
    };
    let poll = MioPoll::new(true).unwrap();
    let background: Box<dyn Background> = match threads {
        true => Box::new(Threads::new(staging(dir.path()), Arc::from(poll.waker()))),
        false => {
            let mut inline = Inline::new(staging(dir.path()));
            inline.names.insert("localhost".to_owned(), vec![Ipv4Addr::LOCALHOST.into()]);
            Box::new(inline)
        }
    };
    let peers = Peers::new(poll, background, settings);
    let mut rig = Rig { peers, inputs: Vec::new(), now: Moment::from_millis(1000), _dir: dir };
    let is_open = |door: &Door| matches!(door.state, doors::State::Open { .. });
    rig.turn();
    while !rig.peers.doors.iter().all(is_open) {
        rig.peers.wait(Some(Duration::from_secs(10))).unwrap();
        rig.turn();
    }
    rig
}

impl Rig {
    fn turn(&mut self) {
        self.peers.turn(self.now, &mut self.inputs).unwrap();
    }

    /// Turns until this is among the inputs.
    #[track_caller]
    fn until<T>(&mut self, mut wanted: impl FnMut(&Input) -> Option<T>) -> T {
        let begun = std::time::Instant::now();
        loop {
            self.turn();
            if let Some(at) = self.inputs.iter().position(|input| wanted(input).is_some()) {
                let found = wanted(&self.inputs[at]);
                self.inputs.drain(..=at);
                return found.unwrap();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "only {:?}", self.inputs);
            self.peers.wait(Some(Duration::from_millis(20))).unwrap();
        }
    }

    fn linked(&mut self) -> Link {
        self.until(|input| match input {
            Input::Linked { link, .. } => Some(*link),
            _ => None,
        })
    }

    fn act(&mut self, output: Output) {
        assert!(self.peers.act(output, self.now, &mut self.inputs).is_none());
        self.peers.flush(self.now, &mut self.inputs);
    }

    fn dial(&mut self, peer: u64, port: Port) {
        self.act(Output::Dial { peer: ServerId(peer), port, addresses: Vec::new() });
    }

    fn linked_outbox_is_empty(&mut self, link: Link) -> bool {
        self.peers.linked(link).unwrap().1.outbox.held_bytes() == 0
    }

    fn place(&self) -> Place {
        self.peers.settings.places[&self.peers.settings.me].clone()
    }

    fn connect(&self, port: Port) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.place().of(port)[0].port)).unwrap()
    }
}

fn hello(id: u64) -> Vec<u8> {
    handshake::encode(ServerId(id), &["127.0.0.1:3888".to_owned()], false)
}

fn follower_info(id: Option<u64>) -> Vec<u8> {
    let info = LearnerInfo { id: id.map(ServerId), protocol_version: 0x1_0000, config_version: 0 };
    quorum::encode(&QuorumPacket::FollowerInfo { accepted: Zxid(0), info }, Side::Learner)
}

fn ends(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    !matches!(stream.read(&mut [0; 64]), Ok(1..))
}

#[test]
fn whoever_says_who_it_is_becomes_a_link_and_its_packets_follow() {
    let mut rig = rig(1, &[], false);
    let mut learner = rig.connect(Port::Quorum);
    let bytes = follower_info(Some(7));
    learner.write_all(&bytes[..11]).unwrap();
    rig.turn();
    learner.write_all(&[&bytes[11..], &bytes[..5]].concat()).unwrap();
    let link = rig.linked();
    assert_eq!(link.peer, ServerId(7));
    rig.until(|input| {
        matches!(input, Input::Received(from, Packet::Quorum(_)) if *from == link).then_some(())
    });
    for piece in [&b"some "[..], b"bytes"] {
        rig.peers.act(Output::Send(link, piece.into()), rig.now, &mut rig.inputs);
    }
    rig.peers.flush(rig.now, &mut rig.inputs);
    rig.until(|input| matches!(input, Input::Drained(to, 10) if *to == link).then_some(()));
    let mut received = [0; 10];
    learner.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"some bytes");
    drop(learner);
    rig.until(|input| matches!(input, Input::Unlinked(gone) if *gone == link).then_some(()));

    // Whoever has no id is given one, and each another.
    let (mut one, mut two) = (rig.connect(Port::Quorum), rig.connect(Port::Quorum));
    one.write_all(&follower_info(None)).unwrap();
    two.write_all(&follower_info(None)).unwrap();
    let ids = [rig.linked().peer, rig.linked().peer];
    assert_eq!(ids, [ServerId(u64::MAX), ServerId(u64::MAX - 1)]);
}

#[test]
fn two_servers_find_each_other_and_what_is_said_before_hanging_up_is_heard() {
    let mut one = rig(1, &[], false);
    let mut two = rig(2, &[(1, one.place())], false);
    two.dial(1, Port::Election);
    let link = two.linked();
    two.peers.act(Output::Send(link, hello(2).into()), two.now, &mut two.inputs);
    two.act(Output::Hang(link, "a test".to_owned()));
    let addresses = one.until(|input| match input {
        Input::Linked {
            link: Link { peer: ServerId(2), .. },
            port: Port::Election,
            dialled: false,
            addresses,
        } => Some(addresses.clone()),
        _ => None,
    });
    assert_eq!(addresses, ["127.0.0.1:3888"]);
    one.until(|input| matches!(input, Input::Unlinked(_)).then_some(()));
    assert!(two.inputs.iter().all(|input| !matches!(input, Input::Unlinked(_))));
}

#[test]
fn addresses_are_tried_in_order_and_nobody_anywhere_is_unreachable() {
    let one = rig(1, &[], false);
    let mut place = one.place();
    place.quorum.insert(0, endpoint("127.0.0.1", free_port()));
    place.quorum.insert(1, endpoint("no such name", 1));
    let nowhere = Place { election: vec![endpoint("127.0.0.1", free_port())], quorum: Vec::new() };
    let mut two = rig(2, &[(1, place), (3, nowhere)], false);
    two.dial(1, Port::Quorum);
    assert_eq!(two.linked().peer, ServerId(1));
    for port in [Port::Election, Port::Quorum] {
        two.dial(3, port);
        two.until(|input| {
            matches!(input, Input::Unreachable { peer: ServerId(3), port: at } if *at == port).then_some(())
        });
    }
    // Nowhere by the configuration, but it has said where it is.
    let addresses = vec!["127.0.0.1:99999".to_owned(), one.place().election[0].to_string()];
    two.act(Output::Dial { peer: ServerId(4), port: Port::Election, addresses });
    assert_eq!(two.linked().peer, ServerId(4));
}

#[test]
fn a_connect_that_nobody_answers_ends_in_time() {
    // A port whose backlog is full answers nothing.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    full.listen(0).unwrap();
    let port = full.local_addr().unwrap().as_socket().unwrap().port();
    let _first = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let place = Place { election: vec![endpoint("127.0.0.1", port)], quorum: Vec::new() };
    let mut rig = rig(2, &[(1, place)], false);
    rig.dial(1, Port::Election);
    rig.turn();
    assert!(rig.peers.next_timeout() <= Some(Moment(rig.now.0 + 5000 * MS)));
    rig.now = rig.now.plus_millis(5000);
    rig.turn();
    assert!(matches!(rig.inputs[..], [Input::Unreachable { peer: ServerId(1), port: Port::Election }]));
}

#[test]
fn half_open_connections_cost_nobody_anything_and_end() {
    let mut rig = rig(1, &[], false);
    let mut silent: Vec<TcpStream> = Vec::new();
    for _ in 0..300 {
        silent.push(rig.connect(Port::Election));
        rig.peers.wait(Some(Duration::ZERO)).unwrap();
        rig.turn();
    }
    let mut good = rig.connect(Port::Election);
    good.write_all(&hello(2)).unwrap();
    assert_eq!(rig.linked().peer, ServerId(2));
    let open = rig.peers.connections.iter().flatten().count();
    assert!(open <= UNKNOWN_MAX + 1, "{open}");
    assert!(ends(&silent[0]));
    rig.now = rig.now.plus_millis(HELLO_MS);
    rig.turn();
    assert_eq!(rig.peers.connections.iter().flatten().count(), 1);
    assert!(silent.iter().all(ends));
}

#[test]
fn nonsense_is_hung_up_on_and_the_port_stays_open() {
    let mut rig = rig(1, &[], false);
    let bad_port = handshake::encode(ServerId(2), &["127.0.0.1:99999".to_owned()], false);
    let huge = [&7i32.to_be_bytes()[..], &[0; 8], &i32::MAX.to_be_bytes()].concat();
    let silent = follower_info(Some(3));
    let ack = quorum::encode(&QuorumPacket::Ack(Zxid(5)), Side::Learner);
    let cases: [(Port, &[u8]); 6] = [
        (Port::Election, &bad_port),
        (Port::Election, b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        (Port::Election, &[0xff; 64]),
        (Port::Quorum, &huge),
        (Port::Quorum, &ack),
        (Port::Quorum, &[b'x'; 8192]),
    ];
    for (port, bytes) in cases {
        let mut stream = rig.connect(port);
        stream.write_all(bytes).unwrap();
        let begun = std::time::Instant::now();
        stream.set_nonblocking(true).unwrap();
        while matches!((&stream).read(&mut [0; 8]), Err(error) if error.kind() == ErrorKind::WouldBlock) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{port:?} {bytes:?}");
            rig.peers.wait(Some(Duration::from_millis(5))).unwrap();
            rig.turn();
            // An id with nothing behind it is what servers of old say.
            rig.inputs.retain(|input| !matches!(input, Input::Linked { .. }));
        }
    }
    // Behind a good beginning: the link ends, once.
    let mut stream = rig.connect(Port::Quorum);
    stream.write_all(&[&silent[..], &huge].concat()).unwrap();
    let link = rig.linked();
    rig.until(|input| matches!(input, Input::Unlinked(gone) if *gone == link).then_some(()));
}

#[test]
fn a_port_in_use_is_tried_again_and_then_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let mut settings = rig(1, &[], false).peers.settings.clone();
    let place = Place { election: vec![endpoint("127.0.0.1", port)], quorum: Vec::new() };
    settings.places = BTreeMap::from([(ServerId(1), place)]);
    let peers = || {
        let background = Box::new(Inline::new(staging(dir.path())));
        Peers::new(MioPoll::new(false).unwrap(), background, settings.clone())
    };
    let mut inputs = Vec::new();
    let mut never = peers();
    assert!(never.turn(Moment(5), &mut inputs).is_ok());
    assert_eq!(never.next_timeout(), Some(Moment(5 + 1000 * MS)));
    let error = never.turn(Moment(5 + 1000 * MS), &mut inputs).unwrap_err().to_string();
    assert!(error.starts_with(&format!("the election port cannot be opened at 127.0.0.1:{port}")), "{error}");

    let mut later = peers();
    assert!(later.turn(Moment(5), &mut inputs).is_ok());
    drop(taken);
    assert!(later.turn(Moment(5 + 1000 * MS), &mut inputs).is_ok());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_ok());
}

#[test]
fn a_peer_that_takes_nothing_is_cut_off_at_the_bound() {
    let mut rig = rig(1, &[], false);
    let mut deaf = rig.connect(Port::Election);
    deaf.write_all(&hello(2)).unwrap();
    let link = rig.linked();
    let piece: Arc<[u8]> = vec![0; 1 << 20].into();
    for _ in 0..64 {
        rig.act(Output::Send(link, piece.clone()));
    }
    rig.until(|input| matches!(input, Input::Unlinked(gone) if *gone == link).then_some(()));
}

#[test]
fn very_many_small_packets_are_bounded_by_what_it_takes_to_keep_them() {
    let mut rig = rig(1, &[], false);
    let mut deaf = rig.connect(Port::Election);
    deaf.write_all(&hello(2)).unwrap();
    let link = rig.linked();
    // The sockets' buffers first; then a tenth of the bound in bytes, and more than the bound to keep.
    let piece: Arc<[u8]> = vec![0; 64 << 10].into();
    while rig.linked_outbox_is_empty(link) {
        rig.act(Output::Send(link, piece.clone()));
    }
    let small: Arc<[u8]> = vec![0; 8].into();
    for _ in 0..(4 << 20) / PEER_MESSAGE_BYTES {
        rig.peers.act(Output::Send(link, small.clone()), rig.now, &mut rig.inputs);
    }
    rig.until(|input| matches!(input, Input::Unlinked(gone) if *gone == link).then_some(()));
}

#[test]
fn a_txn_that_cannot_be_read_never_comes_near_the_log() {
    let leader = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = leader.local_addr().unwrap().port();
    let place = Place { election: Vec::new(), quorum: vec![endpoint("127.0.0.1", port)] };
    let mut rig = rig(1, &[(2, place)], false);
    rig.dial(2, Port::Quorum);
    let link = rig.linked();
    let (mut leader, _) = leader.accept().unwrap();
    let mut entry = vec![0; 32];
    entry.extend_from_slice(&1i32.to_be_bytes());
    entry.extend_from_slice(&[0xff; 30]);
    let proposal = QuorumPacket::Proposal { zxid: Zxid(1 << 32 | 1), entry };
    leader.write_all(&quorum::encode(&QuorumPacket::Diff(Zxid(0)), Side::Leader)).unwrap();
    leader.write_all(&quorum::encode(&proposal, Side::Leader)).unwrap();
    rig.until(|input| {
        assert!(!matches!(input, Input::Received(_, Packet::Quorum(QuorumPacket::Proposal { .. }))));
        matches!(input, Input::Unlinked(gone) if *gone == link).then_some(())
    });
}

/// Large enough for several pieces, so that it does not fit into the sockets' buffers.
fn image() -> Image {
    let mut image = Image { zxid: Zxid(0x1_0000_0007), ..Image::initial() };
    let node = image.nodes[1].clone();
    for n in 0..9_000 {
        let (path, data) = (format!("/z{n}").into(), Some(vec![n as u8; 1000].into()));
        image.nodes.push(crate::snapshot::ImageNode { path, data, ..node.clone() });
    }
    image
}

fn check_snapshot(threads: bool, breaks: bool) {
    let mut leader = rig(1, &[], threads);
    let mut learner = rig(2, &[(1, leader.place())], threads);
    learner.dial(1, Port::Quorum);
    let up = learner.linked();
    learner.act(Output::Send(up, follower_info(Some(2)).into()));
    let down = leader.linked();
    let image = image();
    let packet = |packet| Output::Send(down, quorum::encode(&packet, Side::Leader).into());
    leader.act(packet(QuorumPacket::Snap(image.zxid)));
    let source = Box::new(image.clone());
    leader.peers.send_snapshot(down, source, leader.now, &mut leader.inputs);
    leader.act(packet(QuorumPacket::UpToDate));
    learner.until(|input| {
        matches!(input, Input::Received(_, Packet::Quorum(QuorumPacket::Snap(_)))).then_some(())
    });
    learner.act(Output::TakeSnapshot(up));
    let (mut turns, begun) = (0, std::time::Instant::now());
    let done = loop {
        for rig in [&mut leader, &mut learner] {
            rig.peers.wait(Some(Duration::from_millis(1))).unwrap();
            rig.turn();
        }
        turns += 1;
        if breaks && turns == 3 {
            leader.act(Output::Hang(down, "a test".to_owned()));
        }
        if let Some(at) = learner.inputs.iter().position(|input| matches!(input, Input::Streamed { .. })) {
            let Input::Streamed { done, .. } = learner.inputs[at] else { unreachable!() };
            learner.inputs.drain(..=at);
            break done;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", learner.inputs);
    };
    assert_eq!(done, !breaks);
    if breaks {
        learner.until(|input| matches!(input, Input::Unlinked(_)).then_some(()));
        assert!(learner.peers.take_staged(up).is_none());
    } else {
        learner.until(|input| {
            matches!(input, Input::Received(_, Packet::Quorum(QuorumPacket::UpToDate))).then_some(())
        });
        let staged = learner.peers.take_staged(up).unwrap();
        assert_eq!((staged.zxid, staged.znodes), (image.zxid, image.nodes.len() as u64));
        learner.peers.background.discard(staged);
    }
    // The thread that wrote the file removes it when it learns of the end.
    while std::fs::read_dir(learner._dir.path()).unwrap().count() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::yield_now();
    }
}

#[test]
fn a_snapshot_goes_from_one_server_to_the_other_and_packets_follow() {
    check_snapshot(false, false);
    check_snapshot(true, false);
}

#[test]
fn a_snapshot_that_breaks_off_leaves_nothing() {
    check_snapshot(true, true);
}
