//! Standalone: durable means committed.

use crate::{Broadcast, Input, Moment, Output, Outputs, Role, Zxid};

/// The broadcast of a server that has no ensemble.
pub struct Solo {
    proposed: Zxid,
    committed: Zxid,
}

impl Solo {
    /// `recovered`: the last zxid found on disk.
    pub fn new(recovered: Zxid, outputs: &mut Outputs) -> Solo {
        outputs.push_back(Output::Role(Role::Standalone));
        Solo { proposed: recovered, committed: recovered }
    }
}

impl Broadcast for Solo {
    fn step(&mut self, input: Input, _now: Moment, outputs: &mut Outputs) {
        match input {
            Input::Propose(proposal) => {
                assert!(self.proposed < proposal.first);
                assert!(proposal.first <= proposal.last);
                self.proposed = proposal.last;
                outputs.push_back(Output::Append(proposal));
            }
            Input::Durable(zxid) => {
                assert!(self.committed <= zxid);
                assert!(zxid <= self.proposed);
                self.committed = zxid;
                outputs.push_back(Output::Commit(zxid));
            }
            Input::Barrier(ticket) => outputs.push_back(Output::Passed(ticket)),
            Input::Persisted(_) | Input::Timeout => {}
            Input::Received(..) | Input::Lost(_) => unreachable!("a standalone server has no peers"),
        }
    }

    fn next_timeout(&self) -> Option<Moment> {
        None
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
                Output::Append(p) => format!("append {:?}-{:?}", p.first, p.last),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(got.join(", "), expected);
    }

    #[test]
    fn durable_is_committed() {
        let batch = Proposal { first: Zxid(1), last: Zxid(3), records: Default::default() };
        check(
            vec![Input::Propose(batch), Input::Durable(Zxid(3)), Input::Barrier(Ticket(9))],
            "Role(Standalone), append 0:1-0:3, Commit(0:3), Passed(Ticket(9))",
        );
    }
}
