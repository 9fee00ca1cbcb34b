//! Defects that the tests of the simulation plant, to see that it finds them.
//! Not here: finding them (`checker`).

use crate::model::Request;
use ostler_replication::{Broadcast, Input, Moment, Output, Outputs, Role, Status};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plant {
    /// Takes what a failing disk did not do for done.
    BelievesFailingDisks,
    /// Answers when it takes proposals, not when they are on the disk; a follower acknowledges them then.
    AnswersBeforeItSyncs,
    /// Takes what a setWatches2 has missed for seen.
    TellsNothingMissed,
    /// Takes what a setWatches2 has seen for missed.
    TellsAllAsMissed,
    /// Sets nothing of the last two lists of a setWatches2.
    ForgetsPersistentWatches,
    /// A leader takes for committed what it has proposed.
    CommitsWithoutQuorum,
    /// Goes on for its clients when it has lost its role.
    ServesWithoutRole,
    /// A follower tells its leader of no session that it has heard of.
    TouchesNothing,
}

impl Plant {
    pub const ALL: [Plant; 8] = [
        Plant::BelievesFailingDisks,
        Plant::AnswersBeforeItSyncs,
        Plant::TellsNothingMissed,
        Plant::TellsAllAsMissed,
        Plant::ForgetsPersistentWatches,
        Plant::CommitsWithoutQuorum,
        Plant::ServesWithoutRole,
        Plant::TouchesNothing,
    ];

    /// Takes several servers.
    pub fn is_of_ensemble(self) -> bool {
        matches!(self, Plant::CommitsWithoutQuorum | Plant::ServesWithoutRole | Plant::TouchesNothing)
    }

    /// What a request with that defect is to the server.
    pub fn misread(self, asked: &Request) -> Request {
        let mut asked = asked.clone();
        if let Request::SetWatches { relative, lists } = &mut asked
            && lists.makes_set_watches2()
        {
            match self {
                Plant::TellsNothingMissed => *relative = i64::MAX,
                Plant::TellsAllAsMissed => *relative = 0,
                Plant::ForgetsPersistentWatches => {
                    (lists.persistent, lists.recursive) = Default::default();
                }
                _ => {}
            }
        }
        asked
    }
}

/// A broadcast with a defect.
pub struct Defective {
    pub inner: Box<dyn Broadcast>,
    pub plant: Plant,
}

impl Broadcast for Defective {
    fn step(&mut self, input: Input, now: Moment, outputs: &mut Outputs) {
        if self.plant == Plant::TouchesNothing && matches!(input, Input::Touched(_)) {
            return;
        }
        let before = outputs.len();
        self.inner.step(input, now, outputs);
        if self.plant == Plant::ServesWithoutRole {
            outputs.retain(|output| !matches!(output, Output::Role(Role::Looking)));
        }
        if self.plant == Plant::CommitsWithoutQuorum && self.status().role == Role::Leading {
            for output in outputs.split_off(before) {
                let proposed = match &output {
                    Output::Append { proposal, .. } => Some(proposal.last),
                    _ => None,
                };
                outputs.push_back(output);
                outputs.extend(proposed.map(Output::Commit));
            }
        }
    }

    fn next_timeout(&self) -> Option<Moment> {
        self.inner.next_timeout()
    }

    fn may_propose(&self) -> bool {
        self.inner.may_propose()
    }

    fn status(&self) -> Status {
        self.inner.status()
    }
}
