//! Names of files in a data directory: what Apache takes for a snapshot or a log, and of which zxid.

use super::Compression;
use ostler_replication::Zxid;

pub const SNAPSHOT_PREFIX: &str = "snapshot";
pub const LOG_PREFIX: &str = "log";
/// Before the name of what a leader's snapshot replaced; the log sets it aside.
pub const QUARANTINE_PREFIX: &str = "quarantined-";
/// A snapshot being written. Apache reads and purges only names whose first part is `snapshot` or `log`.
pub const PARTIAL_PREFIX: &str = "partial-snapshot.";

/// `snapshot.<zxid in hex>`, with the compression's suffix.
pub fn snapshot_name(zxid: Zxid, compression: Compression) -> String {
    format!("{SNAPSHOT_PREFIX}.{:x}{}", zxid.0, compression.suffix())
}

/// The name under which the same snapshot is written before it is complete.
pub fn partial_name(zxid: Zxid, compression: Compression) -> String {
    format!("{PARTIAL_PREFIX}{:x}{}", zxid.0, compression.suffix())
}

/// The name under which a snapshot is written that comes from another server, as the `number`th of this process: one that
/// was given up may still be about to remove its file, and this server may be writing one of the same zxid.
pub fn received_name(zxid: Zxid, number: u64) -> String {
    format!("{PARTIAL_PREFIX}{:x}.received-{number}", zxid.0)
}

/// The zxid in a name of this prefix: first part exactly the prefix, second part signed hex, the rest ignored, so that
/// `log.5.old` is a log to Apache and therefore to us. `None` for anything else, negative numbers included.
pub fn zxid_in_name(name: &str, prefix: &str) -> Option<Zxid> {
    let mut parts = name.split('.');
    if parts.next()? != prefix {
        return None;
    }
    // from_str_radix and Java's parseLong agree: an optional sign, digits of either case, nothing else.
    let raw = i64::from_str_radix(parts.next()?, 16).ok()?;
    (raw >= 0).then(|| Zxid::from_wire(raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, prefix: &str, zxid: Option<u64>) {
        assert_eq!(zxid_in_name(name, prefix), zxid.map(Zxid), "{name}");
    }

    #[test]
    fn names_parse_as_apache_parses_them() {
        check("snapshot.0", "snapshot", Some(0));
        check("snapshot.1F", "snapshot", Some(0x1f));
        check("snapshot.5.gz", "snapshot", Some(5));
        check("snapshot.5.tmp", "snapshot", Some(5));
        check("snapshot.+5", "snapshot", Some(5));
        check("log.100000001", "log", Some(0x1_0000_0001));
        check("log.5.old", "log", Some(5));
        check("snapshot.-5", "snapshot", None);
        check("snapshot.", "snapshot", None);
        check("snapshot", "snapshot", None);
        check("snapshot.xyz", "snapshot", None);
        check("snapshot.ffffffffffffffff", "snapshot", None);
        check("snapshots.5", "snapshot", None);
        check(&partial_name(Zxid(5), Compression::Plain), "snapshot", None);
    }

    #[test]
    fn written_names_carry_the_suffix_that_selects_the_codec() {
        assert_eq!(snapshot_name(Zxid(0x1f), Compression::Gzip), "snapshot.1f.gz");
        assert_eq!(Compression::of_name("snapshot.1f.GZ"), Compression::Gzip);
        assert_eq!(Compression::of_name("snapshot.1f.gz.old"), Compression::Plain);
    }
}
