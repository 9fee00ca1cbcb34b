//! Ids and passwords of client sessions: any server can make a session's password from its id, so that clients move
//! between servers, Apache's among them.

use super::SessionId;

/// The first id of a server's life: server id in the top byte, then 40 bits of milliseconds, then a counter from 0.
/// Wall time serves better than Apache's time since boot: ids do not repeat after a reboot.
pub fn first_id(server: u8, millis: u64) -> SessionId {
    let id = (server as u64) << 56 | (millis << 24) >> 8;
    skip_reserved(id as i64)
}

/// The id after this one.
pub fn next_id(id: SessionId) -> SessionId {
    skip_reserved(id.0.wrapping_add(1))
}

/// i64::MIN marks containers in `ephemeralOwner`, 0 is no session.
fn skip_reserved(id: i64) -> SessionId {
    SessionId(if id == i64::MIN || id == 0 { id + 1 } else { id })
}

/// A checksum of the id, not a secret: four words of Java's `Random` seeded by the id, each little-endian.
pub fn password(session: SessionId) -> [u8; 16] {
    const MULTIPLIER: u64 = 0x5_deec_e66d;
    const MASK: u64 = (1 << 48) - 1;
    const SEED: u64 = 0xb341_5c00;
    let mut state = (session.0 as u64 ^ SEED ^ MULTIPLIER) & MASK;
    let mut out = [0; 16];
    for word in out.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xb) & MASK;
        word.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: i64, hex: &str) {
        let found: String = password(SessionId(id)).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, hex, "{id:x}");
    }

    #[test]
    fn passwords_are_apaches() {
        check(0x100_0016_0993_0000, "af6cf1e710b25969a5fceb1fd9183530");
        check(0x0300_0017_37db_0000, "8792568408df8a133df2e249913a2227");
    }

    #[test]
    fn ids_carry_server_and_time() {
        assert_eq!(first_id(1, 0x12_3456_7890), SessionId(0x0112_3456_7890_0000));
        assert_eq!(first_id(1, u64::MAX), SessionId(0x01ff_ffff_ffff_0000));
        assert_eq!(first_id(0, 0), SessionId(1));
        assert_eq!(first_id(128, 0), SessionId(i64::MIN + 1));
        assert_eq!(next_id(SessionId(7)), SessionId(8));
        assert_eq!(next_id(SessionId(-1)), SessionId(1));
        assert_eq!(next_id(SessionId(i64::MAX)), SessionId(i64::MIN + 1));
    }
}
