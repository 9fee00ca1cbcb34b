//! The bytes of a notification on the election port, within their frame.
//! Not here: what a vote means.

use super::reader::{Malformed, Reader, Stop, outcome};
use super::{Notification, PeerState};

/// Largest frame of the election port that Apache's servers take.
pub const FRAME_BYTES_MAX: usize = 512 << 10;

/// What this server sends: since this version the sender's configuration comes along.
pub const VERSION: i32 = 2;

/// Before notifications carried the epoch, and before they carried version and configuration. Nothing but their length
/// tells.
const LENGTH_WITHOUT_EPOCH: usize = 28;
const LENGTH_WITHOUT_VERSION: usize = 40;

/// Reads the first frame. `None`: more bytes are needed. With it comes how many bytes it took, and the notification,
/// unless it is one that is passed over: too short, of an unknown state, with a configuration longer than itself.
pub fn decode(bytes: &[u8]) -> Result<Option<(Option<Notification>, usize)>, Malformed> {
    outcome(frame(&mut Reader::new(bytes)))
}

fn frame(reader: &mut Reader<'_>) -> Result<(Option<Notification>, usize), Stop> {
    let length = reader.int()?;
    let bounded = usize::try_from(length).ok().filter(|length| (1..=FRAME_BYTES_MAX).contains(length));
    let bounded = bounded.ok_or(Malformed::Length {
        field: "a notification",
        length: length.into(),
        max: FRAME_BYTES_MAX,
    })?;
    let payload = reader.take(bounded)?;
    Ok((read(payload).ok(), reader.used()))
}

fn read(payload: &[u8]) -> Result<Notification, Stop> {
    let mut reader = Reader::new(payload);
    let state = match reader.int()? {
        0 => PeerState::Looking,
        1 => PeerState::Following,
        2 => PeerState::Leading,
        3 => PeerState::Observing,
        _ => return Err(Stop::More),
    };
    let leader = reader.long()?;
    let zxid = reader.long()?;
    let round = reader.long()?;
    let mut notification =
        Notification { state, leader, zxid, round, epoch: zxid >> 32, version: 0, config: None };
    if payload.len() == LENGTH_WITHOUT_EPOCH {
        return Ok(notification);
    }
    notification.epoch = reader.long()?;
    if payload.len() == LENGTH_WITHOUT_VERSION {
        return Ok(notification);
    }
    notification.version = reader.int()?;
    if notification.version > 1 {
        let config = reader.buffer("configuration", payload.len())?.ok_or(Stop::More)?;
        notification.config = String::from_utf8(config.to_vec()).ok();
    }
    Ok(notification)
}

/// The frame of a notification of this server's version. `config` must be there: a member of Apache's that does not
/// run standalone would not survive its absence.
pub fn encode(notification: &Notification) -> Vec<u8> {
    let config = notification.config.as_deref().unwrap_or_default();
    let payload_bytes = LENGTH_WITHOUT_VERSION + 4 + config.len();
    assert!(payload_bytes <= FRAME_BYTES_MAX);
    let mut out = Vec::with_capacity(4 + payload_bytes);
    out.extend((payload_bytes as i32).to_be_bytes());
    out.extend((notification.state as i32).to_be_bytes());
    out.extend(notification.leader.to_be_bytes());
    out.extend(notification.zxid.to_be_bytes());
    out.extend(notification.round.to_be_bytes());
    out.extend(notification.epoch.to_be_bytes());
    out.extend(VERSION.to_be_bytes());
    out.extend((config.len() as i32).to_be_bytes());
    out.extend(config.as_bytes());
    out
}
