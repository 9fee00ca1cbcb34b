//! Whose a session is, and where a request came from: a connection of this server's, or a learner of a leader.
//! Not here: when ownership changes (`sessions`, `attach` in `mod`, `lead`, `learn`).

use crate::ring::ConnRef;
use ostler_replication::Link;
use std::num::NonZeroU32;

/// Who may use a session. Twelve bytes, for there is one for each session: hence the connection's fields one by one, and
/// the link's number, which alone names a link, in two halves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// Whoever comes first: nobody has used it since this server got its role.
    Nobody,
    /// Its connection is gone. Whoever comes with the session has it next; what others of its connections still bring, to
    /// whichever server, is older than what this one brought, and counts for nothing.
    Gone,
    Here {
        worker: u16,
        slot: u32,
        generation: NonZeroU32,
    },
    At {
        high: u32,
        low: u32,
    },
}

const _: () = assert!(size_of::<Owner>() == 12);

impl Owner {
    pub fn here(connection: ConnRef) -> Owner {
        let ConnRef { worker, slot, generation } = connection;
        Owner::Here { worker, slot, generation }
    }

    pub fn at(link: Link) -> Owner {
        Owner::At { high: (link.number >> 32) as u32, low: link.number as u32 }
    }

    /// The connection, if it is one of ours.
    pub fn connection(self) -> Option<ConnRef> {
        match self {
            Owner::Here { worker, slot, generation } => Some(ConnRef { worker, slot, generation }),
            Owner::Nobody | Owner::Gone | Owner::At { .. } => None,
        }
    }
}

/// Where a request came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// It is answered.
    Here(ConnRef),
    /// Its txn is the answer.
    At(Link),
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_replication::ServerId;

    #[test]
    fn owners_keep_what_they_are_made_of() {
        let connection = ConnRef { worker: 3, slot: u32::MAX, generation: NonZeroU32::MIN };
        assert_eq!(Owner::here(connection).connection(), Some(connection));
        let link = Link { peer: ServerId(2), number: 0x1_0000_0002 };
        for number in [link.number + 1, link.number + (1 << 32)] {
            assert_ne!(Owner::at(link), Owner::at(Link { number, ..link }));
        }
        assert_eq!(Owner::at(link).connection(), None);
    }
}
