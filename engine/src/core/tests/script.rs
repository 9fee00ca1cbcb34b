//! A broadcast that says what a transcript wants it to say, and an ensemble of two made of it: the server of the transcript
//! and, far away, its leader.
//!
//! ```text
//! ensemble                  from here on the broadcast is a script; only before the first request
//! role looking|following|observing|leading
//! lead EPOCH                the epoch stands, and this server leads it
//! slow barriers | passed    barriers pass from here on at the next line like the second
//! ask LINK S session TIMEOUT | REQUEST        a learner asks for its session S
//! revalidate LINK S TIMEOUT | touches LINK S TIMEOUT | lost LINK
//! near the end              the epoch has nearly no zxids left
//! replaced                  a world of nothing takes the place of this one
//! far COMMAND               what happens at the leader of this server
//! send                      what this server asked comes to its leader
//! deliver [COUNT]           so many things that the leader said come back, or all, in one turn
//! deliver garbage           something comes back that is no txn
//! ```

use super::*;
use ostler_replication::{Answer, Ask, Link, Output, SessionBits};
use std::sync::{Mutex, MutexGuard};

#[derive(Clone, Default)]
pub(super) struct Script(Arc<Mutex<Scripted>>);

#[derive(Default)]
pub(super) struct Scripted {
    /// At the next opportunity.
    pub says: Outputs,
    /// What it was told, as a transcript shows it.
    pub told: Vec<String>,
    /// What a learner asked.
    pub asks: Vec<Ask>,
    /// What a leader has for its learner.
    pub stream: VecDeque<Output>,
    pub slow_barriers: bool,
    barriers: Vec<Ticket>,
    number: Number,
    proposed: Zxid,
    committed: Zxid,
}

impl Script {
    pub fn lock(&self) -> MutexGuard<'_, Scripted> {
        self.0.lock().unwrap()
    }
}

impl Scripted {
    /// A new role: what was proposed in the last one is nothing to this one.
    fn forget(&mut self) {
        self.committed = self.proposed;
        self.barriers.clear();
    }

    fn pass(&mut self, ticket: Ticket) {
        self.says.push_back(Output::Passed(ticket));
    }
}

impl Broadcast for Script {
    fn step(&mut self, input: Input, _now: Moment, outputs: &mut Outputs) {
        let mut script = self.lock();
        match input {
            Input::Propose(proposal) => {
                script.number.0 += 1;
                script.proposed = proposal.last;
                script.stream.push_back(Output::Deliver(proposal.clone()));
                outputs.push_back(Output::Append { number: script.number, proposal });
            }
            Input::Durable { zxid, .. } if zxid > script.committed => {
                script.committed = zxid;
                outputs.push_back(Output::Commit(zxid));
            }
            Input::Barrier(ticket) if script.slow_barriers => {
                script.told.push(format!("barrier {}", ticket.0));
                script.barriers.push(ticket);
            }
            Input::Barrier(ticket) => script.pass(ticket),
            Input::Answer(link, answer) => {
                script.told.push(match answer {
                    Answer::Synced => format!("answer {}: synced", link.number),
                    Answer::Revalidated { valid, .. } => format!("answer {}: valid {valid}", link.number),
                });
                script.stream.push_back(Output::Answered(answer));
            }
            Input::Ask(ask) => {
                script.told.push(match &ask {
                    Ask::Request { cxid, op, identities, .. } => {
                        let ids = identities.as_ref().map(|ids| ids.len());
                        format!("ask op {op} cxid {cxid} ids {ids:?}")
                    }
                    Ask::Revalidate { timeout_ms, .. } => format!("ask revalidate {timeout_ms} ms"),
                });
                script.asks.push(ask);
            }
            Input::StepDown(why) => {
                script.told.push(format!("step down: {why}"));
                script.forget();
                outputs.push_back(Output::Role(Role::Looking));
            }
            Input::Unlinked(link) => script.told.push(format!("unlinked {}", link.number)),
            Input::Touched(sessions) => script.told.push(format!("touched {}", sessions.len())),
            _ => {}
        }
        outputs.append(&mut script.says);
    }

    fn next_timeout(&self) -> Option<Moment> {
        None
    }

    fn may_propose(&self) -> bool {
        let script = self.lock();
        script.committed == script.proposed
    }

    fn status(&self) -> Status {
        Solo::new(self.lock().committed, &mut Outputs::new()).status()
    }
}

fn link(number: u64) -> Link {
    Link { peer: ServerId(2), number }
}

impl Bench {
    pub(super) fn script(&self) -> &Script {
        self.script.as_ref().expect("a script has a broadcast of its own")
    }

    /// The broadcast says this, now.
    fn says(&mut self, outputs: impl IntoIterator<Item = Output>) {
        self.script().lock().says.extend(outputs);
        self.step(CoreInput::Peer(Input::Timeout));
    }

    /// False: it is none of these commands.
    pub(super) fn command_of_script(&mut self, words: &[&str], line: &str) -> bool {
        match *words {
            ["ensemble"] => self.script = Some(Script::default()),
            ["role", role] => {
                let role = match role {
                    "looking" => Role::Looking,
                    "following" => Role::Following(ServerId(1)),
                    "observing" => Role::Observing(ServerId(1)),
                    _ => Role::Leading,
                };
                self.proposals.clear();
                self.script().lock().forget();
                self.says([Output::Role(role)]);
            }
            ["lead", epoch] => {
                let epoch = Epoch(epoch.parse().unwrap());
                self.says([Output::Lead(epoch), Output::Role(Role::Leading)]);
            }
            ["slow", "barriers"] => self.script().lock().slow_barriers = true,
            ["passed"] => {
                let mut script = self.script().lock();
                script.slow_barriers = false;
                let passed = std::mem::take(&mut script.barriers);
                drop(script);
                self.says(passed.into_iter().map(Output::Passed));
            }
            ["ask", from, session, "session", timeout] => {
                let id = SessionId(0x0200_0000_0000_0000 + self.sessions.len() as i64);
                self.sessions.insert(session.into(), id);
                let timeout: i32 = timeout.parse().unwrap();
                self.ask(from, session, -10, 0, timeout.to_be_bytes().into());
            }
            ["ask", from, session, ..] => {
                let text = line.splitn(4, ' ').nth(3).unwrap();
                let (op, body) = record(text);
                self.cxid += 1;
                let op = op.map_or(-100, |op| op.to_i32());
                self.ask(from, session, op, self.cxid, body);
            }
            ["revalidate", from, session, timeout] => {
                let session = SessionBits(self.sessions.get(session).map_or(77, |id| id.0));
                let ask = Ask::Revalidate { session, timeout_ms: timeout.parse().unwrap() };
                self.says([Output::Asked(link(from.parse().unwrap()), ask)]);
            }
            ["touches", from, session, timeout] => {
                let touched = (SessionBits(self.sessions[session].0), timeout.parse().unwrap());
                self.says([Output::Touches(link(from.parse().unwrap()), vec![touched])]);
            }
            ["lost", from] => self.says([Output::Lost(link(from.parse().unwrap()))]),
            ["near", "the", "end"] => {
                let begin = self.core().epoch_begin;
                self.core().epoch_begin = Zxid::new(begin.epoch(), u32::MAX - (1 << 20) - 2);
                self.step(CoreInput::Peer(Input::Timeout));
            }
            ["replaced"] => {
                let head = Head::new(world::Settings { hash_seed: [3, 4], digests: true });
                let (number, to, world) = (Number(1), Zxid::ZERO, Some(Box::new(head)));
                self.step(CoreInput::Truncated { number, to, world });
            }
            ["far", ..] => {
                let mut far = self.far.take().unwrap_or_else(|| Box::new(Bench::leader(&self.settings)));
                far.now_ms = far.now_ms.max(self.now_ms);
                far.sessions.extend(self.sessions.clone());
                far.command(line["far".len()..].trim());
                self.sessions.extend(far.sessions.clone());
                self.far = Some(far);
            }
            ["send"] => self.send(),
            ["deliver"] => self.deliver(usize::MAX),
            ["deliver", "garbage"] => {
                let records = Arc::new(vec![0, 0, 0, 2, 7, 7]);
                self.says([Output::Deliver(Proposal { first: Zxid(7), last: Zxid(7), records })]);
            }
            ["deliver", count] => self.deliver(count.parse().unwrap()),
            _ => return false,
        }
        true
    }

    fn ask(&mut self, from: &str, session: &str, op: i32, cxid: i32, body: Vec<u8>) {
        let session = SessionBits(self.sessions.get(session).map_or(77, |id| id.0));
        let ask = Ask::Request { session, cxid, op, body, identities: None };
        self.says([Output::Asked(link(from.parse().unwrap()), ask)]);
    }

    fn leader(settings: &Settings) -> Bench {
        let mut far = Bench::new();
        far.settings = settings.clone();
        far.settings.session_server = 9;
        far.command("ensemble");
        far.command("lead 0");
        far
    }

    fn send(&mut self) {
        let asks = std::mem::take(&mut self.script().lock().asks);
        let far = self.far.get_or_insert_with(|| Box::new(Bench::leader(&self.settings)));
        far.now_ms = far.now_ms.max(self.now_ms);
        for ask in asks {
            far.says([Output::Asked(link(1), ask)]);
        }
        far.turn();
    }

    fn deliver(&mut self, count: usize) {
        let Some(far) = &self.far else { return };
        let mut script = far.script().lock();
        let count = count.min(script.stream.len());
        let said: Vec<Output> = script.stream.drain(..count).collect();
        drop(script);
        let before = self.core().figures().digest_mismatches;
        self.says(said);
        let Figures { digest_mismatches, digest_differs_at, .. } = self.core().figures();
        if digest_mismatches > before {
            let count = digest_mismatches - before;
            let _ = writeln!(self.out, "    {count} digests differ, the last one @{digest_differs_at:?}");
        }
    }

    /// What was asked is answered, until nothing is asked any more.
    pub(super) fn play_both(&mut self) {
        while self.is_learner && self.script.as_ref().is_some_and(|script| !script.lock().asks.is_empty()) {
            self.send();
            self.deliver(usize::MAX);
        }
    }

    pub(super) fn show_told(&mut self) {
        let Some(script) = &self.script else { return };
        let told = std::mem::take(&mut script.lock().told);
        for line in told.iter().filter(|_| !self.is_learner) {
            let _ = writeln!(self.out, "    > {line}");
        }
    }
}

/// The same requests at a server that is alone, and at a learner: the same answers, changes and state. But for a multi of
/// bad bytes, which a learner keeps to itself.
fn check_learner(name: &str) {
    let path = format!("{}/src/core/transcripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(&path).unwrap();
    let script = script.replace("A raw 14 00\n", "");
    let alone = run(&script);
    let mut bench = Bench::new();
    bench.command("ensemble");
    bench.is_learner = true;
    let mut has_begun = false;
    for line in script.lines().filter(|line| !line.starts_with("    ")) {
        bench.out.push_str(line);
        bench.out.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            if !has_begun && !line.starts_with("set ") {
                has_begun = true;
                bench.command("role following");
            }
            bench.command(line);
        }
    }
    // Answers and changes; when they come differs where the log of the one is held up.
    let seen = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("    ") && !line.starts_with("    append"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(seen(&bench.out), seen(&alone), "{name}");
}

#[test]
fn a_learner_answers_as_a_server_alone() {
    for name in ["create_checks", "write_checks", "acl_checks", "auth_acls", "multis", "quotas", "zxids"] {
        check_learner(name);
    }
}

/// A multi as a leader of Apache's may have written it: what came before the failed operation is an error of code 0.
#[test]
fn a_failed_multi_answers_the_codes_that_it_has() {
    let header = TxnHeader {
        session: SessionId(1),
        cxid: Xid(7),
        zxid: Zxid(9),
        time: WallMillis(0),
        kind: crate::wire::OpCode::Multi.to_i32(),
    };
    let check = |codes: &[Option<i32>], expected: &str| {
        let part = |code: &Option<i32>| match code {
            Some(code) => crate::wire::SubTxn::error(*code),
            None => crate::wire::SubTxn::Delete { path: "/no".into() },
        };
        let body = TxnBody::Multi(codes.iter().map(part).collect());
        let mut head = Head::new(world::Settings { hash_seed: [1, 2], digests: true });
        let result = head.apply(&header, &body, &mut crate::world::Changes::default());
        let mut out = Vec::new();
        answer::answer(&header, &body, &result, &mut out);
        assert_eq!(reply_text(OpCode::Multi, &out), expected);
    };
    check(&[None, Some(-101), None], "7 @0:9 0 | -1 0 | -1 -101 | -1 -2");
    check(&[Some(0), Some(-101), Some(-2)], "7 @0:9 0 | -1 0 | -1 -101 | -1 -2");
}
