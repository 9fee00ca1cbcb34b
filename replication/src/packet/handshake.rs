//! The first bytes of a connection of the election port: who connects, and where it can be reached.
//! Not here: which of two connections is kept (election).

use super::reader::{Malformed, Reader, Stop, outcome};
use crate::ServerId;
use std::net::IpAddr;

/// One address. Any server since 3.5 understands it.
const VERSION_1: i64 = -65536;
/// Several addresses. Servers since 3.6 understand it.
const VERSION_2: i64 = -65535;

/// Longest text of addresses.
const ADDRESS_BYTES_MAX: usize = 2048;

/// What a server without an id of its own calls itself; only observers may.
const ANONYMOUS: i64 = i64::MAX;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// `None`: an observer without an id, which the one it connects to gives it: -1 and downward.
    pub peer: Option<ServerId>,
    /// `host:port`, hosts that mean "every address" left out.
    pub addresses: Vec<String>,
}

/// Reads a handshake. `None`: more bytes are needed. With it comes how many bytes it took.
pub fn decode(bytes: &[u8]) -> Result<Option<(Handshake, usize)>, Malformed> {
    outcome(read(&mut Reader::new(bytes)))
}

fn read(reader: &mut Reader<'_>) -> Result<(Handshake, usize), Stop> {
    let version = reader.long()?;
    if version >= 0 {
        // Servers of old begin with their id and say nothing else.
        return Ok((Handshake { peer: peer(version)?, addresses: Vec::new() }, reader.used()));
    }
    if version != VERSION_1 && version != VERSION_2 {
        return Err(Malformed::Version(version).into());
    }
    let peer = peer(reader.long()?)?;
    let bad = |length| Malformed::Length { field: "addresses", length, max: ADDRESS_BYTES_MAX };
    let text = match reader.buffer("addresses", ADDRESS_BYTES_MAX)? {
        None => return Err(bad(-1).into()),
        Some([]) => return Err(bad(0).into()),
        Some(text) => std::str::from_utf8(text).map_err(|_| Malformed::Text { field: "addresses" })?,
    };
    let mut addresses = Vec::new();
    for address in text.split('|') {
        let host = host_of(address).ok_or_else(|| Malformed::Address(address.to_string()))?;
        if !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            addresses.push(address.to_string());
        }
    }
    Ok((Handshake { peer, addresses }, reader.used()))
}

fn peer(id: i64) -> Result<Option<ServerId>, Malformed> {
    match id {
        ANONYMOUS => Ok(None),
        0.. => Ok(Some(ServerId(id as u64))),
        _ => Err(Malformed::Id(id)),
    }
}

/// The host of `host:port` or `[host]:port`; `None` when it is no such thing.
fn host_of(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control());
    is_host.then_some(host)
}

/// The handshake of server `me`. With `several`, all addresses are announced, which needs servers since 3.6 on the other
/// side; else the first.
pub fn encode(me: ServerId, addresses: &[String], several: bool) -> Vec<u8> {
    let mut text = String::new();
    for address in addresses.iter().take(if several { usize::MAX } else { 1 }) {
        if !text.is_empty() && text.len() + 1 + address.len() > ADDRESS_BYTES_MAX {
            break;
        }
        if !text.is_empty() {
            text.push('|');
        }
        text.push_str(address);
    }
    let mut out = Vec::with_capacity(20 + text.len());
    out.extend(if several { VERSION_2 } else { VERSION_1 }.to_be_bytes());
    out.extend(me.0.to_be_bytes());
    out.extend((text.len() as i32).to_be_bytes());
    out.extend(text.as_bytes());
    out
}
