//! Where Apache 3.9.5 is defective, so that the runner leaves it out, and why. Everything else is compared.
//!
//! | left out | why |
//! |---|---|
//! | createTTL outside a multi with non-TTL flags and a negative TTL | ends Apache, again at every restart |
//! | truncated writes in an ensemble | the runner's servers are standalone, where -5 is compared |
//! | a quota on the root; text in an active `zookeeper_stats` that is not a quota's | ends Apache |
//! | deleteContainer from a client | deletes any empty znode without a check; Ostler refuses |
//! | a wrong password while the session has a connection | kicks the rightful owner off; Ostler checks first |
//! | superseded closes, read-only mode, dropped requests | need an ensemble or an expiry |
//! | the sequence counter at 2^31-1 | out of reach of a short run |
//! | TTL nodes without extended types | needs a restart with another configuration |
//! | createSession on an established connection | Apache opens a second session on it; Ostler refuses |
//! | a write behind a setACL in one burst | is held to the old ACL until that is applied, as timing has it |
//! | a null list in setWatches behind others | Apache has served those by the time it fails; Ostler decodes first |
//! | a null path in addWatch, checkWatches, removeWatches | Apache takes null for a path like any other; Ostler says -5 |
//! | how many U+FFFD stand for malformed UTF-8 | shown as one; Java and Rust count them differently |
//! | getAllChildrenNumber of the empty path | Apache counts the root as a child of itself |
//! | `zk_approximate_data_size` where a quota was | Apache forgets the bytes that it rewrites in `zookeeper_stats` |
//! | the body behind the error of a multiRead | half a result list, which no client may read |
//! | a null id in the ACL of a multi's create, with requests behind it | Apache forgets to take back what the multi would have done, and judges the requests behind it by that; sent, but not inside multis |
//! | createContainer with an ephemeral flag | a closeSession right behind it takes Apache's container along |
//! | auth pipelined with other requests | its reply may overtake theirs; sent, but alone in its step |
//! | quotas in a burst | Apache checks against what is applied by then; sent one by one |

use crate::client::op;
use crate::jute::Reader;

/// The nearest TTL that does not end Apache.
pub fn harmless_ttl(flags: i32, ttl: i64) -> i64 {
    if !matches!(flags, 5 | 6) && ttl < 0 { ttl.saturating_add(1).saturating_neg() } else { ttl }
}

/// Whether a damaged body has become one of the requests above.
pub fn left_out(op: i32, body: &[u8]) -> bool {
    match op {
        op::CREATE_TTL => {
            matches!(flags_and_ttl(body), Some((flags, ttl)) if harmless_ttl(flags, ttl) != ttl)
        }
        op::ADD_WATCH | op::CHECK_WATCHES | op::REMOVE_WATCHES => body.starts_with(&NULL),
        // Its zxid and its counts aside, no four bytes of -1 belong there.
        op::SET_WATCHES | op::SET_WATCHES2 => {
            body.get(8..).is_some_and(|lists| lists.windows(4).any(|four| four == NULL))
        }
        op::GET_ALL_CHILDREN_NUMBER => body.starts_with(&[0; 4]),
        _ => false,
    }
}

/// A length of -1.
const NULL: [u8; 4] = (-1i32).to_be_bytes();

fn flags_and_ttl(body: &[u8]) -> Option<(i32, i64)> {
    let mut reader = Reader(body);
    reader.buffer()?;
    reader.buffer()?;
    for _ in 0..reader.int()?.max(0) {
        reader.int()?;
        reader.buffer()?;
        reader.buffer()?;
    }
    Some((reader.int()?, reader.long()?))
}
