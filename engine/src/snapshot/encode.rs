//! State to bytes: the body (sessions, ACLs, znodes) and its two envelopes, that of a file (header, three seals, digest,
//! last zxid, our footer) and that of a stream between servers (a word at its end). Not here: files, sockets, compression.

use super::{OPEN_ACL_KEY, SnapshotNode, SnapshotSource};
use crate::model::StatPersisted;
use ostler_replication::Zxid;
use simd_adler32::Adler32;
use std::ops::ControlFlow;

/// First word of every snapshot.
pub(super) const MAGIC: [u8; 4] = *b"ZKSN";
pub(super) const FILE_VERSION: i32 = 2;
/// Apache writes -1 into snapshots and nobody reads it.
pub(super) const DBID: i64 = -1;
/// ustring "/": ends the nodes and every seal, so that the file ends with it.
pub(super) const SLASH: [u8; 5] = [0, 0, 0, 1, b'/'];
/// ustring "BenWasHere": behind the body in a stream to another server, as Apache ends it.
pub(super) const STREAM_END: [u8; 14] = *b"\0\0\0\x0aBenWasHere";
/// What the digest section holds: 2 is AdHash over CRC-32.
pub(super) const DIGEST_VERSION: i32 = 2;
/// Adler-32 as a long, then [`SLASH`].
pub(super) const SEAL_BYTES: usize = 8 + SLASH.len();
/// The seal's own, then zxid, version, digest.
pub(super) const DIGEST_SECTION_BYTES: usize = 8 + 4 + 8;
pub(super) const LAST_ZXID_SECTION_BYTES: usize = 8;
pub(super) const FOOTER_MAGIC: [u8; 4] = [0xd6, b'O', b'S', b'T'];
pub(super) const FOOTER_VERSION: i32 = 0;
/// Magic, version, CRC32C, byte count, [`SLASH`].
pub(super) const FOOTER_BYTES: usize = 4 + 4 + 4 + 8 + SLASH.len();
pub(super) const STAT_BYTES: usize = 60;

const _: () = assert!(FOOTER_BYTES == 25);
const _: () = assert!(DIGEST_SECTION_BYTES + SEAL_BYTES == 33);
const _: () = assert!(LAST_ZXID_SECTION_BYTES + SEAL_BYTES == 21);

/// Bytes gathered before the sink gets them.
const PIECE_BYTES: usize = 256 << 10;

/// Both running checks over all bytes so far.
#[derive(Clone)]
pub(super) struct Checks {
    pub(super) adler: Adler32,
    pub(super) crc: u32,
    pub(super) bytes: u64,
}

impl Checks {
    pub(super) fn new() -> Checks {
        Checks { adler: Adler32::new(), crc: 0, bytes: 0 }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.adler.write(bytes);
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.bytes += bytes.len() as u64;
    }
}

/// How many of what went out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) nodes: u64,
    pub(super) bytes: u64,
}

/// Encodes `source` whole as a file, piece by piece into `sink`, until the sink fails. With `footer`, ours behind Apache's
/// seals.
pub(super) fn encode<E>(
    source: &dyn SnapshotSource,
    footer: bool,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<Counts, E> {
    let mut out = Pieces::new(Some(Checks::new()), sink);
    out.pending.extend_from_slice(&header());
    let nodes = out.body(source)?;
    out.envelope(source.zxid(), source.digest(), footer);
    out.flush()?;
    Ok(Counts { nodes, bytes: out.bytes })
}

/// The same as a stream to another server: the body, and the word that says that it is whole.
pub(super) fn encode_stream<E>(
    source: &dyn SnapshotSource,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<Counts, E> {
    let mut out = Pieces::new(None, sink);
    let nodes = out.body(source)?;
    out.pending.extend_from_slice(&STREAM_END);
    out.flush()?;
    Ok(Counts { nodes, bytes: out.bytes })
}

/// What stands behind the body in a file, where header and body are `checks`.
pub(super) fn encode_envelope<E>(
    checks: Checks,
    zxid: Zxid,
    digest: Option<u64>,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut out = Pieces::new(Some(checks), sink);
    out.envelope(zxid, digest, true);
    out.flush()
}

pub(super) fn header() -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&FILE_VERSION.to_be_bytes());
    bytes[8..16].copy_from_slice(&DBID.to_be_bytes());
    bytes
}

/// Entries that stand behind their number: gathered first, because only then the number is known for certain.
#[derive(Default)]
struct Table {
    count: usize,
    bytes: Vec<u8>,
}

struct Pieces<'a, E> {
    /// Not yet in `checks`, not yet given to the sink.
    pending: Vec<u8>,
    /// `None` where nothing is sealed.
    checks: Option<Checks>,
    /// Given to the sink.
    bytes: u64,
    sink: &'a mut dyn FnMut(&[u8]) -> Result<(), E>,
}

impl<'a, E> Pieces<'a, E> {
    fn new(checks: Option<Checks>, sink: &'a mut dyn FnMut(&[u8]) -> Result<(), E>) -> Pieces<'a, E> {
        Pieces { pending: Vec::with_capacity(PIECE_BYTES * 2), checks, bytes: 0, sink }
    }

    /// Sessions, ACLs, znodes and what ends them. How many znodes.
    fn body(&mut self, source: &dyn SnapshotSource) -> Result<u64, E> {
        self.sessions(source)?;
        self.acls(source)?;
        let nodes = self.nodes(source)?;
        self.pending.extend_from_slice(&SLASH);
        Ok(nodes)
    }

    fn envelope(&mut self, zxid: Zxid, digest: Option<u64>, footer: bool) {
        self.seal();
        self.digest_section(zxid, digest);
        self.seal();
        self.pending.extend_from_slice(&zxid.to_wire().to_be_bytes());
        self.seal();
        if footer {
            self.footer();
        }
    }

    fn sessions(&mut self, source: &dyn SnapshotSource) -> Result<(), E> {
        let mut table = Table::default();
        source.sessions(&mut |id, timeout_ms| {
            table.count += 1;
            table.bytes.extend_from_slice(&id.0.to_be_bytes());
            table.bytes.extend_from_slice(&timeout_ms.to_be_bytes());
        });
        self.table(&table)
    }

    fn acls(&mut self, source: &dyn SnapshotSource) -> Result<(), E> {
        let mut table = Table::default();
        source.acls(&mut |key, acl| {
            assert_ne!(key, OPEN_ACL_KEY, "the open ACL is never stored");
            table.count += 1;
            table.bytes.extend_from_slice(&key.to_be_bytes());
            table.bytes.extend_from_slice(acl);
        });
        self.table(&table)
    }

    fn table(&mut self, table: &Table) -> Result<(), E> {
        put_count(&mut self.pending, table.count);
        for piece in table.bytes.chunks(PIECE_BYTES) {
            self.pending.extend_from_slice(piece);
            self.flush_when_large()?;
        }
        Ok(())
    }

    fn nodes(&mut self, source: &dyn SnapshotSource) -> Result<u64, E> {
        let (mut count, mut result) = (0, Ok(()));
        source.nodes(&mut |node| {
            count += 1;
            put_node(&mut self.pending, &node);
            result = self.flush_when_large();
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        result.map(|()| count)
    }

    fn digest_section(&mut self, zxid: Zxid, digest: Option<u64>) {
        // Before the first txn Apache records none, and writes the empty section all the same.
        let recorded = digest.filter(|_| zxid.0 != 0);
        let zxid = recorded.map_or(0, |_| zxid.to_wire());
        self.pending.extend_from_slice(&zxid.to_be_bytes());
        self.pending.extend_from_slice(&DIGEST_VERSION.to_be_bytes());
        self.pending.extend_from_slice(&recorded.unwrap_or(0).to_be_bytes());
    }

    /// Over every byte so far, earlier seals included.
    fn seal(&mut self) {
        let checks = self.checks_here();
        self.pending.extend_from_slice(&u64::from(checks.adler.finish()).to_be_bytes());
        self.pending.extend_from_slice(&SLASH);
    }

    fn footer(&mut self) {
        let checks = self.checks_here();
        self.pending.extend_from_slice(&FOOTER_MAGIC);
        self.pending.extend_from_slice(&FOOTER_VERSION.to_be_bytes());
        self.pending.extend_from_slice(&checks.crc.to_be_bytes());
        self.pending.extend_from_slice(&checks.bytes.to_be_bytes());
        self.pending.extend_from_slice(&SLASH);
    }

    /// Over everything so far.
    fn checks_here(&self) -> Checks {
        let mut checks = self.checks.clone().expect("only what is checked has seals");
        checks.add(&self.pending);
        checks
    }

    fn flush_when_large(&mut self) -> Result<(), E> {
        if self.pending.len() < PIECE_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), E> {
        if let Some(checks) = &mut self.checks {
            checks.add(&self.pending);
        }
        self.bytes += self.pending.len() as u64;
        let result = (self.sink)(&self.pending);
        self.pending.clear();
        result
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = i32::try_from(count).expect("fewer than 2^31 sessions and ACLs");
    out.extend_from_slice(&count.to_be_bytes());
}

fn put_buffer(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_node(out: &mut Vec<u8>, node: &SnapshotNode<'_>) {
    put_buffer(out, node.path.as_bytes());
    match node.data {
        Some(data) => put_buffer(out, data),
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
    }
    out.extend_from_slice(&node.acl.to_be_bytes());
    put_stat(out, &node.stat);
}

fn put_stat(out: &mut Vec<u8>, stat: &StatPersisted) {
    let mut bytes = [0; STAT_BYTES];
    bytes[0..8].copy_from_slice(&stat.czxid.to_wire().to_be_bytes());
    bytes[8..16].copy_from_slice(&stat.mzxid.to_wire().to_be_bytes());
    bytes[16..24].copy_from_slice(&stat.ctime.0.to_be_bytes());
    bytes[24..32].copy_from_slice(&stat.mtime.0.to_be_bytes());
    bytes[32..36].copy_from_slice(&stat.version.to_be_bytes());
    bytes[36..40].copy_from_slice(&stat.cversion.to_be_bytes());
    bytes[40..44].copy_from_slice(&stat.aversion.to_be_bytes());
    bytes[44..52].copy_from_slice(&stat.owner.to_stored().to_be_bytes());
    bytes[52..60].copy_from_slice(&stat.pzxid.to_wire().to_be_bytes());
    out.extend_from_slice(&bytes);
}
