//! How much one turn does, and how much waits in a batch, when very much is to be done.

use super::*;
use ostler_replication::{Ask, Link, Output, ServerId, SessionBits};

/// What one turn proposed.
#[derive(Default)]
struct Proposed {
    proposals: usize,
    txns: usize,
    bytes: usize,
    paths: usize,
    closes: usize,
}

impl Proposed {
    fn add(&mut self, proposal: &Proposal) {
        self.proposals += 1;
        self.bytes += proposal.records.len();
        for entry in proposal.entries() {
            let (entry, _) = crate::wire::TxnEntry::decode(entry).unwrap();
            self.txns += 1;
            match &entry.body {
                TxnBody::CloseSession { paths } => {
                    self.closes += 1;
                    self.paths += paths.as_ref().map_or(0, Vec::len);
                }
                TxnBody::Multi(subs) => self.paths += subs.len(),
                _ => self.paths += 1,
            }
        }
    }
}

const SESSIONS: usize = 300;
const EPHEMERALS: usize = 100;

/// So many sessions with so many ephemerals each, and B, which has none and lives long.
fn crowd() -> Bench {
    let mut bench = Bench::new();
    bench.command("connect B 20000");
    bench.command("B create /b");
    bench.command("B create /p");
    for session in 0..SESSIONS {
        bench.command(&format!("connect S{session} 4000"));
        for number in 0..EPHEMERALS {
            bench.request(&format!("S{session}"), &format!("create /p/{session}-{number} flags=1"));
        }
        bench.turn();
    }
    bench.out.clear();
    bench.door = Some(VecDeque::new());
    bench
}

/// One turn with a write of B among its requests. Returns what was proposed and how many of B's writes were answered.
fn turn(bench: &mut Bench) -> (Proposed, usize) {
    let b = bench.conns["B"].at;
    bench.now_ms += 10;
    bench.request("B", "set /b x");
    bench.turn_once();
    let (mut proposed, mut answered) = (Proposed::default(), 0);
    while let Some(output) = bench.core().next_output() {
        match output {
            CoreOutput::Append { proposal, .. } => {
                proposed.add(&proposal);
                bench.proposals.push_back(proposal);
            }
            CoreOutput::Publish(Event { news: News::Batch(batch), .. }) => {
                for outcome in &batch.outcomes {
                    answered += usize::from(outcome.to == b && outcome.xid != Xid(0));
                    if let After::Probe { session, token } = outcome.then {
                        let request = CoreRequest::Silent { from: outcome.to, session, token };
                        bench.step(CoreInput::Request(request));
                    }
                }
            }
            _ => {}
        }
    }
    (proposed, answered)
}

/// Turns until all sessions but B's are closed, each batch being durable a turn after it was proposed.
#[track_caller]
fn check_that_all_expire(mut bench: Bench) {
    let mut closes = 0;
    let mut waiting = 0;
    for _ in 0..3000 {
        let (proposed, answered) = turn(&mut bench);
        closes += proposed.closes;
        assert!(proposed.proposals <= 1, "{} batches", proposed.proposals);
        assert!(proposed.txns <= bench.settings.batch_txns_max, "{} txns", proposed.txns);
        assert!(proposed.paths <= limits::BATCH_CHANGES_ENOUGH + EPHEMERALS, "{} paths", proposed.paths);
        assert!(proposed.bytes <= bench.settings.batch_bytes_max, "{} bytes", proposed.bytes);
        waiting = waiting + 1 - answered;
        assert!(waiting <= 4, "{waiting} writes of a bystander wait");
        if let Some(proposal) = bench.proposals.pop_front() {
            bench.step(CoreInput::Durable { number: Number::default(), zxid: proposal.last });
        }
        if closes == SESSIONS {
            return;
        }
    }
    panic!("{closes} of {SESSIONS} sessions were closed");
}

#[test]
fn sessions_that_expire_together_are_closed_a_batch_at_a_time() {
    let mut bench = crowd();
    for session in 0..SESSIONS {
        bench.request(&format!("S{session}"), "gone");
    }
    check_that_all_expire(bench);
}

#[test]
fn sessions_that_are_silent_together_are_closed_a_batch_at_a_time() {
    check_that_all_expire(crowd());
}

#[test]
fn what_expires_while_the_log_is_stuck_waits_for_its_turn() {
    let mut bench = crowd();
    for session in 0..SESSIONS {
        bench.request(&format!("S{session}"), "gone");
    }
    let mut proposals = 0;
    for _ in 0..1000 {
        let (proposed, _) = turn(&mut bench);
        proposals += proposed.proposals;
    }
    assert_eq!(proposals, 1, "one batch is in flight without an ensemble");
    let core = bench.core();
    assert!(core.open.changes.list.len() <= limits::BATCH_CHANGES_ENOUGH + EPHEMERALS);
    assert!(!core.has_work(), "nothing can be done before the log has");
}

#[test]
fn what_is_due_on_a_full_disk_is_no_work() {
    let mut bench = crowd();
    for session in 0..SESSIONS {
        bench.request(&format!("S{session}"), "gone");
    }
    // They fall due, and not all are closed before the disk is full.
    while bench.now_ms <= 15_000 {
        bench.turn_once();
        bench.now_ms += 50;
    }
    bench.step(CoreInput::Space(Space::Full));
    bench.turn_once();
    assert!(!bench.core().has_work());
}

#[test]
fn lists_for_a_batch_that_waits_for_the_log_are_made_up_to_a_bound() {
    let mut bench = Bench::new();
    bench.command("connect A 20000");
    bench.command("A create /p");
    bench.command("A fill /p 400 1000");
    bench.command("hold");
    // One that is sealed, and one that is open and cannot be.
    bench.command("A create /a");
    bench.command("A create /b");
    for _ in 0..20 {
        bench.command("A ephemerals");
    }
    let core = bench.core();
    let reply = 400 * 1010;
    assert!(core.open.frames.len() <= core.settings.batch_bytes_enough() + reply);
    assert!(!core.has_work(), "nothing can be done before the log has");
    bench.command("durable");
    assert_eq!(bench.conns["A"].answered, bench.conns["A"].xid);
}

#[test]
fn a_learner_that_asks_without_end_is_hung_up() {
    let mut bench = Bench::new();
    bench.command("ensemble");
    bench.command("lead 1");
    let [flood, other] = [1, 2].map(|number| Link { peer: ServerId(number), number });
    let ask = |bytes| Ask::Request {
        session: SessionBits(7),
        cxid: 1,
        op: 5,
        body: vec![0; bytes],
        identities: None,
    };
    let says = |bench: &mut Bench, link, bytes| {
        bench.script().lock().says.push_back(Output::Asked(link, ask(bytes)));
        bench.step(CoreInput::Peer(Input::Timeout));
    };
    says(&mut bench, other, 10);
    let piece = 8 << 20;
    for _ in 0..limits::LEARNER_BYTES_MAX / piece {
        assert!(bench.script().lock().told.iter().all(|told| !told.starts_with("unlinked")));
        says(&mut bench, flood, piece);
    }
    assert_eq!(bench.script().lock().told.last().map(String::as_str), Some("unlinked 1"));
    let hung = std::iter::from_fn(|| bench.core().next_output());
    let hung: Vec<Link> = hung
        .filter_map(|output| match output {
            CoreOutput::Peer(PeerOutput::Hang(link, _)) => Some(link),
            _ => None,
        })
        .collect();
    assert_eq!(hung, [flood]);
    assert!(!bench.core().learners.is_quiet(), "what the other one asked still waits");
}
