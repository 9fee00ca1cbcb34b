//! One server against a script: what it does for each thing that happens, step by step. Each test is named after a rule of
//! the protocol, or after the bug that it keeps out.

mod net;

use net::{members, proposal, record, settings, vote, words, z};
use ostler_replication::packet::{LearnerInfo, PeerState, QuorumPacket, Side};
use ostler_replication::{
    Ask, Broadcast, Ensemble, Epoch, Epochs, History, Input, Link, Moment, Number, Output, Outputs, Packet,
    Port, Proposal, Recovered, Role, ServerId, SessionBits, Settings, Ticket, Zxid,
};

/// Server 2 of voters 1 to 3 and observer 4, unless it is said otherwise.
struct Script {
    it: Ensemble,
    now: Moment,
    numbers: u64,
    /// The log's requests, oldest first.
    asked: Vec<(Number, Output)>,
    /// The disk answers at once.
    is_quick: bool,
    out: Vec<String>,
    quorum_links: Vec<Link>,
    side: Side,
    hung: Vec<String>,
}

fn epochs(accepted: u32, current: u32) -> Epochs {
    Epochs { accepted: Epoch(accepted), current: Epoch(current) }
}

impl Script {
    fn new(me: u64, logged: Zxid, epochs: Epochs, change: impl FnOnce(&mut Settings)) -> Script {
        let members = members(3, 1);
        let mut settings = settings(me, &members);
        change(&mut settings);
        let now = Moment::from_millis(1000);
        let mut outputs = Outputs::new();
        let it = Ensemble::new(settings, Recovered { epochs, logged }, now, &mut outputs).unwrap();
        let mut script = Script {
            it,
            now,
            numbers: 0,
            asked: Vec::new(),
            is_quick: true,
            out: Vec::new(),
            quorum_links: Vec::new(),
            side: Side::Leader,
            hung: Vec::new(),
        };
        script.note(outputs);
        script
    }

    fn link(&mut self, peer: u64) -> Link {
        self.numbers += 1;
        Link { peer: ServerId(peer), number: self.numbers }
    }

    fn step(&mut self, input: Input) -> &mut Script {
        let mut outputs = Outputs::new();
        self.it.step(input, self.now, &mut outputs);
        self.note(outputs);
        self
    }

    fn note(&mut self, outputs: Outputs) {
        let mut answers = Vec::new();
        for output in outputs {
            let line = match &output {
                Output::Append { number, proposal } => {
                    self.asked.push((*number, output.clone()));
                    format!("append {:?}-{:?}", proposal.first, proposal.last)
                }
                Output::Persist { number, epochs } => {
                    self.asked.push((*number, output.clone()));
                    format!("persist {},{}", epochs.accepted.0, epochs.current.0)
                }
                Output::Truncate { number, to } => {
                    self.asked.push((*number, output.clone()));
                    format!("truncate {to:?}")
                }
                Output::Install { number, zxid, .. } => {
                    self.asked.push((*number, output.clone()));
                    format!("install {zxid:?}")
                }
                Output::ReadHistory { after, to, .. } => format!("read {after:?}-{to:?}"),
                Output::Send(link, bytes) if self.quorum_links.contains(link) => {
                    let packets = net::decode(bytes, self.side);
                    let said: Vec<String> = packets.iter().map(words).collect();
                    format!("to {}: {}", link.peer.0, said.join(", "))
                }
                Output::Send(..) => continue,
                Output::Dial { peer, port: Port::Quorum, .. } => format!("dial {}", peer.0),
                Output::Dial { .. } => continue,
                Output::Hang(link, why) => {
                    self.hung.push(why.clone());
                    if !self.quorum_links.contains(link) {
                        continue;
                    }
                    format!("hang {}", link.peer.0)
                }
                Output::Deliver(proposal) => format!("deliver {:?}-{:?}", proposal.first, proposal.last),
                Output::Commit(zxid) => format!("commit {zxid:?}"),
                Output::Lead(epoch) => format!("lead {}", epoch.0),
                Output::Role(role) => format!("role {role:?}"),
                Output::Passed(ticket) => format!("passed {}", ticket.0),
                Output::SendSnapshot(link) => format!("snapshot to {}", link.peer.0),
                Output::TakeSnapshot(link) => format!("snapshot from {}", link.peer.0),
                Output::Asked(link, _) => format!("asked by {}", link.peer.0),
                Output::Touches(link, touches) => format!("{} touches by {}", touches.len(), link.peer.0),
                Output::Lost(link) => format!("lost {}", link.peer.0),
                Output::Answered(_) => "answered".into(),
                Output::Report(_) => continue,
            };
            self.out.push(line);
            if self.is_quick {
                answers.extend(self.asked.drain(..).map(|(_, request)| answer(request)));
            }
        }
        for answer in answers {
            self.step(answer);
        }
    }

    /// The disk answers the oldest request.
    fn disk(&mut self) -> &mut Script {
        let (_, request) = self.asked.remove(0);
        self.step(answer(request))
    }

    fn check(&mut self, expected: &[&str]) -> &mut Script {
        let got = std::mem::take(&mut self.out);
        assert_eq!(got, expected, "hung up: {:?}", self.hung);
        self
    }

    fn skip(&mut self) -> &mut Script {
        self.out.clear();
        self
    }

    fn later(&mut self, ms: u64) -> &mut Script {
        let end = self.now.plus_millis(ms);
        while let Some(at) = self.it.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step(Input::Timeout);
        }
        self.now = end;
        self
    }

    /// Server 3 says that it leads, and 1 that it follows; or this server is elected by both.
    fn elect(&mut self, leader: u64, me: u64) -> &mut Script {
        let round = 1;
        for peer in (1..=3).filter(|&peer| peer != me) {
            let link = self.link(peer);
            // A smaller server's connection is one that this server has dialled.
            let dialled = peer < me;
            self.step(Input::Linked { link, port: Port::Election, dialled, addresses: Vec::new() });
            let (state, zxid, epoch) = if leader == me {
                let own = self.it.status();
                (PeerState::Looking, own.logged, own.epochs.current.0)
            } else if peer == leader {
                (PeerState::Leading, z(0, 0), 0)
            } else {
                (PeerState::Following, z(0, 0), 0)
            };
            let message = vote(state, leader, zxid, round, epoch);
            self.step(Input::Received(link, Packet::Notification(message)));
        }
        self
    }

    fn learner(logged: Zxid, stored: Epochs, is_quick: bool) -> (Script, Link) {
        let mut script = Script::new(2, logged, stored, |_| {});
        script.side = Side::Learner;
        script.elect(3, 2);
        script.is_quick = is_quick;
        let link = script.link(3);
        script.quorum_links.push(link);
        script.skip().step(Input::Linked { link, port: Port::Quorum, dialled: true, addresses: Vec::new() });
        (script, link)
    }

    fn got(&mut self, link: Link, packet: QuorumPacket) -> &mut Script {
        self.step(Input::Received(link, Packet::Quorum(packet)))
    }

    fn offered(&mut self, link: Link, epoch: u32) -> &mut Script {
        self.got(link, QuorumPacket::LeaderInfo { zxid: z(epoch, 0), protocol_version: 0x10000 })
    }

    fn proposed(&mut self, link: Link, zxid: Zxid) -> &mut Script {
        self.got(link, QuorumPacket::Proposal { zxid, entry: record(zxid, 7).1 })
    }

    fn new_leader(&mut self, link: Link, epoch: u32) -> &mut Script {
        self.got(link, QuorumPacket::NewLeader { zxid: z(epoch, 0), config: Vec::new() })
    }

    /// Elected leader of history up to `logged`.
    fn leader(logged: Zxid, stored: Epochs) -> Script {
        let mut script = Script::new(3, logged, stored, |_| {});
        script.elect(3, 3);
        script
    }

    fn arrives(&mut self, peer: u64, accepted: u32) -> Link {
        let link = self.link(peer);
        self.quorum_links.push(link);
        self.step(Input::Linked { link, port: Port::Quorum, dialled: false, addresses: Vec::new() });
        let info = LearnerInfo { id: Some(ServerId(peer)), protocol_version: 0x10000, config_version: 0 };
        let accepted = z(accepted, 0);
        let packet = if peer == 4 {
            QuorumPacket::ObserverInfo { accepted, info }
        } else {
            QuorumPacket::FollowerInfo { accepted, info }
        };
        self.got(link, packet);
        link
    }

    fn ack_epoch(&mut self, link: Link, zxid: Zxid, epoch: i32) -> &mut Script {
        self.got(link, QuorumPacket::AckEpoch { zxid: zxid.to_wire(), epoch })
    }

    /// Leader of epoch 2 on history up to (1,5), with server 2 in sync.
    fn leading() -> (Script, Link) {
        let mut script = Script::leader(z(1, 5), epochs(1, 1));
        let link = script.arrives(2, 1);
        script.ack_epoch(link, z(1, 5), 1).got(link, QuorumPacket::Ack(z(2, 0))).skip();
        assert_eq!(script.it.status().role, Role::Leading);
        (script, link)
    }

    fn propose(&mut self, first: u32, last: u32) -> &mut Script {
        self.step(Input::Propose(batch(first, last)))
    }
}

fn batch(first: u32, last: u32) -> Proposal {
    let records: Vec<_> = (first..=last).map(|n| record(z(2, n), n.into())).collect();
    proposal(&records)
}

fn answer(request: Output) -> Input {
    match request {
        Output::Append { number, proposal } => Input::Durable { number, zxid: proposal.last },
        Output::Persist { number, epochs } => Input::Persisted { number, epochs },
        Output::Truncate { number, to } => Input::Truncated { number, to, done: true },
        Output::Install { number, zxid, .. } => Input::Installed { number, zxid, done: true },
        other => panic!("{other:?} is not for the log"),
    }
}

// The learner.

#[test]
fn the_promise_is_on_disk_before_ackepoch() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), false);
    s.check(&["to 3: FOLLOWERINFO 1:0"]).offered(link, 2).check(&["persist 2,1"]);
    s.disk().check(&["to 3: ACKEPOCH 1:5 1"]);
}

#[test]
fn an_epoch_promised_before_is_acknowledged_without_counting() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(2, 1), false);
    s.skip().offered(link, 2).check(&["to 3: ACKEPOCH 1:5 -1"]);
}

#[test]
fn a_stale_leader_is_left() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(3, 1), true);
    s.skip().offered(link, 2).check(&["hang 3"]);
    assert!(s.hung[s.hung.len() - 1].contains("promised 3 already"), "{:?}", s.hung);
}

#[test]
fn an_epoch_that_is_none_is_never_promised() {
    for epoch in [0x8000_0000, u32::MAX] {
        let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
        s.skip().offered(link, epoch).check(&["hang 3"]);
        assert_eq!(s.it.status().epochs, epochs(1, 1));
    }
}

#[test]
fn a_snapshot_of_an_epoch_later_than_the_leaders_is_refused() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).skip().got(link, QuorumPacket::Snap(z(3, 1))).check(&["hang 3"]);
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).skip().got(link, QuorumPacket::Snap(z(2, 0))).check(&["snapshot from 3"]);
}

#[test]
fn who_cannot_follow_again_and_again_takes_a_rest() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(3, 1), true);
    s.offered(link, 2);
    for pause_ms in [0, 100, 200] {
        assert_eq!(
            s.it.status().waiting_for.contains("a pause"),
            pause_ms > 0,
            "{}",
            s.it.status().waiting_for
        );
        s.later(pause_ms).elect(3, 2);
        let link = s.link(3);
        s.quorum_links.push(link);
        s.step(Input::Linked { link, port: Port::Quorum, dialled: true, addresses: Vec::new() });
        s.offered(link, 2);
    }
}

#[test]
fn a_diff_is_logged_then_the_epoch_then_acknowledged_then_shown() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), false);
    s.offered(link, 2).disk().skip().got(link, QuorumPacket::Diff(z(1, 6))).check(&[]);
    s.proposed(link, z(1, 6)).got(link, QuorumPacket::Commit(z(1, 6))).check(&["append 1:6-1:6"]);
    s.new_leader(link, 2).check(&["persist 2,2"]);
    s.disk().check(&[]).disk().check(&["to 3: ACK 2:0"]);
    s.got(link, QuorumPacket::UpToDate);
    s.check(&["to 3: ACK 2:0", "deliver 1:6-1:6", "role Following(ServerId(3))"]);
}

#[test]
fn zookeeper_4685_no_ack_goes_before_that_of_newleader() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), false);
    s.offered(link, 2)
        .disk()
        .got(link, QuorumPacket::Diff(z(1, 5)))
        .proposed(link, z(2, 1))
        .new_leader(link, 2);
    s.skip().disk().check(&[]);
    s.disk().check(&["to 3: ACK 2:0", "to 3: ACK 2:1"]);
}

#[test]
fn zookeeper_4394_what_is_proposed_before_newleader_is_committed_behind_it() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).got(link, QuorumPacket::Diff(z(1, 5))).proposed(link, z(2, 1)).new_leader(link, 2);
    s.got(link, QuorumPacket::UpToDate).skip().got(link, QuorumPacket::Commit(z(2, 1)));
    s.check(&["deliver 2:1-2:1"]);
}

#[test]
fn zookeeper_3911_an_answer_asked_on_a_dead_link_acknowledges_nothing() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), false);
    s.offered(link, 2)
        .disk()
        .got(link, QuorumPacket::Diff(z(1, 5)))
        .proposed(link, z(1, 6))
        .new_leader(link, 2);
    s.step(Input::Unlinked(link)).skip();
    // The log still owes two answers: no vote before, and no acknowledgement to anybody.
    s.disk().disk().check(&[]);
}

#[test]
fn nothing_is_delivered_before_uptodate_and_a_sync_that_breaks_off_shows_nothing() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).got(link, QuorumPacket::Diff(z(1, 6))).proposed(link, z(1, 6));
    s.got(link, QuorumPacket::Commit(z(1, 6))).new_leader(link, 2).step(Input::Unlinked(link));
    assert!(!s.out.iter().any(|line| line.starts_with("deliver")), "{:?}", s.out);
    assert_eq!(s.it.status().committed, Zxid::ZERO);
    assert_eq!(s.it.status().logged, z(1, 6));
}

#[test]
fn an_epoch_that_was_only_acknowledged_is_not_reported() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).got(link, QuorumPacket::Diff(z(1, 5))).new_leader(link, 2).step(Input::Unlinked(link));
    s.later(5000).elect(3, 2);
    let link = s.link(3);
    s.quorum_links.push(link);
    s.step(Input::Linked { link, port: Port::Quorum, dialled: true, addresses: Vec::new() });
    s.skip().offered(link, 3).check(&["persist 3,2", "to 3: ACKEPOCH 1:5 2"]);
}

#[test]
fn an_established_epoch_is_reported() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).got(link, QuorumPacket::Diff(z(1, 5))).new_leader(link, 2);
    s.got(link, QuorumPacket::UpToDate).step(Input::Unlinked(link)).later(5000).elect(3, 2);
    let link = s.link(3);
    s.quorum_links.push(link);
    s.step(Input::Linked { link, port: Port::Quorum, dialled: true, addresses: Vec::new() });
    s.skip().offered(link, 3).check(&["persist 3,2", "to 3: ACKEPOCH 2:0 2"]);
}

#[test]
fn a_snapshot_is_installed_at_newleader_before_history_and_epoch() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), false);
    s.offered(link, 2).disk().skip().got(link, QuorumPacket::Snap(z(1, 9))).check(&["snapshot from 3"]);
    s.step(Input::Streamed { link, done: true });
    // Contained already; then one behind it.
    s.proposed(link, z(1, 9)).proposed(link, z(1, 10)).got(link, QuorumPacket::Commit(z(1, 10))).check(&[]);
    s.new_leader(link, 2).check(&["install 1:9"]);
    s.disk().check(&["append 1:a-1:a", "persist 2,2"]);
    s.disk().disk().check(&["to 3: ACK 2:0"]);
    s.got(link, QuorumPacket::UpToDate);
    s.check(&["to 3: ACK 2:0", "deliver 1:a-1:a", "role Following(ServerId(3))"]);
}

#[test]
fn zookeeper_3642_a_snapshot_that_breaks_off_leaves_no_trace() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).got(link, QuorumPacket::Snap(z(1, 9))).skip();
    s.step(Input::Streamed { link, done: false }).check(&["hang 3"]);
    assert_eq!(s.it.status().logged, z(1, 5));
}

#[test]
fn what_is_proposed_while_the_log_is_truncated_waits_for_it() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), false);
    s.offered(link, 2).disk().skip().got(link, QuorumPacket::Trunc(z(1, 3))).check(&["truncate 1:3"]);
    s.proposed(link, z(2, 1)).new_leader(link, 3).check(&["hang 3"]);
}

#[test]
fn a_truncation_then_history_then_epoch() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), false);
    s.offered(link, 3).disk().skip().got(link, QuorumPacket::Trunc(z(1, 3))).check(&["truncate 1:3"]);
    s.proposed(link, z(2, 1)).got(link, QuorumPacket::Commit(z(2, 1))).new_leader(link, 3).check(&[]);
    s.disk().check(&["append 2:1-2:1", "persist 3,3"]);
    s.disk().disk().check(&["to 3: ACK 3:0"]);
    s.got(link, QuorumPacket::UpToDate);
    s.check(&["to 3: ACK 3:0", "deliver 2:1-2:1", "role Following(ServerId(3))"]);
}

#[test]
fn a_deposed_leader_that_is_truncated_inside_its_tail_delivers_what_is_left_once() {
    let (mut s, follower) = Script::leading();
    // Nobody has acknowledged them; the others have the first two, as it turns out.
    s.propose(1, 4).step(Input::Unlinked(follower)).skip();
    s.side = Side::Learner;
    // Into another election, in which server 2 has won.
    for (peer, state) in [(2, PeerState::Leading), (1, PeerState::Following)] {
        let link = s.link(peer);
        s.step(Input::Linked { link, port: Port::Election, dialled: true, addresses: Vec::new() });
        let message = vote(state, 2, z(2, 2), 9, 2);
        s.step(Input::Received(link, Packet::Notification(message)));
    }
    let link = s.link(2);
    s.quorum_links.push(link);
    s.step(Input::Linked { link, port: Port::Quorum, dialled: true, addresses: Vec::new() });
    s.offered(link, 3).skip().got(link, QuorumPacket::Trunc(z(2, 2))).check(&["truncate 2:2"]);
    s.new_leader(link, 3).skip().got(link, QuorumPacket::UpToDate);
    // The world was made from the log up to there.
    s.check(&["to 2: ACK 3:0", "role Following(ServerId(2))"]);
    assert_eq!(s.it.status().committed, z(2, 2));
}

#[test]
fn a_truncation_that_fails_asks_for_a_snapshot_next_time() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), false);
    s.offered(link, 2).disk().skip().got(link, QuorumPacket::Trunc(z(1, 3)));
    let (number, _) = s.asked.remove(0);
    s.skip().step(Input::Truncated { number, to: z(1, 5), done: false }).check(&["hang 3"]);
    s.is_quick = true;
    s.later(5000).elect(3, 2);
    let link = s.link(3);
    s.quorum_links.push(link);
    s.step(Input::Linked { link, port: Port::Quorum, dialled: true, addresses: Vec::new() });
    s.skip().offered(link, 2).check(&["to 3: ACKEPOCH -1 -1"]);
}

#[test]
fn a_history_that_one_leader_could_not_use_counts_for_the_next() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).skip().got(link, QuorumPacket::Trunc(z(1, 9))).check(&["hang 3"]);
    for (peer, state) in [(1, PeerState::Leading), (3, PeerState::Following)] {
        let link = s.link(peer);
        let dialled = peer < 2;
        s.step(Input::Linked { link, port: Port::Election, dialled, addresses: Vec::new() });
        let message = vote(state, 1, z(0, 0), 2, 0);
        s.step(Input::Received(link, Packet::Notification(message)));
    }
    let link = s.link(1);
    s.quorum_links.push(link);
    s.step(Input::Linked { link, port: Port::Quorum, dialled: true, addresses: Vec::new() });
    s.skip().offered(link, 3).check(&["persist 3,1", "to 1: ACKEPOCH 1:5 1"]);
}

#[test]
fn a_truncation_to_an_epochs_beginning_needs_that_epoch() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), false);
    s.offered(link, 2).disk().skip().got(link, QuorumPacket::Trunc(z(1, 0))).check(&["truncate 1:0"]);
    let (number, _) = s.asked.remove(0);
    s.step(Input::Truncated { number, to: Zxid::ZERO, done: true }).check(&[]);
    s.proposed(link, z(2, 1)).check(&["append 2:1-2:1"]);
    let (mut s, link) = Script::learner(z(2, 5), epochs(2, 2), true);
    s.offered(link, 3).skip().got(link, QuorumPacket::Trunc(z(1, 0))).check(&["hang 3"]);
}

#[test]
fn a_hole_between_proposals_costs_the_connection() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).got(link, QuorumPacket::Diff(z(1, 7))).skip();
    s.proposed(link, z(1, 7)).check(&["hang 3"]);
}

#[test]
fn a_zxid_that_an_apache_leader_uses_twice_is_logged_once() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).got(link, QuorumPacket::Diff(z(1, 5))).new_leader(link, 2);
    s.got(link, QuorumPacket::UpToDate).skip();
    s.proposed(link, z(2, 1)).check(&["append 2:1-2:1", "to 3: ACK 2:1"]).proposed(link, z(2, 1)).check(&[]);
    s.got(link, QuorumPacket::Commit(z(2, 1))).check(&["deliver 2:1-2:1"]);
    s.got(link, QuorumPacket::Commit(z(2, 1))).check(&[]);
}

#[test]
fn a_commit_of_nothing_costs_the_connection_and_no_panic() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).got(link, QuorumPacket::Diff(z(1, 5))).skip();
    s.got(link, QuorumPacket::Commit(z(1, 6))).check(&["hang 3"]);
}

#[test]
fn pings_before_uptodate_are_swallowed_and_answered_behind_it() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    let ping = || QuorumPacket::Ping { zxid: z(2, 0), sessions: Vec::new() };
    s.offered(link, 2).got(link, QuorumPacket::Diff(z(1, 5))).skip().got(link, ping()).check(&[]);
    s.new_leader(link, 2).got(link, ping()).got(link, QuorumPacket::UpToDate).skip();
    s.step(Input::Touched(vec![(SessionBits(1), 4000)]))
        .got(link, ping())
        .check(&["to 3: PING of 1 sessions"]);
    s.got(link, ping()).check(&["to 3: PING"]);
}

#[test]
fn the_first_packet_of_a_synchronisation_is_diff_trunc_or_snap() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).skip().got(link, QuorumPacket::UpToDate).check(&["hang 3"]);
}

#[test]
fn the_surviving_tail_is_committed_at_uptodate() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).got(link, QuorumPacket::Diff(z(1, 5))).new_leader(link, 2).skip();
    s.got(link, QuorumPacket::UpToDate);
    assert_eq!(s.it.status().committed, z(1, 5));
}

#[test]
fn the_first_vote_waits_until_the_log_owes_nothing() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).got(link, QuorumPacket::Diff(z(1, 5))).new_leader(link, 2);
    s.got(link, QuorumPacket::UpToDate).is_quick = false;
    s.proposed(link, z(2, 1)).step(Input::Unlinked(link));
    assert!(s.it.status().waiting_for.contains("on disk"), "{}", s.it.status().waiting_for);
    s.disk();
    assert!(!s.it.status().waiting_for.contains("on disk"));
}

#[test]
fn a_silent_leader_is_left_after_sync_limit() {
    let (mut s, link) = Script::learner(z(1, 5), epochs(1, 1), true);
    s.offered(link, 2).got(link, QuorumPacket::Diff(z(1, 5))).new_leader(link, 2);
    s.got(link, QuorumPacket::UpToDate).skip().later(499).check(&[]);
    s.later(1).check(&["role Looking", "hang 3"]);
}

#[test]
fn an_unreachable_leader_is_tried_five_times() {
    let mut s = Script::new(2, z(1, 5), epochs(1, 1), |_| {});
    s.elect(3, 2).check(&["role Looking", "dial 3"]);
    for _ in 0..4 {
        s.step(Input::Unreachable { peer: ServerId(3), port: Port::Quorum }).later(100).check(&["dial 3"]);
    }
    s.step(Input::Unreachable { peer: ServerId(3), port: Port::Quorum });
    assert!(s.it.status().waiting_for.contains("server"), "{}", s.it.status().waiting_for);
}

// The leader.

#[test]
fn the_leaders_promise_is_on_disk_before_leaderinfo() {
    let mut s = Script::leader(z(1, 5), epochs(1, 1));
    s.is_quick = false;
    s.skip();
    s.arrives(2, 4);
    s.check(&["persist 5,1"]).disk().check(&["to 2: LEADERINFO 5:0"]);
}

#[test]
fn an_epoch_is_established_by_a_quorum_of_newleader() {
    let mut s = Script::leader(z(1, 5), epochs(1, 1));
    s.skip();
    let link = s.arrives(2, 1);
    s.check(&["persist 2,1", "to 2: LEADERINFO 2:0"]);
    s.is_quick = false;
    s.ack_epoch(link, z(1, 4), 1);
    s.check(&["persist 2,2", "read 1:4-1:5"]);
    let records = Some(proposal(&[record(z(1, 5), 5)]));
    let history = History { from: Some(z(1, 4)), records, is_last: true };
    s.step(Input::History { link, number: Number(3), history });
    s.check(&["to 2: DIFF 1:5", "to 2: PROPOSAL 1:5, COMMIT 1:5", "to 2: NEWLEADER 2:0"]);
    // The own acknowledgement is its epoch on disk.
    s.got(link, QuorumPacket::Ack(z(2, 0))).check(&[]);
    s.disk().check(&["lead 2", "role Leading", "to 2: UPTODATE"]);
}

#[test]
fn a_stranger_moves_no_epoch_and_an_observer_does() {
    let mut s = Script::leader(z(1, 5), epochs(1, 1));
    s.skip();
    s.arrives(9, 0x7fff_fffe);
    s.arrives(4, 6);
    s.check(&[]);
    s.arrives(2, 1);
    s.check(&["persist 7,1", "to 2: LEADERINFO 7:0", "to 4: LEADERINFO 7:0", "to 9: LEADERINFO 7:0"]);
}

#[test]
fn an_observer_establishes_nothing() {
    let mut s = Script::leader(z(1, 5), epochs(1, 1));
    s.skip();
    s.arrives(4, 1);
    s.check(&[]);
    assert_eq!(s.it.status().waiting_for, "connections of a quorum; have 1 of voters 1,2,3; missing 1,2");
}

#[test]
fn a_more_recent_follower_is_refused_until_the_quorum_stands() {
    let mut s = Script::leader(z(1, 5), epochs(1, 1));
    let link = s.arrives(2, 1);
    s.skip().ack_epoch(link, z(1, 6), 1).check(&["hang 2"]);
    let (mut s, _) = Script::leading();
    let late = s.arrives(1, 1);
    s.skip().ack_epoch(late, z(1, 6), 1).check(&["to 1: TRUNC 1:5", "to 1: NEWLEADER 2:0"]);
}

#[test]
fn a_learner_with_a_newer_configuration_is_refused() {
    let (mut s, _) = Script::leading();
    let link = s.link(1);
    s.quorum_links.push(link);
    s.step(Input::Linked { link, port: Port::Quorum, dialled: false, addresses: Vec::new() });
    let info = LearnerInfo { id: Some(ServerId(1)), protocol_version: 0x10000, config_version: 7 };
    s.got(link, QuorumPacket::FollowerInfo { accepted: z(1, 0), info }).check(&["hang 1"]);
}

#[test]
fn a_wrong_first_packet_costs_the_connection() {
    let (mut s, _) = Script::leading();
    let link = s.link(1);
    s.quorum_links.push(link);
    s.step(Input::Linked { link, port: Port::Quorum, dialled: false, addresses: Vec::new() });
    s.got(link, QuorumPacket::Ack(z(2, 1))).check(&["hang 1"]);
}

#[test]
fn a_proposal_is_sent_before_it_is_logged_and_the_own_ack_counts_when_durable() {
    let (mut s, link) = Script::leading();
    s.is_quick = false;
    s.propose(1, 2).check(&["to 2: PROPOSAL 2:1, PROPOSAL 2:2", "append 2:1-2:2"]);
    s.got(link, QuorumPacket::Ack(z(2, 2))).check(&[]);
    s.disk().check(&["to 2: COMMIT 2:1, COMMIT 2:2", "commit 2:2"]);
}

#[test]
fn a_batch_is_committed_whole() {
    let (mut s, link) = Script::leading();
    s.propose(1, 2).skip().got(link, QuorumPacket::Ack(z(2, 1))).check(&[]);
    s.got(link, QuorumPacket::Ack(z(2, 2))).check(&["to 2: COMMIT 2:1, COMMIT 2:2", "commit 2:2"]);
}

#[test]
fn acknowledgements_of_observers_strangers_and_of_the_past_count_for_nothing() {
    let (mut s, link) = Script::leading();
    let observer = s.arrives(4, 1);
    s.ack_epoch(observer, z(1, 5), 1).got(observer, QuorumPacket::Ack(z(2, 0)));
    s.propose(1, 1).skip();
    s.got(link, QuorumPacket::Ack(z(1, 5))).got(link, QuorumPacket::Ack(z(2, 0))).check(&[]);
    // Nobody can acknowledge what was not sent to it.
    s.got(observer, QuorumPacket::Ack(z(2, 1))).check(&["hang 4", "lost 4"]);
}

#[test]
fn an_ack_of_what_was_never_proposed_costs_the_connection_and_leadership_with_it() {
    let (mut s, link) = Script::leading();
    s.got(link, QuorumPacket::Ack(z(2, 9))).check(&["hang 2", "lost 2", "role Looking"]);
}

#[test]
fn a_follower_is_sent_commits_only_above_its_sync_point() {
    let (mut s, link) = Script::leading();
    s.propose(1, 3).skip();
    let other = s.arrives(1, 2);
    // It holds a part of the batch from an earlier connection.
    s.skip().ack_epoch(other, z(2, 2), -1);
    s.check(&["to 1: DIFF 2:2", "to 1: PROPOSAL 2:3", "to 1: NEWLEADER 2:0"]);
    s.got(other, QuorumPacket::Ack(z(2, 0))).check(&[]);
    s.got(link, QuorumPacket::Ack(z(2, 3)));
    s.check(&[
        "to 1: COMMIT 2:3",
        "to 2: COMMIT 2:1, COMMIT 2:2, COMMIT 2:3",
        "commit 2:3",
        "to 1: UPTODATE",
    ]);
}

#[test]
fn what_came_back_with_a_follower_counts_once_it_acknowledges_newleader() {
    let (mut s, _) = Script::leading();
    s.propose(1, 1).skip();
    let other = s.arrives(1, 2);
    s.skip().ack_epoch(other, z(2, 1), -1).check(&["to 1: DIFF 2:1", "to 1: NEWLEADER 2:0"]);
    s.got(other, QuorumPacket::Ack(z(2, 0)));
    s.check(&["to 2: COMMIT 2:1", "commit 2:1", "to 1: UPTODATE"]);
}

#[test]
fn observers_get_informs_and_followers_commits() {
    let (mut s, link) = Script::leading();
    let observer = s.arrives(4, 1);
    s.ack_epoch(observer, z(1, 5), 1).got(observer, QuorumPacket::Ack(z(2, 0)));
    s.skip().propose(1, 1).check(&["to 2: PROPOSAL 2:1", "append 2:1-2:1"]);
    s.got(link, QuorumPacket::Ack(z(2, 1))).check(&["to 2: COMMIT 2:1", "to 4: INFORM 2:1", "commit 2:1"]);
}

#[test]
fn an_untrusted_history_gets_a_snapshot_and_waits_until_it_has_left() {
    let (mut s, _) = Script::leading();
    let link = s.arrives(1, 2);
    s.skip().got(link, QuorumPacket::AckEpoch { zxid: -1, epoch: -1 });
    s.check(&["to 1: SNAP 1:5", "snapshot to 1", "to 1: PING"]);
    s.propose(1, 1).check(&["to 2: PROPOSAL 2:1", "append 2:1-2:1"]);
    s.step(Input::Drained(link, 1 << 20)).check(&["to 1: PROPOSAL 2:1", "to 1: NEWLEADER 2:0"]);
}

#[test]
fn history_from_disk_that_has_a_hole_is_not_sent() {
    let (mut s, _) = Script::leading();
    let link = s.arrives(1, 1);
    s.skip().ack_epoch(link, z(1, 1), 1).check(&["read 1:1-1:5"]);
    let number = Number(3);
    let records = Some(proposal(&[record(z(1, 3), 3)]));
    let history = History { from: Some(z(1, 1)), records, is_last: false };
    s.step(Input::History { link, number, history }).check(&["to 1: DIFF 1:5", "hang 1"]);
    // It would come to the same again.
    let link = s.arrives(1, 2);
    s.skip().ack_epoch(link, z(1, 1), -1).check(&["to 1: SNAP 1:5", "snapshot to 1", "to 1: PING"]);
}

#[test]
fn a_log_that_does_not_reach_back_means_a_snapshot() {
    let (mut s, _) = Script::leading();
    let link = s.arrives(1, 1);
    s.skip().ack_epoch(link, z(1, 1), 1).check(&["read 1:1-1:5"]);
    let history = History { from: None, records: None, is_last: true };
    s.step(Input::History { link, number: Number(3), history });
    s.check(&["to 1: SNAP 1:5", "snapshot to 1", "to 1: PING"]);
}

#[test]
fn a_request_before_uptodate_costs_the_connection() {
    let (mut s, _) = Script::leading();
    let link = s.arrives(1, 1);
    s.ack_epoch(link, z(1, 5), 1).skip();
    let ask = Ask::Revalidate { session: SessionBits(1), timeout_ms: 1 };
    s.got(link, QuorumPacket::Ask(ask)).check(&["hang 1"]);
}

#[test]
fn a_barrier_passes_by_a_batch_proposed_behind_it() {
    let (mut s, link) = Script::leading();
    s.step(Input::Barrier(Ticket(1))).check(&["to 2: PING"]);
    s.propose(1, 1).skip().got(link, QuorumPacket::Ack(z(2, 1)));
    s.check(&["to 2: COMMIT 2:1", "commit 2:1", "passed 1"]);
}

#[test]
fn an_old_ping_does_not_pass_a_barrier() {
    let (mut s, link) = Script::leading();
    let ping = || QuorumPacket::Ping { zxid: z(2, 0), sessions: Vec::new() };
    s.later(50).check(&["to 2: PING"]).step(Input::Barrier(Ticket(1))).check(&["to 2: PING"]);
    s.got(link, ping()).check(&[]).got(link, ping()).check(&["passed 1"]);
}

#[test]
fn another_batch_may_be_sealed_when_the_own_log_has_caught_up() {
    let (mut s, _) = Script::leading();
    s.is_quick = false;
    assert!(s.it.may_propose());
    s.propose(1, 1);
    assert!(!s.it.may_propose());
    s.disk();
    assert!(s.it.may_propose());
    s.is_quick = true;
    for counter in 2..=8 {
        s.propose(counter, counter);
    }
    assert!(!s.it.may_propose(), "eight batches are under way");
}

#[test]
fn a_slow_follower_is_hung_up_and_costs_nobody_anything() {
    let (mut s, _) = Script::leading();
    let slow = s.arrives(1, 1);
    s.ack_epoch(slow, z(1, 5), 1).got(slow, QuorumPacket::Ack(z(2, 0)));
    let fast = s.quorum_links[0];
    let mut counter = 0;
    s.skip();
    while s.it.status().learners.len() == 2 {
        counter += 1;
        assert!(counter < 100_000);
        s.propose(counter, counter)
            .got(fast, QuorumPacket::Ack(z(2, counter)))
            .step(Input::Drained(fast, 1 << 40));
    }
    assert!(s.hung[s.hung.len() - 1].contains("too slow"), "{:?}", s.hung);
    assert_eq!(s.it.status().role, Role::Leading);
    assert_eq!(s.it.status().committed, z(2, counter));
}

#[test]
fn a_proposal_without_ack_for_sync_limit_closes_the_link() {
    let (mut s, _) = Script::leading();
    s.propose(1, 1).skip();
    for _ in 0..20 {
        let link = s.quorum_links[0];
        s.later(50);
        if s.it.status().role == Role::Leading {
            s.got(link, QuorumPacket::Ping { zxid: z(2, 1), sessions: Vec::new() });
        }
    }
    assert!(s.hung.iter().any(|why| why.contains("has not acknowledged 0x200000001")), "{:?}", s.hung);
    assert_eq!(s.it.status().role, Role::Looking);
}

#[test]
fn leadership_that_is_lost_is_told_before_its_learners_are_hung_up() {
    let (mut s, _) = Script::leading();
    s.propose(1, 1)
        .skip()
        .step(Input::StepDown("the disk is full".into()))
        .check(&["role Looking", "hang 2"]);
    assert_eq!(s.it.status().logged, z(2, 1));
    assert_eq!(s.it.status().committed, z(1, 5));
}

#[test]
fn the_epoch_ends_before_its_zxids_do() {
    let (mut s, link) = Script::leading();
    let last = u32::MAX - (16 << 20);
    // A batch of that many txns cannot be; its zxids can.
    s.step(Input::Propose(Proposal { last: z(2, last), ..batch(1, 1) }));
    assert!(!s.it.may_propose());
    s.skip().got(link, QuorumPacket::Ack(z(2, last)));
    assert_eq!(s.out[s.out.len() - 2..], ["role Looking", "hang 2"], "{:?}", s.out);
}

#[test]
fn zookeeper_2354_a_crash_between_history_and_epoch_is_mended_at_the_start() {
    let mut s = Script::new(2, z(3, 1), epochs(3, 2), |_| {});
    s.check(&["persist 3,3", "role Looking"]);
    let settings = settings(2, &members(3, 0));
    let recovered = Recovered { epochs: epochs(2, 2), logged: z(3, 1) };
    let lost = Ensemble::new(settings, recovered, Moment(0), &mut Outputs::new()).err().unwrap();
    assert!(lost.to_string().contains("acceptedEpoch is only 2"));
}

#[test]
fn early_learners_are_kept_until_it_is_known_who_leads() {
    let mut s = Script::new(3, z(1, 5), epochs(1, 1), |_| {});
    s.arrives(2, 1);
    s.check(&["role Looking"]).elect(3, 3).check(&["persist 2,1", "to 2: LEADERINFO 2:0"]);
    let mut s = Script::new(2, z(1, 5), epochs(1, 1), |_| {});
    s.arrives(1, 1);
    s.skip().elect(3, 2).check(&["hang 1", "dial 3"]);
}

#[test]
fn a_packet_of_a_dead_link_counts_for_nothing() {
    let (mut s, link) = Script::leading();
    let other = s.arrives(1, 1);
    s.ack_epoch(other, z(1, 5), 1).got(other, QuorumPacket::Ack(z(2, 0)));
    s.propose(1, 1).step(Input::Unlinked(link)).skip();
    s.got(link, QuorumPacket::Ack(z(2, 1))).check(&["hang 2"]);
    assert_eq!(s.it.status().committed, z(1, 5));
}

/// How many notifications go back to a peer for this one.
fn answers(me: u64, peer: u64, notification: ostler_replication::packet::Notification) -> usize {
    let mut s = Script::new(me, z(1, 5), epochs(1, 1), |_| {});
    s.later(1000);
    let link = s.link(peer);
    s.step(Input::Linked { link, port: Port::Election, dialled: peer < me, addresses: Vec::new() });
    s.step(Input::Drained(link, 1 << 20));
    let mut outputs = Outputs::new();
    s.it.step(Input::Received(link, Packet::Notification(notification)), s.now, &mut outputs);
    outputs.iter().filter(|output| matches!(output, Output::Send(to, _) if *to == link)).count()
}

#[test]
fn an_observer_does_not_answer_votes_of_an_earlier_round() {
    let late = vote(PeerState::Looking, 1, z(1, 5), 0, 1);
    assert_eq!(answers(2, 1, late.clone()), 1);
    assert_eq!(answers(4, 1, late), 0);
}

#[test]
fn an_observer_that_has_its_leader_is_not_answered() {
    assert_eq!(answers(2, 4, vote(PeerState::Looking, 4, z(1, 5), 1, 1)), 1);
    assert_eq!(answers(2, 4, vote(PeerState::Observing, 3, z(1, 5), 1, 1)), 0);
}
