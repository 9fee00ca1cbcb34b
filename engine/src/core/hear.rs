//! What the broadcast is told and what it decides: on to the log, the workers and the network, or to whoever here acts on it.
//! Not here: roles and learners' requests (`lead`), what is delivered to a learner (`learn`).

use super::{Core, CoreOutput, PeerOutput, Sealed};
use crate::ring::{Event, News};
use crate::world::Head;
use ostler_replication::{Input, Output, Zxid};

impl Core {
    pub(super) fn broadcast(&mut self, input: Input) {
        self.broadcast.step(input, self.now.mono, &mut self.broadcast_outputs);
        self.hear_all();
    }

    /// Everything that the broadcast has decided, and what it is to be told because of that.
    pub(super) fn hear_all(&mut self) {
        loop {
            while let Some(output) = self.broadcast_outputs.pop_front() {
                self.hear(output);
            }
            let Some(answer) = self.learners.next_answer() else { break };
            self.broadcast.step(answer, self.now.mono, &mut self.broadcast_outputs);
        }
    }

    /// Steps nothing: the broadcast may have decided more already.
    fn hear(&mut self, output: Output) {
        match output {
            Output::Append { number, proposal } => {
                self.received = self.received.max(proposal.last);
                self.outputs.push_back(CoreOutput::Append { number, proposal });
            }
            Output::Persist { number, epochs } => {
                self.outputs.push_back(CoreOutput::Persist { number, epochs });
            }
            Output::Truncate { number, to } => self.outputs.push_back(CoreOutput::Truncate { number, to }),
            Output::Install { number, link, zxid } => {
                self.outputs.push_back(CoreOutput::Install { number, link, zxid });
            }
            Output::ReadHistory { number, link, after, to } => {
                self.outputs.push_back(CoreOutput::ReadHistory { number, link, after, to });
            }
            Output::Lead(epoch) => self.lead(epoch),
            Output::Commit(zxid) => self.commit(zxid),
            Output::Deliver(proposal) => self.deliver(&proposal),
            Output::Passed(ticket) => {
                self.passed = self.passed.max(ticket);
                self.show_settled();
            }
            Output::Asked(link, ask) => self.asked(link, ask),
            Output::Answered(answer) => self.answered(answer),
            Output::Touches(link, sessions) => self.touched_at(link, &sessions),
            Output::Lost(link) => self.lost(link),
            Output::Role(role) => self.change_role(role),
            Output::Dial { peer, port, addresses } => {
                self.outputs.push_back(CoreOutput::Peer(PeerOutput::Dial { peer, port, addresses }));
            }
            Output::Send(link, bytes) => {
                self.outputs.push_back(CoreOutput::Peer(PeerOutput::Send(link, bytes)));
            }
            Output::SendSnapshot(link) => {
                // As of the last batch delivered, even if that is not shown yet.
                self.end_delivery();
                let view = self.view.clone();
                self.outputs.push_back(CoreOutput::Peer(PeerOutput::SendSnapshot(link, view)));
            }
            Output::TakeSnapshot(link) => {
                self.outputs.push_back(CoreOutput::Peer(PeerOutput::TakeSnapshot(link)));
            }
            Output::Report(what) => self.outputs.push_back(CoreOutput::Report(what)),
            Output::Hang(link, why) => self.outputs.push_back(CoreOutput::Peer(PeerOutput::Hang(link, why))),
        }
    }

    /// Batches up to here cannot be lost. They are shown at once, but for those that answer syncs and all behind them.
    fn commit(&mut self, zxid: Zxid) {
        while let Some(sealed) = self.sealed.front()
            && sealed.last <= zxid
        {
            let Some(sealed) = self.sealed.pop_front() else { break };
            self.head.committed(sealed.last);
            self.snapshots.logged(sealed.txns, sealed.bytes);
            self.view = sealed.view.clone();
            if self.settled.is_empty() && sealed.ticket.is_none_or(|ticket| ticket <= self.passed) {
                self.show(sealed);
            } else {
                self.settled.push_back(sealed);
            }
        }
    }

    fn show_settled(&mut self) {
        while let Some(settled) = self.settled.front()
            && settled.ticket.is_none_or(|ticket| ticket <= self.passed)
        {
            let Some(settled) = self.settled.pop_front() else { break };
            self.show(settled);
        }
    }

    fn show(&mut self, Sealed { view, batch, synced, .. }: Sealed) {
        self.outputs.push_back(CoreOutput::Publish(Event { view, news: News::Batch(batch) }));
        self.learners.synced(synced);
    }

    /// True if there was one to take.
    pub(super) fn take_world(&mut self, world: Option<Box<Head>>) -> bool {
        let done = world.is_some();
        if let Some(head) = world {
            self.replace_world(*head);
        }
        done
    }
}
