//! The other servers of the ensemble: sockets of the election and the quorum port, on the core's thread, in turns. Bytes
//! come in and `Input`s go out, `Output`s come in and bytes go out; what they mean is replication's.
//! Not here: packets' layout, who leads, whose connection of two is kept (replication), snapshots' bytes (snapshot::wire).
//!
//! Nobody who connects costs anybody else anything: each connection says who is there within its own deadline and a few
//! bytes, or goes; at a bound the oldest one goes that has said nothing, from the address that has most of them. A turn
//! reads and writes a bounded part of each connection. What waits for a peer is bounded as well: replication counts what
//! has drained, and whoever is over the bound all the same is cut off.
//!
//! Behind a SNAP packet a connection is read no further until `TakeSnapshot` says that what follows is a snapshot's body.

mod complaints;
mod dial;
mod doors;
mod frames;
mod outbox;
pub mod snapshot;

use crate::io::poll::{LISTENERS_MAX, Poll, Ready};
use crate::ring::Wake;
use crate::snapshot::{SnapshotSource, Staged};
use complaints::Complaints;
use dial::{Dial, Step};
use doors::Door;
use frames::Inbox;
use ostler_replication::packet::{QuorumPacket, Side};
use ostler_replication::{Input, Link, Moment, Output, Packet, Port, ServerId, Zxid};
use outbox::{Outbox, Wrote};
use snapshot::{Background, Incoming};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

pub use dial::Endpoint;
pub use doors::BindError;

/// Connections that have not said yet who is there.
const UNKNOWN_MAX: usize = 256;
/// Connections taken from one port in one turn.
const TURN_ACCEPTS_MAX: usize = 32;
/// A connection could not be taken, as when the process has no descriptors left: tried again after so long.
const ACCEPT_AGAIN_MS: u64 = 100;
/// Bytes read from one connection in one turn.
const TURN_READ_BYTES_MAX: usize = 128 << 10;
/// Connects that wait in the kernel.
const BACKLOG: u32 = 512;

/// Where one server listens for others, in the order in which its addresses are tried.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Place {
    pub election: Vec<Endpoint>,
    pub quorum: Vec<Endpoint>,
}

impl Place {
    fn of(&self, port: Port) -> &[Endpoint] {
        match port {
            Port::Election => &self.election,
            Port::Quorum => &self.quorum,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub me: ServerId,
    /// Of every member, this server among them.
    pub places: BTreeMap<ServerId, Place>,
    /// `quorumListenOnAllIPs`.
    pub listen_everywhere: bool,
    /// `electionPortBindRetry`; `None` = without end.
    pub bind_tries: Option<u32>,
    /// `cnxTimeout`.
    pub election_connect_ms: u64,
    /// `connectToLearnerMasterLimit` in milliseconds.
    pub quorum_connect_ms: u64,
    /// For the first words of a connection that was accepted.
    pub hello_ms: u64,
    /// Largest data of one packet: `jute.maxbuffer` and its extra size.
    pub data_bytes_max: usize,
    /// Bytes of packets that wait for one peer, above which it is cut off. One packet always may.
    pub queue_bytes_max: usize,
}

/// In words, for the log.
fn name_of(port: Port) -> &'static str {
    match port {
        Port::Election => "election",
        Port::Quorum => "quorum",
    }
}

enum Stage {
    /// Ours, for the dial of this number.
    Connecting(u64),
    /// Accepted; who is there must be said until then.
    Unknown(Moment),
    /// And which end of the quorum protocol the other side is.
    Linked(Link, Side),
}

enum Reading {
    Packets,
    /// A SNAP packet of this zxid was read.
    Held(Zxid),
    Snapshot(Box<dyn Incoming>),
}

struct Connection {
    port: Port,
    remote: SocketAddr,
    stage: Stage,
    reading: Reading,
    inbox: Inbox,
    outbox: Outbox,
    /// The socket may have bytes, or its end.
    readable: bool,
    /// Its end was reported, and is not again: it is read until then.
    ending: bool,
}

impl Connection {
    fn new(port: Port, remote: SocketAddr, stage: Stage) -> Connection {
        let (inbox, outbox) = Default::default();
        Connection {
            port,
            remote,
            stage,
            reading: Reading::Packets,
            inbox,
            outbox,
            readable: true,
            ending: false,
        }
    }

    fn may_read(&self) -> bool {
        let wanted = match &self.reading {
            Reading::Packets => !matches!(self.stage, Stage::Connecting(_)),
            Reading::Held(_) => false,
            Reading::Snapshot(incoming) => incoming.has_room(),
        };
        self.readable && wanted
    }
}

enum Asker {
    Dial(u64),
    Door(usize),
}

/// All connections to other servers.
pub struct Peers<P: Poll> {
    poll: P,
    background: Box<dyn Background>,
    settings: Settings,
    doors: Vec<Door>,
    /// By token.
    connections: Vec<Option<Connection>>,
    /// Tokens by the links' numbers.
    links: BTreeMap<u64, u32>,
    dials: BTreeMap<u64, Dial>,
    lookups: BTreeMap<u64, Asker>,
    /// Snapshots received whole, by the links' numbers.
    staged: BTreeMap<u64, Staged>,
    /// The last number given: to a link, a dial, a look-up.
    number: u64,
    /// The last id given to a server without one.
    nameless: u64,
    complaints: Complaints,
    ready: Vec<Ready>,
    scratch: Vec<u8>,
}

impl<P: Poll> Peers<P> {
    pub fn new(poll: P, background: Box<dyn Background>, settings: Settings) -> Peers<P> {
        let mut doors = Vec::new();
        let own = settings.places.get(&settings.me).cloned().unwrap_or_default();
        for port in [Port::Election, Port::Quorum] {
            for endpoint in own.of(port) {
                let is_there =
                    |door: &Door| settings.listen_everywhere && door.endpoint.port == endpoint.port;
                if !doors.iter().any(is_there) && doors.len() < LISTENERS_MAX as usize {
                    doors.push(Door::new(port, endpoint.clone()));
                }
            }
        }
        Peers {
            poll,
            background,
            settings,
            doors,
            connections: Vec::new(),
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            lookups: BTreeMap::new(),
            staged: BTreeMap::new(),
            number: 0,
            nameless: 0,
            complaints: Complaints::default(),
            ready: Vec::new(),
            scratch: vec![0; TURN_READ_BYTES_MAX],
        }
    }

    /// Ends `wait` from any thread.
    pub fn waker(&self) -> Box<dyn Wake> {
        self.poll.waker()
    }

    /// Sleeps until a socket is ready, somebody wakes, or patience ends.
    pub fn wait(&mut self, patience: Option<Duration>) -> io::Result<()> {
        self.poll.wait(patience, &mut self.ready)
    }

    /// When a turn is due, whatever sockets say. The past: at once.
    pub fn next_timeout(&self) -> Option<Moment> {
        let mut due: Option<Moment> = None;
        let mut at = |moment: Moment| due = Some(due.map_or(moment, |due| due.min(moment)));
        self.doors.iter().filter_map(Door::due).for_each(&mut at);
        self.dials.values().for_each(|dial| at(dial.step_deadline));
        for connection in self.connections.iter().flatten() {
            if let Stage::Unknown(deadline) = connection.stage {
                at(deadline);
            }
            if connection.may_read() || connection.outbox.has_more {
                at(Moment::default());
            }
        }
        due
    }

    /// Takes what has come. An error: a port of this server cannot be opened, and trying again is over.
    pub fn turn(&mut self, now: Moment, inputs: &mut Vec<Input>) -> Result<(), BindError> {
        self.take_ready(now, inputs);
        while let Some((number, found)) = self.background.looked_up() {
            match self.lookups.remove(&number) {
                Some(Asker::Dial(dial)) => self.found(dial, number, found, now, inputs),
                Some(Asker::Door(door)) => self.bind_found(door, found, now)?,
                None => {}
            }
        }
        for door in 0..self.doors.len() {
            self.open(door, now)?;
            self.accept(door, now);
        }
        self.end_overdue(now, inputs);
        for token in 0..self.connections.len() as u32 {
            self.read(token, now, inputs);
            self.look_at_snapshot(token, now, inputs);
        }
        self.flush(now, inputs);
        Ok(())
    }

    /// Does what is the network's; what is not comes back, and so does `SendSnapshot`, which wants a source
    /// ([`Peers::send_snapshot`]). Bytes leave with the next `flush`.
    pub fn act(&mut self, output: Output, now: Moment, inputs: &mut Vec<Input>) -> Option<Output> {
        match output {
            Output::Dial { peer, port, addresses } => self.dial(peer, port, &addresses, now, inputs),
            Output::Send(link, bytes) => {
                if let Some((_, connection)) = self.linked(link) {
                    connection.outbox.put(bytes);
                }
            }
            Output::TakeSnapshot(link) => self.take_snapshot(link, now, inputs),
            Output::Hang(link, reason) => self.hang(link, &reason, now),
            other => return Some(other),
        }
        None
    }

    /// Puts a snapshot behind what is queued for this link. Its bytes are not counted by `Drained`, which is told all the
    /// same when some have left.
    pub fn send_snapshot(
        &mut self,
        link: Link,
        source: Box<dyn SnapshotSource + Send>,
        now: Moment,
        inputs: &mut Vec<Input>,
    ) {
        let Some(&token) = self.links.get(&link.number) else { return };
        match self.background.send(source) {
            Ok(snapshot) => {
                if let Some((_, connection)) = self.linked(link) {
                    connection.outbox.put_snapshot(snapshot);
                }
            }
            Err(error) => self.lose(token, &format!("no snapshot can be sent: {error}"), now, inputs),
        }
    }

    /// What `Install` is to make the world. `None`: the link is gone, and the snapshot with it.
    pub fn take_staged(&mut self, link: Link) -> Option<Staged> {
        self.staged.remove(&link.number)
    }

    /// One write per connection that has something to write.
    pub fn flush(&mut self, now: Moment, inputs: &mut Vec<Input>) {
        for token in 0..self.connections.len() as u32 {
            let Some(connection) = &mut self.connections[token as usize] else { continue };
            let Stage::Linked(link, _) = connection.stage else { continue };
            let written = connection.outbox.write(&mut self.poll, token);
            let held = connection.outbox.held_bytes();
            match written {
                Ok(wrote) => {
                    if let Wrote::Some(drained) = wrote {
                        inputs.push(Input::Drained(link, drained));
                    }
                    if held > self.settings.queue_bytes_max.max(self.settings.data_bytes_max * 2) {
                        self.lose(token, &format!("it is too slow: {held} bytes wait for it"), now, inputs);
                    }
                }
                Err(error) => self.lose(token, &error.to_string(), now, inputs),
            }
        }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn linked(&mut self, link: Link) -> Option<(u32, &mut Connection)> {
        let token = *self.links.get(&link.number)?;
        self.connections[token as usize].as_mut().map(|connection| (token, connection))
    }

    fn free_token(&mut self) -> u32 {
        let free = self.connections.iter().position(Option::is_none);
        let token = free.unwrap_or(self.connections.len());
        if free.is_none() {
            self.connections.push(None);
        }
        token as u32
    }

    fn take_ready(&mut self, now: Moment, inputs: &mut Vec<Input>) {
        for ready in std::mem::take(&mut self.ready) {
            match ready {
                Ready::Socket { token, readable, writable, closing } => {
                    let Some(Some(connection)) = self.connections.get_mut(token as usize) else { continue };
                    connection.readable |= readable || closing;
                    connection.ending |= closing;
                    connection.outbox.blocked &= !writable;
                    if let Stage::Connecting(dial) = connection.stage {
                        self.see_connected(token, dial, now, inputs);
                    }
                }
                Ready::Listener(number) => {
                    if let Some(doors::State::Open { accept, .. }) =
                        self.doors.get_mut(number as usize).map(|door| &mut door.state)
                    {
                        *accept = true;
                    }
                }
                Ready::Woken => {}
            }
        }
    }

    // --- this server's ports ----------------------------------------------------------------------------------------

    fn open(&mut self, index: usize, now: Moment) -> Result<(), BindError> {
        let door = &mut self.doors[index];
        match door.state {
            doors::State::Closed(at) if at <= now => {}
            _ => return Ok(()),
        }
        match door.endpoint.literal() {
            _ if self.settings.listen_everywhere => self.bind(index, None, now),
            Some(address) => self.bind(index, Some(address), now),
            None => {
                let host = door.endpoint.host.clone();
                let number = self.next_number();
                self.doors[index].state = doors::State::LookingUp(number);
                self.lookups.insert(number, Asker::Door(index));
                self.background.look_up(number, &host);
                Ok(())
            }
        }
    }

    fn bind_found(
        &mut self,
        index: usize,
        found: io::Result<Vec<IpAddr>>,
        now: Moment,
    ) -> Result<(), BindError> {
        let first = found.and_then(|found| found.first().copied().ok_or_else(|| ErrorKind::NotFound.into()));
        match first {
            Ok(address) => self.bind(index, Some(address), now),
            Err(error) => self.doors[index].failed(error, self.settings.bind_tries, now),
        }
    }

    fn bind(&mut self, index: usize, address: Option<IpAddr>, now: Moment) -> Result<(), BindError> {
        let door = &mut self.doors[index];
        let bound = self.poll.bind(address, door.endpoint.port, BACKLOG);
        match bound.and_then(|(listener, _)| self.poll.listen(index as u32, listener)) {
            Ok(()) => door.opened(address),
            Err(error) => return door.failed(error, self.settings.bind_tries, now),
        }
        Ok(())
    }

    fn accept(&mut self, index: usize, now: Moment) {
        for _ in 0..TURN_ACCEPTS_MAX {
            let port = self.doors[index].port;
            let doors::State::Open { accept, again } = &mut self.doors[index].state else { return };
            if !*accept || *again > now {
                return;
            }
            match self.poll.accept(index as u32) {
                Ok((socket, remote)) => {
                    self.make_room(now);
                    let token = self.free_token();
                    if let Err(error) = self.poll.adopt(token, socket) {
                        self.complain(remote, port, &error.to_string(), now);
                        continue;
                    }
                    let stage = Stage::Unknown(now.plus_millis(self.settings.hello_ms));
                    self.connections[token as usize] = Some(Connection::new(port, remote, stage));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => *accept = false,
                Err(error) => {
                    *again = now.plus_millis(ACCEPT_AGAIN_MS);
                    if self.complaints.may_say(name_of(port), now).is_some() {
                        let port = name_of(port);
                        tracing::warn!(%error, "a connection to the {port} port could not be accepted");
                    }
                }
            }
        }
    }

    /// At the bound the oldest connection goes that has not said who is there, of the address that has most such.
    fn make_room(&mut self, now: Moment) {
        let mut of_address: BTreeMap<IpAddr, Vec<(Moment, u32)>> = BTreeMap::new();
        for (token, connection) in self.connections.iter().enumerate() {
            if let Some(Connection { stage: Stage::Unknown(deadline), remote, .. }) = connection {
                of_address.entry(remote.ip()).or_default().push((*deadline, token as u32));
            }
        }
        if of_address.values().map(Vec::len).sum::<usize>() >= UNKNOWN_MAX
            && let Some(most) = of_address.into_values().max_by_key(Vec::len)
            && let Some((_, token)) = most.into_iter().min()
        {
            self.drop_unknown(token, "too many connections have not said who is there", now);
        }
    }

    fn complain(&mut self, remote: SocketAddr, port: Port, reason: &str, now: Moment) {
        if let Some(unsaid) = self.complaints.may_say(&remote.ip().to_string(), now) {
            let port = name_of(port);
            tracing::warn!(%remote, unsaid, "a connection to the {port} port was closed: {reason}");
        }
    }

    fn drop_unknown(&mut self, token: u32, reason: &str, now: Moment) {
        let Some(connection) = self.connections[token as usize].take() else { return };
        self.poll.release(token);
        self.complain(connection.remote, connection.port, reason, now);
    }

    // --- dialling ---------------------------------------------------------------------------------------------------

    fn dial(
        &mut self,
        peer: ServerId,
        port: Port,
        elsewhere: &[String],
        now: Moment,
        inputs: &mut Vec<Input>,
    ) {
        if self.dials.values().any(|dial| dial.peer == peer && dial.port == port) {
            // Its answer is this one's, too.
            return;
        }
        let known = self.settings.places.get(&peer).map_or(&[][..], |place| place.of(port));
        let mut endpoints: Vec<Endpoint> = known.to_vec();
        for endpoint in elsewhere.iter().filter_map(|text| Endpoint::parse(text)) {
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        let patience = match port {
            Port::Election => self.settings.election_connect_ms,
            Port::Quorum => self.settings.quorum_connect_ms,
        };
        let number = self.next_number();
        self.dials.insert(number, Dial::new(peer, port, endpoints.into(), now.plus_millis(patience)));
        self.advance(number, now, inputs);
    }

    /// The next step of a dial whose last one failed.
    fn advance(&mut self, number: u64, now: Moment, inputs: &mut Vec<Input>) {
        loop {
            let Some(dial) = self.dials.get_mut(&number) else { return };
            let port = dial.port;
            match dial.next(now) {
                Step::LookUp(endpoint) => {
                    let lookup = self.next_number();
                    if let Some(dial) = self.dials.get_mut(&number) {
                        dial.state = dial::State::LookingUp(lookup, endpoint.port);
                    }
                    self.lookups.insert(lookup, Asker::Dial(number));
                    return self.background.look_up(lookup, &endpoint.host);
                }
                Step::Connect(address) => {
                    let token = self.free_token();
                    let begun = self.poll.connect(token, address);
                    let Some(dial) = self.dials.get_mut(&number) else { return };
                    match begun {
                        Ok(()) => {
                            dial.state = dial::State::Connecting(token);
                            let connection = Connection::new(port, address, Stage::Connecting(number));
                            self.connections[token as usize] = Some(connection);
                            return;
                        }
                        Err(error) => dial.failed(address, error),
                    }
                }
                Step::GiveUp => {
                    let Some(dial) = self.dials.remove(&number) else { return };
                    let (peer, port) = (dial.peer, dial.port);
                    let origin = format!("{} port of server {}", name_of(port), peer.0);
                    if let Some(unsaid) = self.complaints.may_say(&origin, now) {
                        tracing::warn!(unsaid, "the {origin} cannot be reached: {}", dial.failures());
                    }
                    return inputs.push(Input::Unreachable { peer, port });
                }
            }
        }
    }

    fn found(
        &mut self,
        number: u64,
        lookup: u64,
        found: io::Result<Vec<IpAddr>>,
        now: Moment,
        inputs: &mut Vec<Input>,
    ) {
        let Some(dial) = self.dials.get_mut(&number) else { return };
        let dial::State::LookingUp(awaited, port) = dial.state else { return };
        if awaited != lookup {
            return;
        }
        match found {
            Ok(addresses) => dial.found(addresses, port),
            Err(error) => dial.failed("its name", error),
        }
        self.advance(number, now, inputs);
    }

    fn see_connected(&mut self, token: u32, number: u64, now: Moment, inputs: &mut Vec<Input>) {
        match self.poll.connected(token) {
            Ok(false) => {}
            Ok(true) => {
                let Some(Dial { peer, port, .. }) = self.dials.remove(&number) else { return };
                let link = Link { peer, number: self.next_number() };
                let Some(connection) = &mut self.connections[token as usize] else { return };
                connection.stage = Stage::Linked(link, Side::Leader);
                self.links.insert(link.number, token);
                tracing::info!(remote = %connection.remote, "connected to the {} port of server {}", name_of(port), peer.0);
                inputs.push(Input::Linked { link, port, dialled: true, addresses: Vec::new() });
            }
            Err(error) => self.step_failed(number, &error.to_string(), now, inputs),
        }
    }

    fn step_failed(&mut self, number: u64, why: &str, now: Moment, inputs: &mut Vec<Input>) {
        let Some(dial) = self.dials.get_mut(&number) else { return };
        match dial.state {
            dial::State::Connecting(token) => {
                if let Some(connection) = self.connections[token as usize].take() {
                    dial.failed(connection.remote, why);
                }
                self.poll.release(token);
            }
            dial::State::LookingUp(lookup, _) => {
                dial.failed("its name", why);
                self.lookups.remove(&lookup);
            }
            dial::State::Idle => {}
        }
        self.advance(number, now, inputs);
    }

    fn end_overdue(&mut self, now: Moment, inputs: &mut Vec<Input>) {
        let overdue = self.dials.iter().filter(|(_, dial)| dial.step_deadline <= now);
        for number in overdue.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.step_failed(number, "no answer in time", now, inputs);
        }
        for token in 0..self.connections.len() {
            if let Some(Connection { stage: Stage::Unknown(deadline), .. }) = self.connections[token]
                && deadline <= now
            {
                self.drop_unknown(token as u32, "it did not say in time who is there", now);
            }
        }
    }

    // --- links ------------------------------------------------------------------------------------------------------

    fn read(&mut self, token: u32, now: Moment, inputs: &mut Vec<Input>) {
        let Some(connection) = &mut self.connections[token as usize] else { return };
        if !connection.may_read() {
            return;
        }
        let most = match connection.stage {
            Stage::Unknown(_) => frames::HELLO_BYTES_MAX - connection.inbox.front().len(),
            _ => self.scratch.len(),
        };
        let read = match self.poll.read(token, &mut self.scratch[..most]) {
            Ok(0) => Some("the other side closed it".to_owned()),
            Ok(count) => {
                connection.readable = count == most || connection.ending;
                let bytes = &self.scratch[..count];
                match &mut connection.reading {
                    Reading::Snapshot(incoming) => incoming.put(bytes.to_vec()),
                    Reading::Packets | Reading::Held(_) => connection.inbox.put(bytes),
                }
                None
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                connection.readable = false;
                None
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => None,
            Err(error) => Some(error.to_string()),
        };
        match read {
            None => self.decode(token, now, inputs),
            Some(why) => self.lose(token, &why, now, inputs),
        }
    }

    fn decode(&mut self, token: u32, now: Moment, inputs: &mut Vec<Input>) {
        if let Err(why) = self.greet(token, now, inputs).and_then(|()| self.take_packets(token, inputs)) {
            self.lose(token, &why, now, inputs);
        }
    }

    /// Sees who is there, as soon as that has been said.
    fn greet(&mut self, token: u32, now: Moment, inputs: &mut Vec<Input>) -> Result<(), String> {
        let Some(connection) = &mut self.connections[token as usize] else { return Ok(()) };
        if !matches!(connection.stage, Stage::Unknown(_)) {
            return Ok(());
        }
        let port = connection.port;
        let Some(hello) = frames::hello(port, connection.inbox.front())? else { return Ok(()) };
        connection.inbox.take(hello.taken);
        self.number += 1;
        let peer = hello.peer.unwrap_or_else(|| {
            self.nameless = self.nameless.wrapping_sub(1);
            ServerId(self.nameless)
        });
        let link = Link { peer, number: self.number };
        connection.stage = Stage::Linked(link, Side::Learner);
        self.links.insert(link.number, token);
        let (remote, port_name) = (connection.remote, name_of(port));
        // Of those outside the configuration there may be any number.
        let is_member = self.settings.places.contains_key(&peer);
        if is_member || self.complaints.may_say(&format!("strangers at {}", remote.ip()), now).is_some() {
            tracing::info!(%remote, "server {} has connected to the {port_name} port", peer.0 as i64);
        }
        inputs.push(Input::Linked { link, port, dialled: false, addresses: hello.addresses });
        Ok(())
    }

    fn take_packets(&mut self, token: u32, inputs: &mut Vec<Input>) -> Result<(), String> {
        let Some(connection) = &mut self.connections[token as usize] else { return Ok(()) };
        let Stage::Linked(link, side) = connection.stage else { return Ok(()) };
        while matches!(connection.reading, Reading::Packets) {
            let front = connection.inbox.front();
            let Some((packet, taken)) =
                frames::next(connection.port, side, front, self.settings.data_bytes_max)?
            else {
                break;
            };
            connection.inbox.take(taken);
            let Some(packet) = packet else { continue };
            if let Packet::Quorum(QuorumPacket::Snap(zxid)) = packet {
                connection.reading = Reading::Held(zxid);
            }
            inputs.push(Input::Received(link, packet));
        }
        Ok(())
    }

    fn take_snapshot(&mut self, link: Link, now: Moment, inputs: &mut Vec<Input>) {
        let Some(&token) = self.links.get(&link.number) else { return };
        let Some(connection) = &mut self.connections[token as usize] else { return };
        let Reading::Held(zxid) = connection.reading else {
            return self.lose(token, "no snapshot was announced", now, inputs);
        };
        match self.background.receive(zxid, link.number) {
            Ok(mut incoming) => {
                incoming.put(connection.inbox.take_all());
                connection.reading = Reading::Snapshot(incoming);
                self.look_at_snapshot(token, now, inputs);
            }
            Err(error) => {
                inputs.push(Input::Streamed { link, done: false });
                self.lose(token, &format!("no snapshot can be received: {error}"), now, inputs);
            }
        }
    }

    fn look_at_snapshot(&mut self, token: u32, now: Moment, inputs: &mut Vec<Input>) {
        let Some(connection) = &mut self.connections[token as usize] else { return };
        let Stage::Linked(link, _) = connection.stage else { return };
        let Reading::Snapshot(incoming) = &mut connection.reading else { return };
        match incoming.outcome() {
            None => {}
            Some(Ok((staged, rest))) => {
                let (znodes, bytes) = (staged.znodes, staged.file_bytes);
                tracing::info!(zxid = %staged.zxid, znodes, bytes, "received a snapshot from server {}", link.peer.0);
                connection.reading = Reading::Packets;
                connection.inbox.put(&rest);
                self.staged.insert(link.number, staged);
                inputs.push(Input::Streamed { link, done: true });
                self.decode(token, now, inputs);
            }
            // Where packets go on, nobody can tell.
            Some(Err(error)) => self.lose(token, &error.to_string(), now, inputs),
        }
    }

    /// The connection is of no more use, and not because replication said so.
    fn lose(&mut self, token: u32, why: &str, now: Moment, inputs: &mut Vec<Input>) {
        let Some(connection) = &self.connections[token as usize] else { return };
        match connection.stage {
            Stage::Connecting(number) => self.step_failed(number, why, now, inputs),
            Stage::Unknown(_) => self.drop_unknown(token, why, now),
            Stage::Linked(link, _) => {
                let (remote, port) = (connection.remote, name_of(connection.port));
                let was_streaming = matches!(connection.reading, Reading::Snapshot(_));
                if let Some(unsaid) = self.complaints.may_say(&format!("link {}", link.peer.0), now) {
                    let peer = link.peer.0 as i64;
                    tracing::warn!(%remote, unsaid, "the {port} connection with server {peer} is lost: {why}");
                }
                self.part(token, link);
                if was_streaming {
                    inputs.push(Input::Streamed { link, done: false });
                }
                inputs.push(Input::Unlinked(link));
            }
        }
    }

    fn hang(&mut self, link: Link, reason: &str, now: Moment) {
        let Some((token, connection)) = self.linked(link) else { return };
        let (remote, port) = (connection.remote, name_of(connection.port));
        let is_member = self.settings.places.contains_key(&link.peer);
        if is_member || self.complaints.may_say(&format!("strangers' ends at {}", remote.ip()), now).is_some()
        {
            tracing::info!(%remote, "closing the {port} connection with server {}: {reason}", link.peer.0 as i64);
        }
        if let Some(connection) = &mut self.connections[token as usize] {
            // What was said before the end should be heard, such as a handshake.
            let _ = connection.outbox.write(&mut self.poll, token);
        }
        self.part(token, link);
    }

    fn part(&mut self, token: u32, link: Link) {
        self.connections[token as usize] = None;
        self.poll.release(token);
        self.links.remove(&link.number);
        if let Some(staged) = self.staged.remove(&link.number) {
            self.background.discard(staged);
        }
    }
}

#[cfg(test)]
mod tests;
