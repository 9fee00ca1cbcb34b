//! What the server's role means to a worker's clients: at every change of it all their connections are closed, in
//! portions, and while the role does not serve nobody is let in. Four-letter words are answered in any role.
//! Not here: which role it is (core), the words themselves (`admin`).
//!
//! Watches name znodes by numbers of the world that they were set in. So none may be left when the world behind the
//! Views becomes another one, and that happens only behind a change of role on the ring.

use super::connection::Phase;
use super::settings::Shared;
use super::turn::State;
use crate::io::poll::Poll;
use crate::limits::TURN_CLOSES_MAX;
use ostler_replication::Role;

impl Shared {
    /// Whether clients are served in this role.
    pub fn serves(&self, role: Role) -> bool {
        match role {
            Role::Looking => false,
            Role::Leading => self.leader_serves,
            Role::Standalone | Role::Following(_) | Role::Observing(_) => true,
        }
    }
}

impl<P: Poll> State<P> {
    /// Closes what the old role let in, as much as one turn may, and takes the new one over; true when that is done.
    pub(super) fn change_role(&mut self, role: Role) -> bool {
        if role == self.role {
            return true;
        }
        self.is_serving = false;
        let mut left = TURN_CLOSES_MAX;
        while self.role_slot < self.connections.slots() {
            if self.connections.get(self.role_slot).is_some_and(|connection| is_let_in(connection.phase)) {
                if left == 0 {
                    return false;
                }
                left -= 1;
                // Without a last word: a client that hears nothing tries the next server at once.
                self.drop_now(self.role_slot);
            }
            self.role_slot += 1;
        }
        self.role_slot = 0;
        assert!(self.watches.is_empty(), "a watch outlives the role it was set in");
        assert_eq!(self.outstanding, 0, "a request outlives the role it was made in");
        self.role = role;
        self.is_serving = self.shared.serves(role);
        true
    }
}

/// Has a session, or asks for one. A connection that closes has parted with its session already.
fn is_let_in(phase: Phase) -> bool {
    match phase {
        Phase::Connecting | Phase::Established => true,
        Phase::Opening | Phase::Word | Phase::Closing => false,
    }
}
