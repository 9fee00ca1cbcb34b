//! The connections of the election port: which one of two is kept, when one is opened, and what waits for it.
//! Not here: what the messages say, sockets, names.
//!
//! Two servers share one connection: the one that the server with the larger id has opened. A server that wants to talk to
//! a larger one connects, shows its handshake and is hung up; the larger one then connects back. Every message replaces
//! the one that still waits for the same peer, so a peer that is slow or away costs one message. On a new connection
//! that nothing waits for, the last message goes out again: the old connection may have swallowed it.

use crate::{Link, Moment, Output, Outputs, Port, ServerId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Servers outside the configuration that are listened to at once.
const STRANGERS_MAX: usize = 64;

/// After a connection that did not come about: doubles with each.
const REDIAL_MS_MIN: u64 = 100;
const REDIAL_MS_MAX: u64 = 3200;

/// A peer that was shown a handshake connects within three or four times as long as the dial took. So long, and this more
/// for its own work, it is left to do so before it is dialled again. No longer, for the listener of a process that is being
/// killed takes connections until the very end, and all the others wait to hear whether that server has anything to say.
const CONNECTS_BACK_MS: u64 = 20;
const CONNECTS_BACK_DIALS: u64 = 4;

/// A connection that lived as long did not fall to handshakes that crossed.
const SETTLED_MS: u64 = 500;

/// A connection in use.
#[derive(Clone, Hash)]
struct Line {
    link: Link,
    since: Moment,
    sent_bytes: u64,
    drained_bytes: u64,
}

#[derive(Clone, Default, Hash)]
struct Peer {
    line: Option<Line>,
    is_dialled: bool,
    /// When it was dialled last.
    dialled_at: Option<Moment>,
    /// The last attempt to connect has failed, and the peer has not been heard of since: when that attempt began.
    down_from: Option<Moment>,
    /// Where it has said that it can be reached.
    addresses: Vec<String>,
    /// The message that waits for a connection, or for the one before to leave.
    pending: Option<Arc<[u8]>>,
    last: Option<Arc<[u8]>>,
    failures: u32,
    /// Connections, one after the other, that the peer had opened and that did not live long.
    short_lived: u32,
    /// Before this it is not dialled again.
    redial_at: Option<Moment>,
}

impl Peer {
    fn wants_connection(&self) -> bool {
        self.pending.is_some() && self.line.is_none() && !self.is_dialled
    }

    fn back_off(&mut self, now: Moment) {
        self.back_off_from(REDIAL_MS_MIN, now);
    }

    /// The peer is to connect by itself now.
    fn hand_over(&mut self, now: Moment) {
        let dial_ms = self.dialled_at.map_or(0, |at| now.since(at) / 1_000_000);
        self.back_off_from(CONNECTS_BACK_MS.saturating_add(dial_ms.saturating_mul(CONNECTS_BACK_DIALS)), now);
    }

    fn back_off_from(&mut self, least_ms: u64, now: Moment) {
        let ms = (least_ms.min(REDIAL_MS_MAX) << self.failures.min(16)).min(REDIAL_MS_MAX);
        self.failures = self.failures.saturating_add(1);
        self.redial_at = Some(now.plus_millis(ms));
    }
}

#[derive(Clone, Hash)]
pub(super) struct Connections {
    me: ServerId,
    handshake: Arc<[u8]>,
    /// Servers of the configurations: their addresses are known without being told.
    known: BTreeSet<ServerId>,
    peers: BTreeMap<ServerId, Peer>,
    /// Messages that wait are reason enough to dial again and again. Else only a new message is.
    pub(super) is_eager: bool,
}

impl Connections {
    pub(super) fn new(me: ServerId, handshake: Arc<[u8]>, known: BTreeSet<ServerId>) -> Connections {
        Connections { me, handshake, known, peers: BTreeMap::new(), is_eager: false }
    }

    pub(super) fn set_known(&mut self, handshake: Arc<[u8]>, known: BTreeSet<ServerId>) {
        self.handshake = handshake;
        self.known = known;
    }

    /// Forgets who could not be reached: an election has begun, and each is tried anew.
    pub(super) fn try_anew(&mut self) {
        for peer in self.peers.values_mut() {
            peer.down_from = None;
            peer.redial_at = None;
        }
    }

    /// An attempt to connect that began then or later has failed, and it has not come by itself.
    pub(super) fn is_down(&self, id: ServerId, since: Moment) -> bool {
        self.peers.get(&id).and_then(|peer| peer.down_from).is_some_and(|from| from >= since)
    }

    /// Connects to a peer that is not connected, unless that has been tried since then.
    pub(super) fn probe(&mut self, id: ServerId, since: Moment, now: Moment, out: &mut Outputs) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.dialled_at.is_none_or(|at| at < since) {
            peer.redial_at = None;
            self.dial(id, now, out);
        }
    }

    /// The next message for a peer; one that still waits is forgotten.
    pub(super) fn post(&mut self, id: ServerId, message: Arc<[u8]>, now: Moment, out: &mut Outputs) {
        debug_assert_ne!(id, self.me);
        self.peers.entry(id).or_default().pending = Some(message);
        self.flush(id, out);
        self.dial(id, now, out);
        self.forget_stranger(id);
    }

    /// Sends what waits, if nothing is before it.
    fn flush(&mut self, id: ServerId, out: &mut Outputs) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(line) = peer.line.as_mut().filter(|line| line.drained_bytes >= line.sent_bytes) else {
            return;
        };
        let Some(message) = peer.pending.take() else { return };
        line.sent_bytes += message.len() as u64;
        peer.last = Some(message.clone());
        out.push_back(Output::Send(line.link, message));
    }

    fn dial(&mut self, id: ServerId, now: Moment, out: &mut Outputs) {
        let is_known = self.known.contains(&id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let may_dial = peer.redial_at.is_none_or(|at| at <= now) && (is_known || !peer.addresses.is_empty());
        if peer.wants_connection() && may_dial {
            peer.is_dialled = true;
            peer.dialled_at = Some(now);
            out.push_back(Output::Dial { peer: id, port: Port::Election, addresses: peer.addresses.clone() });
        }
    }

    pub(super) fn linked(
        &mut self,
        link: Link,
        dialled: bool,
        addresses: Vec<String>,
        now: Moment,
        out: &mut Outputs,
    ) {
        let id = link.peer;
        if id == self.me {
            let reason = "it has this server's own id; each server needs a myid of its own".to_string();
            return out.push_back(Output::Hang(link, reason));
        }
        if dialled {
            self.dialled(link, now, out);
        } else {
            self.accepted(link, addresses, now, out);
        }
    }

    fn dialled(&mut self, link: Link, now: Moment, out: &mut Outputs) {
        let peer = self.peers.entry(link.peer).or_default();
        peer.is_dialled = false;
        peer.down_from = None;
        if link.peer < self.me {
            out.push_back(Output::Send(link, self.handshake.clone()));
            return self.keep(link, self.handshake.len(), now, out);
        }
        if peer.line.is_some() {
            // It has come by itself meanwhile; a handshake now would only make it connect once more.
            return out.push_back(Output::Hang(link, "the peer has connected itself meanwhile".to_string()));
        }
        peer.hand_over(now);
        out.push_back(Output::Send(link, self.handshake.clone()));
        out.push_back(Output::Hang(link, "the server with the larger id connects itself".to_string()));
    }

    fn accepted(&mut self, link: Link, addresses: Vec<String>, now: Moment, out: &mut Outputs) {
        let id = link.peer;
        let is_anonymous = (id.0 as i64) < 0;
        if !self.known.contains(&id) && self.strangers() >= STRANGERS_MAX {
            let reason = format!("{STRANGERS_MAX} servers outside the configuration are connected already");
            return out.push_back(Output::Hang(link, reason));
        }
        let peer = self.peers.entry(id).or_default();
        peer.down_from = None;
        if is_anonymous || id > self.me {
            return self.keep(link, 0, now, out);
        }
        if let Some(line) = peer.line.take() {
            out.push_back(Output::Hang(line.link, "the peer has begun anew".to_string()));
        }
        out.push_back(Output::Hang(link, "this server has the larger id and connects itself".to_string()));
        if !addresses.is_empty() {
            peer.addresses = addresses;
        }
        // It is alive, so earlier failures say nothing.
        peer.redial_at = None;
        if !peer.is_dialled && (self.known.contains(&id) || !peer.addresses.is_empty()) {
            peer.is_dialled = true;
            peer.dialled_at = Some(now);
            out.push_back(Output::Dial { peer: id, port: Port::Election, addresses: peer.addresses.clone() });
        }
        self.forget_stranger(id);
    }

    /// This connection is the one from now on.
    fn keep(&mut self, link: Link, sent: usize, now: Moment, out: &mut Outputs) {
        let peer = self.peers.entry(link.peer).or_default();
        let line = Line { link, since: now, sent_bytes: sent as u64, drained_bytes: sent as u64 };
        if let Some(older) = peer.line.replace(line) {
            out.push_back(Output::Hang(older.link, "a newer connection has taken its place".to_string()));
        }
        peer.redial_at = None;
        if peer.pending.is_none() {
            peer.pending = peer.last.clone();
        }
        self.flush(link.peer, out);
    }

    fn strangers(&self) -> usize {
        self.peers.keys().filter(|id| !self.known.contains(id)).count()
    }

    pub(super) fn unreachable(&mut self, id: ServerId, now: Moment) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.is_dialled = false;
        if peer.line.is_none() {
            peer.down_from = peer.dialled_at;
            peer.back_off(now);
        }
        self.forget_stranger(id);
    }

    pub(super) fn unlinked(&mut self, link: Link, now: Moment, out: &mut Outputs) {
        if !self.is_current(link) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&link.peer) else { return };
        let Some(line) = peer.line.take() else { return };
        if self.is_eager {
            if link.peer > self.me {
                // A larger server that is shown a handshake gives up the connection that stands and opens another. If this
                // is that one's end, the other is on its way, and a handshake now would end it as well: so on for ever.
                let is_settled = now.since(line.since) >= SETTLED_MS * 1_000_000;
                peer.short_lived = if is_settled { 0 } else { peer.short_lived.saturating_add(1) };
                let ms = (REDIAL_MS_MIN << peer.short_lived.saturating_sub(1).min(16)).min(REDIAL_MS_MAX);
                peer.redial_at = (!is_settled).then(|| now.plus_millis(ms));
            }
            // What was sent last may not have arrived.
            if peer.pending.is_none() {
                peer.pending = peer.last.clone();
            }
            self.dial(link.peer, now, out);
        }
        self.forget_stranger(link.peer);
    }

    pub(super) fn drained(&mut self, link: Link, bytes: u64, out: &mut Outputs) {
        if !self.is_current(link) {
            return;
        }
        if let Some(line) = self.peers.get_mut(&link.peer).and_then(|peer| peer.line.as_mut()) {
            line.drained_bytes = line.drained_bytes.max(bytes);
        }
        self.flush(link.peer, out);
    }

    /// Whether what this link brings counts.
    pub(super) fn hears(&mut self, link: Link) -> bool {
        let is_current = self.is_current(link);
        if is_current && let Some(peer) = self.peers.get_mut(&link.peer) {
            peer.failures = 0;
        }
        is_current
    }

    fn is_current(&self, link: Link) -> bool {
        let line = self.peers.get(&link.peer).and_then(|peer| peer.line.as_ref());
        line.is_some_and(|line| line.link == link)
    }

    fn forget_stranger(&mut self, id: ServerId) {
        if self.known.contains(&id) {
            return;
        }
        if self.peers.get(&id).is_some_and(|peer| peer.line.is_none() && !peer.is_dialled) {
            self.peers.remove(&id);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Moment> {
        let waiting = self.peers.values().filter(|peer| self.is_eager && peer.wants_connection());
        waiting.filter_map(|peer| peer.redial_at).min()
    }

    pub(super) fn timeout(&mut self, now: Moment, out: &mut Outputs) {
        if !self.is_eager {
            return;
        }
        let ids: Vec<ServerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.dial(id, now, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What server 2 of the servers 1 to 3 does.
    struct Case {
        connections: Connections,
        now: Moment,
        out: Outputs,
    }

    const HANDSHAKE: &[u8] = b"hello";

    fn case(is_eager: bool) -> Case {
        let known = (1..=3).map(ServerId).collect();
        let mut connections = Connections::new(ServerId(2), HANDSHAKE.into(), known);
        connections.is_eager = is_eager;
        Case { connections, now: Moment(0), out: Outputs::new() }
    }

    fn link(peer: u64, number: u64) -> Link {
        Link { peer: ServerId(peer), number }
    }

    impl Case {
        fn post(&mut self, peer: u64, message: &str) -> &mut Case {
            self.connections.post(ServerId(peer), message.as_bytes().into(), self.now, &mut self.out);
            self
        }

        fn dialled(&mut self, peer: u64, number: u64) -> &mut Case {
            self.connections.linked(link(peer, number), true, Vec::new(), self.now, &mut self.out);
            self
        }

        fn accepted(&mut self, peer: u64, number: u64) -> &mut Case {
            self.connections.linked(link(peer, number), false, vec!["x:1".into()], self.now, &mut self.out);
            self
        }

        fn unlinked(&mut self, peer: u64, number: u64) -> &mut Case {
            self.connections.unlinked(link(peer, number), self.now, &mut self.out);
            self
        }

        fn unreachable(&mut self, peer: u64) -> &mut Case {
            self.connections.unreachable(ServerId(peer), self.now);
            self
        }

        fn drained(&mut self, peer: u64, number: u64, bytes: u64) -> &mut Case {
            self.connections.drained(link(peer, number), bytes, &mut self.out);
            self
        }

        fn at(&mut self, ms: u64) -> &mut Case {
            self.now = Moment::from_millis(ms);
            self.connections.timeout(self.now, &mut self.out);
            self
        }

        fn check(&mut self, expected: &str) -> &mut Case {
            let words = self.out.drain(..).map(|output| match output {
                Output::Dial { peer, addresses, .. } => {
                    format!("dial {} {}", peer.0, addresses.join("|")).trim_end().to_string()
                }
                Output::Send(link, bytes) => {
                    format!("send {}.{} {}", link.peer.0, link.number, String::from_utf8_lossy(&bytes))
                }
                Output::Hang(link, _) => format!("hang {}.{}", link.peer.0, link.number),
                other => panic!("{other:?}"),
            });
            assert_eq!(words.collect::<Vec<String>>().join(", "), expected);
            self
        }
    }

    #[test]
    fn a_connection_to_a_smaller_server_is_kept() {
        case(true).post(1, "a").check("dial 1").dialled(1, 7).check("send 1.7 hello, send 1.7 a");
    }

    #[test]
    fn a_larger_server_is_shown_the_handshake_and_connects_itself() {
        let mut case = case(true);
        case.post(3, "a").check("dial 3").dialled(3, 7).check("send 3.7 hello, hang 3.7");
        // It is given time for that.
        case.post(3, "b").check("");
        case.accepted(3, 8).check("send 3.8 b");
        // A dial that was under way when it came is given up before it can confuse anybody.
        case.unlinked(3, 8)
            .check("")
            .at(100)
            .check("dial 3")
            .accepted(3, 9)
            .check("send 3.9 b")
            .dialled(3, 10)
            .check("hang 3.10");
    }

    #[test]
    fn a_smaller_server_is_hung_up_and_dialled_back() {
        let mut case = case(false);
        case.accepted(1, 7).check("hang 1.7, dial 1 x:1").accepted(1, 8).check("hang 1.8");
        case.dialled(1, 9).check("send 1.9 hello");
        // It comes again, so it has lost that one.
        case.accepted(1, 10).check("hang 1.9, hang 1.10, dial 1 x:1");
    }

    #[test]
    fn a_newer_connection_takes_the_place_of_an_older_one() {
        let mut case = case(false);
        case.accepted(3, 7).check("").accepted(3, 8).check("hang 3.7");
        assert!(!case.connections.hears(link(3, 7)));
        assert!(case.connections.hears(link(3, 8)));
        case.unlinked(3, 7);
        assert!(case.connections.hears(link(3, 8)));
    }

    #[test]
    fn the_newest_message_waits_and_no_other() {
        let mut case = case(false);
        case.accepted(3, 7).post(3, "a").check("send 3.7 a").post(3, "b").post(3, "c").check("");
        case.drained(3, 7, 1).check("send 3.7 c").drained(3, 7, 1).check("").post(3, "d").check("");
        case.drained(3, 7, 2).check("send 3.7 d");
    }

    #[test]
    fn the_last_message_goes_out_again_on_a_new_connection() {
        let mut case = case(false);
        case.accepted(3, 7).post(3, "a").check("send 3.7 a").unlinked(3, 7).check("");
        case.accepted(3, 8).check("send 3.8 a").drained(3, 8, 1).check("");
        case.unlinked(3, 8).post(3, "b").check("dial 3").accepted(3, 9).check("send 3.9 b");
    }

    #[test]
    fn a_server_with_our_own_id_is_refused() {
        case(true).accepted(2, 7).check("hang 2.7");
    }

    #[test]
    fn a_server_that_nobody_knows_is_heard() {
        let mut case = case(false);
        case.accepted(9, 7).check("").post(9, "a").check("send 9.7 a");
        case.accepted(0, 8).check("hang 0.8, dial 0 x:1").dialled(0, 9).check("send 0.9 hello");
        case.unlinked(9, 7).post(9, "b").check("");
        // One without an id is never dialled, and how it is called ends with its connection.
        let anonymous = u64::MAX;
        case.accepted(anonymous, 10).check("").unlinked(anonymous, 10).post(anonymous, "c").check("");
        assert_eq!(case.connections.strangers(), 1);
    }

    #[test]
    fn servers_that_nobody_knows_cost_a_bounded_room() {
        let mut case = case(false);
        for number in 0..STRANGERS_MAX as u64 {
            case.accepted(100 + number, number).check("");
        }
        case.accepted(99, 500).check("hang 99.500").accepted(3, 501).check("");
    }

    #[test]
    fn dials_are_repeated_ever_more_seldom_and_only_while_looking() {
        let mut case = case(true);
        case.post(1, "a")
            .check("dial 1")
            .unreachable(1)
            .post(1, "b")
            .check("")
            .at(99)
            .check("")
            .at(100)
            .check("dial 1");
        case.unreachable(1).at(299).check("").at(300).check("dial 1").unreachable(1);
        assert_eq!(case.connections.next_timeout(), Some(Moment::from_millis(700)));
        case.connections.is_eager = false;
        assert_eq!(case.connections.next_timeout(), None);
        case.at(5000)
            .check("")
            .post(1, "c")
            .check("dial 1")
            .dialled(1, 7)
            .check("send 1.7 hello, send 1.7 c");
        assert!(case.connections.hears(link(1, 7)));
        case.unlinked(1, 7).check("").post(1, "d").check("dial 1");
    }
}
