//! The bytes of the quorum port: jute records back to back, without a length around them.
//! Not here: the snapshot that follows a SNAP packet on the same connection.

use super::reader::{Malformed, Reader, Stop, outcome};
use super::{LearnerInfo, QuorumPacket, Side};
use crate::{Answer, Ask, Proposal, ServerId, SessionBits, Zxid};
use std::sync::Arc;

const REQUEST: i32 = 1;
const PROPOSAL: i32 = 2;
const ACK: i32 = 3;
const COMMIT: i32 = 4;
const PING: i32 = 5;
const REVALIDATE: i32 = 6;
const SYNC: i32 = 7;
const INFORM: i32 = 8;
const COMMITANDACTIVATE: i32 = 9;
const NEWLEADER: i32 = 10;
const FOLLOWERINFO: i32 = 11;
const UPTODATE: i32 = 12;
const DIFF: i32 = 13;
const TRUNC: i32 = 14;
const SNAP: i32 = 15;
const OBSERVERINFO: i32 = 16;
const LEADERINFO: i32 = 17;
const ACKEPOCH: i32 = 18;
const INFORMANDACTIVATE: i32 = 19;

/// The protocol version of LEADERINFO and LearnerInfo since there are epochs to be acknowledged.
pub const PROTOCOL_VERSION: i32 = 0x1_0000;

/// Identities of one client; a packet that claims more is not read on.
const IDENTITIES_MAX: usize = 4096;

/// Where jute says that a buffer or a vector is absent.
const NULL: i32 = -1;

/// Type, zxid, and the length of the data.
const HEAD_BYTES: usize = 4 + 8 + 4;
const TAIL_BYTES: usize = 4;

/// Where a txn's zxid stands in its entry: behind the client's session id and cxid.
const ENTRY_ZXID: std::ops::Range<usize> = 12..20;

/// The zxid in the header of a record; `None` when the record is too short to have one.
pub fn entry_zxid(entry: &[u8]) -> Option<Zxid> {
    let zxid = entry.get(ENTRY_ZXID)?;
    Some(Zxid(u64::from_be_bytes(zxid.try_into().ok()?)))
}

/// Reads the first packet. `None`: more bytes are needed. With it comes how many bytes it took. `data_max`: the greatest
/// length of its data, which is what `jute.maxbuffer` and its extra size allow.
pub fn decode(bytes: &[u8], from: Side, data_max: usize) -> Result<Option<(QuorumPacket, usize)>, Malformed> {
    outcome(read(&mut Reader::new(bytes), from, data_max))
}

fn read(reader: &mut Reader<'_>, from: Side, data_max: usize) -> Result<(QuorumPacket, usize), Stop> {
    let kind = reader.int()?;
    let zxid = reader.long()?;
    let data = reader.buffer("data", data_max)?;
    let identities = Identities::skip(reader, data_max)?;
    let used = reader.used();
    let packet = match from {
        Side::Learner => of_learner(kind, zxid, data, identities)?,
        Side::Leader => of_leader(kind, zxid, data)?,
    };
    Ok((packet, used))
}

fn of_learner(
    kind: i32,
    zxid: i64,
    data: Option<&[u8]>,
    identities: Identities<'_>,
) -> Result<QuorumPacket, Stop> {
    let at = Zxid::from_wire(zxid);
    Ok(match kind {
        REQUEST => {
            let mut data = Fields::new("REQUEST", data);
            QuorumPacket::Ask(Ask::Request {
                session: SessionBits(data.long()?),
                cxid: data.int()?,
                op: data.int()?,
                body: data.rest().to_vec(),
                identities: identities.read()?,
            })
        }
        ACK => QuorumPacket::Ack(at),
        PING => QuorumPacket::Ping { zxid: at, sessions: touches(data)? },
        REVALIDATE => {
            let mut data = Fields::new("REVALIDATE", data);
            let session = SessionBits(data.long()?);
            QuorumPacket::Ask(Ask::Revalidate { session, timeout_ms: data.int()? })
        }
        FOLLOWERINFO => {
            QuorumPacket::FollowerInfo { accepted: at, info: learner_info("FOLLOWERINFO", data)? }
        }
        OBSERVERINFO => {
            QuorumPacket::ObserverInfo { accepted: at, info: learner_info("OBSERVERINFO", data)? }
        }
        ACKEPOCH => QuorumPacket::AckEpoch { zxid, epoch: Fields::new("ACKEPOCH", data).int()? },
        other => QuorumPacket::Unknown(other),
    })
}

fn of_leader(kind: i32, zxid: i64, data: Option<&[u8]>) -> Result<QuorumPacket, Stop> {
    let at = Zxid::from_wire(zxid);
    Ok(match kind {
        PROPOSAL => {
            QuorumPacket::Proposal { zxid: at, entry: Fields::new("PROPOSAL", data).some()?.to_vec() }
        }
        COMMIT => QuorumPacket::Commit(at),
        PING => QuorumPacket::Ping { zxid: at, sessions: Vec::new() },
        REVALIDATE => {
            let mut data = Fields::new("REVALIDATE", data);
            let session = SessionBits(data.long()?);
            QuorumPacket::Answer(Answer::Revalidated { session, valid: data.byte()? != 0 })
        }
        SYNC => QuorumPacket::Answer(Answer::Synced),
        INFORM => QuorumPacket::Inform { zxid: at, entry: Fields::new("INFORM", data).some()?.to_vec() },
        COMMITANDACTIVATE => QuorumPacket::CommitAndActivate {
            zxid: at,
            leader: Fields::new("COMMITANDACTIVATE", data).long()?,
        },
        INFORMANDACTIVATE => {
            let mut data = Fields::new("INFORMANDACTIVATE", data);
            QuorumPacket::InformAndActivate { zxid: at, leader: data.long()?, entry: data.some()?.to_vec() }
        }
        NEWLEADER => QuorumPacket::NewLeader { zxid: at, config: data.unwrap_or_default().to_vec() },
        UPTODATE => QuorumPacket::UpToDate,
        DIFF => QuorumPacket::Diff(at),
        TRUNC => QuorumPacket::Trunc(at),
        SNAP => QuorumPacket::Snap(at),
        LEADERINFO => {
            QuorumPacket::LeaderInfo { zxid: at, protocol_version: Fields::new("LEADERINFO", data).int()? }
        }
        other => QuorumPacket::Unknown(other),
    })
}

/// The data of a packet, which is whole: where it ends too early, more bytes would not help.
struct Fields<'a> {
    packet: &'static str,
    length: usize,
    reader: Reader<'a>,
}

impl<'a> Fields<'a> {
    fn new(packet: &'static str, data: Option<&'a [u8]>) -> Fields<'a> {
        let data = data.unwrap_or_default();
        Fields { packet, length: data.len(), reader: Reader::new(data) }
    }

    fn malformed(&self) -> Stop {
        Stop::Bad(Malformed::Data { packet: self.packet, length: self.length })
    }

    fn int(&mut self) -> Result<i32, Stop> {
        self.reader.int().map_err(|_| self.malformed())
    }

    fn long(&mut self) -> Result<i64, Stop> {
        self.reader.long().map_err(|_| self.malformed())
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.reader.take(1).map(|byte| byte[0]).map_err(|_| self.malformed())
    }

    fn rest(&mut self) -> &'a [u8] {
        self.reader.rest()
    }

    /// The rest, which must not be empty.
    fn some(&mut self) -> Result<&'a [u8], Stop> {
        match self.rest() {
            [] => Err(self.malformed()),
            rest => Ok(rest),
        }
    }
}

fn touches(data: Option<&[u8]>) -> Result<Vec<(SessionBits, i32)>, Stop> {
    let mut fields = Fields::new("PING", data);
    let mut sessions = Vec::with_capacity(fields.length / 12);
    while fields.reader.left() > 0 {
        sessions.push((SessionBits(fields.long()?), fields.int()?));
    }
    Ok(sessions)
}

fn learner_info(packet: &'static str, data: Option<&[u8]>) -> Result<LearnerInfo, Stop> {
    // What learners of old leave off reads as what it was in their time.
    let mut info = LearnerInfo { id: None, protocol_version: 1, config_version: 0 };
    if data.is_none() {
        return Ok(info);
    }
    let mut fields = Fields::new(packet, data);
    info.id = Some(ServerId(fields.long()? as u64));
    if fields.reader.left() >= 4 {
        info.protocol_version = fields.int()?;
    }
    if fields.reader.left() >= 8 {
        info.config_version = fields.long()?;
    }
    Ok(info)
}

/// A client's identities, known to be there whole and not yet copied: most packets have none that anybody wants.
struct Identities<'a> {
    count: Option<usize>,
    bytes: &'a [u8],
}

impl<'a> Identities<'a> {
    fn skip(reader: &mut Reader<'a>, text_max: usize) -> Result<Identities<'a>, Stop> {
        let count = match reader.int()? {
            NULL => return Ok(Identities { count: None, bytes: &[] }),
            count => usize::try_from(count)
                .ok()
                .filter(|count| *count <= IDENTITIES_MAX)
                .ok_or(Malformed::Length { field: "authinfo", length: count.into(), max: IDENTITIES_MAX })?,
        };
        let begin = reader.used();
        // Once more from here on; the first pass only finds the end.
        let mut ahead = reader.fork();
        for _ in 0..count {
            ahead.buffer("scheme", text_max)?;
            ahead.buffer("id", text_max)?;
        }
        let bytes = reader.take(ahead.used() - begin)?;
        Ok(Identities { count: Some(count), bytes })
    }

    fn read(self) -> Result<Option<Vec<(String, String)>>, Stop> {
        let Some(count) = self.count else { return Ok(None) };
        let mut reader = Reader::new(self.bytes);
        let mut text = |field| {
            let bytes = reader.buffer(field, self.bytes.len())?.unwrap_or_default();
            String::from_utf8(bytes.to_vec()).map_err(|_| Stop::Bad(Malformed::Text { field }))
        };
        let identities = (0..count).map(|_| Ok((text("scheme")?, text("id")?)));
        identities.collect::<Result<_, Stop>>().map(Some)
    }
}

/// The bytes of a packet as this side sends it.
pub fn encode(packet: &QuorumPacket, from: Side) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put(&mut out, packet, from);
    out
}

fn put(out: &mut Vec<u8>, packet: &QuorumPacket, from: Side) {
    match packet {
        QuorumPacket::Ask(Ask::Request { session, cxid, op, body, identities }) => {
            head(out, REQUEST, -1);
            let data_bytes = 8 + 4 + 4 + body.len();
            length(out, data_bytes);
            out.extend(session.0.to_be_bytes());
            out.extend(cxid.to_be_bytes());
            out.extend(op.to_be_bytes());
            out.extend(body);
            match identities {
                None => out.extend(NULL.to_be_bytes()),
                Some(identities) => {
                    length(out, identities.len());
                    for (scheme, id) in identities {
                        buffer(out, scheme.as_bytes());
                        buffer(out, id.as_bytes());
                    }
                }
            }
        }
        QuorumPacket::Ask(Ask::Revalidate { session, timeout_ms }) => {
            let data = [&session.0.to_be_bytes()[..], &timeout_ms.to_be_bytes()].concat();
            with_data(out, REVALIDATE, -1, &data);
        }
        QuorumPacket::Answer(Answer::Revalidated { session, valid }) => {
            let data = [&session.0.to_be_bytes()[..], &[u8::from(*valid)]].concat();
            with_data(out, REVALIDATE, -1, &data);
        }
        QuorumPacket::Answer(Answer::Synced) => bare(out, SYNC, 0),
        QuorumPacket::Proposal { zxid, entry } => with_data(out, PROPOSAL, zxid.to_wire(), entry),
        QuorumPacket::Ack(zxid) => bare(out, ACK, zxid.to_wire()),
        QuorumPacket::Commit(zxid) => bare(out, COMMIT, zxid.to_wire()),
        QuorumPacket::Ping { zxid, sessions } => match from {
            Side::Leader => bare(out, PING, zxid.to_wire()),
            Side::Learner => {
                let mut data = Vec::with_capacity(sessions.len() * 12);
                for (session, timeout_ms) in sessions {
                    data.extend(session.0.to_be_bytes());
                    data.extend(timeout_ms.to_be_bytes());
                }
                with_data(out, PING, zxid.to_wire(), &data);
            }
        },
        QuorumPacket::Inform { zxid, entry } => with_data(out, INFORM, zxid.to_wire(), entry),
        QuorumPacket::CommitAndActivate { zxid, leader } => {
            with_data(out, COMMITANDACTIVATE, zxid.to_wire(), &leader.to_be_bytes());
        }
        QuorumPacket::InformAndActivate { zxid, leader, entry } => {
            let data = [&leader.to_be_bytes()[..], entry].concat();
            with_data(out, INFORMANDACTIVATE, zxid.to_wire(), &data);
        }
        QuorumPacket::NewLeader { zxid, config } if config.is_empty() => bare(out, NEWLEADER, zxid.to_wire()),
        QuorumPacket::NewLeader { zxid, config } => with_data(out, NEWLEADER, zxid.to_wire(), config),
        QuorumPacket::FollowerInfo { accepted, info } => put_info(out, FOLLOWERINFO, *accepted, info),
        QuorumPacket::ObserverInfo { accepted, info } => put_info(out, OBSERVERINFO, *accepted, info),
        QuorumPacket::LeaderInfo { zxid, protocol_version } => {
            with_data(out, LEADERINFO, zxid.to_wire(), &protocol_version.to_be_bytes());
        }
        QuorumPacket::AckEpoch { zxid, epoch } => with_data(out, ACKEPOCH, *zxid, &epoch.to_be_bytes()),
        QuorumPacket::UpToDate => bare(out, UPTODATE, -1),
        QuorumPacket::Diff(zxid) => bare(out, DIFF, zxid.to_wire()),
        QuorumPacket::Trunc(zxid) => bare(out, TRUNC, zxid.to_wire()),
        QuorumPacket::Snap(zxid) => bare(out, SNAP, zxid.to_wire()),
        QuorumPacket::Unknown(kind) => bare(out, *kind, 0),
    }
}

fn put_info(out: &mut Vec<u8>, kind: i32, accepted: Zxid, info: &LearnerInfo) {
    let Some(id) = info.id else { return bare(out, kind, accepted.to_wire()) };
    let mut data = Vec::with_capacity(20);
    data.extend(id.0.to_be_bytes());
    data.extend(info.protocol_version.to_be_bytes());
    data.extend(info.config_version.to_be_bytes());
    with_data(out, kind, accepted.to_wire(), &data);
}

fn head(out: &mut Vec<u8>, kind: i32, zxid: i64) {
    out.extend(kind.to_be_bytes());
    out.extend(zxid.to_be_bytes());
}

fn length(out: &mut Vec<u8>, length: usize) {
    let length = i32::try_from(length).expect("packets are bounded far below 2 GiB");
    out.extend(length.to_be_bytes());
}

fn buffer(out: &mut Vec<u8>, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend(bytes);
}

fn bare(out: &mut Vec<u8>, kind: i32, zxid: i64) {
    head(out, kind, zxid);
    out.extend(NULL.to_be_bytes());
    out.extend(NULL.to_be_bytes());
}

fn with_data(out: &mut Vec<u8>, kind: i32, zxid: i64, data: &[u8]) {
    head(out, kind, zxid);
    buffer(out, data);
    out.extend(NULL.to_be_bytes());
}

/// The PROPOSALs of a whole batch, in one buffer for all followers.
pub fn proposals(batch: &Proposal) -> Arc<[u8]> {
    entries(batch, PROPOSAL)
}

/// The INFORMs of a whole batch, in one buffer for all observers.
pub fn informs(batch: &Proposal) -> Arc<[u8]> {
    entries(batch, INFORM)
}

/// The COMMITs of a whole batch.
pub fn commits(batch: &Proposal) -> Arc<[u8]> {
    let mut out = Vec::new();
    for entry in batch.entries() {
        bare(&mut out, COMMIT, zxid_of(entry).to_wire());
    }
    out.into()
}

/// Each of a batch's txns as PROPOSAL and, at once behind it, COMMIT: committed history for a learner in
/// synchronisation.
pub fn history(batch: &Proposal) -> Arc<[u8]> {
    let mut out = Vec::with_capacity(2 * batch.records.len());
    for entry in batch.entries() {
        let zxid = zxid_of(entry).to_wire();
        with_data(&mut out, PROPOSAL, zxid, entry);
        bare(&mut out, COMMIT, zxid);
    }
    out.into()
}

fn entries(batch: &Proposal, kind: i32) -> Arc<[u8]> {
    // A record brings its length with it.
    let packets = batch.entries().count();
    let mut out = Vec::with_capacity(batch.records.len() + packets * (HEAD_BYTES - 4 + TAIL_BYTES));
    for entry in batch.entries() {
        with_data(&mut out, kind, zxid_of(entry).to_wire(), entry);
    }
    out.into()
}

fn zxid_of(entry: &[u8]) -> Zxid {
    entry_zxid(entry).expect("what was sealed or logged begins with a txn header")
}
