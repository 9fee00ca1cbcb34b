//! What `ephemeralOwner` in stored Stats means.

use super::SessionId;

/// The kind of a znode, as its stored `ephemeralOwner` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Owner {
    Persistent,
    Ephemeral(SessionId),
    Container,
    /// Lives while it has children or was set less than this many milliseconds ago: 1..2^40.
    Ttl(u64),
}

/// Largest TTL: 40 bits of milliseconds.
pub const TTL_MILLIS_MAX: u64 = (1 << 40) - 1;
const CONTAINER: i64 = i64::MIN;
const EXTENDED: u64 = 0xff00_0000_0000_0000;
/// What kind of extended znode it is; TTL znodes have 0, and there is no other kind.
const FEATURE: u64 = 0x00ff_ff00_0000_0000;

impl Owner {
    pub const fn to_stored(self) -> i64 {
        match self {
            Owner::Persistent => 0,
            Owner::Ephemeral(session) => session.0,
            Owner::Container => CONTAINER,
            Owner::Ttl(ms) => (EXTENDED | ms) as i64,
        }
    }

    /// 0xFF0000.. owners are TTL nodes whether or not extended types are switched on, so that they are never taken for
    /// ephemerals of dead sessions. Other 0xFF.. ones are session ids, as for Apache without extended
    /// types: those of server 255 look like this.
    pub const fn from_stored(raw: i64) -> Owner {
        match raw {
            0 => Owner::Persistent,
            CONTAINER => Owner::Container,
            _ if raw as u64 & (EXTENDED | FEATURE) == EXTENDED => Owner::Ttl(raw as u64 & TTL_MILLIS_MAX),
            _ => Owner::Ephemeral(SessionId(raw)),
        }
    }

    /// As clients see it: only a normal ephemeral shows its owner.
    pub const fn to_wire(self) -> i64 {
        match self {
            Owner::Ephemeral(session) => session.0,
            _ => 0,
        }
    }

    pub const fn is_ephemeral(self) -> bool {
        matches!(self, Owner::Ephemeral(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_storage() {
        for owner in [
            Owner::Persistent,
            Owner::Container,
            Owner::Ttl(1),
            Owner::Ttl(TTL_MILLIS_MAX),
            Owner::Ephemeral(SessionId(0x100_0000)),
            Owner::Ephemeral(SessionId(0xff00_0100_0000_0000_u64 as i64)),
            Owner::Ephemeral(SessionId(0xff5a_1234_5678_9abc_u64 as i64)),
            Owner::Ephemeral(SessionId(-1)),
        ] {
            assert_eq!(Owner::from_stored(owner.to_stored()), owner);
        }
    }

    #[test]
    fn no_bit_of_a_stored_owner_is_lost() {
        for bit in 0..64 {
            for base in [0, EXTENDED as i64, CONTAINER, -1] {
                let raw = base ^ 1 << bit;
                assert_eq!(Owner::from_stored(raw).to_stored(), raw, "{raw:x}");
            }
        }
    }
}
