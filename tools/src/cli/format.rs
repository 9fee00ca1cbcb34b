//! What the shell prints: Stat blocks, ACLs, dates, hexdumps, error sentences.

use super::wire::{Acl, Stat};
use crate::date;

pub fn stat_block(stat: &Stat) -> String {
    format!(
        "cZxid = 0x{:x}\nctime = {}\nmZxid = 0x{:x}\nmtime = {}\npZxid = 0x{:x}\ncversion = {}\ndataVersion = {}\n\
         aclVersion = {}\nephemeralOwner = 0x{:x}\ndataLength = {}\nnumChildren = {}",
        stat.czxid,
        date::long(stat.ctime),
        stat.mzxid,
        date::long(stat.mtime),
        stat.pzxid,
        stat.cversion,
        stat.version,
        stat.aversion,
        stat.ephemeral_owner,
        stat.data_length,
        stat.num_children
    )
}

const PERMS: [(i32, char); 5] = [(4, 'c'), (8, 'd'), (1, 'r'), (2, 'w'), (16, 'a')];

pub fn perms(bits: i32) -> String {
    PERMS.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, letter)| *letter).collect()
}

pub fn acl_lines(acl: &Acl) -> String {
    format!("'{},'{}\n: {}", acl.scheme, acl.id, perms(acl.perms))
}

/// `scheme:id:perms[,...]`, split at the first and the last colon of each part.
pub fn parse_acls(text: &str) -> Result<Vec<Acl>, String> {
    text.split(',').map(parse_acl).collect()
}

fn parse_acl(part: &str) -> Result<Acl, String> {
    let complaint = || format!("{part} does not have the form scheme:id:perm");
    let (scheme, rest) = part.split_once(':').ok_or_else(complaint)?;
    let (id, letters) = rest.rsplit_once(':').ok_or_else(complaint)?;
    let mut bits = 0;
    for letter in letters.chars() {
        match PERMS.iter().find(|(_, known)| *known == letter) {
            Some((bit, _)) => bits |= bit,
            None => return Err(format!("Unknown perm type: {letter}")),
        }
    }
    Ok(Acl { perms: bits, scheme: scheme.to_string(), id: id.to_string() })
}

/// Sixteen bytes a row between rulers, with the printable ones at the right.
pub fn hexdump(bytes: &[u8]) -> String {
    const RULER: &str = "+--------+-------------------------------------------------+----------------+";
    if bytes.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "         +-------------------------------------------------+\n         |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |\n",
    );
    out.push_str(RULER);
    for (row, chunk) in bytes.chunks(16).enumerate() {
        let hex: String = chunk.iter().map(|byte| format!(" {byte:02x}")).collect();
        let text: String =
            chunk.iter().map(|b| if (0x20..0x7f).contains(b) { *b as char } else { '.' }).collect();
        out.push_str(&format!("\n|{:08x}|{hex:<48} |{text:<16}|", row * 16));
    }
    out.push('\n');
    out.push_str(RULER);
    out
}

/// The sentence Apache's shell writes for an error code of a request on `path`.
pub fn error_sentence(code: i32, path: &str) -> String {
    match code {
        -101 => format!("Node does not exist: {path}"),
        -108 => format!("Ephemerals cannot have children: {path}"),
        -110 => format!("Node already exists: {path}"),
        -111 => format!("Node not empty: {path}"),
        -119 => format!("Not a read-only call: {path}"),
        -114 => format!("Acl is not valid : {path}"),
        -102 => format!("Insufficient permission : {path}"),
        -8 => format!("Arguments are not valid : {path}"),
        -103 => format!("version No is not valid : {path}"),
        -14 => {
            "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)".to_string()
        }
        -13 => {
            "No quorum of new config is connected and up-to-date with the leader of last commmitted config - \
                try invoking reconfiguration after new servers are connected and synced"
                .to_string()
        }
        -125 => format!("Quota has exceeded : {path}"),
        _ => format!("KeeperErrorCode = {} for {path}", code_name(code)),
    }
}

pub fn code_name(code: i32) -> String {
    let name = match code {
        0 => "ok",
        -1 => "SystemError",
        -2 => "RuntimeInconsistency",
        -4 => "ConnectionLoss",
        -5 => "MarshallingError",
        -6 => "Unimplemented",
        -7 => "OperationTimeout",
        -8 => "BadArguments",
        -13 => "NewConfigNoQuorum",
        -14 => "ReconfigInProgress",
        -101 => "NoNode",
        -102 => "NoAuth",
        -103 => "BadVersion",
        -108 => "NoChildrenForEphemerals",
        -110 => "NodeExists",
        -111 => "Directory not empty",
        -112 => "Session expired",
        -114 => "InvalidACL",
        -115 => "AuthFailed",
        -118 => "Session moved",
        -119 => "Not a read-only call",
        -120 => "Ephemeral node creation on local session",
        -121 => "No such watcher",
        -122 => "Request timeout",
        -123 => "Reconfig is disabled",
        -124 => "Session closed because client failed to authenticate",
        -125 => "Quota has exceeded",
        -127 => "Op throttled due to high load",
        other => return format!("Unknown error {other}"),
    };
    name.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acls_split_at_first_and_last_colon() {
        let acls = parse_acls("digest:bob:pw=:cdrwa,ip:10.0.0.0/8:r,auth::rw").unwrap();
        let texts: Vec<String> = acls.iter().map(acl_lines).collect();
        assert_eq!(texts, ["'digest,'bob:pw=\n: cdrwa", "'ip,'10.0.0.0/8\n: r", "'auth,'\n: rw"]);
        assert!(parse_acls("world:anyone:rx").is_err());
        assert!(parse_acls("nonsense").is_err());
    }

    #[test]
    fn hexdump_has_a_row_per_sixteen_bytes() {
        let dump = hexdump(b"hello world, this is it");
        assert_eq!(dump.lines().count(), 6);
        assert!(
            dump.contains("|00000000| 68 65 6c 6c 6f 20 77 6f 72 6c 64 2c 20 74 68 69 |hello world, thi|")
        );
    }
}
