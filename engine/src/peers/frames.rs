//! From bytes to packets: what a connection says first, and what comes behind it, off the front of what was received.
//! Not here: the packets' layout (replication), sockets.

use crate::wire::TxnEntry;
use ostler_replication::packet::{self, QuorumPacket, Side};
use ostler_replication::{Packet, Port, ServerId};

/// More than the first words of any server take: 20 bytes and 2048 of addresses, or a packet of 40 bytes. Nothing else is
/// read from a connection before they are there.
pub(super) const HELLO_BYTES_MAX: usize = 4096;
/// Beside its data a packet has its head and a client's identities.
const PACKET_BYTES_BESIDE_DATA: usize = 64 << 10;

/// Who is there. On the quorum port the packet that says it stays where it is.
pub(super) struct Hello {
    /// `None`: whoever it is has no id, and is given one.
    pub peer: Option<ServerId>,
    pub addresses: Vec<String>,
    pub taken: usize,
}

/// The first words of a connection that was accepted; `None`: more bytes are needed.
pub(super) fn hello(port: Port, bytes: &[u8]) -> Result<Option<Hello>, String> {
    let hello = match port {
        Port::Election => packet::handshake::decode(bytes)
            .map_err(|error| error.to_string())?
            .map(|(handshake, taken)| Hello { peer: handshake.peer, addresses: handshake.addresses, taken }),
        Port::Quorum => {
            let first = packet::quorum::decode(bytes, Side::Learner, HELLO_BYTES_MAX);
            match first.map_err(|error| error.to_string())? {
                Some((
                    QuorumPacket::FollowerInfo { info, .. } | QuorumPacket::ObserverInfo { info, .. },
                    _,
                )) => Some(Hello { peer: info.id, addresses: Vec::new(), taken: 0 }),
                Some(_) => return Err("the first packet is neither FOLLOWERINFO nor OBSERVERINFO".to_owned()),
                None => None,
            }
        }
    };
    if hello.is_none() && bytes.len() >= HELLO_BYTES_MAX {
        return Err(format!("{} bytes say nothing of who is there", bytes.len()));
    }
    Ok(hello)
}

/// The next packet and how many bytes it takes; `None` in its place for one that is passed over. `None`: more bytes are
/// needed.
pub(super) fn next(
    port: Port,
    from: Side,
    bytes: &[u8],
    data_bytes_max: usize,
) -> Result<Option<(Option<Packet>, usize)>, String> {
    let decoded = match port {
        Port::Election => packet::notification::decode(bytes)
            .map(|front| front.map(|(notification, taken)| (notification.map(Packet::Notification), taken))),
        Port::Quorum => packet::quorum::decode(bytes, from, data_bytes_max)
            .map(|front| front.map(|(packet, taken)| (Some(Packet::Quorum(packet)), taken))),
    };
    let front = decoded.map_err(|error| error.to_string())?;
    if let Some((Some(Packet::Quorum(packet)), _)) = &front {
        check_txn(packet)?;
    }
    if front.is_none() && bytes.len() > 2 * data_bytes_max + PACKET_BYTES_BESIDE_DATA {
        return Err(format!("{} bytes are no packet yet", bytes.len()));
    }
    Ok(front)
}

/// What goes into the log must be a txn that this server can read: in the log it could be neither applied nor left out.
fn check_txn(packet: &QuorumPacket) -> Result<(), String> {
    let (zxid, entry) = match packet {
        QuorumPacket::Proposal { zxid, entry }
        | QuorumPacket::Inform { zxid, entry }
        | QuorumPacket::InformAndActivate { zxid, entry, .. } => (zxid, entry),
        _ => return Ok(()),
    };
    match TxnEntry::decode(entry) {
        Ok(_) => Ok(()),
        Err(malformed) => Err(format!(
            "the leader's txn {zxid} cannot be read ({malformed:?}); is the leader of a later version?"
        )),
    }
}

/// Received and not yet decoded.
#[derive(Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    at: usize,
}

/// An empty inbox gives memory above this back.
const INBOX_BYTES_KEPT: usize = 256 << 10;

impl Inbox {
    pub fn put(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub fn front(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub fn take(&mut self, count: usize) {
        self.at += count;
        if self.at == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(INBOX_BYTES_KEPT);
            self.at = 0;
        }
    }

    /// All of it.
    pub fn take_all(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.drain(..std::mem::take(&mut self.at));
        bytes
    }
}
