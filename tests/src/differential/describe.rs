//! Replies and events as text in which two servers must agree: zxids counted from the seed's start, sessions by name,
//! times as relations. Every byte of a body must belong to its record, else it is shown as it came.
//! Not here: which differences are allowed; there are none at this level.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::{ConnectResponse, Reply, op, password_of};
use crate::jute::Reader;

/// What a server's own numbers mean.
pub struct Names {
    /// The last zxid before the seed's first step.
    pub base: i64,
    pub sessions: HashMap<i64, String>,
}

impl Names {
    pub fn zxid(&self, zxid: i64) -> String {
        if zxid > 0 { format!("{:+}", zxid - self.base) } else { format!("zxid {zxid}") }
    }

    fn owner(&self, session: i64) -> String {
        match session {
            0 => "-".to_owned(),
            id => self.sessions.get(&id).cloned().unwrap_or_else(|| "an unknown session".to_owned()),
        }
    }

    pub fn connected(&self, response: &ConnectResponse, asked_for: &str) -> String {
        let password = match &response.password {
            Some(bytes) if response.session != 0 && bytes[..] == password_of(response.session) => {
                "its own".to_owned()
            }
            other => format!("{other:02x?}"),
        };
        format!(
            "{asked_for}: protocol {} timeout {} session {} password {password} read-only {:?}",
            response.protocol,
            response.timeout_ms,
            self.owner(response.session),
            response.read_only
        )
    }

    pub fn event(&self, event: &Reply) -> String {
        let mut reader = Reader(&event.body);
        let fields = (|| Some((reader.int()?, reader.int()?, reader.string()?)))();
        match fields {
            Some((kind, state, path)) if reader.0.is_empty() => {
                let kind = match kind {
                    1 => "created",
                    2 => "deleted",
                    3 => "data changed",
                    4 => "children changed",
                    _ => "of an unknown type",
                };
                let text = format!(
                    "event {} {path:?} {kind} state {state} err {}",
                    self.zxid(event.zxid),
                    event.err
                );
                one_replacement(text)
            }
            _ => format!("event not of this shape: {:02x?}", event.body),
        }
    }

    pub fn reply(&self, op: i32, label: &str, reply: &Reply) -> String {
        let mut reader = Reader(&reply.body);
        let body = if reply.err == 0 { self.body(op, &mut reader) } else { Some(String::new()) };
        if reply.err != 0 && op == op::MULTI_READ {
            // The results until it failed; no client reads them, see `known`.
            reader.0 = &[];
        }
        let rest = match (&body, reader.0) {
            (None, _) => format!(" body not of this shape: {:02x?}", reply.body),
            (Some(_), []) => String::new(),
            (Some(_), rest) => format!(" and {} more bytes {rest:02x?}", rest.len()),
        };
        let (xid, zxid, err) = (reply.xid, self.zxid(reply.zxid), reply.err);
        let text =
            format!("reply to {label}: xid {xid} at {zxid} err {err} {}{rest}", body.unwrap_or_default());
        one_replacement(text)
    }

    fn body(&self, op: i32, reader: &mut Reader<'_>) -> Option<String> {
        Some(match op {
            op::CREATE | op::SYNC => format!("{:?}", reader.string()?),
            op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                format!("{:?} {}", reader.string()?, self.stat(reader)?)
            }
            op::EXISTS | op::SET_DATA | op::SET_ACL => self.stat(reader)?,
            op::GET_DATA => format!("{} {}", data(reader.buffer()?), self.stat(reader)?),
            op::GET_ACL => format!("{} {}", acl(reader)?, self.stat(reader)?),
            op::GET_CHILDREN | op::GET_EPHEMERALS => format!("{:?}", listed(reader.strings()?)),
            op::GET_CHILDREN2 => format!("{:?} {}", listed(reader.strings()?), self.stat(reader)?),
            op::MULTI | op::MULTI_READ => self.results(reader)?,
            op::RECONFIG => format!("{} {}", data(reader.buffer()?), self.stat(reader)?),
            op::GET_ALL_CHILDREN_NUMBER => reader.int()?.to_string(),
            op::ADD_WATCH => format!("error response {}", reader.int()?),
            op::SASL => data(reader.buffer()?),
            op::WHO_AM_I => {
                let count = reader.int()?;
                let ids: Option<Vec<_>> =
                    (0..count).map(|_| Some(format!("{}: {}", reader.string()?, reader.string()?))).collect();
                format!("{:?}", ids?)
            }
            _ => String::new(),
        })
    }

    fn results(&self, reader: &mut Reader<'_>) -> Option<String> {
        let mut text = String::new();
        loop {
            let (kind, done, err) = (reader.int()?, reader.byte()?, reader.int()?);
            if done != 0 {
                return Some(format!("{text} end ({kind}, {done}, {err})"));
            }
            let body = match kind {
                -1 => format!("error {}", reader.int()?),
                kind => self.body(kind, reader)?,
            };
            text.push_str(&format!(" [{kind} {err} {body}]"));
        }
    }

    pub fn stat(&self, reader: &mut Reader<'_>) -> Option<String> {
        let (czxid, mzxid) = (reader.long()?, reader.long()?);
        let (ctime, mtime) = (reader.long()?, reader.long()?);
        let versions = (reader.int()?, reader.int()?, reader.int()?);
        let (owner, length, children, pzxid) = (reader.long()?, reader.int()?, reader.int()?, reader.long()?);
        Some(format!(
            "Stat(c {} m {} p {} {} versions {versions:?} owner {} length {length} children {children})",
            self.zxid(czxid),
            self.zxid(mzxid),
            self.zxid(pzxid),
            times(ctime, mtime, czxid == mzxid),
            self.owner(owner),
        ))
    }
}

/// As it came, unless a name is not kept alike (see `one_replacement`): it has another place then, too.
fn listed(mut names: Vec<String>) -> Vec<String> {
    if names.iter().any(|name| name.contains(|c| c == '\u{fffd}' || c > '\u{ffff}')) {
        names.sort();
    }
    names
}

/// Malformed UTF-8 comes back as one U+FFFD or as several, and what lies beyond the 16-bit characters comes back from
/// Apache as two malformed halves; neither is compared.
fn one_replacement(text: String) -> String {
    let mut text = text.replace(|c: char| c > '\u{ffff}', "\u{fffd}");
    while text.contains("\u{fffd}\u{fffd}") {
        text = text.replace("\u{fffd}\u{fffd}", "\u{fffd}");
    }
    text
}

/// Two servers' clocks cannot agree to the millisecond; what must hold on each of them can.
fn times(ctime: i64, mtime: i64, unchanged: bool) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let recent = |time: i64| time == 0 || (now - time).abs() < 3_600_000;
    let right = match (ctime, mtime) {
        (0, 0) => return "times 0".to_owned(),
        (ctime, mtime) if unchanged => ctime == mtime,
        (ctime, mtime) => mtime >= ctime,
    };
    if right && recent(ctime) && recent(mtime) {
        "times right".to_owned()
    } else {
        format!("times {ctime} {mtime}")
    }
}

fn data(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".to_owned(),
        Some(bytes) if bytes.len() <= 64 => format!("'{}'", bytes.escape_ascii()),
        Some(bytes) => {
            let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
            format!("{} bytes of hash {hash:x}", bytes.len())
        }
    }
}

fn acl(reader: &mut Reader<'_>) -> Option<String> {
    let count = reader.int()?;
    let entries: Option<Vec<_>> = (0..count)
        .map(|_| Some(format!("{} {}:{}", reader.int()?, reader.string()?, reader.string()?)))
        .collect();
    let entries = entries?;
    Some(format!("{count} {entries:?}"))
}
