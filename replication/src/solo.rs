//! Standalone: durable means committed.

use crate::{Broadcast, Epochs, Input, Moment, Number, Output, Outputs, Phase, Role, Status, Zxid};

/// The broadcast of a server that has no ensemble.
pub struct Solo {
    proposed: Zxid,
    committed: Zxid,
    number: Number,
}

impl Solo {
    /// `recovered`: the last zxid found on disk.
    pub fn new(recovered: Zxid, outputs: &mut Outputs) -> Solo {
        outputs.push_back(Output::Role(Role::Standalone));
        Solo { proposed: recovered, committed: recovered, number: Number::default() }
    }
}

impl Broadcast for Solo {
    fn step(&mut self, input: Input, _now: Moment, outputs: &mut Outputs) {
        match input {
            Input::Propose(proposal) => {
                assert!(self.proposed < proposal.first);
                assert!(proposal.first <= proposal.last);
                self.proposed = proposal.last;
                self.number.0 += 1;
                outputs.push_back(Output::Append { number: self.number, proposal });
            }
            Input::Durable { zxid, .. } => {
                assert!(self.committed <= zxid);
                assert!(zxid <= self.proposed);
                self.committed = zxid;
                outputs.push_back(Output::Commit(zxid));
            }
            Input::Barrier(ticket) => outputs.push_back(Output::Passed(ticket)),
            // Nobody but the log answers here, and there is nobody else to be told anything.
            _ => {}
        }
    }

    fn next_timeout(&self) -> Option<Moment> {
        None
    }

    /// One sync is under way at a time; what comes meanwhile is the next batch.
    fn may_propose(&self) -> bool {
        self.committed == self.proposed
    }

    fn status(&self) -> Status {
        Status {
            role: Role::Standalone,
            phase: Phase::Broadcast,
            leader: None,
            epochs: Epochs::default(),
            logged: self.proposed,
            committed: self.committed,
            members: String::new(),
            quorum_size: 1,
            learners: Vec::new(),
            election_ms: None,
            waiting_for: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Proposal, Ticket};

    fn check(inputs: Vec<Input>, expected: &str) {
        let mut outputs = Outputs::new();
        let mut solo = Solo::new(Zxid::ZERO, &mut outputs);
        for input in inputs {
            solo.step(input, Moment::default(), &mut outputs);
        }
        let got: Vec<String> = outputs
            .iter()
            .map(|output| match output {
                Output::Append { proposal, .. } => format!("append {:?}-{:?}", proposal.first, proposal.last),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(got.join(", "), expected);
    }

    #[test]
    fn durable_is_committed() {
        let batch = Proposal { first: Zxid(1), last: Zxid(3), records: Default::default() };
        let durable = Input::Durable { number: Number(1), zxid: Zxid(3) };
        check(
            vec![Input::Propose(batch), durable, Input::Barrier(Ticket(9))],
            "Role(Standalone), append 0:1-0:3, Commit(0:3), Passed(Ticket(9))",
        );
    }

    #[test]
    fn another_batch_may_be_sealed_when_the_last_one_is_durable() {
        let mut outputs = Outputs::new();
        let mut solo = Solo::new(Zxid::ZERO, &mut outputs);
        assert!(solo.may_propose());
        let batch = Proposal { first: Zxid(1), last: Zxid(3), records: Default::default() };
        solo.step(Input::Propose(batch), Moment::default(), &mut outputs);
        assert!(!solo.may_propose());
        solo.step(Input::Durable { number: Number(1), zxid: Zxid(3) }, Moment::default(), &mut outputs);
        assert!(solo.may_propose());
    }
}
